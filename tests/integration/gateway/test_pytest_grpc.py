"""The servicer through pytest-grpc's fixtures.

pytest-grpc knows no grpc.aio: its `_grpc_server` fixture is overridden with one that runs the production server, with
its interceptors, in a thread of its own; `grpc_channel` and `grpc_stub` are then pytest-grpc's.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from podium.v1 import session_pb2 as s
from podium.v1 import session_service_pb2 as api
from podium.v1.session_service_pb2_grpc import SessionServiceStub
from tests.integration.gateway.test_commands import fresh
from tests.support import gateways


class AioServer:
    """A production gateway on a loop in a thread: what pytest-grpc takes for a grpc.Server."""

    def __init__(self, folder: Any) -> None:
        self._folder = folder
        self._stop: asyncio.Event
        self._loop: asyncio.AbstractEventLoop
        self._ready = threading.Event()
        self.port = 0
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="gateway")

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with (
            gateways.log_server(self._folder) as settings,
            gateways.gateway(settings, self._folder / "gateway") as gateway,
        ):
            self.port = gateway.port
            self._ready.set()
            await self._stop.wait()

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(30)

    def stop(self, grace: float | None = None) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)


@pytest.fixture(scope="module")
def _grpc_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AioServer]:
    server = AioServer(tmp_path_factory.mktemp("pytest-grpc"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def grpc_addr(_grpc_server: AioServer) -> str:
    return f"127.0.0.1:{_grpc_server.port}"


@pytest.fixture(scope="module")
def grpc_server(_grpc_server: AioServer) -> AioServer:
    return _grpc_server


@pytest.fixture(scope="module")
def grpc_stub_cls() -> Callable[[grpc.Channel], SessionServiceStub]:
    return SessionServiceStub


def test_the_production_servicer_answers(grpc_stub: Any) -> None:
    token = (("authorization", f"Bearer {gateways.token('admin')}"),)
    request = api.CreateSessionRequest(request_id=fresh(), session=s.Session(title="through pytest-grpc"))
    created = grpc_stub.CreateSession(request, metadata=token)
    found = grpc_stub.GetSession(api.GetSessionRequest(name=created.session.name), metadata=token)
    assert found.session.title == "through pytest-grpc"


def test_the_production_interceptors_are_there(grpc_stub: Any) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        grpc_stub.ListRunners(api.ListRunnersRequest())
    assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
