"""The loop that keeps the store up to date: from the log's feed through the projection into transactions."""

import asyncio
from collections.abc import Collection, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import structlog
from google.protobuf.message import DecodeError
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_never

from indexer.batches import Batches, Feed
from indexer.full_text import FullText, portions
from indexer.progress import Progress
from indexer.projection.carry import Carry
from indexer.projection.project import Append, Projected, RevisionGap, UnknownEvent, project
from indexer.store import Store, StoreFailed
from podium.errors import Unavailable
from podium.eventlog import AppendMalformed, StoredAppend

CARRIES_MAX = 50_000
"""Sessions whose end is remembered in memory, about 300 bytes each; others are looked up in the store."""

ORIGIN_SAMPLES = 8
_NEWEST = """
    SELECT session_id, "position", id FROM core.events
    WHERE "position" > (SELECT max("position") FROM core.events) - 1000
    QUALIFY row_number() OVER (PARTITION BY session_id ORDER BY revision DESC) = 1 LIMIT ?"""
PAUSE_S_MIN, PAUSE_S_MAX = 0.1, 10.0

_log = structlog.get_logger()


class Log(Protocol):
    """What the loop needs of the log."""

    def feed(self, *, after_position: int) -> AbstractAsyncContextManager[Feed]:
        """Give all appends after a position."""

    async def last_position(self) -> int:
        """Return the newest position."""

    async def message_after(self, session_id: str, position: int) -> StoredAppend | None:
        """Return the session's first message after a position."""


class AnotherLog(Exception):
    """The store was filled from another log than the one that is here now."""


