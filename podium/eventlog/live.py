"""What is appended, right after it is stored: the server republishes every append, and nothing of it is kept.

Messages may be missed: while the connection is away, and when the reader is slow. The subscription says so, and the
reader joins again through the session's history by revision.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Self

from google.protobuf.message import DecodeError
from nats.aio.msg import Msg

from podium.eventlog.layout import delta_subject, live_subject
from podium.eventlog.link import Link
from podium.eventlog.reads import stored_from_headers
from podium.eventlog.stored import StoredAppend
from podium.v1.runner_pb2 import Delta

LIVE_MESSAGES_MAX = 8_192
LIVE_BYTES_MAX = 32 * 1024 * 1024
DELTAS_MAX = 1_024


class LiveSubscription:
    """An async iterator over batches of republished appends; use `EventLog.live`.

    Attributes:
        missed: rises whenever something may have been missed. The batch that is handed out next comes after the hole,
            and is empty when nothing came since: compare the number after every batch.
    """

    def __init__(self, *, messages_max: int = LIVE_MESSAGES_MAX, bytes_max: int = LIVE_BYTES_MAX) -> None:
        """Hold at most so much; a reader that lets more wait loses all of it, and is told."""
        self.missed = 0
        self._messages_max, self._bytes_max = messages_max, bytes_max
        self._buffer: deque[StoredAppend] = deque()
        self._bytes = 0
        self._something = asyncio.Event()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[StoredAppend]:
        """Return what came since the last call, oldest first; waits for it. Empty: something was missed."""
        await self._something.wait()
        self._something.clear()
        batch = list(self._buffer)
        self._buffer.clear()
        self._bytes = 0
        return batch

    @contextlib.asynccontextmanager
    async def open(self, link: Link, session_id: str | None) -> AsyncIterator[Self]:
        """Listen while the block runs; everything stored after the block was entered is seen."""
        async with link.subscribe(live_subject(session_id), self._arrived, on_missed=self._lost):
            yield self

    def _arrived(self, message: Msg) -> None:
        stored = stored_from_headers(message)
        if len(self._buffer) >= self._messages_max or self._bytes + len(stored.payload) > self._bytes_max:
            self._lost()
        self._buffer.append(stored)
        self._bytes += len(stored.payload)
        self._something.set()

    def _lost(self) -> None:
        # What waits is from before the hole: the reader finds it in the history, where it must look anyway.
        self._buffer.clear()
        self._bytes = 0
        self.missed += 1
        self._something.set()


@contextlib.asynccontextmanager
async def deltas(link: Link, session_id: str | None) -> AsyncIterator[AsyncIterator[Delta]]:
    """Give an iterator over the text that is being said; what the reader has no time for is dropped, oldest first."""
    waiting: deque[Delta] = deque(maxlen=DELTAS_MAX)
    something = asyncio.Event()

    def arrived(message: Msg) -> None:
        with contextlib.suppress(DecodeError):  # Not a fact: nothing depends on it.
            waiting.append(Delta.FromString(message.data))
            something.set()

    async def iterate() -> AsyncGenerator[Delta]:
        while True:
            await something.wait()
            something.clear()
            while waiting:
                yield waiting.popleft()

    async with link.subscribe(delta_subject(session_id), arrived), contextlib.aclosing(iterate()) as iterator:
        yield iterator
