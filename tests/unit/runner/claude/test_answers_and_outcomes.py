"""Questions, answers, ends of turns, arguments and models: the pure edges of the driver."""

import json
from pathlib import Path
from typing import Any

import pytest

from podium.v1 import content_pb2, event_pb2, session_pb2
from runner.providers import problems
from runner.providers.claude import approvals
from runner.providers.claude.capabilities import CAPABILITIES, PERMISSION_MODES
from runner.providers.claude.checks import prompt_content
from runner.providers.claude.command import Start, arguments, configuration_folder
from runner.providers.claude.models import models
from runner.providers.claude.outcome import exit_problem, outcome
from runner.providers.claude.transcript import Totals
from runner.providers.port import Answer, ProviderFailed

ALLOWED = session_pb2.APPROVAL_OUTCOME_ALLOWED
ASKED = {"questions": [{"question": "Which?"}, {"question": "How many?"}]}


def ask(name: str, arguments: dict[str, Any], said: str = "") -> event_pb2.ApprovalRequested:
    return approvals.question(name, arguments, tool_use_id="t", said=said, suggestions=[])


def ended(result: dict[str, Any], **changes: Any) -> Any:
    before = Totals(0.25, 100)
    kept = {"interrupted": False, "needs_structure": False, "word": "", "quota": False, "before": before}
    return outcome(result, **{**kept, **changes})


def test_a_question_is_summed_up_in_one_short_line() -> None:
    assert ask("Bash", {"command": "ls\n -l"}).summary == "Bash: ls -l"
    assert ask("Bash", {"command": "x" * 500}).summary.endswith("…")
    assert len(ask("Bash", {"command": "x" * 500}).summary) == 200
    assert ask("Odd", {}).summary == "Odd"
    assert ask("AskUserQuestion", ASKED).summary == "Which? / How many?"
    assert ask("ExitPlanMode", {"plan": "# Do\nit"}).summary == "# Do it"
    assert ask("Agent", {"prompt": "look"}).tool_name == "Task"


def test_only_a_clear_yes_allows() -> None:
    for value in session_pb2.ApprovalOutcome.values():
        given = approvals.reply(Answer(value), "Bash", {"command": "ls"})
        assert (given.input is not None) is (value == ALLOWED)
        assert given.input is not None or given.message


@pytest.mark.parametrize("wrong", ["{", "[]", '"text"', "null"])
def test_an_answer_that_cannot_be_read_is_a_refusal(wrong: str) -> None:
    assert approvals.reply(Answer(ALLOWED, updated_input_json=wrong), "Bash", {}).input is None
    if wrong != "null":
        assert approvals.reply(Answer(ALLOWED, remember_json=wrong), "Bash", {}).input is None


def test_a_message_answers_every_question_of_the_agent() -> None:
    given = approvals.reply(Answer(ALLOWED, message="two"), "AskUserQuestion", ASKED)
    assert given.input == {**ASKED, "answers": {"Which?": "two", "How many?": "two"}}


@pytest.mark.parametrize(
    ("result", "changes", "expected"),
    [
        ({"api_error_status": 401}, {}, problems.NOT_LOGGED_IN),
        ({"terminal_reason": "api_error"}, {"word": "authentication_failed"}, problems.NOT_LOGGED_IN),
        ({"api_error_status": 402}, {"word": "billing_error"}, problems.QUOTA_USED_UP),
        ({"api_error_status": 429}, {}, problems.RATE_LIMITED),
        ({"api_error_status": 429}, {"quota": True}, problems.QUOTA_USED_UP),
        ({"api_error_status": 429, "api_error": "usage_limit_reached"}, {}, problems.QUOTA_USED_UP),
        ({"api_error_status": 404}, {"word": "model_not_found"}, problems.MODEL_UNKNOWN),
        ({"api_error_status": 413, "terminal_reason": "image_error"}, {}, problems.REQUEST_REFUSED),
        ({"api_error_status": 400, "terminal_reason": "prompt_too_long"}, {}, problems.CONTEXT_FULL),
        ({"api_error_status": 529}, {"word": "server_error"}, problems.OVERLOADED),
        ({"terminal_reason": "api_error"}, {"word": "server_error"}, problems.CONNECTION_LOST),
        ({"errors": ["No conversation found with session ID: x"]}, {}, problems.SESSION_LOST),
        ({"subtype": "error_max_structured_output_retries"}, {}, problems.OUTPUT_NOT_STRUCTURED),
        ({"subtype": "error_max_turns", "terminal_reason": "max_turns"}, {}, problems.TURN_FAILED),
    ],
)
def test_a_failed_turn_has_a_typed_problem(result: dict[str, Any], changes: dict[str, Any], expected: str) -> None:
    found = ended({"is_error": True, **result}, **changes)
    assert (found.status, found.problem.code) == (session_pb2.TURN_STATUS_FAILED, expected)
    assert found.problem.retryable is (expected in problems.RETRYABLE)
    assert found.problem.message


