"""An indexer with its log, in this process: the loop over a real NATS server and a real store, and a way to append."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from indexer.full_text import FullText
from indexer.loop import Projector
from indexer.progress import Progress
from indexer.store import Store, open_store
from podium import names
from podium.clock import SystemClock
from podium.drafts import Author, Body, Draft, stamp
from podium.eventlog import BlobStore, EventLog, Role
from podium.eventlog.access import log_settings
from podium.settings import ServiceSettings
from podium.v1.event_pb2 import Event
from podium.v1.session_pb2 import SessionState
from tests.support import stories

PATIENCE_S = 30.0
"""How long a busy machine may take; nothing here waits that long when all is well."""


@dataclass
class Pen:
    """Writes sessions to a real log: guarded appends, as gateways and owners do it."""

    log: EventLog

    def __post_init__(self) -> None:
        self.states: dict[str, SessionState] = {}
        self.positions: dict[str, int] = {}
        self.events = 0
        self.position = 0

    async def append(
        self,
        session_id: str,
        drafts: Sequence[Draft | Body],
        *,
        written_as: Callable[[Event], Event] = lambda event: event,
    ) -> int:
        """Append, and return the position; `written_as` changes an event on its way to the log."""
        whole = [draft if isinstance(draft, Draft) else Draft(draft) for draft in drafts]
        before = self.positions.get(session_id, 0)
        author = Author(session_id, names.new_id, "runner-1", 1)
        events, state = stamp(self.states.get(session_id), whole, author, now_ns=time.time_ns(), after_position=before)
        events = [written_as(event) for event in events]
        position = await self.log.append(session_id, events, state, expected=before)
        self.states[session_id], self.positions[session_id] = state, position
        self.events += len(events)
        self.position = max(self.position, position)
        return position

    async def create(self, **fields: object) -> str:
        session_id = names.new_id(time.time_ns())
        await self.append(session_id, [stories.created(**fields)])  # type: ignore[arg-type]  # fields of the body
        return session_id

    async def copy(self, story: stories.Log) -> str:
        """Append a story's events to a fresh session."""
        session_id = names.new_id(time.time_ns())
        for append in story.appends:
            drafts = [
                Draft(
                    getattr(event, event.WhichOneof("body") or ""),
                    turn_id=event.turn_id,
                    source=event.source,
                    principal=event.principal,
                    causation_id=event.causation_id,
                    parent_tool_use_id=event.parent_tool_use_id,
                )
                for event in append.events
            ]
            await self.append(session_id, drafts)
        return session_id


@contextlib.asynccontextmanager
async def pen(settings: ServiceSettings) -> AsyncIterator[Pen]:
    async with EventLog.connect(log_settings(settings, Role.GATEWAY), Role.GATEWAY) as log:
        yield Pen(log)


@dataclass
class Indexer:
    """A loop under way. `projector.run()` ends with the block."""

    log: EventLog
    store: Store
    progress: Progress
    projector: Projector

    async def reach(self, position: int) -> None:
        await self.progress.reach(position, timeout_s=PATIENCE_S)


@contextlib.asynccontextmanager
async def following(settings: ServiceSettings, path: Path, *, erased: Sequence[str] = ()) -> AsyncIterator[Indexer]:
    async with (
        EventLog.connect(log_settings(settings, Role.INDEXER), Role.INDEXER) as log,
        open_store(path) as store,
    ):
        progress = Progress(store.position)
        full_text = FullText(BlobStore(log.link, SystemClock()))
        projector = Projector(log, full_text, store, progress, erased=erased)
        running = asyncio.ensure_future(projector.run())
        try:
            yield Indexer(log, store, progress, projector)
        finally:
            running.cancel()
            await asyncio.wait({running})
