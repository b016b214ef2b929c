"""The documented views over one session in which everything happens."""

from decimal import Decimal
from pathlib import Path

import pytest

from indexer.sql.service import QueryRunner, SqlSettings
from indexer.sql.snapshot import Snapshots
from indexer.store import Store
from indexer.views import RELATIONS
from podium.drafts import Draft
from podium.v1 import event_pb2 as e
from podium.v1 import session_pb2 as s
from tests.integration.indexer.conftest import fill, table
from tests.support import stories
from tests.support.stories import APPROVAL_1, SESSION, TURN_1, TURN_2, TURN_3, Log

SEED_QUERIES = {
    "top sessions by message count": """SELECT
    s.title,
    s.model,
    COUNT(sm.id) as msg_count
FROM sessions s
LEFT JOIN session_messages sm ON s.id = sm.session_id
GROUP BY s.id
ORDER BY msg_count DESC
LIMIT 15;""",
    "recent sessions with context usage": """SELECT
    title,
    model,
    context_used_percent,
    status,
    created_at
FROM sessions
WHERE title != 'Untitled'
ORDER BY created_at DESC
LIMIT 20;""",
    "messages from specific session": f"""SELECT
    role,
    substr(content, 1, 500) as preview,
    created_at
FROM session_messages
WHERE session_id = '{SESSION}'
ORDER BY created_at;""",
}


@pytest.fixture
async def told(live_store: Store) -> Store:
    await fill(live_store, stories.whole())
    return live_store


async def test_a_session_shows_its_newest_state(told: Store) -> None:
    (session,) = table(told, "SELECT * FROM sessions")
    expected = {
        "id": SESSION,
        "title": "Fix the tests",
        "provider": "claude",
        "vendor": "anthropic",
        "model": "opus",
        "resolved_model": "claude-opus-4-5",
        "effort": "high",
        "workspace": "amarillo",
        "status": "error",
        "waiting_on": None,
        "problem_code": "PROVIDER_OVERLOADED",
        "context_used_percent": 25.0,
        "jsonl_path": "/transcripts/native-1.jsonl",
        "provider_session_id": "native-1",
        "runner": None,
        "host": "host-1",
        "parent_session_id": None,
        "archived": False,
        "message_count": 8,
        "turn_count": 3,
        "input_tokens": 385,
        "output_tokens": 10,
        "cache_read_input_tokens": 300,
        "cache_creation_input_tokens": 70,
        "uncached_input_tokens": 15,
        "cost_usd": Decimal("0.123456"),
        "labels": [("team", "core")],
        "revision": 26,
        "position": 16,
    }
    assert {name: session[name] for name in expected} == expected


async def test_a_turn_is_joined_from_its_facts(told: Store) -> None:
    first, failed, cancelled = table(told, "SELECT * FROM turns ORDER BY revision")
    assert [turn["id"] for turn in (first, failed, cancelled)] == [TURN_1, TURN_2, TURN_3]
    assert [turn["status"] for turn in (first, failed, cancelled)] == ["completed", "failed", "cancelled"]
    assert (first["prompt"], first["principal"], first["runner"]) == ("Run the tests", "alice", "runner-1")
    assert (first["queued_ms"], first["duration_ms"], first["first_token_ms"]) == (12, 3_400, 250)
    assert (first["input_tokens"], first["output_tokens"], first["cost_usd"]) == (385, 10, Decimal("0.123456"))
    assert (failed["problem_code"], failed["input_tokens"], failed["cost_usd"]) == ("PROVIDER_OVERLOADED", None, None)
    assert (cancelled["started_at"], cancelled["reason"]) == (None, "never mind")


async def test_a_turn_that_waits_is_queued_and_one_that_runs_is_running(live_store: Store) -> None:
    log = Log()
    stories.begin(log)
    log.asked(e.TurnRequested(prompt=[stories.text("next")]), turn_id=TURN_2)
    await fill(live_store, log)
    assert table(live_store, "SELECT id, status, ended_at FROM turns ORDER BY revision") == [
        {"id": TURN_1, "status": "running", "ended_at": None},
        {"id": TURN_2, "status": "queued", "ended_at": None},
    ]


