"""Puts the full text back into messages whose blocks were too long for the log, so that SQL sees all of it."""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from indexer.projection.project import Append
from podium.errors import Unavailable, log_unavailable
from podium.eventlog import BlobError, StoredAppend
from podium.eventlog.offload import RestoreFailed, moved, restore
from podium.v1.content_pb2 import Blob
from podium.v1.event_pb2 import Event
from podium.v1.session_pb2 import SessionState

TEXT_BYTES_MAX = 64 * 1024 * 1024
"""Of one append, as far as it is put back: what comes after stays short and marked. A rule of size alone, so that
reading the log again gives the same rows."""

_FETCHES = 8
_log = structlog.get_logger()


class Blobs(Protocol):
    """Where the text lies."""

    async def get(self, blob: Blob) -> bytes:
        """Return the content; raises BlobError or Unavailable."""


@dataclass(frozen=True, slots=True)
class WholeAppend:
    """An append with the full text in its messages."""

    position: int
    session_id: str
    events: Sequence[Event]
    state: SessionState


class FullText:
    """Completes appends from the blob store; what cannot be read stays short, and is counted in `missing`."""

    def __init__(self, blobs: Blobs) -> None:
        """Take where the text lies."""
        self._blobs = blobs
        self._slots = asyncio.Semaphore(_FETCHES)
        self.missing = 0

    async def completed(self, appends: Sequence[StoredAppend], shortened: Collection[int]) -> list[Append]:
        """Return the appends, those at the positions `shortened` with their full text. Raises Unavailable."""
        wanting = [append for append in appends if append.position in shortened]
        try:
            async with asyncio.TaskGroup() as tasks:
                running = [tasks.create_task(self._completed(append)) for append in wanting]
        except* Unavailable as group:
            raise log_unavailable("reading blobs", group.exceptions[0]) from group
        whole = {task.result().position: task.result() for task in running}
        return [whole.get(append.position, append) for append in appends]

    async def _completed(self, append: StoredAppend) -> WholeAppend:
        wanted = within(TEXT_BYTES_MAX, [blob for event in append.events for blob in _moved(event)])
        contents: dict[str, bytes] = {}
        for blob in wanted:
            if (text := await self._text(blob)) is not None:
                contents[blob.object] = text
        events = [self._restored(event, contents) for event in append.events]
        return WholeAppend(append.position, append.session_id, events, append.state)

    async def _text(self, blob: Blob) -> bytes | None:
        async with self._slots:
            try:
                return await self._blobs.get(blob)
            except BlobError as error:
                self._miss(blob.object, error)
                return None

    def _restored(self, event: Event, contents: dict[str, bytes]) -> Event:
        if not _moved(event):
            return event
        try:
            body = restore(event.message, contents)
        except (RestoreFailed, ValueError) as error:
            self._miss(event.id, error)
            return event
        whole = Event()
        whole.CopyFrom(event)
        whole.message.CopyFrom(body)
        return whole

    def _miss(self, what: str, error: Exception) -> None:
        # A text that is gone must not keep everything after it out of the tables for ever.
        self.missing += 1
        _log.error("full text is missing", what=what, error=str(error))


def portions(appends: Sequence[StoredAppend], shortened: Collection[int]) -> list[list[StoredAppend]]:
    """Return the appends in runs whose full text fits into memory together: TEXT_BYTES_MAX, or one append alone."""
    runs: list[list[StoredAppend]] = [[]]
    size = 0
    for append in appends:
        added = _text_bytes(append) if append.position in shortened else 0
        if size + added > TEXT_BYTES_MAX and runs[-1]:
            runs.append([])
            size = 0
        runs[-1].append(append)
        size += added
    return runs


def _text_bytes(append: StoredAppend) -> int:
    return sum(blob.size_bytes for event in append.events for blob in _moved(event))


def within(limit: int, blobs: Sequence[Blob]) -> list[Blob]:
    """Return the first blobs that take no more than `limit` bytes together."""
    taken, size = [], 0
    for blob in blobs:
        size += blob.size_bytes
        if size > limit:
            break
        taken.append(blob)
    return taken


def _moved(event: Event) -> list[Blob]:
    return moved(event.message) if event.WhichOneof("body") == "message" else []
