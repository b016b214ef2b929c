"""What people type: prompts, folders, labels, times, answers, and the exit codes they get."""

import io
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from podium import errors
from podium.cli import asking, failures, prompts, times, tools
from podium.cli.failures import Exit
from podium.errors import InvalidArgument
from podium.v1 import event_pb2, session_pb2

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def piped(monkeypatch: pytest.MonkeyPatch, text: str, *, terminal: bool = False) -> None:
    stdin = SimpleNamespace(isatty=lambda: terminal, buffer=io.BytesIO(text.encode()))
    monkeypatch.setattr("sys.stdin", stdin)


@pytest.mark.parametrize("typed", [None, "-"])
def test_a_prompt_can_be_piped(monkeypatch: pytest.MonkeyPatch, typed: str | None) -> None:
    piped(monkeypatch, "from a pipe")
    assert prompts.turn_input(typed).prompt[0].text.text == "from a pipe"


def test_a_given_prompt_leaves_standard_input_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    piped(monkeypatch, "not read")
    assert prompts.turn_input("typed").prompt[0].text.text == "typed"


def test_a_missing_prompt_at_a_terminal_says_what_is_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    piped(monkeypatch, "", terminal=True)
    with pytest.raises(InvalidArgument, match=r'podium run "explain this repo"'):
        prompts.turn_input(None)


def test_a_schema_is_read_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text('{"type": "object"}')
    assert prompts.turn_input("x", schema=tmp_path / "schema.json").output_schema_json == '{"type": "object"}'
    with pytest.raises(InvalidArgument, match="--schema"):
        prompts.turn_input("x", schema=tmp_path / "nowhere.json")


@pytest.mark.parametrize("chosen", ["", ".", "sub", "./sub"])
def test_a_folder_is_meant_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: str) -> None:
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path)
    session = session_pb2.Session()
    prompts.choose_workspace(session, chosen)
    assert session.directory == str((tmp_path / chosen).resolve())
    assert session.workspace == ""


def test_a_name_is_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    session = session_pb2.Session()
    prompts.choose_workspace(session, "amarillo")
    assert (session.workspace, session.directory) == ("amarillo", "")


def test_a_folder_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidArgument, match="--workspace"):
        prompts.choose_workspace(session_pb2.Session(), "./nowhere")


def test_labels_are_pairs() -> None:
    assert prompts.labels(["team=infra", "note=a=b", "empty="]) == {"team": "infra", "note": "a=b", "empty": ""}
    with pytest.raises(InvalidArgument, match="KEY=VALUE"):
        prompts.labels(["team"])


def test_permission_modes_are_words() -> None:
    assert prompts.permission_mode("accept-edits") == session_pb2.PERMISSION_MODE_ACCEPT_EDITS
    assert prompts.permission_mode("") == session_pb2.PERMISSION_MODE_UNSPECIFIED
    with pytest.raises(InvalidArgument, match="default, accept_edits, plan"):
        prompts.permission_mode("yolo")


@pytest.mark.parametrize(
    ("text", "zone", "expected"),
    [
        ("2026-11-01", "UTC", "2026-11-01T00:00:00+00:00"),
        ("2026-11-01", "Europe/Berlin", "2026-10-31T23:00:00+00:00"),
        ("2026-11-01T08:30", "UTC", "2026-11-01T08:30:00+00:00"),
        ("2026-11-01T08:30+02:00", "UTC", "2026-11-01T06:30:00+00:00"),
        ("7d", "UTC", "2026-11-15T12:00:00+00:00"),
        ("90min", "UTC", "2026-11-22T10:30:00+00:00"),
    ],
)
def test_times_are_understood(text: str, zone: str, expected: str) -> None:
    made = times.timestamp(text, "--since", zone=zone, now=NOW)
    assert made is not None
    assert made.ToDatetime(UTC).isoformat() == expected


def test_other_times_are_refused() -> None:
    assert times.timestamp("", "--since", zone="UTC", now=NOW) is None
    with pytest.raises(InvalidArgument, match="--since"):
        times.timestamp("yesterday", "--since", zone="UTC", now=NOW)
    with pytest.raises(InvalidArgument, match="--tz"):
        times.timestamp("2026-11-01", "--since", zone="Mars/Olympus", now=NOW)


@pytest.mark.parametrize(
    ("typed", "answer"),
    [("2", "Blue"), ("1, 2", "Red, Blue"), ("3", "3"), ("the blue one", "the blue one"), ("", "")],
)
def test_numbers_choose_options(typed: str, answer: str) -> None:
    assert asking.chosen(typed, ["Red", "Blue"]) == answer


def test_rules_are_told_in_words() -> None:
    rule = {"type": "addRules", "behavior": "allow", "rules": [{"toolName": "Bash", "ruleContent": "ls:*"}]}
    assert tools.option(rule) == "allow Bash(ls:*)"
    assert tools.option({"type": "setMode", "mode": "acceptEdits"}) == "mode acceptEdits"
    assert tools.option({"directories": ["/a", "/b"]}) == "folder /a, /b"
    assert len(tools.option({"odd": "x" * 500})) == tools.OPTION_LENGTH_MAX


@pytest.mark.parametrize("json_text", ["", "not json", "[1]", "null"])
def test_arguments_that_are_no_object_are_none(json_text: str) -> None:
    assert tools.arguments(json_text) == {}
    assert tools.options(event_pb2.ApprovalRequested(options_json=json_text)) == []


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (session_pb2.TURN_STATUS_COMPLETED, 0),
        (session_pb2.TURN_STATUS_FAILED, 1),
        (session_pb2.TURN_STATUS_LOST, 1),
        (session_pb2.TURN_STATUS_CANCELLED, 3),
        (session_pb2.TURN_STATUS_RUNNING, 4),
        (session_pb2.TURN_STATUS_UNSPECIFIED, 4),
        (session_pb2.TURN_STATUS_INTERRUPTED, 130),
    ],
)
def test_the_exit_code_tells_how_the_turn_ended(status: session_pb2.TurnStatus.ValueType, code: int) -> None:
    assert failures.exit_code_of_turn(status) == code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidArgument("x", found="", expected="y"), Exit.USAGE),
        (errors.session_not_found("x"), Exit.REFUSED),
        (errors.Unavailable("LOG_UNAVAILABLE", "x"), Exit.UNREACHABLE),
        (errors.PermissionDenied("ROLE_TOO_LOW", "x"), Exit.NOT_ALLOWED),
        (errors.Unauthenticated("TOKEN_UNKNOWN", "x"), Exit.NOT_ALLOWED),
    ],
)
def test_the_exit_code_tells_what_was_wrong(error: errors.PodiumError, code: int) -> None:
    assert failures.exit_code(error) == code
