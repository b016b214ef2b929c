"""A process that watches sessions over gRPC: `python -m bench.watching`; measures delays, or counts bytes.

Delays: it reads the time in every event (see tests/support/load.py) when the response has come and before it parses it.
Bytes: responses are not parsed at all, so that what is measured is the gateway and not its clients; every event of the
log comes as the bytes it has there, so their number is known by their size.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from typing import Any

import structlog

from bench.figures import percentile
from podium import rpc, telemetry
from podium.v1 import session_service_pb2 as api

ORDERS = "WATCHING_ORDERS"
METHOD = "/podium.v1.SessionService/WatchSession"
EVENTS_TAG = 1 << 3 | 2
"""First byte of a response that holds events; others are heartbeats."""
SAMPLES_MAX = 2_000_000

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class WatchOrders:
    """Whom to watch: each of `sessions` `each` times, from `after_revision` on; `delays`, or else bytes."""

    address: str
    token: str
    sessions: list[str]
    each: int = 1
    delays: bool = False
    channels: int = 4

    def environment(self) -> dict[str, str]:
        return {ORDERS: json.dumps(asdict(self))}


class Watcher:
    """One watch."""

    def __init__(self) -> None:
        self.live = asyncio.Event()
        self.bytes = self.responses = 0
        self.first_at = self.last_at = 0.0
        self.ended = ""

    async def count(self, responses: AsyncIterator[bytes]) -> None:
        async for response in responses:
            if response[0] != EVENTS_TAG:
                self.live.set()
                continue
            self.last_at = time.monotonic()
            self.first_at = self.first_at or self.last_at
            self.bytes += len(response)
            self.responses += 1


async def run(orders: WatchOrders) -> None:
    stop, mark = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGUSR1, mark.set)
    delays: list[float] = []
    async with contextlib.AsyncExitStack() as around:
        channels = [
            await around.enter_async_context(rpc.channel(orders.address, orders.token)) for _ in range(orders.channels)
        ]
        watchers = [Watcher() for _ in orders.sessions for _ in range(orders.each)]
        tasks = []
        for number, watcher in enumerate(watchers):
            call = watch(channels[number % len(channels)], orders.sessions[number % len(orders.sessions)])
            work = delayed(call, watcher, delays, mark) if orders.delays else watcher.count(call)
            tasks.append(asyncio.create_task(guarded(work, watcher)))
        for watcher in watchers:
            await watcher.live.wait()
        _log.info("watching", watchers=len(watchers))
        await mark.wait()
        # Whatever came before is history; from here on it counts.
        for watcher in watchers:
            watcher.bytes = watcher.responses = 0
            watcher.first_at = 0.0
        _log.info("counting")
        while not stop.is_set():
            _log.info("state", **state(watchers))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.25):
                    await stop.wait()
        _log.info("counted", delays_ms=cut(delays), **state(watchers))
        for task in tasks:
            task.cancel()


def watch(channel: Any, session: str) -> AsyncIterator[bytes]:
    """Return the responses as they are on the wire."""
    call = channel.unary_stream(METHOD, request_serializer=api.WatchSessionRequest.SerializeToString)
    responses: AsyncIterator[bytes] = call(api.WatchSessionRequest(session=f"sessions/{session}", heartbeat_s=60))
    return responses


async def guarded(work: Any, watcher: Watcher) -> None:
    try:
        await work
    except rpc.CallFailed as error:
        watcher.ended = rpc.from_rpc_error(error).reason
        watcher.live.set()


async def delayed(responses: AsyncIterator[bytes], watcher: Watcher, delays: list[float], mark: asyncio.Event) -> None:
    async for response in responses:
        came_ns = time.time_ns()
        if response[0] != EVENTS_TAG:
            watcher.live.set()
            continue
        if not mark.is_set() or len(delays) >= SAMPLES_MAX:
            continue
        for event in api.WatchSessionResponse.FromString(response).events:
            if event.HasField("message"):
                said_ns = int(event.message.content[0].text.text.rstrip(".").split(":")[2])
                delays.append((came_ns - said_ns) / 1e6)


def state(watchers: list[Watcher]) -> dict[str, Any]:
    counted = [watcher for watcher in watchers if watcher.bytes]
    return {
        "bytes": sum(watcher.bytes for watcher in watchers),
        "least": min(watcher.bytes for watcher in watchers),
        "responses": sum(watcher.responses for watcher in watchers),
        "seconds": (
            max(watcher.last_at for watcher in counted) - min(watcher.first_at for watcher in counted) if counted else 0
        ),
        "ended": [watcher.ended for watcher in watchers if watcher.ended],
        "cpu_s": time.process_time(),
    }


def cut(delays: list[float]) -> dict[str, float]:
    """Return p50, p99, worst and the number, ms."""
    if not delays:
        return {}
    return {
        "p50": percentile(delays, 50),
        "p99": percentile(delays, 99),
        "worst": max(delays),
        "number": len(delays),
    }


def main() -> int:
    telemetry.configure(service="watching")
    asyncio.run(run(WatchOrders(**json.loads(os.environ[ORDERS]))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
