"""A call is left open in a transcript, found, and taken back, byte for byte."""

import json
from pathlib import Path
from typing import Any

import pytest

from runner.providers.claude import transcript
from runner.providers.claude.transcript import NotDeferrable, OpenCall, Totals

CALL = OpenCall("t1", "Bash", {"command": "ls"}, "default")
NOW_NS = 1_795_338_278_264_999_999


def row(kind: str, uuid: str, *blocks: dict[str, Any], message_id: str = "m1") -> dict[str, Any]:
    message = {"id": message_id, "content": list(blocks)}
    return {"type": kind, "uuid": uuid, "sessionId": "s", "version": "2.1.330", "cwd": "/w", "message": message}


def use(call_id: str) -> dict[str, Any]:
    return {"type": "tool_use", "id": call_id, "name": "Bash", "input": {"command": "ls"}}


def result(call_id: str) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": call_id, "content": "x"}


COST = {"type": "cost-state", "totalCostUSD": 0.5, "totalAPIDuration": 70}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "t.jsonl"


def write(path: Path, *rows: dict[str, Any]) -> bytes:
    path.write_bytes(b"".join(json.dumps(one).encode() + b"\n" for one in rows))
    return path.read_bytes()


def test_a_call_is_left_open_as_the_clients_own_defer_leaves_it(path: Path) -> None:
    before = write(path, row("assistant", "u1", use("t1")), COST)
    transcript.leave_open(path, CALL, NOW_NS)
    after = path.read_bytes()
    added = json.loads(after.removeprefix(before))
    assert added["parentUuid"] == "u1"
    assert added["timestamp"] == "2026-11-22T09:04:38.264Z"
    assert (added["sessionId"], added["cwd"], added["version"]) == ("s", "/w", "2.1.330")
    assert added["attachment"] == {
        "type": "hook_deferred_tool",
        "toolUseID": "t1",
        "toolName": "Bash",
        "toolInput": {"command": "ls"},
        "hookName": "podium",
        "hookEvent": "PreToolUse",
        "permissionMode": "default",
    }
    assert transcript.is_left_open(path)
    assert transcript.take_back(path)
    assert path.read_bytes() == before
    assert not transcript.is_left_open(path)


def test_taking_back_leaves_everything_else_alone(path: Path) -> None:
    before = write(path, row("assistant", "u1", use("t1")))
    assert not transcript.take_back(path)
    assert path.read_bytes() == before
    assert not transcript.take_back(path.with_name("missing"))


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [row("assistant", "u1", use("other"))],
        [row("assistant", "u1", use("t1")), row("user", "u2", result("t1"))],
    ],
    ids=["empty", "another call", "answered"],
)
def test_only_an_open_call_can_be_left_open(path: Path, rows: list[dict[str, Any]]) -> None:
    before = write(path, *rows)
    with pytest.raises(NotDeferrable):
        transcript.leave_open(path, CALL, NOW_NS)
    assert path.read_bytes() == before


def test_an_answered_call_is_not_open_any_more(path: Path) -> None:
    write(path, row("assistant", "u1", use("t1")))
    transcript.leave_open(path, CALL, NOW_NS)
    with path.open("a") as more:
        more.write(json.dumps(row("user", "u3", result("t1"))) + "\n")
    assert not transcript.is_left_open(path)


def test_the_first_unanswered_call_of_the_newest_answer_is_found(path: Path) -> None:
    old = row("assistant", "u0", use("t0"), message_id="m0")
    write(
        path,
        old,
        row("assistant", "u1", use("t1")),
        row("assistant", "u2", use("t2")),
        row("assistant", "u3", use("t3")),
        row("user", "u4", result("t1")),
    )
    found = transcript.open_call(path, "plan")
    assert found == OpenCall("t2", "Bash", {"command": "ls"}, "plan")
    assert transcript.open_call(path.with_name("missing"), "plan") is None


def test_totals_are_the_newest_ones(path: Path) -> None:
    write(path, {**COST, "totalCostUSD": 0.1}, COST, row("user", "u"))
    assert transcript.totals(path) == Totals(0.5, 70)
    assert transcript.totals(path.with_name("missing")) == Totals()


def test_a_torn_last_line_hides_nothing(path: Path) -> None:
    write(path, COST)
    with path.open("a") as more:
        more.write('{"type": "cost-sta')
    assert transcript.totals(path) == Totals(0.5, 70)


def test_the_transcript_is_where_the_client_puts_it(tmp_path: Path) -> None:
    workspace = tmp_path / "a_b.c d"
    found = transcript.path_of(Path("/config"), workspace, "id")
    assert found.name == "id.jsonl"
    assert found.parent.parent == Path("/config/projects")
    assert found.parent.name.endswith("-a-b-c-d")


def test_a_long_folder_name_is_found_by_looking(tmp_path: Path) -> None:
    config, workspace = tmp_path / "config", tmp_path / ("x" * 210)
    expected = transcript.path_of(config, workspace, "id")
    real = expected.parent.with_name(expected.parent.name + "-hash") / "id.jsonl"
    real.parent.mkdir(parents=True)
    real.touch()
    assert transcript.path_of(config, workspace, "id") == real
