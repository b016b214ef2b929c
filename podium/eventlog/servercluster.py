"""Three NATS servers on loopback as one cluster (R3): for tests and benches of what production runs."""

import asyncio
import contextlib
import secrets
from pathlib import Path
from types import TracebackType
from typing import Self

import nats
from nats.errors import Error as NatsError

from podium.eventlog import credentials as passwords
from podium.eventlog.credentials import Credentials
from podium.eventlog.roles import Role
from podium.eventlog.server import EmbeddedServer
from podium.eventlog.serverconfig import ClusterMember, PortInUse, ServerError, ServerSettings
from podium.eventlog.serverprocess import free_port

MEMBERS = 3
READY_S_MAX = 60.0
_ATTEMPTS_MAX = 5
_ASK_S_MAX = 2.0
_POLL_S = 0.05


class EmbeddedCluster:
    """Three servers below one folder; each fsyncs before it acknowledges, as production does.

    `servers` may be killed and started one by one; `credentials` are the same for all.
    """

    def __init__(self, data: Path, *, binary: Path | None = None) -> None:
        """Nothing is started yet."""
        self._data = data
        self._binary = binary
        self.credentials: Credentials = passwords.generated()
        self.servers: list[EmbeddedServer] = []

    @property
    def urls(self) -> list[str]:
        """Return where clients connect, one URL a server."""
        return [server.url for server in self.servers]

    async def __aenter__(self) -> Self:
        for attempt in range(_ATTEMPTS_MAX):
            self.servers = self._members()
            try:
                await self._start()
            except PortInUse:
                await self.stop()
                if attempt == _ATTEMPTS_MAX - 1:
                    raise
            except BaseException:
                await self.stop()
                raise
            else:
                return self
        raise AssertionError("the last attempt raises")

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """End all servers; may be called twice."""
        await asyncio.gather(*(server.stop() for server in self.servers))

    async def wait_until_ready(self) -> None:
        """Return when the members have found each other and chosen who keeps the list of streams."""
        async with asyncio.timeout(READY_S_MAX):
            while not await self._has_leader():  # noqa: ASYNC110 - the servers tell nobody, they have to be asked
                await asyncio.sleep(_POLL_S)

    async def _start(self) -> None:
        async with asyncio.TaskGroup() as group:
            starts = [group.create_task(_started(server)) for server in self.servers]
        for start in starts:
            if (failure := start.result()) is not None:
                raise failure
        await self.wait_until_ready()

    async def _has_leader(self) -> bool:
        """Ask for the account's figures, which only the leader of the cluster's list of streams answers."""
        with contextlib.suppress(NatsError, OSError):
            client = await nats.connect(
                [server.url for server in self.servers if server.pid is not None],
                user=Role.OPERATOR.value,
                password=self.credentials.password(Role.OPERATOR),
                inbox_prefix=Role.OPERATOR.inbox_prefix.encode(),
                connect_timeout=_ASK_S_MAX,
                allow_reconnect=False,
            )
            try:
                await client.jetstream(timeout=_ASK_S_MAX).account_info()
            finally:
                await client.close()
            return True
        return False

    def _members(self) -> list[EmbeddedServer]:
        ports: set[int] = set()
        while len(ports) < 2 * MEMBERS:
            ports.add(free_port())
        routes, clients = sorted(ports)[:MEMBERS], sorted(ports)[MEMBERS:]
        password = secrets.token_urlsafe(32)
        urls = tuple(f"nats-route://route:{password}@127.0.0.1:{port}" for port in routes)
        return [
            EmbeddedServer(
                ServerSettings(
                    data=self._data / f"n{index}",
                    name=f"n{index}",
                    port=clients[index],
                    sync="always",
                    cluster=ClusterMember(name="podium", listen_port=routes[index], routes=urls, password=password),
                ),
                credentials=self.credentials,
                binary=self._binary,
            )
            for index in range(MEMBERS)
        ]


async def _started(server: EmbeddedServer) -> ServerError | None:
    """Start a server and return what went wrong, so that the others are heard too."""
    try:
        await server.start()
    except ServerError as failure:
        return failure
    return None
