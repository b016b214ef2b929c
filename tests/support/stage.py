"""All of Podium as processes of their own, each to be killed, suspended and started again where it was."""

import asyncio
import contextlib
import itertools
import json
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import psutil

from podium import auth, rpc
from podium.eventlog import EventLog, Limits, LogSettings, Role
from podium.eventlog.server import EmbeddedServer
from podium.eventlog.servercluster import EmbeddedCluster
from podium.eventlog.serverconfig import ServerSettings
from podium.scripted_model import claude_environment
from podium.v1 import analytics_service_pb2 as analytics
from podium.v1 import session_service_pb2 as api
from podium.v1.analytics_service_pb2_grpc import AnalyticsServiceStub
from podium.v1.session_service_pb2_grpc import SessionServiceStub
from tests.support import processes
from tests.support.orders import Orders

TOKEN = "token-of-stage"
RUNNER_HOST = "h1"
HEARTBEAT_TTL_S = 2
READY_S_MAX = 60.0
PORTS_FROM, PORTS_TO = 18_000, 30_000
"""Below the kernel's ephemeral ports: a service that was killed finds its port free when it comes back."""


class Part:
    """One process of the stage: `start`, `kill`, `start` again with the same settings."""

    def __init__(self, module: str, folder: Path, environment: Mapping[str, str], ready: str) -> None:
        self.module, self.folder = module, folder
        self.environment = dict(environment)
        self._ready = ready
        self._around = contextlib.AsyncExitStack()
        self.service: processes.Service | None = None

    async def start(self) -> "Part":
        """Start it and wait until it says that it is ready."""
        starting = processes.service(self.module, self.folder, self.environment)
        self.service = await self._around.enter_async_context(starting)
        await self.service.said(self._ready, READY_S_MAX)
        return self

    async def kill(self) -> None:
        """End it without warning, as a crash would."""
        assert self.service is not None
        await self.service.kill()
        await self._around.aclose()
        self.service = None

    async def stop(self) -> None:
        """End it as an operator would; may be called twice."""
        await self._around.aclose()
        self.service = None

    @property
    def pid(self) -> int:
        assert self.service is not None
        return self.service.process.pid

    def cpu_s(self) -> float:
        """Return the CPU time it used so far, its children left out."""
        used = psutil.Process(self.pid).cpu_times()
        return float(used.user + used.system)

    def memory_bytes(self) -> int:
        return int(psutil.Process(self.pid).memory_info().rss)


@dataclass
class Stage:
    """Where everything is. What was started here ends with the stage."""

    folder: Path
    servers: list[EmbeddedServer]
    credentials_file: Path
    around: contextlib.AsyncExitStack
    gateway_port: int
    indexer_port: int
    parts: dict[str, Part] = field(default_factory=dict)

    @property
    def replicas(self) -> int:
        return len(self.servers)

    @property
    def nats_url(self) -> str:
        return ",".join(server.url for server in self.servers)

    @property
    def store_file(self) -> Path:
        return self.folder / "indexer" / "podium.duckdb"

    @contextlib.asynccontextmanager
    async def connect(self, role: Role, **other: float) -> AsyncIterator[EventLog]:
        """Connect this process to the log."""
        settings = LogSettings(
            servers=tuple(server.url for server in self.servers),
            password=self.servers[0].credentials.password(role),
            limits=Limits(replicas=self.replicas),
            **other,  # type: ignore[arg-type]  # timeouts
        )
        async with EventLog.connect(settings, role) as log:
            yield log

    def nats_cpu_s(self) -> float:
        """Return the CPU time of all NATS servers so far."""
        used = [psutil.Process(server.pid).cpu_times() for server in self.servers]
        return float(sum(times.user + times.system for times in used))

    def environment(self, **more: str) -> dict[str, str]:
        """Return what every service is told."""
        return {
            "PODIUM_NATS_URL": self.nats_url,
            "PODIUM_NATS_CREDENTIALS_FILE": str(self.credentials_file),
            "PODIUM_NATS_REPLICAS": str(self.replicas),
            "PODIUM_HEARTBEAT_TTL_S": str(HEARTBEAT_TTL_S),
            "PODIUM_TOKENS_FILE": str(self.folder / "tokens.json"),
            "PODIUM_STOP_GRACE_S": "0.5",
            **more,
        }

    async def part(self, name: str, module: str, ready: str, **environment: str) -> Part:
        """Start a process that is told where everything is."""
        part = Part(module, self.folder / name, self.environment(**environment), ready)
        self.around.push_async_callback(part.stop)
        self.parts[name] = part
        return await part.start()

    async def gateway(self, **environment: str) -> Part:
        return await self.part(
            "gateway",
            "gateway",
            "serving",
            PODIUM_LISTEN=f"127.0.0.1:{self.gateway_port}",
            PODIUM_INDEXER_ADDRESS=f"127.0.0.1:{self.indexer_port}",
            PODIUM_INDEXER_TOKEN_FILE=str(self.folder / "indexer.token"),
            **environment,
        )

    async def indexer(self, **environment: str) -> Part:
        return await self.part(
            "indexer",
            "indexer",
            "serving",
            PODIUM_LISTEN=f"127.0.0.1:{self.indexer_port}",
            PODIUM_STORE_FILE=str(self.store_file),
            **environment,
        )

    async def runner(self, name: str, model_url: str, **environment: str) -> Part:
        """Start a runner; all share a host, its state folder and the clients' home, as on one machine."""
        home, work = self.folder / "home", self.folder / "work"
        for made in (home, work):
            made.mkdir(exist_ok=True)
        told = {
            "PODIUM_HOST": RUNNER_HOST,
            "PODIUM_RUNNER_NAME": name,
            "PODIUM_ROOTS": json.dumps([str(work)]),
            "PODIUM_STATE_DIR": str(self.folder / "state"),
            "PODIUM_ALLOW_BYPASS": "true",
            "PODIUM_DRAIN_S": "5",
            **environment,
        }
        return await self.part(name, "runner", "ready", **claude_environment(home, model_url), **told)

    async def load(self, orders: Orders, *, name: str = "load", module: str = "tests.support.load") -> Part:
        """Start a process that owns sessions and writes numbered events."""
        return await self.part(name, module, "attached", **orders.environment())

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator["Client"]:
        """Connect as a client of the gateway."""
        channel = rpc.channel(f"127.0.0.1:{self.gateway_port}", TOKEN)
        try:
            yield Client(channel)
        finally:
            await channel.close(grace=None)


