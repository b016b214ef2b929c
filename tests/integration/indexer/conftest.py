"""A real store file for each test, and one NATS server for those that need a log."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from indexer.projection.project import project
from indexer.store import Store, open_store
from podium.settings import ServiceSettings
from tests.support import gateways, stories


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        # The server lives as long as the run does, so does the loop that owns its process.
        if "integration/indexer/" in item.path.as_posix() and "log_server" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def log_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ServiceSettings]:
    async with gateways.log_server(tmp_path_factory.mktemp("indexer")) as settings:
        yield settings


@pytest_asyncio.fixture
async def live_store(tmp_path: Path) -> AsyncIterator[Store]:
    async with open_store(tmp_path / "podium.duckdb") as opened:
        yield opened


async def fill(store: Store, log: stories.Log) -> None:
    """Project all of the log in one transaction."""
    await store.commit(project(log.appends, {}, after=store.position))


def table(store: Store, sql: str) -> list[dict[str, Any]]:
    """Return rows as dictionaries, times included (fetching those without Arrow needs pytz)."""
    rows: list[dict[str, Any]] = store._connection.cursor().sql(sql).to_arrow_table().to_pylist()
    return rows
