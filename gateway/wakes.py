"""Wakes runners: tells the right host that a session has something to do, and makes sure none is forgotten.

A wake carries no truth. It is sent when a command leaves work, when the runner that had the work is gone, when a runner
appears, and every `sweep_interval_s` for all unfinished sessions that no living runner has.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

import structlog

from gateway.placement import eligible, why_not
from podium.errors import PodiumError, Unavailable
from podium.eventlog import Appeared, EventLog, Gone, RunnerDirectory, WakeQueue
from podium.session import has_work
from podium.v1 import runner_pb2, session_pb2
from podium.v1.session_pb2 import SessionState

_log = structlog.get_logger()

UNPLACED_MAX = 10_000

Unfinished = Callable[[], Awaitable[list[session_pb2.Session]]]
"""Reads from the projection which sessions have a turn that runs or waits."""


class Living:
    """The runners that live now, as this gateway sees them, and the models they told of; kept by `follow`."""

    def __init__(self, directory: RunnerDirectory) -> None:
        """Take the heartbeats."""
        self._directory = directory
        self._runners: Mapping[str, runner_pb2.Runner] = {}
        self._looked = False
        self.catalogs: Sequence[runner_pb2.ModelCatalog] = ()
        """What runners have told of their models, now or before."""
        self.appeared = asyncio.Event()
        self.lost: asyncio.Queue[runner_pb2.Runner] = asyncio.Queue()
        """Runners that are gone, with what they last said."""

    def all(self) -> list[runner_pb2.Runner]:
        """Return the living runners by id."""
        return sorted(self._runners.values(), key=lambda runner: runner.id)

    def __contains__(self, runner_id: str) -> bool:
        return runner_id in self._runners

    def is_missing(self, runner_id: str) -> bool:
        """Return whether a runner is not there, as far as this gateway has looked; nobody is missing before that."""
        return self._looked and runner_id not in self._runners

    async def follow(self) -> None:
        """Follow the heartbeats until cancelled."""
        async with self._directory.watch() as watch:
            self._runners = watch.living
            await watch.wait_for_first_look()
            self._looked = True
            told = 0
            async for change in watch:
                if isinstance(change, Gone):
                    await self.lost.put(change.runner)
                    continue
                if isinstance(change, Appeared):
                    self.appeared.set()
                if isinstance(change, Appeared) or self._providers() != told:
                    told = self._providers()
                    await self._read_catalogs()

    def _providers(self) -> int:
        return sum(len(runner.providers) for runner in self._runners.values())

    async def _read_catalogs(self) -> None:
        try:
            self.catalogs = list((await self._directory.catalogs()).values())
        except Unavailable as error:
            _log.warning("model catalogs not read", reason=error.message)


class Waker:
    """Sends wakes."""

    def __init__(
        self, log: EventLog, queue: WakeQueue, living: Living, unfinished: Unfinished, sweep_interval_s: float
    ) -> None:
        """Take where to send, who lives, and how to find what is unfinished."""
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
        if has_work(state) and not (state.HasField("owner") and state.owner.runner in self._living):
            await self._send(state.session)

    async def run(self) -> None:
        """Wake for lost runners at once and for all unfinished sessions now and then, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._replace_lost())
            tasks.create_task(self._sweep())

    async def _replace_lost(self) -> None:
        while True:
            runner = await self._living.lost.get()
            _log.info("runner lost", runner=runner.id, sessions=len(runner.session_ids))
            for session_id in runner.session_ids:
                await self._wake_by_id(session_id)

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
            try:
                unplaced, self._unplaced = self._unplaced, {}
                await self._wake_all(unplaced.values())
                await self._wake_all(await self._unfinished())
            except PodiumError as error:
                _log.info("sweep put off", reason=error.message)
            self._living.appeared.clear()
            try:
                async with asyncio.timeout(self._sweep_interval_s):
                    await self._living.appeared.wait()
            except TimeoutError:
                continue

    async def _wake_all(self, sessions: Iterable[session_pb2.Session]) -> None:
        for session in sessions:
            if session.runner not in self._living:
                await self._send(session)

    async def _send(self, session: session_pb2.Session) -> None:
        session_id = session.name.removeprefix("sessions/")
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
