"""The runner: takes wakes, attaches to sessions, hosts them, says that it lives, and drains when it is told to stop."""

import asyncio
import os
import secrets
from contextlib import suppress

import psutil
import structlog

import podium
from podium.clock import to_timestamp
from podium.errors import PodiumError
from podium.eventlog import RunnerDirectory, Wake, WakeQueue, Watch, attach
from podium.session import has_work
from podium.tasks import background
from podium.v1 import event_pb2 as e
from podium.v1 import runner_pb2
from podium.v1 import session_pb2 as s
from runner.offers import Offers
from runner.providers.port import ProviderFailed
from runner.session_host import SessionHost, Shared

_log = structlog.get_logger()

ABANDON_DEADLINE_S = 20.0
WAKE_AGAIN_S = 1.0
WAKE_ACK_S = 5.0
"""A wake whose runner died while it took the session comes again after this long."""
LEAVING_S = 0.2
"""How soon a wake comes again for a session that this runner is just giving up."""
EVICT_DEADLINE_S = 15.0
"""For an evicted session to make room."""
WORKSPACES_SHOWN_MAX = 1000


class LeaveAlone(Exception):
    """There is nothing to do for the session, or its host is another one."""


class NotNow(Exception):
    """The owner is there, or was a moment ago; or another runner of the host must take it."""


def new_runner_id(name: str) -> str:
    """Return an id that no runner had before: an owner of that id is this very process."""
    return f"{name}-{secrets.token_hex(4)}"


