"""The indexer as its callers see it: gRPC with tokens, on a real log; some calls through a real gateway."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import orjson
import pyarrow as pa
import pytest
import pytest_asyncio

from indexer.__main__ import running
from indexer.settings import IndexerSettings
from podium import auth, names, rpc
from podium.drafts import Draft
from podium.errors import PodiumError
from podium.settings import ServiceSettings
from podium.v1 import analytics_service_pb2 as analytics
from podium.v1 import event_pb2 as e
from podium.v1 import session_pb2 as s
from podium.v1 import session_service_pb2 as api
from podium.v1.analytics_service_pb2_grpc import AnalyticsServiceStub
from podium.v1.session_service_pb2_grpc import SessionServiceStub
from tests.integration.indexer.rig import Pen, pen
from tests.support import gateways, stories
from tests.support.stories import APPROVAL_1, TURN_1, TURN_2, TURN_3

if TYPE_CHECKING:
    from podium.v1.analytics_service_pb2_grpc import AnalyticsServiceAsyncStub
    from podium.v1.session_service_pb2_grpc import SessionServiceAsyncStub


@dataclass
class Served:
    """A running indexer, called directly as the gateway calls it, and a pen for its log."""

    sessions: "SessionServiceAsyncStub"
    analytics: "AnalyticsServiceAsyncStub"
    pen: Pen
    port: int


@asynccontextmanager
async def served(settings: ServiceSettings, folder: Path, **given: object) -> AsyncIterator[Served]:
    tokens = folder / "tokens.json"
    auth.write_tokens(tokens, [auth.entry("gateway", [auth.Role.READ], "token-of-gateway")])
    indexer_settings = IndexerSettings(
        nats_url=settings.nats_url,
        nats_credentials_file=settings.nats_credentials_file,
        listen="127.0.0.1:0",
        tokens_file=tokens,
        store_file=folder / "podium.duckdb",
        stop_grace_s=0.1,
        **given,  # type: ignore[arg-type]  # fields of the settings
    )
    async with pen(settings) as writer, running(indexer_settings) as port:
        channel = rpc.channel(f"127.0.0.1:{port}", "token-of-gateway")
        try:
            yield Served(SessionServiceStub(channel), AnalyticsServiceStub(channel), writer, port)
        finally:
            await channel.close(grace=None)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def indexer(log_server: ServiceSettings, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    async with served(log_server, tmp_path_factory.mktemp("served")) as running_indexer:
        yield running_indexer


@pytest.fixture(autouse=True)
def _on_the_servers_loop(log_server: ServiceSettings) -> None:
    """Every test here needs the log, and so its loop."""


async def refused(call: Any) -> PodiumError:
    """Return the error of a call that must fail."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return rpc.from_rpc_error(error.value)


DAY_NS = 86_400 * 10**9


def named(session_id: str) -> str:
    return names.session_name(session_id)


# ListSessions


async def test_a_listed_session_is_the_one_of_the_log(indexer: Served) -> None:
    session_id = await indexer.pen.copy(stories.whole())
    request = api.ListSessionsRequest(at_least_position=indexer.pen.position, page_size=1)
    (session,) = (await indexer.sessions.ListSessions(request)).sessions
    assert session == indexer.pen.states[session_id].session


async def test_sessions_come_newest_first_and_pages_have_no_gap_and_no_repeat(indexer: Served) -> None:
    created = [await indexer.pen.create(workspace="pages") for _ in range(7)]
    request = api.ListSessionsRequest(workspace="pages", page_size=3, at_least_position=indexer.pen.position)
    pages = []
    while True:
        page = await indexer.sessions.ListSessions(request)
        pages.append([session.name for session in page.sessions])
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
        # Newer sessions do not shift the pages that follow.
        await indexer.pen.create(workspace="pages")
        request.at_least_position = indexer.pen.position
    assert pages == [[named(name) for name in part] for part in (created[:3:-1], created[3:0:-1], created[:1])]


