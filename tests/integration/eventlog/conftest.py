"""One suite, two brokers: every test here runs on one server (R1) and on a cluster of three (R3, fsync always)."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from podium.eventlog import EventLog, Role
from tests.integration.eventlog.rig import Broker, cluster, new_session_id, single


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        # The brokers live as long as the run does, so does the loop that owns their processes.
        if "integration/eventlog" in item.path.as_posix() and "broker" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest_asyncio.fixture(
    params=["r1", pytest.param("r3", marks=pytest.mark.cluster)], scope="session", loop_scope="session"
)
async def broker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Broker]:
    start = {"r1": single, "r3": cluster}[request.param]
    async with start(tmp_path_factory.mktemp(request.param)) as broker:
        yield broker


@pytest.fixture
def session_id() -> str:
    return new_session_id()


@pytest_asyncio.fixture(loop_scope="session")
async def gateway(broker: Broker) -> AsyncIterator[EventLog]:
    async with broker.connect(Role.GATEWAY) as log:
        yield log


@pytest_asyncio.fixture(loop_scope="session")
async def runner(broker: Broker) -> AsyncIterator[EventLog]:
    async with broker.connect(Role.RUNNER) as log:
        yield log


@pytest_asyncio.fixture(loop_scope="session")
async def indexer(broker: Broker) -> AsyncIterator[EventLog]:
    async with broker.connect(Role.INDEXER) as log:
        yield log
