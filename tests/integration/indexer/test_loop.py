"""The loop over a real log: it goes on from what is committed, and it stops rather than leave something out."""

import asyncio
from pathlib import Path

import pytest

from podium.clock import SystemClock
from podium.drafts import Draft
from podium.errors import Unavailable
from podium.eventlog import BlobStore, EventLog, Role
from podium.eventlog.access import log_settings
from podium.eventlog.content import LongContent
from podium.eventlog.server import EmbeddedServer
from podium.eventlog.serverconfig import ServerSettings
from podium.settings import ServiceSettings
from podium.v1 import event_pb2 as e
from tests.integration.indexer.conftest import table
from tests.integration.indexer.rig import PATIENCE_S, following, pen
from tests.support import gateways, stories


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "podium.duckdb"


async def test_what_is_appended_is_in_the_tables(log_server: ServiceSettings, path: Path) -> None:
    async with pen(log_server) as writer, following(log_server, path) as indexer:
        session_id = await writer.copy(stories.whole())
        await indexer.reach(writer.position)
        rows = table(indexer.store, f"SELECT revision FROM core.events WHERE session_id = '{session_id}' ORDER BY 1")
        assert [row["revision"] for row in rows] == list(range(1, 27))
        (session,) = table(indexer.store, f"SELECT title, message_count FROM sessions WHERE id = '{session_id}'")
        assert session == {"title": "Fix the tests", "message_count": 8}


async def test_it_goes_on_from_what_is_committed(log_server: ServiceSettings, path: Path) -> None:
    async with pen(log_server) as writer:
        session_id = await writer.create()
        for _ in range(3):
            async with following(log_server, path) as indexer:
                await writer.append(session_id, [stories.user("hello")])
                await indexer.reach(writer.position)
            await writer.append(session_id, [stories.user("while you were away")])
        async with following(log_server, path) as indexer:
            await indexer.reach(writer.position)
            rows = table(
                indexer.store, f"SELECT revision FROM core.events WHERE session_id = '{session_id}' ORDER BY 1"
            )
            assert [row["revision"] for row in rows] == list(range(1, 8))


async def test_reading_the_log_again_gives_equal_hashes(log_server: ServiceSettings, tmp_path: Path) -> None:
    async with pen(log_server) as writer:
        async with following(log_server, tmp_path / "grown.duckdb") as indexer:
            for _ in range(5):
                await writer.copy(stories.whole())
                await indexer.reach(writer.position)
            grown = await indexer.store.table_hashes()
        async with following(log_server, tmp_path / "rebuilt.duckdb") as indexer:
            await indexer.reach(writer.position)
            assert await indexer.store.table_hashes() == grown


async def test_long_texts_are_whole_in_sql(log_server: ServiceSettings, path: Path) -> None:
    said, output, arguments = "s" * 100_000, "o" * 200_000, '{"content": "' + "a" * 90_000 + '"}'
    runner_settings = log_settings(log_server, Role.RUNNER)
    async with (
        pen(log_server) as writer,
        EventLog.connect(runner_settings, Role.RUNNER) as runner,
        following(log_server, path) as indexer,
    ):
        out = LongContent(BlobStore(runner.link, SystemClock())).out
        session_id = await writer.create()
        drafts = [
            await out(stories.assistant(stories.text(said), stories.tool_use("c", "Write", arguments))),
            await out(stories.message(e.ROLE_USER, stories.tool_result("c", output))),
        ]
        assert all(len(draft.body.SerializeToString()) < 10_000 for draft in drafts)
        await writer.append(session_id, drafts)
        await indexer.reach(writer.position)
        (call,) = table(indexer.store, f"SELECT input, output FROM tool_calls WHERE session_id = '{session_id}'")
        assert (call["input"], call["output"]) == (arguments, output)
        (message,) = table(
            indexer.store,
            "SELECT content ->> '$.message.content[0].text' AS text, "
            "content ->> '$.message.content[0].truncated' AS cut "
            f"FROM session_messages WHERE session_id = '{session_id}' AND role = 'assistant'",
        )
        assert message == {"text": said, "cut": None}