class Projector:
    """Moves the store along the log, for as long as `run` runs."""

    def __init__(
        self, log: Log, full_text: FullText, store: Store, progress: Progress, *, erased: Collection[str] = ()
    ) -> None:
        """`erased`: sessions whose missing revisions were erased on purpose, so that they stop nothing."""
        self._log, self._full_text, self._store, self._progress = log, full_text, store, progress
        self._erased = frozenset(erased)
        self._carries: dict[str, Carry] = {}
        self._position = store.position
        self._writing: asyncio.Future[None] | None = None
        self._in_hand_ns: int | None = None
        self._batches: Batches | None = None
        self._failures = 0
        progress.pending_since = self._pending_since

    async def run(self) -> None:
        """Follow the log until cancelled; return when something must be put right first, with the problem told.

        A log or a disk that is away is waited for. Raises StoreFailed when this process cannot use its file any more.
        """
        suspected = -1
        while True:
            try:
                await self._follow_through_outages()
            except RevisionGap as gap:
                # Once is looked at again from what is committed: the mistake may have been on the way here.
                if gap.position == suspected:
                    return self._stop(gap)
                suspected = gap.position
                _log.warning("reading again", why=str(gap))
            except (UnknownEvent, AnotherLog, AppendMalformed, DecodeError) as error:
                return self._stop(error)

    def _stop(self, error: Exception) -> None:
        _log.error("projection stopped", problem=str(error))
        self._progress.trouble(str(error), stopped=True)

    async def _follow_through_outages(self) -> None:
        async for attempt in AsyncRetrying(
            retry=retry_if_exception(_passes), wait=self._pause_s, stop=stop_never, reraise=True
        ):
            with attempt:
                await self._follow()

    def _pause_s(self, state: RetryCallState) -> float:
        """Return how long to wait after a failure, and tell of it; a batch that gets through begins the count anew."""
        error = state.outcome.exception() if state.outcome else None
        self._progress.trouble(str(error))
        pause = min(PAUSE_S_MAX, PAUSE_S_MIN * 2.0 ** min(self._failures, 10))
        self._failures += 1
        _log.warning("projection waits", problem=str(error), pause_s=pause)
        return pause

    async def _follow(self) -> None:
        """Read the log behind what is committed, without end."""
        self._carries.clear()
        self._in_hand_ns = None
        self._position = self._store.position
        await self._check_origin()
        async with self._log.feed(after_position=self._store.position) as feed:
            self._batches = Batches(feed, self._progress.wanted)
            # Whatever was wrong, the log answers again.
            self._progress.advance(self._store.position)
            try:
                async for appends in self._batches:
                    self._in_hand_ns = appends[0].stored_at_ns
                    await self._take(appends)
                    if not self._batches.enough:
                        # Only then: with more at hand the next batch is projected while this one is written.
                        await self._written()
                        self._in_hand_ns = None
            finally:
                await self._batches.close()
                self._batches = None
                await self._settle()

    async def _take(self, appends: Sequence[StoredAppend]) -> None:
        """Project the appends, and begin to store them when the batch before is stored."""
        projected = await self._projected(appends)
        shortened = projected.rows.shortened
        if not shortened:
            await self._write(projected)
            return
        # Rare, so looked for by projecting: to ask every block beforehand costs a third of the projection.
        for portion in portions(appends, shortened):
            await self._write(await self._projected(await self._full_text.completed(portion, shortened)))

    async def _projected(self, appends: Sequence[Append]) -> Projected:
        known = await self._known({append.session_id for append in appends})
        return await asyncio.to_thread(project, appends, known, after=self._position, erased=self._erased)

    async def _write(self, projected: Projected) -> None:
        self._remember(projected)
        await self._written()
        self._writing = asyncio.ensure_future(self._commit(projected))

    async def _written(self) -> None:
        """Wait until what was given to the store is committed. Raises StoreFailed."""
        if self._writing is not None:
            writing, self._writing = self._writing, None
            await writing

    async def _settle(self) -> None:
        """Wait until the store is at rest, whatever came of it: what it lacks is read again."""
        if self._writing is not None:
            writing, self._writing = self._writing, None
            await asyncio.wait({writing})
            if not writing.cancelled() and (error := writing.exception()) is not None:
                _log.warning("rows were not stored", problem=str(error))

    async def _commit(self, projected: Projected) -> None:
        await self._store.commit(projected)
        self._failures = 0
        self._progress.advance(projected.position)

    async def _known(self, session_ids: set[str]) -> dict[str, Carry]:
        unknown = session_ids - self._carries.keys()
        found = await self._store.carries(unknown) if unknown else {}
        return found | {name: self._carries[name] for name in session_ids & self._carries.keys()}

    def _remember(self, projected: Projected) -> None:
        self._position = projected.position
        for name, carry in projected.carries.items():
            self._carries.pop(name, None)
            self._carries[name] = carry
        while len(self._carries) > CARRIES_MAX:
            # The one that was quiet for longest: a dict keeps the order in which keys came.
            del self._carries[next(iter(self._carries))]

    async def _check_origin(self) -> None:
        """Raise AnotherLog unless the newest facts of the store are where the store found them."""
        last = await self._log.last_position()
        if last < self._store.position:
            raise AnotherLog(
                f"the log ends at position {last}, this projection has seen {self._store.position}: it was made from "
                "another log; check PODIUM_NATS_URL, or build it anew: python -m indexer --rebuild"
            )
        newest = await self._store.rows(_NEWEST, [ORIGIN_SAMPLES])
        found = [await self._is_there(*row) for row in newest]
        # One is enough: the others may have been erased.
        if found and not any(found):
            raise AnotherLog(
                f"none of the newest {len(found)} sessions of this projection is on the log where it was found: it was "
                "made from another log; check PODIUM_NATS_URL, or build it anew: python -m indexer --rebuild"
            )

    async def _is_there(self, session_id: str, position: int, event_id: str) -> bool:
        stored = await self._log.message_after(session_id, position - 1)
        return stored is not None and stored.position == position and any(e.id == event_id for e in stored.events)

    def _pending_since(self) -> int | None:
        if self._in_hand_ns is not None or self._batches is None:
            return self._in_hand_ns
        return self._batches.oldest_ns


def _passes(error: BaseException) -> bool:
    """Return whether waiting may help."""
    return isinstance(error, Unavailable) or (isinstance(error, StoreFailed) and not error.fatal)
