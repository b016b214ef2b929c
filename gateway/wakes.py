"""Wakes runners: tells the right host that a session has something to do, and makes sure none is forgotten.

A wake carries no truth. It is sent when a command leaves work, when a runner that had a session has it no more or is
gone, when a runner appears, and every `sweep_interval_s` for all unfinished sessions that no living runner has.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

import structlog

from gateway.expiry import overdue
from gateway.placement import eligible, why_not
from podium import names
from podium.clock import Clock, SystemClock
from podium.errors import PodiumError, Unavailable
from podium.eventlog import Appeared, Changed, EventLog, Gone, RunnerDirectory, WakeQueue, command
from podium.session import has_work, id_of
from podium.v1 import runner_pb2, session_pb2
from podium.v1.session_pb2 import SessionState

_log = structlog.get_logger()

UNPLACED_MAX = 10_000
CATALOG_AGE_S_MAX = 60.0
"""Models change when a client is updated: all are read again after so long."""
CATALOG_WAIT_S = 1.0
"""Between looks for the models of runners that have not told of them yet."""
RELEASED_MAX = 10_000
"""Sessions that wait to be looked at after their runner let go of them; reading heartbeats waits for room."""

Unfinished = Callable[[], Awaitable[list[session_pb2.Session]]]
"""Reads from the projection which sessions have a turn that runs or waits."""


class Living:
    """The runners that live now, as this gateway sees them, and the models they told of; kept by `follow`."""

    def __init__(self, directory: RunnerDirectory, clock: Clock | None = None) -> None:
        """Take the heartbeats."""
        self._directory = directory
        self._clock = clock or SystemClock()
        self._runners: Mapping[str, runner_pb2.Runner] = {}
        self._looked = False
        self.catalogs: Sequence[runner_pb2.ModelCatalog] = ()
        """What runners have told of their models, now or before."""
        self._catalogs: dict[tuple[str, str], runner_pb2.ModelCatalog] = {}
        self.appeared = asyncio.Event()
        self.released: asyncio.Queue[str] = asyncio.Queue(RELEASED_MAX)
        """Sessions that a runner does not name any more, or named when it was lost: ids."""
        self._named: dict[str, frozenset[str]] = {}

    def all(self) -> list[runner_pb2.Runner]:
        """Return the living runners by id."""
        return sorted(self._runners.values(), key=lambda runner: runner.id)

    def __contains__(self, runner_id: str) -> bool:
        return runner_id in self._runners

    def has(self, runner_id: str, session_id: str) -> bool:
        """Return whether a living runner says that it owns the session.

        One that lives and does not name it has given it up without being able to say so on the log, or has attached
        within its last beat: then a wake does no harm.
        """
        runner = self._runners.get(runner_id)
        return runner is not None and session_id in runner.session_ids

    def is_missing(self, runner_id: str) -> bool:
        """Return whether a runner is not there, as far as this gateway has looked; nobody is missing before that."""
        return self._looked and runner_id not in self._runners

    async def follow(self) -> None:
        """Follow the heartbeats until cancelled."""
        async with self._directory.watch() as watch, asyncio.TaskGroup() as tasks:
            self._runners = watch.living
            await watch.wait_for_first_look()
            await self.read_catalogs()
            self._looked = True
            tasks.create_task(self._follow_catalogs())
            async for change in watch:
                await self._note_released(change)
                if isinstance(change, Appeared):
                    await self.read_catalogs(change.runner.id)
                    self.appeared.set()

    async def _note_released(self, change: Appeared | Changed | Gone) -> None:
        """Queue the sessions that the runner named before and does not now."""
        runner, is_gone = change.runner, isinstance(change, Gone)
        before = self._named.pop(runner.id, frozenset()) | frozenset(runner.session_ids if is_gone else ())
        if is_gone:
            _log.info("runner gone", runner=runner.id, sessions=len(before))
        else:
            self._named[runner.id] = frozenset(runner.session_ids)
        for session_id in sorted(before - self._named.get(runner.id, frozenset())):
            await self.released.put(session_id)

    async def _follow_catalogs(self) -> None:
        """Read what runners tell of their models: some seconds after they appear, and again when clients changed."""
        read_all_at = self._clock.monotonic()
        while True:
            await asyncio.sleep(CATALOG_WAIT_S)
            if self._clock.monotonic() - read_all_at >= CATALOG_AGE_S_MAX:
                read_all_at = self._clock.monotonic()
                await self.read_catalogs()
                continue
            for runner in self.all():
                if any(one.installed and (runner.id, one.name) not in self._catalogs for one in runner.providers):
                    await self.read_catalogs(runner.id)

    async def read_catalogs(self, runner_id: str | None = None) -> None:
        """Read the catalogs of one runner, or of all that ever told of some: a client may start when nobody lives."""
        try:
            self._catalogs |= await self._directory.catalogs(runner_id)
        except Unavailable as error:
            _log.warning("model catalogs not read", reason=error.message)
        self.catalogs = list(self._catalogs.values())


class Waker:
    """Sends wakes."""

    def __init__(
        self,
        log: EventLog,
        queue: WakeQueue,
        living: Living,
        unfinished: Unfinished,
        sweep_interval_s: float,
        clock: Clock | None = None,
    ) -> None:
        """Take where to send, who lives, and how to find what is unfinished."""
        self._clock = clock or SystemClock()
        self._log = log
        self._queue = queue
        self._living = living
        self._unfinished = unfinished
        self._sweep_interval_s = sweep_interval_s
        self._unplaced: dict[str, session_pb2.Session] = {}
        """Sessions that no runner could take when they were woken: tried again when one appears. A memory that
        spares a wait, not one that anything depends on: the sweep finds them too."""

    async def wake(self, state: SessionState) -> None:
        """Wake a runner for the session when there is something to do and no living runner has it.

        A living owner hears of every fact by itself. Failing is no error: the sweep comes round.
        """
        if has_work(state) and not self._living.has(state.owner.runner, id_of(state)):
            await self._send(state.session)

    async def run(self) -> None:
        """Wake for released sessions at once and for all unfinished ones now and then, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._wake_released())
            tasks.create_task(self._sweep())

    async def _wake_released(self) -> None:
        while True:
            await self._wake_by_id(await self._living.released.get())

    async def _wake_by_id(self, session_id: str) -> None:
        try:
            tail = await self._log.tail(session_id)
        except PodiumError as error:
            _log.warning("wake put off", session=session_id, reason=error.message)
            return
        if tail.state is not None:
            await self.wake(tail.state)

    async def _sweep(self) -> None:
        while True:
            # Before the look: who appears during it is not forgotten.
            self._living.appeared.clear()
            try:
                unplaced, self._unplaced = self._unplaced, {}
                await self._wake_all(unplaced.values())
                await self._wake_all(await self._unfinished())
            except PodiumError as error:
                _log.info("sweep put off", reason=error.message)
            try:
                async with asyncio.timeout(self._sweep_interval_s):
                    await self._living.appeared.wait()
            except TimeoutError:
                continue

    async def _wake_all(self, sessions: Iterable[session_pb2.Session]) -> None:
        for session in list(sessions):
            session_id = names.session_id(session.name)
            if session.waiting_on == session_pb2.WAITING_ON_APPROVAL and not session.runner:
                await self._expire(session_id)
            elif not self._living.has(session.runner, session_id):
                await self._send(session)

    async def _expire(self, session_id: str) -> None:
        """End the questions whose deadline is over and whose turn has no process: no owner looks at the clock."""
        try:
            result = await command(
                self._log, session_id, lambda state: overdue(state, self._clock.now_ns()), clock=self._clock
            )
        except PodiumError as error:
            _log.warning("expiry put off", session=session_id, reason=error.message)
            return
        if result.events and result.tail.state is not None:
            await self.wake(result.tail.state)

    async def _send(self, session: session_pb2.Session) -> None:
        session_id = names.session_id(session.name)
        fitting = eligible(self._living.all(), session)
        if not fitting:
            if len(self._unplaced) < UNPLACED_MAX:
                self._unplaced[session_id] = session
            _log.info("no runner", session=session_id, reason=why_not(self._living.all(), session))
            return
        try:
            await self._queue.publish(fitting[0].pool, fitting[0].host, session_id)
        except PodiumError as error:
            _log.warning("wake put off", session=session_id, reason=error.message)