async def test_a_text_that_is_gone_stays_short_and_stops_nothing(log_server: ServiceSettings, path: Path) -> None:
    async with (
        pen(log_server) as writer,
        EventLog.connect(log_settings(log_server, Role.RUNNER), Role.RUNNER) as runner,
        following(log_server, path) as indexer,
    ):
        out = LongContent(BlobStore(runner.link, SystemClock())).out
        session_id = await writer.create()
        draft = await out(stories.assistant(stories.text("s" * 100_000)))
        assert isinstance(draft.body, e.Message)
        draft.body.content[0].full.object = "never-uploaded"
        await writer.append(session_id, [draft])
        await indexer.reach(writer.position)
        (row,) = table(
            indexer.store,
            "SELECT content ->> '$.message.content[0].truncated.size_bytes' AS size FROM session_messages "
            f"WHERE session_id = '{session_id}'",
        )
        assert row == {"size": "100000"}


async def erase(settings: ServiceSettings, position: int) -> None:
    """Remove one message of the log, as only an operator can."""
    async with EventLog.connect(log_settings(settings, Role.OPERATOR), Role.OPERATOR) as operator:
        await operator.link.api("STREAM.MSG.DELETE.EVENTS", {"seq": position})


async def test_a_gap_stops_it_with_words_until_it_is_explained(tmp_path: Path) -> None:
    path = tmp_path / "podium.duckdb"
    async with gateways.log_server(tmp_path) as settings, pen(settings) as writer:
        session_id = await writer.create()
        lost = await writer.append(session_id, [stories.user("to be erased")])
        await writer.append(session_id, [stories.user("still here")])
        await erase(settings, lost)
        async with following(settings, path) as indexer:
            with pytest.raises(Unavailable, match=f"session {session_id} goes on with revision 3") as error:
                await indexer.reach(writer.position)
            assert error.value.reason == "PROJECTION_UNAVAILABLE"
            assert indexer.progress.stopped
            assert table(indexer.store, "SELECT count(*) AS n FROM core.events") == [{"n": 0}]
        async with following(settings, path, erased=[session_id]) as indexer:
            await indexer.reach(writer.position)
            assert table(indexer.store, "SELECT revision FROM core.events ORDER BY 1") == [
                {"revision": 1},
                {"revision": 3},
            ]


async def test_an_erased_session_leaves_the_others_alone(tmp_path: Path) -> None:
    """Positions may have holes; only a session's own revisions count."""
    async with gateways.log_server(tmp_path) as settings, pen(settings) as writer:
        first, second = await writer.create(), await writer.create()
        erased = [writer.positions[first], await writer.append(first, [stories.user("x")])]
        await writer.append(second, [stories.user("y")])
        for position in erased:
            await erase(settings, position)
        async with following(settings, tmp_path / "podium.duckdb") as indexer:
            await indexer.reach(writer.position)
            assert table(indexer.store, "SELECT DISTINCT session_id FROM core.events") == [{"session_id": second}]


async def test_a_store_of_another_log_is_not_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "podium.duckdb"
    async with gateways.log_server(tmp_path / "one") as settings, pen(settings) as writer:
        await writer.create()
        async with following(settings, path) as indexer:
            await indexer.reach(writer.position)
    async with gateways.log_server(tmp_path / "two") as settings, pen(settings) as writer:
        for number in range(3):
            async with following(settings, path) as indexer:
                with pytest.raises(Unavailable, match="another log"):
                    await indexer.reach(100)
            if number < 2:  # Shorter than what was seen at first, then longer.
                await writer.create()
        assert indexer.progress.position == 1


async def test_an_outage_of_the_log_is_waited_for(tmp_path: Path) -> None:
    server = EmbeddedServer(ServerSettings(data=tmp_path / "nats"))
    async with server:
        settings = ServiceSettings(nats_url=server.url, nats_credentials_file=server.credentials_file)
        async with EventLog.connect(log_settings(settings, Role.OPERATOR), Role.OPERATOR) as operator:
            await operator.ensure_streams()
        async with pen(settings) as writer, following(settings, tmp_path / "podium.duckdb") as indexer:
            session_id = await writer.create()
            await indexer.reach(writer.position)
            await server.kill()
            await server.start()
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    try:
                        await writer.append(session_id, [Draft(e.Notice(message="back"))])
                        break
                    except Exception:  # noqa: BLE001 - whatever the log says while it comes back
                        await asyncio.sleep(0.05)
            await indexer.reach(writer.position)
            assert table(indexer.store, "SELECT count(*) AS n FROM core.events") == [{"n": 2}]
            assert indexer.progress.problem == ""
