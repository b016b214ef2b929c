"""Lists, usage and SQL through the gateway: relayed to the indexer as bytes, under the caller's deadline."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pyarrow as pa
import pytest

from podium.drafts import Draft
from podium.eventlog import EventLog, Role
from podium.names import session_id
from podium.v1 import analytics_service_pb2 as analytics
from podium.v1 import event_pb2 as e
from podium.v1 import session_pb2 as s
from podium.v1 import session_service_pb2 as api
from podium.v1.content_pb2 import ContentBlock, TextBlock
from tests.integration.gateway.test_commands import Owner, created, fresh, refused
from tests.support import gateways
from tests.support.gateways import Gateway
from tests.support.indexers import Indexer, indexer

SEED_QUERY = """
SELECT
    s.title,
    s.model,
    COUNT(sm.id) as msg_count
FROM sessions s
LEFT JOIN session_messages sm ON s.id = sm.session_id
GROUP BY s.id
ORDER BY msg_count DESC
LIMIT 15;
"""


@asynccontextmanager
async def stack(folder: Path) -> AsyncIterator[tuple[Gateway, Indexer, EventLog]]:
    async with (
        gateways.log_server(folder) as settings,
        indexer(settings, folder / "indexer") as projection,
        gateways.gateway(settings, folder / "gateway", indexer_address=projection.address) as gateway,
        gateways.connected(settings, Role.RUNNER) as log,
    ):
        yield gateway, projection, log


async def a_finished_session(gateway: Gateway, log: EventLog) -> tuple[str, int]:
    """Make a session with one turn that has ended; return its name and the position of its last fact."""
    answer = await created(gateway, "count the files", provider="claude", model="opus", workspace="amarillo")
    said = e.Message(role=e.ROLE_ASSISTANT, content=[ContentBlock(text=TextBlock(text="there are 3"))])
    used = e.Usage(
        scope=e.USAGE_SCOPE_API_MESSAGE, model="opus", uncached_input_tokens=10, cache_read_tokens=90, output_tokens=7
    )
    async with await Owner(log).attach(answer.session.name) as writer:
        bodies = (e.TurnStarted(model="opus"), said, used, e.TurnEnded(status=s.TURN_STATUS_COMPLETED))
        await writer.write([Draft(body, turn_id=answer.turn_id) for body in bodies])
        tail = await writer.flush()
    return answer.session.name, tail.position


async def rows(gateway: Gateway, sql: str, position: int = 0) -> list[dict[str, object]]:
    call = gateway.analytics.Query(analytics.QueryRequest(sql=sql, at_least_position=position))
    pieces = [response.arrow_ipc async for response in call]
    with pa.ipc.open_stream(b"".join(pieces)) as reader:
        return list(reader.read_all().to_pylist())


async def test_what_was_appended_is_listed_summed_and_asked_for(tmp_path: Path) -> None:
    async with stack(tmp_path) as (gateway, _, log):
        name, position = await a_finished_session(gateway, log)
        await created(gateway, title="empty")
        sessions = await gateway.sessions.ListSessions(
            api.ListSessionsRequest(at_least_position=position, workspace="amarillo"), timeout=20
        )
        assert [session.name for session in sessions.sessions] == [name]
        assert sessions.sessions[0].tokens.input_tokens == 100
        turns = await gateway.sessions.ListTurns(api.ListTurnsRequest(session=name))
        assert [turn.status for turn in turns.turns] == [s.TURN_STATUS_COMPLETED]
        messages = await gateway.sessions.ListMessages(api.ListMessagesRequest(session=name))
        assert [message.role for message in messages.messages] == ["assistant", "result"]
        usage = await gateway.analytics.GetUsage(analytics.GetUsageRequest(group_by=[analytics.USAGE_DIMENSION_MODEL]))
        assert [(list(row.keys), row.tokens.input_tokens, row.tokens.output_tokens) for row in usage.rows] == [
            (["opus"], 100, 7)
        ]
        found = await rows(gateway, SEED_QUERY, position)
        assert found[0] == {"title": "count the files", "model": "opus", "msg_count": 2}
        found = await rows(gateway, f"SELECT id FROM sessions WHERE id = '{session_id(name)}'")
        assert found == [{"id": session_id(name)}]


async def test_an_indexer_that_was_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    async with (
        gateways.log_server(tmp_path) as settings,
        gateways.connected(settings, Role.RUNNER) as log,
    ):
        async with (
            indexer(settings, tmp_path / "indexer") as first,
            gateways.gateway(settings, tmp_path / "gateway", indexer_address=first.address) as gateway,
        ):
            _, position = await a_finished_session(gateway, log)
            request = api.ListSessionsRequest(at_least_position=position)
            assert len((await gateway.sessions.ListSessions(request, timeout=20)).sessions) == 1
            await first.service.kill()
            assert (await refused(gateway.sessions.ListSessions(request))).reason == "PROJECTION_UNAVAILABLE"
            _, position = await a_finished_session(gateway, log)
        async with (
            indexer(settings, tmp_path / "indexer") as second,
            gateways.gateway(settings, tmp_path / "gateway", indexer_address=second.address) as gateway,
        ):
            request = api.ListSessionsRequest(at_least_position=position)
            assert len((await gateway.sessions.ListSessions(request, timeout=20)).sessions) == 2
            assert (await rows(gateway, "SELECT count(*) AS n FROM session_messages", position))[0]["n"] == 4


@pytest.mark.parametrize("sql", ["DROP TABLE sessions", "SELECT * FROM read_blob('/etc/passwd')", "SELECT 1; SELECT 2"])
async def test_a_refused_statement_says_why(tmp_path: Path, sql: str) -> None:
    async with stack(tmp_path) as (gateway, _, _):
        error = await refused(rows(gateway, sql))
        assert error.code == "INVALID_ARGUMENT"
        assert error.reason.startswith("SQL_")


async def test_a_caller_that_leaves_ends_its_query(tmp_path: Path) -> None:
    async with stack(tmp_path) as (gateway, _, _):
        slow = "SELECT count(*) FROM range(100000000) a, range(100000) b"
        call = gateway.analytics.Query(analytics.QueryRequest(sql=slow), timeout=2)
        error = await refused(anext(aiter(call)))
        assert error.code in ("DEADLINE_EXCEEDED", "INVALID_ARGUMENT")
        async with asyncio.timeout(20):
            assert await rows(gateway, "SELECT 1 AS one") == [{"one": 1}]
        assert fresh()