async def test_sessions_are_filtered_by_what_they_are(indexer: Served) -> None:
    plain = await indexer.pen.create(workspace="filters", labels={"team": "a", "tier": "1"})
    codex = await indexer.pen.create(workspace="filters", provider="codex", labels={"team": "a"})
    archived = await indexer.pen.create(workspace="filters")
    update = e.SessionUpdated(archived=True)
    update.update_mask.paths.append("archived")
    await indexer.pen.append(archived, [update])
    busy = await indexer.pen.create(workspace="filters")
    await indexer.pen.append(busy, [Draft(e.TurnRequested(prompt=[stories.text("hi")]), turn_id=TURN_1)])
    await indexer.pen.append(busy, [Draft(e.TurnStarted(), turn_id=TURN_1)])
    queued = await indexer.pen.create(workspace="filters")
    await indexer.pen.append(queued, [Draft(e.TurnRequested(prompt=[stories.text("hi")]), turn_id=TURN_1)])

    async def found(**filters: Any) -> set[str]:
        request = api.ListSessionsRequest(workspace="filters", at_least_position=indexer.pen.position, **filters)
        return {names.session_id(session.name) for session in (await indexer.sessions.ListSessions(request)).sessions}

    assert await found() == {plain, codex, busy, queued}
    assert await found(include_archived=True) == {plain, codex, busy, queued, archived}
    assert await found(provider="codex") == {codex}
    assert await found(labels={"team": "a"}) == {plain, codex}
    assert await found(labels={"team": "a", "tier": "1"}) == {plain}
    assert await found(labels={"team": "b"}) == set()
    assert await found(statuses=[s.SESSION_STATUS_RUNNING]) == {busy}
    assert await found(statuses=[s.SESSION_STATUS_IDLE, s.SESSION_STATUS_ERROR]) == {plain, codex, queued}
    assert await found(unfinished=True) == {busy, queued}


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (api.ListSessionsRequest(page_size=-1), "page_size"),
        (api.ListSessionsRequest(page_token="nonsense"), "page_token"),
        (api.ListSessionsRequest(statuses=[s.SESSION_STATUS_UNSPECIFIED]), "statuses"),
        (api.ListSessionsRequest(at_least_position=-1), "at_least_position"),
    ],
)
async def test_wrong_fields_are_named(indexer: Served, request_: api.ListSessionsRequest, field: str) -> None:
    error = await refused(indexer.sessions.ListSessions(request_))
    assert (error.code, error.reason, error.metadata["field"]) == ("INVALID_ARGUMENT", "INVALID_FIELD", field)


# ListTurns


async def test_turns_are_told_in_full(indexer: Served) -> None:
    session_id = await indexer.pen.copy(stories.whole())
    request = api.ListTurnsRequest(session=named(session_id), at_least_position=indexer.pen.position, page_size=2)
    page = await indexer.sessions.ListTurns(request)
    request.page_token = page.next_page_token
    rest = await indexer.sessions.ListTurns(request)
    first, failed, cancelled = [*page.turns, *rest.turns]
    assert [turn.id for turn in (first, failed, cancelled)] == [TURN_1, TURN_2, TURN_3]
    assert not rest.next_page_token
    assert (first.status, failed.status, cancelled.status) == (
        s.TURN_STATUS_COMPLETED,
        s.TURN_STATUS_FAILED,
        s.TURN_STATUS_CANCELLED,
    )
    assert (first.prompt, first.principal, first.model, first.resolved_model) == (
        "Run the tests", "alice", "opus", "claude-opus-4-5",
    )  # fmt: skip
    assert (first.tokens.input_tokens, first.tokens.provider_cost_microusd) == (385, 123_456)
    assert (failed.problem.code, failed.problem.retryable) == ("PROVIDER_OVERLOADED", True)
    assert not failed.HasField("tokens")
    assert not cancelled.HasField("started_at")
    assert first.requested_at.ToNanoseconds() < first.started_at.ToNanoseconds() < first.ended_at.ToNanoseconds()