async def test_usage_has_disjoint_buckets_and_the_seeds_names(told: Store) -> None:
    rows = table(told, "SELECT * FROM usage ORDER BY revision")
    assert [row["input_tokens"] for row in rows] == [140, 245]
    for row in rows:
        cached = row["cache_read_input_tokens"] + row["cache_creation_input_tokens"]
        assert row["input_tokens"] == row["uncached_input_tokens"] + cached
        assert row["cache_creation_input_tokens"] == row["cache_write_5m_tokens"] + row["cache_write_1h_tokens"]
        assert row["cost_usd"] is None


async def test_usage_by_session_sums_facts_and_turn_costs(told: Store) -> None:
    (row,) = table(told, "SELECT * FROM usage_by_session")
    assert (row["session_id"], row["calls"], row["inexact_calls"]) == (SESSION, 2, 0)
    assert (row["input_tokens"], row["cost_usd"]) == (385, Decimal("0.123456"))


async def test_a_tool_call_has_its_answer_and_how_long_it_took(told: Store) -> None:
    (call,) = table(told, "SELECT * FROM tool_calls")
    assert (call["id"], call["name"], call["turn_id"]) == ("call-1", "Bash", TURN_1)
    assert (call["input"], call["output"], call["is_error"]) == ('{"command":"pytest -q"}', "2 failed", True)
    assert (call["ended_at"] - call["started_at"]).total_seconds() * 1000 == pytest.approx(call["duration_ms"], abs=1)


async def test_an_approval_has_its_answer(told: Store) -> None:
    (approval,) = table(told, "SELECT * FROM approvals")
    assert (approval["id"], approval["kind"], approval["tool_use_id"]) == (APPROVAL_1, "permission", "call-1")
    assert (approval["outcome"], approval["resolved_by"], approval["message"]) == ("allowed", "alice", "go on")


async def test_a_question_that_is_asked_again_is_one_question(live_store: Store) -> None:
    log = Log()
    stories.begin(log)
    for _ in range(2):
        log.append(Draft(e.ApprovalRequested(approval_id=APPROVAL_1, summary="again"), turn_id=TURN_1))
    await fill(live_store, log)
    assert table(live_store, "SELECT id, outcome FROM approvals") == [{"id": APPROVAL_1, "outcome": None}]


async def test_a_question_of_a_turn_that_ended_waits_for_nobody(live_store: Store) -> None:
    log = Log()
    stories.begin(log)
    log.append(Draft(e.ApprovalRequested(approval_id=APPROVAL_1), turn_id=TURN_1))
    log.append(Draft(e.TurnEnded(status=s.TURN_STATUS_LOST), turn_id=TURN_1))
    await fill(live_store, log)
    assert table(live_store, "SELECT id, outcome FROM approvals") == [{"id": APPROVAL_1, "outcome": "turn_ended"}]


async def test_runners_and_workspaces_are_told_from_what_happened(told: Store) -> None:
    (runner,) = table(told, "SELECT * FROM runners")
    assert (runner["id"], runner["host"], runner["attachments"], runner["sessions"]) == ("runner-1", "host-1", 1, 0)
    (workspace,) = table(told, "SELECT * FROM workspaces")
    assert (workspace["name"], workspace["sessions"], workspace["message_count"]) == ("amarillo", 1, 8)


async def test_created_at_rises_strictly_within_a_session(told: Store) -> None:
    rows = table(told, "SELECT created_at FROM session_messages ORDER BY revision")
    times = [row["created_at"] for row in rows]
    assert times == sorted(set(times))


async def test_no_view_shows_a_column_twice_or_an_empty_one_for_every_row(told: Store) -> None:
    for view in RELATIONS:
        names = [row["column_name"] for row in table(told, f"DESCRIBE {view}")]
        assert len(names) == len(set(names)), view


async def test_the_seeds_queries_run_verbatim(told: Store, tmp_path: Path) -> None:
    settings = SqlSettings(relations=RELATIONS, idle_workers=0)
    answers = {}
    async with QueryRunner(Snapshots(told, tmp_path / "copies"), settings) as runner:
        for name, sql in SEED_QUERIES.items():
            async with runner.query(sql) as result:
                columns = result.schema.names
                batches = [batch async for batch in result]
                answers[name] = (columns, result.rows, len(batches))
    assert answers["top sessions by message count"][:2] == (["title", "model", "msg_count"], 1)
    assert answers["recent sessions with context usage"][1] == 1
    assert answers["messages from specific session"][:2] == (["role", "preview", "created_at"], 8)
