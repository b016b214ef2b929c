"""One NATS server and one gateway for the tests of the runner's core, each in a pool of its own.

There is no indexer: nothing may depend on the gateway's sweep, which asks it. `indexed_play` has one.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.house import House, Play, house


@pytest_asyncio.fixture(scope="session", loop_scope="session", name="house")
async def shared_house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    async with house(tmp_path_factory.mktemp("house"), sweep_interval_s=1) as running:
        yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def indexed_house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    async with house(tmp_path_factory.mktemp("indexed"), indexed=True, sweep_interval_s=0.3) as running:
        yield running


@pytest.fixture
def play(house: House, tmp_path: Path) -> Play:
    return Play(house, tmp_path)


@pytest.fixture
def indexed_play(indexed_house: House, tmp_path: Path) -> Play:
    return Play(indexed_house, tmp_path)
