"""A real gateway on a real NATS server, and a client with a token: what tests of the API start."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from gateway.__main__ import running
from gateway.settings import GatewaySettings
from podium import auth, rpc
from podium.clock import SystemClock
from podium.eventlog import EventLog, Role
from podium.eventlog.access import log_settings
from podium.eventlog.server import EmbeddedServer
from podium.eventlog.serverconfig import ServerSettings
from podium.settings import ServiceSettings
from podium.v1.analytics_service_pb2_grpc import AnalyticsServiceStub
from podium.v1.session_service_pb2_grpc import SessionServiceStub

HEARTBEAT_TTL_S = 2
TOKENS = {
    "admin": [auth.Role.ADMIN],
    "reader": [auth.Role.READ],
    "approver": [auth.Role.APPROVE],
    "ci": [auth.Role.RUN],
}


@asynccontextmanager
async def log_server(folder: Path) -> AsyncIterator[ServiceSettings]:
    """Run a NATS server with all streams, and yield the settings that reach it."""
    async with EmbeddedServer(ServerSettings(data=folder / "nats")) as server:
        settings = ServiceSettings(nats_url=server.url, nats_credentials_file=server.credentials_file)
        async with EventLog.connect(log_settings(settings, Role.OPERATOR), Role.OPERATOR) as log:
            await log.ensure_streams()
        yield settings


@dataclass
class Gateway:
    """A running gateway; `sessions` and `analytics` call it as `admin`."""

    port: int
    folder: Path
    channel: grpc.aio.Channel

    def __post_init__(self) -> None:
        self.sessions = SessionServiceStub(self.channel)
        self.analytics = AnalyticsServiceStub(self.channel)

    def channel_as(self, name: str) -> grpc.aio.Channel:
        return rpc.channel(f"127.0.0.1:{self.port}", token(name))


def token(name: str) -> str:
    return f"token-of-{name}"


@asynccontextmanager
async def gateway(
    settings: ServiceSettings,
    folder: Path,
    *,
    listen: str = "127.0.0.1:0",
    indexer_address: str = "127.0.0.1:1",
    heartbeat_ttl_s: int = HEARTBEAT_TTL_S,
    **given: Any,
) -> AsyncIterator[Gateway]:
    """Run a gateway on a free port; without an indexer its lists say that they are not available."""
    folder.mkdir(parents=True, exist_ok=True)
    tokens_file, indexer_token_file = folder / "tokens.json", folder / "indexer.token"
    auth.write_tokens(tokens_file, [auth.entry(name, roles, token(name)) for name, roles in TOKENS.items()])
    auth.write_private(indexer_token_file, b"token-of-gateway")
    gateway_settings = GatewaySettings(
        nats_url=settings.nats_url,
        nats_credentials_file=settings.nats_credentials_file,
        listen=listen,
        tokens_file=tokens_file,
        indexer_address=indexer_address,
        indexer_token_file=indexer_token_file,
        stop_grace_s=0.1,
        heartbeat_ttl_s=heartbeat_ttl_s,
        **given,
    )
    async with running(gateway_settings) as port:
        channel = rpc.channel(f"127.0.0.1:{port}", token("admin"))
        try:
            yield Gateway(port, folder, channel)
        finally:
            await channel.close(grace=None)


@asynccontextmanager
async def connected(settings: ServiceSettings, role: Role) -> AsyncIterator[EventLog]:
    """Connect to the log in a role."""
    async with EventLog.connect(log_settings(settings, role), role) as log:
        yield log


CLOCK = SystemClock()
