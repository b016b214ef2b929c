"""One NATS server and one gateway for all tests of the API; every test uses sessions of its own."""

import inspect
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from podium.eventlog import EventLog, Role
from podium.settings import ServiceSettings
from tests.support import gateways


def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    for item in items:
        if "integration/gateway" in item.path.as_posix() and inspect.iscoroutinefunction(item.obj):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def log_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ServiceSettings]:
    async with gateways.log_server(tmp_path_factory.mktemp("gateway")) as settings:
        yield settings


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def gateway(
    log_server: ServiceSettings, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[gateways.Gateway]:
    async with gateways.gateway(log_server, tmp_path_factory.mktemp("gateway-files")) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def runner_log(log_server: ServiceSettings) -> AsyncIterator[EventLog]:
    async with gateways.connected(log_server, Role.RUNNER) as log:
        yield log
