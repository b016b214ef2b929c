"""NATS, gateway, indexer and runner over one data folder: started, watched, stopped in order.

    async with Stack(folder, options) as stack:
        print(stack.address)
        await stack.watch()

Owns the child processes and the folder's lock. The services' own folders belong to the services.
"""

import asyncio
import os
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from podium.cli import home
from podium.cli.home import DataFolder
from podium.cli.stack import readiness, secrets, settings, supervision
from podium.cli.stack.addresses import port_in_use, require_free, split
from podium.cli.stack.lock import FolderLock
from podium.cli.stack.logs import ServiceLog
from podium.cli.stack.nats import Nats
from podium.cli.stack.process import ServiceProcess, service_environment
from podium.errors import PodiumError
from podium.eventlog.serverprocess import free_port
from podium.v1 import runner_pb2

START_S_MAX = 60.0
INDEXER_GRACE_S = 10.0
RUNNER_MARGIN_S = 30.0
"""What the runner may take after its drain: it ends what is left, bounded by its own deadlines."""
PORT_ATTEMPTS_MAX = 5


@dataclass(frozen=True, slots=True)
class StackOptions:
    """What a stack can be told.

    Attributes:
        listen: HOST:PORT of the API; port 0 = a free one.
        environment: what the services see beside their settings; the runner cuts it to an allow-list for its clients.
        runner_settings: further settings of the runner, PODIUM_* names.
        drain_s: seconds that running turns have when it stops.
        user: name of the user's token: the principal of what this machine's user asks for.
        announced: other commands shall find it by themselves.
    """

    listen: str = "127.0.0.1:7460"
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    runner_settings: Mapping[str, str] = field(default_factory=dict)
    drain_s: float = 10.0
    user: str = field(default_factory=lambda: os.environ.get("USER") or "local")
    announced: bool = True


def _ignore(*said: str) -> None:
    """Take what nobody wants to hear."""


class _PortTaken(Exception):
    """A port that was free a moment ago is not any more."""


class Stack:
    """A whole Podium on this machine; an async context manager."""

    def __init__(
        self,
        folder: DataFolder,
        options: StackOptions,
        *,
        notice: Callable[[str], None] = _ignore,
        on_line: Callable[[str, str], None] = _ignore,
    ) -> None:
        """`notice` is told what happens, `on_line` each line (service, line) that a service says."""
        self.folder = folder
        self.options = options
        self.address = ""
        self.runner = runner_pb2.Runner()
        """The runner as it showed itself first."""
        self._notice = notice
        self._on_line = on_line
        self._lock = FolderLock(folder)
        self._nats = Nats(folder)
        self._services: dict[str, ServiceProcess] = {}

    @property
    def token(self) -> str:
        """Return the user's token."""
        return self.folder.token_file.read_text(encoding="utf-8").strip()

    @property
    def pids(self) -> dict[str, int]:
        """Return the processes that run, by service."""
        running = {"nats": self._nats.pid} | {name: service.pid for name, service in self._services.items()}
        return {name: pid for name, pid in running.items() if pid is not None}

    def last_words(self) -> dict[str, str]:
        """Return the end of what each service said."""
        return {name: service.said() for name, service in self._services.items()}

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def watch(self) -> None:
        """Keep everything running until cancelled; raises CliError SERVICE_FAILED when that is no use."""
        kept: list[supervision.Service] = [self._nats, *self._services.values()]
        try:
            async with asyncio.TaskGroup() as tasks:
                for service in kept:
                    tasks.create_task(supervision.keep(service, self._notice), name=f"keep {service.name}")
        except ExceptionGroup as group:
            raise _first(group, PodiumError) from None

    async def stop(self) -> None:
        """Stop everything in order, each within its grace. May be called twice."""
        if self.options.announced and self.address:
            home.withdraw(self.folder)
        # First nobody may ask for more, then what runs ends and is written down.
        graces = {
            "gateway": settings.GATEWAY_GRACE_S + 1.0,
            "runner": self.options.drain_s + RUNNER_MARGIN_S,
            "indexer": INDEXER_GRACE_S,
        }
        for name, grace_s in graces.items():
            if name in self._services:
                await self._services[name].stop(grace_s)
        await self._nats.stop()
        self._lock.release()

    async def kill(self) -> None:
        """End the services at once: somebody does not want to wait."""
        await asyncio.gather(*(service.kill() for service in self._services.values()))

    async def _start(self) -> None:
        host, port = split(self.options.listen)
        self._lock.take()
        made = secrets.prepare(self.folder, self.options.user)
        if port:
            require_free(host, port)
        self._notice("starting NATS")
        await self._nats.start(made)
        self._notice("starting indexer, gateway and runner")
        for _ in range(PORT_ATTEMPTS_MAX):
            gateway, indexer = f"{host}:{port or free_port()}", f"127.0.0.1:{free_port()}"
            places = settings.Places(self.folder, made, self._nats.url, gateway, indexer)
            try:
                await self._start_services(places)
                break
            except _PortTaken:
                if port:
                    raise port_in_use(gateway) from None
                await asyncio.gather(*(service.kill() for service in self._services.values()))
        else:
            raise port_in_use(self.options.listen)
        self.address = gateway
        if self.options.announced:
            home.announce(self.folder, self.address)

    async def _start_services(self, places: settings.Places) -> None:
        runner = settings.runner(places, drain_s=self.options.drain_s, further=self.options.runner_settings)
        self._services = {
            "indexer": self._service("indexer", settings.indexer(places)),
            "gateway": self._service("gateway", settings.gateway(places)),
            "runner": self._service("runner", runner),
        }
        since_ns = readiness.now_ns()
        for service in self._services.values():
            await service.start()
        shows = readiness.runner_shows(places.gateway, self.token, since_ns=since_ns, heard=self.runner.CopyFrom)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._ready("indexer", readiness.answers(places.indexer)))
                tasks.create_task(self._ready("gateway", readiness.answers(places.gateway)))
                tasks.create_task(self._ready("runner", shows))
        except ExceptionGroup as group:
            raise _first(group, _PortTaken, PodiumError) from None

    async def _ready(self, name: str, fact: Coroutine[Any, Any, None]) -> None:
        """Return when `fact` has come; raises when the service ends first, or neither happens in time."""
        service = self._services[name]
        ended, ready = asyncio.ensure_future(service.wait()), asyncio.ensure_future(fact)
        try:
            await asyncio.wait({ended, ready}, timeout=START_S_MAX, return_when=asyncio.FIRST_COMPLETED)
            if ready.done():
                ready.result()
                self._notice(f"{name} is ready")
            elif ended.done():
                await service.settle()
                if "PODIUM_LISTEN" in service.said():
                    raise _PortTaken
                raise supervision.failed(service, ended.result(), "it never became ready")
            else:
                raise supervision.never_ready(service, START_S_MAX)
        finally:
            for task in (ended, ready):
                task.cancel()
            await asyncio.gather(ended, ready, return_exceptions=True)

    def _service(self, name: str, given: Mapping[str, str]) -> ServiceProcess:
        log = ServiceLog(self.folder.logs / f"{name}.log", lambda line: self._on_line(name, line))
        return ServiceProcess(name, ["-m", name], service_environment(self.options.environment, given), log)


def _first(group: ExceptionGroup[Exception], *kinds: type[Exception]) -> Exception:
    """Return the first error of these kinds, else the group: `except*` would wrap what it raises in a group again."""
    return next((error for error in group.exceptions if isinstance(error, kinds)), group)
