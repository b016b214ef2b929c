"""What a provider's client said, word for word, on a stream of its own: to look for a fault in, never for watchers.

Records are not facts: they are written behind the facts' back, in bounded memory, and dropped (and counted) rather
than allowed to hold anything up.
"""

import asyncio
import contextlib
import enum
import logging
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from podium.errors import Unavailable
from podium.eventlog.blobs import BlobStore
from podium.eventlog.jetstream import NotTheNewest, all_messages, log_needed, store
from podium.eventlog.layout import NATIVE, native_subject
from podium.eventlog.link import Link, LinkError
from podium.v1.content_pb2 import Blob

log = logging.getLogger(__name__)

WAITING_BYTES_MAX = 8 * 1024 * 1024
WAITING_RECORDS_MAX = 4096
IN_FLIGHT_MAX = 64
RECORD_BYTES_MAX = 512 * 1024
"""A longer record goes to the object store, by reference."""
CLOSE_S_MAX = 2.0
_RECONNECT_WAIT_S = 5.0
_MEDIA_TYPE = "application/octet-stream"
_PROVIDER, _DIRECTION, _NUMBER, _BLOB = "Podium-Provider", "Podium-Direction", "Podium-Record", "Podium-Blob"


class Direction(enum.StrEnum):
    """Who said it."""

    FROM_CLIENT = "from-client"
    TO_CLIENT = "to-client"


@dataclass(frozen=True, slots=True)
class NativeRecord:
    """One record as it is stored.

    Attributes:
        number: 1, 2, 3 … in the order of writing, per runner process; a missing one was dropped.
        record: the bytes, or empty when `blob` holds them.
    """

    provider: str
    direction: Direction
    number: int
    stored_at: str
    record: bytes
    blob: Blob | None


@dataclass(frozen=True, slots=True)
class _Waiting:
    subject: str
    headers: dict[str, str]
    record: bytes


class NativeLog:
    """Takes records without ever waiting and writes them in the background while the context lasts."""

    def __init__(self, link: Link, blobs: BlobStore) -> None:
        """Nothing is written before the context is entered."""
        self.written = 0
        self.dropped = 0
        """Records that found no room: the server was away or too slow."""
        self.failed = 0
        """Records that the server refused, or did not confirm."""
        self._link = link
        self._blobs = blobs
        self._taken = 0
        self._waiting: deque[_Waiting] = deque()
        self._waiting_bytes = 0
        self._news = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._writer: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._writer = asyncio.create_task(self._write_for_ever(), name="native-log")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write what waits, for at most CLOSE_S_MAX."""
        writer, self._writer = self._writer, None
        if writer is None:
            return
        try:
            await self.flush(CLOSE_S_MAX)
        finally:
            self._waiting.clear()
            writer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await writer
            self.dropped = self._taken - self.written - self.failed

    def publish(
        self, session_id: str, epoch: int, record: bytes, *, provider: str, direction: Direction = Direction.FROM_CLIENT
    ) -> bool:
        """Take a record; return False when it was dropped for want of room."""
        self._taken += 1
        if len(self._waiting) >= WAITING_RECORDS_MAX or self._waiting_bytes + len(record) > WAITING_BYTES_MAX:
            self.dropped += 1
            return False
        headers = {_PROVIDER: provider, _DIRECTION: direction.value, _NUMBER: str(self._taken)}
        self._waiting.append(_Waiting(native_subject(session_id, epoch), headers, record))
        self._waiting_bytes += len(record)
        self._idle.clear()
        self._news.set()
        return True

    async def flush(self, timeout_s: float) -> bool:
        """Return whether everything taken so far was written or given up within the time."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    async def records(self, session_id: str, epoch: int) -> AsyncIterator[NativeRecord]:
        """Yield what is stored of one owner's time with a session, oldest first; needs the operator's role.

        Raises Unavailable.
        """
        with log_needed("reading native records"):
            async for message in all_messages(self._link, NATIVE, native_subject(session_id, epoch)):
                headers = message.headers
                yield NativeRecord(
                    provider=headers.get(_PROVIDER, ""),
                    direction=Direction(headers[_DIRECTION]),
                    number=int(headers[_NUMBER]),
                    stored_at=message.time,
                    record=message.payload,
                    blob=Blob.FromString(bytes.fromhex(headers[_BLOB])) if _BLOB in headers else None,
                )

    async def _write_for_ever(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            while self._waiting:
                # What waits is bounded; a server that comes back soon finds it all.
                if not await self._link.wait_connected(_RECONNECT_WAIT_S):
                    continue
                batch = [self._waiting.popleft() for _ in range(min(IN_FLIGHT_MAX, len(self._waiting)))]
                # In the order of the batch: each sends before it waits, so the stream has them in order.
                await asyncio.gather(*(self._write(waiting) for waiting in batch))
                self._waiting_bytes -= sum(len(waiting.record) for waiting in batch)
            self._idle.set()

    async def _write(self, waiting: _Waiting) -> None:
        headers, record = waiting.headers, waiting.record
        try:
            if len(record) > RECORD_BYTES_MAX:
                blob = await self._blobs.put(record, _MEDIA_TYPE)
                headers, record = headers | {_BLOB: blob.SerializeToString().hex()}, b""
            await store(self._link, waiting.subject, record, headers=headers)
        except (LinkError, NotTheNewest, Unavailable) as error:
            self.failed += 1
            log.warning("a native record was not written: %s", error)
        else:
            self.written += 1
