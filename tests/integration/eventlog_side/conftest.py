import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from podium.eventlog import layout
from podium.eventlog.connection import EventLog, LogSettings
from podium.eventlog.layout import Limits
from podium.eventlog.link import Link
from podium.eventlog.roles import Role
from podium.eventlog.server import EmbeddedServer
from podium.eventlog.serverconfig import ServerSettings

Connect = Callable[[Role], AbstractAsyncContextManager[Link]]


@contextlib.asynccontextmanager
async def connected(server: EmbeddedServer, role: Role) -> AsyncIterator[Link]:
    settings = LogSettings(servers=(server.url,), password=server.credentials.password(role))
    async with EventLog.connect(settings, role) as log:
        yield log.link


@pytest.fixture
async def bare_server(tmp_path: Path) -> AsyncIterator[EmbeddedServer]:
    async with EmbeddedServer(ServerSettings(data=tmp_path / "nats")) as server:
        yield server


@pytest.fixture
async def server(bare_server: EmbeddedServer) -> EmbeddedServer:
    """A server with the streams in place."""
    async with connected(bare_server, Role.OPERATOR) as link:
        await layout.ensure(link, Limits())
    return bare_server


@pytest.fixture
def connect(server: EmbeddedServer) -> Connect:
    return lambda role: connected(server, role)


@pytest.fixture
async def runner_link(connect: Connect) -> AsyncIterator[Link]:
    async with connect(Role.RUNNER) as link:
        yield link


@pytest.fixture
async def gateway_link(connect: Connect) -> AsyncIterator[Link]:
    async with connect(Role.GATEWAY) as link:
        yield link


@pytest.fixture
async def operator_link(connect: Connect) -> AsyncIterator[Link]:
    async with connect(Role.OPERATOR) as link:
        yield link