async def test_lists_of_an_unknown_session_are_not_found(indexer: Served) -> None:
    nobody = named(names.new_id(time.time_ns()))
    for call in (
        indexer.sessions.ListTurns(api.ListTurnsRequest(session=nobody)),
        indexer.sessions.ListMessages(api.ListMessagesRequest(session=nobody)),
        indexer.sessions.ListApprovals(api.ListApprovalsRequest(session=nobody)),
        indexer.analytics.GetUsage(analytics.GetUsageRequest(session=nobody)),
    ):
        assert (await refused(call)).reason == "SESSION_NOT_FOUND"


async def test_a_name_that_is_none_is_refused(indexer: Served) -> None:
    error = await refused(indexer.sessions.ListTurns(api.ListTurnsRequest(session="sessions/'; DROP TABLE core.usage")))
    assert (error.code, error.metadata["field"]) == ("INVALID_ARGUMENT", "session")


# ListMessages


async def test_messages_come_oldest_first_in_the_seeds_json(indexer: Served) -> None:
    session_id = await indexer.pen.copy(stories.whole())
    request = api.ListMessagesRequest(session=named(session_id), at_least_position=indexer.pen.position)
    page = await indexer.sessions.ListMessages(request)
    assert [message.role for message in page.messages] == [
        "user", "assistant", "assistant", "user", "assistant", "assistant", "result", "result",
    ]  # fmt: skip
    assert not page.next_page_token
    first = orjson.loads(page.messages[0].content_json)
    assert first == {
        "type": "user",
        "session_id": session_id,
        "message": {"role": "user", "content": [{"type": "text", "text": "Run the tests"}]},
    }
    request.after_revision = page.messages[5].revision
    assert [message.role for message in (await indexer.sessions.ListMessages(request)).messages] == ["result", "result"]


async def test_pages_of_messages_end_at_two_megabytes_and_have_at_least_one(indexer: Served) -> None:
    session_id = await indexer.pen.create()
    for size in (60_000,) * 40:
        await indexer.pen.append(session_id, [stories.user("m" * size)])
    request = api.ListMessagesRequest(session=named(session_id), page_size=1000, at_least_position=indexer.pen.position)
    pages = []
    while True:
        page = await indexer.sessions.ListMessages(request)
        pages.append([message.revision for message in page.messages])
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert [len(page) for page in pages] == [34, 6]
    assert [revision for page in pages for revision in page] == list(range(2, 42))


# ListApprovals


async def test_approvals_that_wait_and_those_that_are_settled(indexer: Served) -> None:
    settled = await indexer.pen.copy(stories.whole())
    waits = await indexer.pen.create()
    await indexer.pen.append(waits, [Draft(e.TurnRequested(), turn_id=TURN_1)])
    await indexer.pen.append(waits, [Draft(e.TurnStarted(), turn_id=TURN_1)])
    question = e.ApprovalRequested(
        approval_id=APPROVAL_1, kind=s.APPROVAL_KIND_QUESTION, summary="Which?", options_json='["a","b"]'
    )
    await indexer.pen.append(waits, [Draft(question, turn_id=TURN_1)])
    at_least = indexer.pen.position
    (pending,) = (
        await indexer.sessions.ListApprovals(api.ListApprovalsRequest(session=named(waits), at_least_position=at_least))
    ).approvals
    assert (pending.id, pending.turn_id, pending.request) == (APPROVAL_1, TURN_1, question)
    assert not pending.HasField("resolution")
    none = await indexer.sessions.ListApprovals(api.ListApprovalsRequest(session=named(settled)))
    assert not none.approvals
    (answered,) = (
        await indexer.sessions.ListApprovals(
            api.ListApprovalsRequest(session=named(settled), include_resolved=True, at_least_position=at_least)
        )
    ).approvals
    assert (answered.resolution.outcome, answered.resolved_by) == (s.APPROVAL_OUTCOME_ALLOWED, "alice")
    assert answered.request.input_json == '{"command":"pytest -q"}'
    everywhere = (await indexer.sessions.ListApprovals(api.ListApprovalsRequest())).approvals
    assert named(waits) in {approval.session for approval in everywhere}
    assert named(settled) not in {approval.session for approval in everywhere}


# GetUsage