def test_cost_and_time_are_what_the_turn_added_to_the_clients_totals() -> None:
    found = ended({"total_cost_usd": 0.250438, "duration_api_ms": 170})
    assert (found.provider_cost_microusd, found.api_duration_ms) == (438, 70)
    assert ended({"total_cost_usd": 1.0}, before=None).provider_cost_microusd is None


def test_an_interrupt_is_no_failure() -> None:
    for result in ({"terminal_reason": "aborted_tools"}, {"is_error": True, "subtype": "error_during_execution"}):
        found = ended(result, interrupted=True)
        assert (found.status, found.problem) == (session_pb2.TURN_STATUS_INTERRUPTED, None)


def test_an_asked_for_structure_must_be_there() -> None:
    assert ended({}, needs_structure=True).problem.code == problems.OUTPUT_NOT_STRUCTURED
    assert ended({"structured_output": {"a": 1}}, needs_structure=True).structured_output_json == '{"a":1}'
    assert ended({"structured_output": None}).problem is None


@pytest.mark.parametrize(
    ("exit_code", "said", "expected"),
    [
        (1, "boom", problems.PROCESS_DIED),
        (-9, "", problems.PROCESS_DIED),
        (None, "", problems.PROCESS_DIED),
        (127, "", problems.NOT_INSTALLED),
        (241, "", problems.SESSION_LOCKED),
        (242, "", problems.SESSION_LOCKED),
        (243, "", problems.START_FAILED),
        (1, "Not logged in · Please run /login", problems.NOT_LOGGED_IN),
    ],
)
def test_an_ended_process_is_told_by_its_code_and_words(exit_code: int | None, said: str, expected: str) -> None:
    assert exit_problem(exit_code, said).code == expected


def test_every_problem_says_what_to_do() -> None:
    codes = {value for name, value in vars(problems).items() if name.isupper() and str(value).startswith("PROVIDER_")}
    assert codes == set(problems.PROBLEMS)
    assert codes >= problems.RETRYABLE


def test_values_that_begin_with_a_dash_stay_values() -> None:
    words = arguments(Start("--id", resumes=True, model="--model", effort="-e"))
    assert {"--resume=--id", "--model=--model", "--effort=-e"} <= set(words)
    assert "--session-id=x" in arguments(Start("x", resumes=False))
    assert "--allow-dangerously-skip-permissions" not in words
    with pytest.raises(ValueError, match="schema"):
        arguments(Start("x", resumes=False, schema_json="x" * 130_000))


def test_capabilities_name_every_permission_mode_in_the_words_of_the_contract() -> None:
    modes = {
        session_pb2.PermissionMode.Value(f"PERMISSION_MODE_{word.upper()}") for word in CAPABILITIES.permission_modes
    }
    assert modes == set(PERMISSION_MODES) == set(session_pb2.PermissionMode.values()) - {0}


def test_the_configuration_folder_follows_the_environment() -> None:
    assert configuration_folder({"HOME": "/h"}) == Path("/h/.claude")
    assert configuration_folder({"HOME": "/h", "CLAUDE_CONFIG_DIR": "/c"}) == Path("/c")


def test_a_model_is_shown_with_its_efforts_and_its_record() -> None:
    known = {
        "value": "default",
        "resolvedModel": "claude-opus-5-5",
        "displayName": "Default",
        "description": "d",
        "supportsEffort": True,
        "supportedEffortLevels": ["low", "high", "new"],
        "supportsAdaptiveThinking": True,
    }
    first, second = models({"models": [known, {"value": "sonnet[1m]"}, "nonsense"]})
    assert (first.is_default, first.priority, first.adaptive_thinking) == (True, 1, True)
    assert [(effort.value, effort.is_default) for effort in first.efforts] == [
        ("low", False),
        ("high", True),
        ("new", False),
    ]
    assert json.loads(first.client_record_json) == known
    assert (second.display_name, second.context_window_tokens, list(second.efforts)) == ("sonnet[1m]", 1_000_000, [])
    assert models({}) == []


def test_a_prompt_is_text() -> None:
    text = content_pb2.ContentBlock(text=content_pb2.TextBlock(text="a"))
    empty = content_pb2.ContentBlock(text=content_pb2.TextBlock())
    assert prompt_content([text, empty, text]) == [{"type": "text", "text": "a"}] * 2
    for wrong in ([], [empty], [content_pb2.ContentBlock()]):
        with pytest.raises(ProviderFailed):
            prompt_content(wrong)