class RunnerService:
    """One runner process."""

    def __init__(self, shared: Shared, directory: RunnerDirectory, queue: WakeQueue) -> None:
        """Take what its sessions share, where it says that it lives, and where its wakes come from."""
        self._shared = shared
        self._directory = directory
        self._queue = queue
        self._hosts: dict[str, SessionHost] = {}
        self._hosting: dict[str, asyncio.Task[None]] = {}
        self._room = asyncio.Event()
        self._draining = False
        self._offers = Offers(shared.runner_id, shared.providers.values(), directory, shared.clock)
        self._started_at = to_timestamp(shared.clock.now_ns())

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set, then drain: running turns have `drain_s`, what is left then ends as lost."""
        await self._offers.probe()
        beating = self._directory.keep(self._snapshot)
        async with self._directory.watch() as watch, background(beating, self._offers.keep_telling()) as tasks:
            taking = tasks.create_task(self._take_wakes(watch, tasks))
            _log.info("ready", runner=self._shared.runner_id, pool=self._shared.settings.pool)
            await stop.wait()
            self._draining = True
            taking.cancel()
            await self._drain()
        with suppress(PodiumError):
            await self._directory.leave()

    async def _take_wakes(self, watch: Watch, tasks: asyncio.TaskGroup) -> None:
        settings = self._shared.settings
        wakes = self._queue.consume(settings.pool, settings.host)
        while True:
            await self._wait_for_room()
            wake = await anext(wakes)
            if not self._has_room:
                # The queue was asked while there was room: another runner of the host may have some.
                await wake.nak(0)
                continue
            # Not cut off half-way by a drain: a session that was attached must get its host.
            await asyncio.shield(tasks.create_task(self._take(wake, watch, tasks), name=f"wake {wake.session_id}"))

    async def _take(self, wake: Wake, watch: Watch, tasks: asyncio.TaskGroup) -> None:
        host = self._hosts.get(wake.session_id)
        if host is not None and host.leaving:
            await wake.nak(LEAVING_S)
            return
        if host is not None:
            host.look()
            await wake.ack()
            return
        try:
            await self._make_room(wake)
            result = await attach(
                self._shared.log, wake.session_id, lambda state: self._claim(state, watch), clock=self._shared.clock
            )
        except LeaveAlone:
            await wake.ack()
        except NotNow:
            # Not more than twenty times: that must last until a lost owner is seen to be gone.
            await wake.nak(max(WAKE_AGAIN_S, self._shared.settings.heartbeat_ttl_s / 10))
        except PodiumError as error:
            _log.warning("wake put off", session=wake.session_id, reason=error.message)
            await wake.nak(WAKE_AGAIN_S)
        else:
            self._host(SessionHost(self._shared, wake.session_id, result.tail, self._room.set), tasks)
            # If this process dies now, its last heartbeat must have named the session: else the wake comes again.
            with suppress(PodiumError):
                await self._directory.beat(self._snapshot())
                await wake.ack()

    def _claim(self, state: s.SessionState | None, watch: Watch) -> e.RunnerAttached:
        """Return the fact that takes the session; raises LeaveAlone and NotNow."""
        settings, runner_id = self._shared.settings, self._shared.runner_id
        if state is None or not has_work(state) or state.session.host not in ("", settings.host):
            raise LeaveAlone
        if self._draining or not self._fits(state.session):
            raise NotNow
        reason = e.ATTACH_REASON_CLAIMED
        if state.HasField("owner") and state.owner.runner != runner_id:
            if not watch.is_gone(state.owner.runner):
                # The gateway that sent the wake knows more, or we will know it soon.
                raise NotNow
            reason = e.ATTACH_REASON_TAKEN_OVER
        return e.RunnerAttached(runner=runner_id, host=settings.host, epoch=state.epoch + 1, reason=reason)

    def _fits(self, session: s.Session) -> bool:
        """Return whether the session may run here: the runners of a host share its wakes, and may differ."""
        labels = self._shared.settings.runner_labels
        has_labels = all(labels.get(key) == value for key, value in session.runner_labels.items())
        return has_labels and session.provider in self._shared.providers and session.pool == self._shared.settings.pool

    def _host(self, host: SessionHost, tasks: asyncio.TaskGroup) -> None:
        self._hosts[host.session_id] = host
        self._hosting[host.session_id] = tasks.create_task(self._hosted(host), name=f"session {host.session_id}")
        if self._draining:
            host.drain()

    async def _hosted(self, host: SessionHost) -> None:
        log = _log.bind(session=host.session_id, epoch=host.epoch)
        log.info("attached")
        try:
            await host.run()
        except PodiumError as error:
            log.error("session given up", reason=error.message)  # noqa: TRY400 - the reason says it all
        except Exception:
            # One broken session must not end all others.
            log.exception("session given up: a fault")
        finally:
            del self._hosts[host.session_id], self._hosting[host.session_id]
            self._room.set()
            self._directory.beat_soon()
        log.info("detached")

    async def _wait_for_room(self) -> None:
        """Return when a slot is free, and one more session may be owned or an idle one evicted for it."""
        while not self._has_room:
            await self._room_changes(WAKE_AGAIN_S)

    async def _make_room(self, wake: Wake) -> None:
        """Evict the session that is idle longest when no more may be owned. Raises NotNow when none goes in time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(EVICT_DEADLINE_S):
                while self._is_full and (idle := self._idle()):
                    min(idle, key=lambda host: host.idle_since).evict()
                    await wake.working()
                    await self._room_changes(WAKE_AGAIN_S)
        if self._is_full:
            raise NotNow

    @property
    def _has_room(self) -> bool:
        busy = len(self._hosts) - len(self._idle())
        return busy < self._shared.settings.slots and (not self._is_full or bool(self._idle()))

    @property
    def _is_full(self) -> bool:
        return len(self._hosts) >= self._shared.settings.sessions_max

    def _idle(self) -> list[SessionHost]:
        return [host for host in self._hosts.values() if not host.busy]

    async def _room_changes(self, seconds: float) -> None:
        """Return when a session ended or a turn did, at the latest after so many seconds."""
        self._room.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._room.wait()

    async def _drain(self) -> None:
        self._directory.beat_soon()
        _log.info("draining", sessions=len(self._hosts))
        for host in list(self._hosts.values()):
            host.drain()
        if await self._hosts_gone(self._shared.settings.drain_s):
            return
        for host in list(self._hosts.values()):
            host.abandon()
        if await self._hosts_gone(ABANDON_DEADLINE_S):
            return
        # The log is away: what it was not told it will know by our absence.
        _log.error("sessions did not end in time", sessions=sorted(self._hosts))
        for hosting in list(self._hosting.values()):
            hosting.cancel()

    async def _hosts_gone(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                while self._hosts:
                    self._room.clear()
                    await self._room.wait()
        except TimeoutError:
            return False
        return True

    def _snapshot(self) -> runner_pb2.Runner:
        """Return what the heartbeat says."""
        shared, settings = self._shared, self._shared.settings
        return runner_pb2.Runner(
            id=shared.runner_id,
            host=settings.host,
            pool=settings.pool,
            labels=settings.runner_labels,
            version=podium.__version__,
            started_at=self._started_at,
            seen_at=to_timestamp(shared.clock.now_ns()),
            slots=settings.slots,
            busy=sum(host.busy for host in self._hosts.values()),
            sessions=len(self._hosts),
            draining=self._draining,
            providers=self._offers.found,
            workspaces=self._workspaces(),
            load=os.getloadavg()[0] / (os.cpu_count() or 1),
            memory_bytes=psutil.Process().memory_info().rss,
            unacknowledged_bytes=shared.budget.used,
            session_ids=sorted(self._hosts),
        )

    def _workspaces(self) -> list[str]:
        try:
            return self._shared.workspaces.names()[:WORKSPACES_SHOWN_MAX]
        except ProviderFailed as failed:
            _log.error("workspaces not read", reason=failed.problem.message)
            return []