async def test_usage_is_summed_by_what_is_asked_for(indexer: Served) -> None:
    session_id = await indexer.pen.copy(stories.whole())
    request = analytics.GetUsageRequest(session=named(session_id), at_least_position=indexer.pen.position)
    (total,) = (await indexer.analytics.GetUsage(request)).rows
    assert total.keys == []
    assert (total.tokens.input_tokens, total.tokens.output_tokens) == (385, 10)
    assert total.tokens.provider_cost_microusd == 123_456
    assert (total.calls, total.inexact_calls) == (2, 0)
    request.group_by.extend(
        [
            analytics.USAGE_DIMENSION_MODEL,
            analytics.USAGE_DIMENSION_PROVIDER,
            analytics.USAGE_DIMENSION_WORKSPACE,
            analytics.USAGE_DIMENSION_TURN,
            analytics.USAGE_DIMENSION_PRINCIPAL,
            analytics.USAGE_DIMENSION_RUNNER,
            analytics.USAGE_DIMENSION_SESSION,
        ]
    )
    (row,) = (await indexer.analytics.GetUsage(request)).rows
    assert list(row.keys) == ["claude-opus-4-5", "claude", "amarillo", TURN_1, "alice", "runner-1", session_id]
    assert row.tokens == total.tokens


async def test_days_are_those_of_the_time_zone_and_come_oldest_first(indexer: Served) -> None:
    session_id = await indexer.pen.create()
    noon_ns = (time.time_ns() // DAY_NS + 3) * DAY_NS + DAY_NS // 2
    # From 12:00 UTC on: in Auckland (12 or 13 hours ahead) the next day has begun, in Honolulu it is still this one.
    for after_ns, tokens in ((0, 1), (DAY_NS // 2 + 1, 1000), (DAY_NS, 10)):
        fact = stories.usage(f"m{after_ns}", uncached_input_tokens=tokens)
        await indexer.pen.append(session_id, [Draft(fact, happened_at_ns=noon_ns + after_ns)])

    async def days(time_zone: str) -> list[tuple[str, int]]:
        request = analytics.GetUsageRequest(
            session=named(session_id),
            group_by=[analytics.USAGE_DIMENSION_DAY],
            time_zone=time_zone,
            at_least_position=indexer.pen.position,
        )
        rows = (await indexer.analytics.GetUsage(request)).rows
        return [(row.keys[0], row.tokens.input_tokens) for row in rows]

    def day(number: int) -> str:
        return datetime.fromtimestamp(noon_ns / 1e9 + number * 86_400, UTC).strftime("%Y-%m-%d")

    assert await days("") == [(day(0), 1), (day(1), 1010)]
    assert await days("Pacific/Auckland") == [(day(1), 1001), (day(2), 10)]
    assert await days("Pacific/Honolulu") == [(day(0), 1001), (day(1), 10)]


async def test_no_usage_is_one_row_of_zeros_without_a_cost(indexer: Served) -> None:
    session_id = await indexer.pen.create()
    request = analytics.GetUsageRequest(session=named(session_id), at_least_position=indexer.pen.position)
    (row,) = (await indexer.analytics.GetUsage(request)).rows
    assert (row.calls, row.tokens.input_tokens, row.tokens.HasField("provider_cost_microusd")) == (0, 0, False)


async def test_usage_of_a_time(indexer: Served) -> None:
    session_id = await indexer.pen.create()
    await indexer.pen.append(session_id, [stories.usage("m", uncached_input_tokens=5)])
    at = indexer.pen.states[session_id].session.updated_at
    request = analytics.GetUsageRequest(session=named(session_id), since=at, at_least_position=indexer.pen.position)
    assert (await indexer.analytics.GetUsage(request)).rows[0].calls == 1
    request = analytics.GetUsageRequest(session=named(session_id), until=at)
    assert (await indexer.analytics.GetUsage(request)).rows[0].calls == 0


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (analytics.GetUsageRequest(time_zone="Mars/Olympus"), "time_zone"),
        (analytics.GetUsageRequest(time_zone="../../etc/passwd"), "time_zone"),
        (analytics.GetUsageRequest(group_by=[analytics.USAGE_DIMENSION_UNSPECIFIED]), "group_by"),
        (analytics.GetUsageRequest(group_by=[analytics.USAGE_DIMENSION_DAY] * 2), "group_by"),
    ],
)
async def test_usage_refuses_what_it_does_not_know(
    indexer: Served, request_: analytics.GetUsageRequest, field: str
) -> None:
    assert (await refused(indexer.analytics.GetUsage(request_))).metadata["field"] == field


# GetProjection


async def test_the_projection_says_how_far_it_is(indexer: Served) -> None:
    await indexer.pen.create()
    await indexer.sessions.ListSessions(api.ListSessionsRequest(at_least_position=indexer.pen.position))
    projection = await indexer.analytics.GetProjection(analytics.GetProjectionRequest())
    assert projection.position == projection.log_position == indexer.pen.position
    assert (projection.lag.ToNanoseconds(), projection.problem, projection.schema_version) == (0, "", 1)


async def test_a_position_that_never_comes_is_an_answer_before_the_deadline(indexer: Served) -> None:
    request = api.ListSessionsRequest(at_least_position=indexer.pen.position + 1000)
    begun = time.monotonic()
    error = await refused(indexer.sessions.ListSessions(request, timeout=0.5))
    assert (error.code, error.reason) == ("UNAVAILABLE", "PROJECTION_BEHIND")
    assert error.metadata["at_least_position"] == str(request.at_least_position)
    assert time.monotonic() - begun < 0.5


async def test_a_list_that_waits_does_not_wait_for_the_linger(indexer: Served) -> None:
    """Read your writes: an append alone would linger 200 ms for company; somebody who waits ends that."""
    waits = []
    for _ in range(10):
        await indexer.pen.create()
        begun = time.monotonic()
        await indexer.sessions.ListSessions(
            api.ListSessionsRequest(at_least_position=indexer.pen.position, page_size=1)
        )
        waits.append(time.monotonic() - begun)
    assert sorted(waits)[2] < 0.15


# Query


async def answer(
    stub: "AnalyticsServiceAsyncStub", sql: str, **given: Any
) -> tuple[list[dict[str, Any]], list[analytics.QueryResponse]]:
    responses = [response async for response in stub.Query(analytics.QueryRequest(sql=sql, **given))]
    stream = pa.ipc.open_stream(b"".join(response.arrow_ipc for response in responses))
    return stream.read_all().to_pylist(), responses


async def test_a_query_reads_what_was_just_written(indexer: Served) -> None:
    session_id = await indexer.pen.copy(stories.whole())
    rows, responses = await answer(
        indexer.analytics,
        "SELECT name, output FROM tool_calls WHERE session_id = $1",
        parameters_json=orjson.dumps([session_id]).decode(),
        at_least_position=indexer.pen.position,
    )
    assert rows == [{"name": "Bash", "output": "2 failed"}]
    assert responses[0].position >= indexer.pen.position
    assert responses[0].HasField("age")
    assert not responses[-1].truncated


async def test_a_query_ends_at_the_rows_asked_for_and_says_so(indexer: Served) -> None:
    rows, responses = await answer(indexer.analytics, "SELECT i FROM range(100000) t(i)", max_rows=20_000)
    assert [row["i"] for row in rows] == list(range(20_000))
    assert responses[-1].truncated
    rows, responses = await answer(indexer.analytics, "SELECT i FROM range(20000) t(i)", max_rows=20_000)
    assert (len(rows), responses[-1].truncated) == (20_000, False)


async def test_every_piece_of_an_answer_fits(indexer: Served) -> None:
    _, responses = await answer(indexer.analytics, "SELECT repeat('x', 10000) AS x FROM range(2000)")
    assert len(responses) > 4
    assert all(len(response.arrow_ipc) <= 4 * 1024 * 1024 for response in responses)


@pytest.mark.parametrize(
    ("sql", "code", "reason"),
    [
        ("DROP TABLE core.events", "INVALID_ARGUMENT", "SQL_REFUSED"),
        ("SELECT * FROM core.events", "INVALID_ARGUMENT", "SQL_REFUSED"),
        ("SELECT nothing FROM sessions", "INVALID_ARGUMENT", "SQL_FAILED"),
    ],
)
async def test_what_a_query_may_not_do_has_a_reason(indexer: Served, sql: str, code: str, reason: str) -> None:
    error = await refused(anext(aiter(indexer.analytics.Query(analytics.QueryRequest(sql=sql)))))
    assert (error.code, error.reason) == (code, reason)


async def test_a_query_that_takes_too_long_is_ended(log_server: ServiceSettings, tmp_path: Path) -> None:
    endless = "SELECT count(*) FROM range(1000000) a, range(1000000) b WHERE a.range > b.range"
    async with served(log_server, tmp_path, query_timeout_s=1) as indexer:
        error = await refused(anext(aiter(indexer.analytics.Query(analytics.QueryRequest(sql=endless)))))
        assert (error.code, error.reason) == ("DEADLINE_EXCEEDED", "QUERY_TIMED_OUT")


@pytest.mark.parametrize("parameters", ["{}", "[", "[[1]]", "1"])
async def test_parameters_are_one_flat_array(indexer: Served, parameters: str) -> None:
    request = analytics.QueryRequest(sql="SELECT ?", parameters_json=parameters)
    error = await refused(anext(aiter(indexer.analytics.Query(request))))
    assert error.metadata["field"] == "parameters_json"


# Who may call, and how


async def test_commands_are_not_the_indexers(indexer: Served) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await indexer.sessions.CreateSession(api.CreateSessionRequest(request_id="r"))
    assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_without_a_token_nothing_is_told(indexer: Served) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{indexer.port}") as channel:
        for call in (
            SessionServiceStub(channel).ListSessions(api.ListSessionsRequest()),
            AnalyticsServiceStub(channel).GetProjection(analytics.GetProjectionRequest()),
        ):
            assert (await refused(call)).reason == "TOKEN_MISSING"


async def test_through_the_gateway_all_of_it_is_one_address(
    indexer: Served, log_server: ServiceSettings, tmp_path: Path
) -> None:
    session_id = await indexer.pen.copy(stories.whole())
    async with gateways.gateway(log_server, tmp_path / "gateway", indexer_address=f"127.0.0.1:{indexer.port}") as front:
        page = await front.sessions.ListMessages(
            api.ListMessagesRequest(session=named(session_id), at_least_position=indexer.pen.position)
        )
        assert len(page.messages) == 8
        rows, _ = await answer(
            front.analytics, "SELECT count(*) AS n FROM turns", at_least_position=indexer.pen.position
        )
        assert rows[0]["n"] >= 3
        error = await refused(front.sessions.ListTurns(api.ListTurnsRequest(session="x")))
        assert error.metadata["field"] == "session"


async def test_a_stopped_projection_says_why_and_lists_what_it_has(tmp_path: Path) -> None:
    """Stopped by an event of a newer Podium that may not be skipped."""
    async with gateways.log_server(tmp_path) as settings, served(settings, tmp_path) as indexer:
        session_id = await indexer.pen.create()
        position = indexer.pen.position
        await indexer.sessions.ListSessions(api.ListSessionsRequest(at_least_position=position))
        await indexer.pen.append(
            session_id, [e.Notice()], written_as=lambda event: stories.of_the_future(event, may_ignore=False)
        )
        request = api.ListSessionsRequest(at_least_position=indexer.pen.position)
        error = await refused(indexer.sessions.ListSessions(request, timeout=20))
        assert (error.reason, "update the indexer" in error.message) == ("PROJECTION_UNAVAILABLE", True)
        assert len((await indexer.sessions.ListSessions(api.ListSessionsRequest())).sessions) == 1
        projection = await indexer.analytics.GetProjection(analytics.GetProjectionRequest())
        assert (projection.position, projection.log_position) == (position, indexer.pen.position)
        assert "update the indexer" in projection.problem
        await asyncio.sleep(0)
        later = await indexer.analytics.GetProjection(analytics.GetProjectionRequest())
        assert later.lag.ToNanoseconds() > 0
