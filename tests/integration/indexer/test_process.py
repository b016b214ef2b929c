"""The indexer as a process: kills at any moment leave rows = events, and reading the log again gives equal hashes."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from indexer.store import open_store
from podium import auth, rpc
from podium.drafts import Draft
from podium.settings import ServiceSettings
from podium.v1 import event_pb2 as e
from podium.v1 import session_service_pb2 as api
from podium.v1.session_service_pb2_grpc import SessionServiceStub
from tests.integration.indexer.conftest import table
from tests.integration.indexer.rig import PATIENCE_S, Pen, following, pen
from tests.support import gateways, stories
from tests.support.processes import Service, service

SESSIONS = 20
EVENTS_PER_APPEND = 25
EVENTS_PER_S = 2_500
REBUILD_S_MAX = 300.0


def environment(settings: ServiceSettings, folder: Path, **given: str) -> Mapping[str, str]:
    tokens = folder / "tokens.json"
    auth.write_tokens(tokens, [auth.entry("gateway", [auth.Role.READ], "token-of-gateway")])
    return {
        "PODIUM_NATS_URL": settings.nats_url,
        "PODIUM_NATS_CREDENTIALS_FILE": str(settings.nats_credentials_file),
        "PODIUM_LISTEN": "127.0.0.1:0",
        "PODIUM_TOKENS_FILE": str(tokens),
        "PODIUM_STORE_FILE": str(folder / "podium.duckdb"),
        **given,
    }


async def reached(process: Service, position: int) -> None:
    """Wait over gRPC until the process has `position`."""
    listen = str((await process.said("serving"))["listen"])
    async with rpc.channel(listen, "token-of-gateway") as channel:
        await SessionServiceStub(channel).ListSessions(
            api.ListSessionsRequest(page_size=1, at_least_position=position), timeout=PATIENCE_S
        )


async def write_on(writer: Pen, sessions: list[str], enough: asyncio.Event) -> None:
    """Append to all sessions in turn, up to 2,500 events a second, until it is enough."""
    text = stories.text("x" * 300)
    while not enough.is_set():
        for session_id in sessions:
            said = Draft(e.Message(role=e.ROLE_ASSISTANT, content=[text], model="m"), turn_id=stories.TURN_1)
            used = Draft(stories.usage("m", uncached_input_tokens=1, output_tokens=1), turn_id=stories.TURN_1)
            drafts = [said, used] * (EVENTS_PER_APPEND // 2)
            await asyncio.sleep(EVENTS_PER_APPEND / EVENTS_PER_S)
            await writer.append(session_id, [*drafts, Draft(e.TurnEnded(), turn_id=stories.TURN_1)])
            await writer.append(session_id, [Draft(e.TurnRequested(), turn_id=stories.TURN_1)])
            await writer.append(session_id, [Draft(e.TurnStarted(), turn_id=stories.TURN_1)])


@contextlib.asynccontextmanager
async def load(writer: Pen) -> AsyncIterator[list[str]]:
    """Keep writing while the block runs; the sessions' ids."""
    sessions = [await writer.create() for _ in range(SESSIONS)]
    enough = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(write_on(writer, sessions, enough))
        try:
            yield sessions
        finally:
            # Not cancelled: an append under way would be on the log and not in the pen's count.
            enough.set()


async def kill_at_random(writer: Pen, settings: ServiceSettings, folder: Path, kills: int, seed: int) -> None:
    """Start the indexer again and again, and kill it while it stores rows."""
    chance = random.Random(seed)
    for number in range(kills):
        async with service("indexer", folder / str(number), environment(settings, folder)) as process:
            await reached(process, writer.position)
            await asyncio.sleep(chance.uniform(0, 0.5))
            await process.kill()


async def check(settings: ServiceSettings, folder: Path, writer: Pen) -> None:
    """Rows = events, revisions 1..n in every session, and a rebuild gives equal hashes."""
    async with following(settings, folder / "podium.duckdb") as indexer:
        await indexer.reach(writer.position)
        assert table(indexer.store, "SELECT count(*) AS n, count(DISTINCT id) AS ids FROM core.events") == [
            {"n": writer.events, "ids": writer.events}
        ]
        broken = table(
            indexer.store,
            "SELECT session_id FROM core.events GROUP BY session_id "
            "HAVING min(revision) <> 1 OR max(revision) <> count(*) OR count(DISTINCT revision) <> count(*)",
        )
        assert broken == []
        # What a turn used is remembered over every kill: all results of a session are alike.
        results = table(
            indexer.store, "SELECT DISTINCT content ->> '$.usage' AS used FROM session_messages WHERE role = 'result'"
        )
        assert len(results) <= 2  # the very first turn of a session was never started here
        hashes = await indexer.store.table_hashes()
    async with following(settings, folder / "rebuilt.duckdb") as rebuilt:
        await rebuilt.progress.reach(writer.position, timeout_s=REBUILD_S_MAX)
        assert await rebuilt.store.table_hashes() == hashes


@pytest.mark.parametrize(
    ("kills", "seed"),
    [(4, 1), pytest.param(25, 2, marks=[pytest.mark.chaos, pytest.mark.timeout(900)])],
)
async def test_kills_lose_nothing_and_double_nothing(tmp_path: Path, kills: int, seed: int) -> None:
    async with gateways.log_server(tmp_path) as settings, pen(settings) as writer:
        async with load(writer):
            await kill_at_random(writer, settings, tmp_path, kills, seed)
        await check(settings, tmp_path, writer)


async def test_it_stops_when_asked_and_keeps_what_it_has(tmp_path: Path) -> None:
    async with gateways.log_server(tmp_path) as settings, pen(settings) as writer:
        await writer.copy(stories.whole())
        async with service("indexer", tmp_path, environment(settings, tmp_path)) as process:
            await reached(process, writer.position)
            process.process.terminate()
            async with asyncio.timeout(PATIENCE_S):
                assert await process.process.wait() == 0
            assert "nanobind" not in process.log_file.read_text()
        async with open_store(tmp_path / "podium.duckdb") as store:
            assert store.position == writer.position


async def test_a_file_that_cannot_be_opened_is_said_in_words(tmp_path: Path) -> None:
    async with gateways.log_server(tmp_path) as settings, pen(settings):
        (tmp_path / "podium.duckdb").write_bytes(b"no database" * 1000)
        begun = time.monotonic()
        async with service("indexer", tmp_path, environment(settings, tmp_path)) as process:
            async with asyncio.timeout(PATIENCE_S):
                assert await process.process.wait() == 1
            last_words = process.log_file.read_text()
        assert "python -m indexer --rebuild" in last_words
        assert "Traceback" not in last_words
        assert time.monotonic() - begun < PATIENCE_S


async def test_a_wrong_setting_is_named(tmp_path: Path) -> None:
    settings = {"PODIUM_QUERY_TIMEOUT_S": "soon"}
    async with service("indexer", tmp_path, settings) as process:
        async with asyncio.timeout(PATIENCE_S):
            assert await process.process.wait() == 2
        assert "PODIUM_QUERY_TIMEOUT_S" in process.log_file.read_text()
