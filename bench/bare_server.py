"""The reference of figure 3: a gRPC server that does nothing but send pieces it has: `python -m bench.bare_server`."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc
import structlog

from bench.watching import METHOD
from podium import telemetry

PIECE_BYTES, SECONDS, PORT = "BARE_PIECE_BYTES", "BARE_SECONDS", "BARE_PORT"
HEARTBEAT = b"\x1a\x02\x10\x01"
"""A WatchSessionResponse that says: live."""

_log = structlog.get_logger()


async def run(piece: bytes, seconds: float, port: int) -> None:
    stop, go = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGUSR1, go.set)

    async def watch(_: bytes, __: Any) -> AsyncIterator[bytes]:
        yield HEARTBEAT
        await go.wait()
        end = loop.time() + seconds
        while loop.time() < end:
            yield piece
        await stop.wait()

    server = grpc.aio.server()
    service, method = METHOD.removeprefix("/").split("/")
    handler = grpc.method_handlers_generic_handler(service, {method: grpc.unary_stream_rpc_method_handler(watch)})
    server.add_generic_rpc_handlers((handler,))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    _log.info("serving")
    await stop.wait()
    await server.stop(0.1)


def main() -> int:
    telemetry.configure(service="bare")
    piece = b"\x0a" + b"." * (int(os.environ[PIECE_BYTES]) - 1)
    asyncio.run(run(piece, float(os.environ[SECONDS]), int(os.environ[PORT])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
