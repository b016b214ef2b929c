"""The demo's verdict sees when a promise does not hold."""

from collections.abc import Callable
from pathlib import Path

import pytest

from podium.cli.demo import verdict
from podium.cli.demo.verdict import Findings
from podium.v1 import content_pb2 as c
from podium.v1 import event_pb2 as e
from podium.v1 import session_pb2 as s

AGENT = "claude-cli/2.1.330 (external, sdk-py, agent-sdk/0.2.187)"


def block(**given: object) -> e.Event:
    return e.Event(message=e.Message(content=[c.ContentBlock(**given)]))  # type: ignore[arg-type]


def good() -> list[e.Event]:
    ended = e.Event(turn_ended=e.TurnEnded(status=s.TURN_STATUS_COMPLETED))
    return [
        e.Event(turn_started=e.TurnStarted(resumed=False)),
        block(text=c.TextBlock(text="Write it.")),
        block(thinking=c.ThinkingBlock(thinking="I shall.")),
        block(tool_use=c.ToolUseBlock(id="u", name="Bash", input_json='{"command": "echo"}')),
        e.Event(approval_resolved=e.ApprovalResolved(outcome=s.APPROVAL_OUTCOME_ALLOWED)),
        block(tool_result=c.ToolResultBlock(tool_use_id="u", text="done")),
        ended,
        e.Event(turn_started=e.TurnStarted(resumed=True)),
        block(text=c.TextBlock(text="You said: Write it.")),
        ended,
    ]


def failed(
    events: list[e.Event], tmp_path: Path, *, agent: str = AGENT, tokens: int = 5, file: bool = True
) -> list[str]:
    path = tmp_path / "hello"
    if file:
        path.touch()
    session = s.Session(client_version="2.1.330", tokens=s.TokenTotals(input_tokens=tokens, output_tokens=tokens))
    findings = Findings(events=events)
    verdict.check(findings, session, {agent} if agent else set(), path)
    return findings.failed


def without(kind: Callable[[e.Event], bool]) -> list[e.Event]:
    return [event for event in good() if not kind(event)]


def test_a_demo_as_it_should_be_has_no_failure(tmp_path: Path) -> None:
    assert failed(good(), tmp_path) == []


@pytest.mark.parametrize(
    ("events", "promise"),
    [
        (good()[:-1], "both turns completed"),
        (
            without(lambda event: event.message.content[:1] == [] and event.HasField("approval_resolved")),
            "one approval",
        ),
        (without(lambda event: any(one.HasField("thinking") for one in event.message.content)), "thinking"),
        (without(lambda event: any(one.HasField("tool_use") for one in event.message.content)), "Bash tool ran"),
        (without(lambda event: event.turn_started.resumed), "resumed the first"),
        ([*good()[:-2], block(text=c.TextBlock(text="Who are you?")), good()[-1]], "knew the first prompt"),
    ],
    ids=["end", "approval", "thinking", "tool", "resume", "memory"],
)
def test_what_is_missing_is_named(events: list[e.Event], promise: str, tmp_path: Path) -> None:
    (named,) = failed(events, tmp_path)
    assert promise in named


@pytest.mark.parametrize("agent", ["", "curl/8.5", "claude-cli/2.1.329 (external)", "claude-cli/2.1.3301 (external)"])
def test_another_caller_than_the_pinned_cli_is_noticed(agent: str, tmp_path: Path) -> None:
    assert failed(good(), tmp_path, agent=agent) == ["the model was called by claude-cli/2.1.330 and nobody else"]


def test_a_tool_that_only_pretends_is_noticed(tmp_path: Path) -> None:
    assert failed(good(), tmp_path, file=False) == ["the tool wrote its file into the workspace"]


def test_tokens_that_nobody_counted_are_noticed(tmp_path: Path) -> None:
    assert failed(good(), tmp_path, tokens=0) == ["tokens were counted"]
