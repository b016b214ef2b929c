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
from podium.v1 import provider_pb2, runner_pb2
from podium.v1 import session_pb2 as s
from runner.providers.port import Provider
from runner.session_host import SessionHost, Shared

_log = structlog.get_logger()

PROBE_DEADLINE_S = 20.0
MODELS_DEADLINE_S = 60.0
REPROBE_S = 300.0
ABANDON_DEADLINE_S = 20.0
WAKE_AGAIN_S = 1.0


class LeaveAlone(Exception):
    """There is nothing to take over, or somebody alive has it."""


class OwnerNotGone(Exception):
    """The owner does not show itself, but not for long enough: it may be there."""


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
        self._room = asyncio.Event()
        self._draining = False
        self._providers: list[provider_pb2.Provider] = []
        self._started_at = to_timestamp(shared.clock.now_ns())

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set, then drain: running turns have `drain_s`, what is left then ends as lost."""
        await self._probe()
        beating = self._directory.keep(self._snapshot)
        async with self._directory.watch() as watch, background(beating, self._tell_of_models()) as tasks:
            taking = tasks.create_task(self._take_wakes(watch, tasks))
            _log.info("ready", runner=self._shared.runner_id, pool=self._shared.settings.pool)
            await stop.wait()
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
            try:
                await self._take(wake, watch, tasks)
            except PodiumError as error:
                _log.warning("wake put off", session=wake.session_id, reason=error.message)
                await wake.nak(WAKE_AGAIN_S)

    async def _take(self, wake: Wake, watch: Watch, tasks: asyncio.TaskGroup) -> None:
        host = self._hosts.get(wake.session_id)
        if host is not None:
            host.look()
            await wake.ack()
            return
        try:
            result = await attach(
                self._shared.log, wake.session_id, lambda state: self._claim(state, watch), clock=self._shared.clock
            )
        except LeaveAlone:
            await wake.ack()
            return
        except OwnerNotGone:
            await wake.nak(WAKE_AGAIN_S)
            return
        host = SessionHost(self._shared, wake.session_id, result.tail)
        self._hosts[wake.session_id] = host
        tasks.create_task(self._host(host), name=f"session {wake.session_id}")
        await wake.ack()

    def _claim(self, state: s.SessionState | None, watch: Watch) -> e.RunnerAttached:
        """Return the fact that takes the session; raises LeaveAlone."""
        settings, runner_id = self._shared.settings, self._shared.runner_id
        if state is None or not has_work(state) or state.session.host not in ("", settings.host):
            raise LeaveAlone
        reason = e.ATTACH_REASON_CLAIMED
        if state.HasField("owner") and state.owner.runner != runner_id:
            if not watch.is_gone(state.owner.runner):
                if state.owner.runner in watch.living:
                    raise LeaveAlone
                raise OwnerNotGone
            reason = e.ATTACH_REASON_TAKEN_OVER
        return e.RunnerAttached(runner=runner_id, host=settings.host, epoch=state.epoch + 1, reason=reason)

    async def _host(self, host: SessionHost) -> None:
        log = _log.bind(session=host.session_id, epoch=host.epoch)
        log.info("attached")
        try:
            await host.run()
        except PodiumError as error:
            log.error("session given up", reason=error.message)  # noqa: TRY400 - the reason says it all
        finally:
            self._hosts.pop(host.session_id, None)
            self._room.set()
            self._directory.beat_soon()
        log.info("detached")

    async def _wait_for_room(self) -> None:
        """Return when a slot is free and one more session may be owned; evicts the session that is idle longest."""
        while self._shared.slots.locked() or len(self._hosts) >= self._shared.settings.sessions_max:
            idle = [host for host in self._hosts.values() if not host.busy and not host.evicted]
            if len(self._hosts) >= self._shared.settings.sessions_max and idle:
                min(idle, key=lambda host: host.idle_since).evict()
            self._room.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(WAKE_AGAIN_S):
                    await self._room.wait()

    async def _drain(self) -> None:
        self._draining = True
        self._directory.beat_soon()
        _log.info("draining", sessions=len(self._hosts))
        for host in list(self._hosts.values()):
            host.drain()
        if not await self._hosts_gone(self._shared.settings.drain_s):
            for host in list(self._hosts.values()):
                host.abandon()
            if not await self._hosts_gone(ABANDON_DEADLINE_S):
                _log.error("sessions did not end in time", sessions=sorted(self._hosts))

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
            providers=self._providers,
            workspaces=shared.workspaces.names()[:1000],
            load=os.getloadavg()[0] / (os.cpu_count() or 1),
            memory_bytes=psutil.Process().memory_info().rss,
            unacknowledged_bytes=shared.budget.used,
            session_ids=sorted(self._hosts),
        )

    async def _probe(self) -> None:
        """Ask every provider whether its client is there."""
        found = await asyncio.gather(*(self._probed(provider) for provider in self._shared.providers.values()))
        self._providers = [provider for provider in found if provider is not None]

    async def _probed(self, provider: Provider) -> provider_pb2.Provider | None:
        try:
            async with asyncio.timeout(PROBE_DEADLINE_S):
                probed = await provider.probe()
        except TimeoutError:
            _log.warning("provider did not answer its probe", provider=provider.name)
            return None
        probed.runner = self._shared.runner_id
        probed.vendor = provider.vendor
        return probed

    async def _tell_of_models(self) -> None:
        """Keep the catalogs of the providers' models fresh."""
        while True:
            for provider in self._shared.providers.values():
                await self._tell_of(provider)
            self._directory.beat_soon()
            await asyncio.sleep(REPROBE_S)
            await self._probe()

    async def _tell_of(self, provider: Provider) -> None:
        try:
            async with asyncio.timeout(MODELS_DEADLINE_S):
                models = await provider.models()
            if models:
                catalog = runner_pb2.ModelCatalog(
                    provider=provider.name,
                    models=models,
                    source="client",
                    read_at=to_timestamp(self._shared.clock.now_ns()),
                )
                await self._directory.put_catalog(self._shared.runner_id, catalog)
        except (TimeoutError, PodiumError) as error:
            _log.warning("models not read", provider=provider.name, reason=str(error))
