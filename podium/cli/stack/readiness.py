"""Whether a service can be used: told by what it answers, never by time."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from podium import rpc
from podium.clock import to_ns
from podium.v1 import runner_pb2
from podium.v1 import session_service_pb2 as api
from podium.v1.session_service_pb2_grpc import SessionServiceStub

POLL_S = 0.05
_ATTEMPT_S = 2.0


async def answers(address: str) -> None:
    """Return once the service at `address` calls itself healthy; the caller sets the deadline."""
    host, _, port = address.rpartition(":")
    while True:
        # gRPC waits a second between its own attempts; a bare connection tells at once whether somebody listens.
        if await _listens(host.strip("[]"), int(port)) and await _is_healthy(address):
            return
        await asyncio.sleep(POLL_S)


async def runner_shows(address: str, token: str, *, since_ns: int, heard: Callable[[runner_pb2.Runner], None]) -> None:
    """Return once a runner that started after `since_ns` shows itself to the gateway; `heard` is told of it."""
    channel = rpc.channel(address, token)
    try:
        list_runners = SessionServiceStub(channel).ListRunners
        while True:
            with contextlib.suppress(rpc.CallFailed):
                told = await list_runners(api.ListRunnersRequest(), timeout=_ATTEMPT_S)
                for runner in told.runners:
                    if to_ns(runner.started_at) >= since_ns:
                        heard(runner)
                        return
            await asyncio.sleep(POLL_S)
    finally:
        await channel.close(grace=None)


async def _listens(host: str, port: int) -> bool:
    try:
        async with asyncio.timeout(_ATTEMPT_S):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


async def _is_healthy(address: str) -> bool:
    channel = grpc.aio.insecure_channel(address)
    try:
        stub: Any = health_pb2_grpc.HealthStub(channel)  # its types name no methods
        check = stub.Check
        told = await check(health_pb2.HealthCheckRequest(), timeout=_ATTEMPT_S)
    except rpc.CallFailed:
        return False
    finally:
        await channel.close(grace=None)
    return bool(told.status == health_pb2.HealthCheckResponse.SERVING)


def now_ns() -> int:
    """Return nanoseconds since 1970: runners of this machine tell their start by the same clock."""
    return time.time_ns()
