"""`python -m gateway`: puts the gateway together and serves until it is told to stop."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from gateway import handlers
from gateway.commands import Commands
from gateway.relay import Relay
from gateway.service import SessionService
from gateway.settings import GatewaySettings
from gateway.wakes import Living, Waker
from gateway.watch import Watches
from podium import rpc, telemetry
from podium.clock import SystemClock
from podium.errors import PodiumError
from podium.eventlog import BlobStore, EventLog, Role, RunnerDirectory, WakeQueue
from podium.eventlog.access import log_settings
from podium.eventlog.content import LongContent
from podium.settings import load
from podium.tasks import background
from podium.v1 import session_pb2
from podium.v1 import session_service_pb2 as api

_log = structlog.get_logger()

SWEEP_PAGE_SIZE = 1000
SWEEP_DEADLINE_S = 10.0


@asynccontextmanager
async def running(settings: GatewaySettings) -> AsyncIterator[int]:
    """Run a gateway while the block runs, and yield its port."""
    relay = Relay(settings.indexer_address, settings.indexer_token_file, settings.indexer_ca_file)
    async with EventLog.connect(log_settings(settings, Role.GATEWAY), Role.GATEWAY) as log:
        await log.check_streams()
        clock = SystemClock()
        living = Living(RunnerDirectory(log.link, clock, ttl_s=settings.heartbeat_ttl_s))
        watches = Watches(log)
        waker = Waker(log, WakeQueue(log.link), living, lambda: unfinished(relay), settings.sweep_interval_s)
        content = LongContent(BlobStore(log.link, clock))
        commands = Commands(log, clock, content)
        service = SessionService(settings, log, commands, living, waker, watches, content)
        services = {
            handlers.SESSIONS.full_name: handlers.sessions(service, relay),
            handlers.ANALYTICS.full_name: handlers.analytics(relay),
        }
        async with (
            closing(relay),
            background(living.follow(), watches.run(), waker.run()),
            rpc.serving(settings, settings.listen, services=services, roles=handlers.roles()) as port,
        ):
            yield port


@asynccontextmanager
async def closing(relay: Relay) -> AsyncIterator[None]:
    """Close the relay's channel after the block."""
    try:
        yield
    finally:
        await relay.channel.close(grace=None)


async def unfinished(relay: Relay) -> list[session_pb2.Session]:
    """Return the sessions whose turn runs or waits, from the projection; raises PodiumError when it cannot be asked."""
    call = relay.channel.unary_unary(
        f"/{handlers.SESSIONS.full_name}/ListSessions",
        request_serializer=api.ListSessionsRequest.SerializeToString,
        response_deserializer=api.ListSessionsResponse.FromString,
    )
    sessions: list[session_pb2.Session] = []
    request = api.ListSessionsRequest(page_size=SWEEP_PAGE_SIZE, unfinished=True, include_archived=True)
    while True:
        try:
            page = await call(request, timeout=SWEEP_DEADLINE_S)
        except rpc.CallFailed as error:
            raise rpc.from_rpc_error(error) from error
        sessions.extend(page.sessions)
        if not page.next_page_token:
            return sessions
        request.page_token = page.next_page_token


async def serve(settings: GatewaySettings) -> None:
    """Serve until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    async with running(settings):
        await stop.wait()
        _log.info("stopping")


def main() -> int:
    """Run the gateway; exit code 2 = a setting is wrong, 1 = something it needs is not there."""
    try:
        settings = load(GatewaySettings)
        telemetry.configure(service="gateway", level=settings.log_level, form=settings.log_format)
        asyncio.run(serve(settings))
    except PodiumError as error:
        print(f"gateway: {error.message}\n{error.advice}", file=sys.stderr)  # noqa: T201 - the last words
        return 2 if error.code == "INVALID_ARGUMENT" else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