@dataclass
class Client:
    """The public API."""

    channel: grpc.aio.Channel

    def __post_init__(self) -> None:
        self.sessions = SessionServiceStub(self.channel)
        self.analytics = AnalyticsServiceStub(self.channel)

    async def projected(self, position: int, timeout_s: float = 120.0) -> None:
        """Wait until the projection has everything up to a position."""

        async def there() -> bool:
            found = await self.analytics.GetProjection(analytics.GetProjectionRequest())
            assert not found.problem, found.problem
            return found.position >= position

        await until(there, timeout_s)

    async def make_sessions(self, count: int, prefix: str = "session") -> list[str]:
        """Make sessions and return their ids."""
        ids = []
        for number in range(count):
            request = api.CreateSessionRequest(request_id=f"{prefix}-{number}")
            answer = await self.sessions.CreateSession(request)
            ids.append(answer.session.name.removeprefix("sessions/"))
        return ids


@contextlib.asynccontextmanager
async def stage(folder: Path, *, cluster: bool = False) -> AsyncIterator[Stage]:
    """Run NATS, one server or three, with all streams; the rest is started by whoever needs it."""
    folder.mkdir(parents=True, exist_ok=True)
    auth.write_tokens(folder / "tokens.json", [auth.entry("stage", [auth.Role.ADMIN], TOKEN)])
    auth.write_private(folder / "indexer.token", TOKEN.encode())
    async with contextlib.AsyncExitStack() as around:
        servers = await _servers(folder / "nats", around, cluster=cluster)
        credentials_file = folder / "nats.json"
        passwords = {role.value: servers[0].credentials.password(role) for role in Role}
        auth.write_private(credentials_file, json.dumps(passwords).encode())
        inner = await around.enter_async_context(contextlib.AsyncExitStack())
        whole = Stage(folder, servers, credentials_file, inner, quiet_port(), quiet_port())
        async with whole.connect(Role.OPERATOR) as log:
            await log.ensure_streams()
        yield whole


async def _servers(data: Path, around: contextlib.AsyncExitStack, *, cluster: bool) -> list[EmbeddedServer]:
    if cluster:
        return (await around.enter_async_context(EmbeddedCluster(data))).servers
    return [await around.enter_async_context(EmbeddedServer(ServerSettings(data=data)))]


_taken: set[int] = set()


def quiet_port() -> int:
    """Return a free port that no outgoing connection will take."""
    first = PORTS_FROM + os.getpid() % 100 * 100
    for port in itertools.chain(range(first, PORTS_TO), range(PORTS_FROM, first)):
        if port not in _taken and _is_free(port):
            _taken.add(port)
            return port
    raise OSError(f"no port from {PORTS_FROM} to {PORTS_TO} is free")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


async def until(condition: Callable[[], Awaitable[bool]], timeout_s: float = 60.0, every_s: float = 0.02) -> None:
    """Wait until the coroutine function returns something true."""
    end = time.monotonic() + timeout_s
    while not await condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {timeout_s} s: {condition}")
        await asyncio.sleep(every_s)
