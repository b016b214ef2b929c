"""The recordings: what each case does with the real client, and how a recording is read again."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict

from podium.drafts import Draft, kind_of
from podium.scripted_model import Drop, HttpError, Pace, Reply, Script, ScriptedModel, Stall, ToolCall, Usage
from podium.v1 import event_pb2, session_pb2
from runner.providers.claude.normalise import Normaliser
from runner.providers.port import Answer, Driver
from tests.integration.runner.claude.claude_rig import ALLOW, DENY, Answers, RecordingOutbox, Rig, turn

FOLDER = Path(__file__).parent
NOW_NS = 1_795_000_000_000_000_000
TURN_ID = "0192f000-0000-7000-8000-000000000001"

Run = Callable[[Driver, RecordingOutbox], Awaitable[object]]


async def one_turn(driver: Driver, _: RecordingOutbox) -> None:
    await driver.run_turn(turn())


async def interrupted(driver: Driver, outbox: RecordingOutbox) -> None:
    running = asyncio.create_task(driver.run_turn(turn()))
    await outbox.until(lambda: len(outbox.deltas) >= 5)
    await driver.interrupt()
    await running


async def two_models(driver: Driver, _: RecordingOutbox) -> None:
    await driver.run_turn(turn(model="sonnet"))
    await driver.run_turn(turn(model="haiku"))


@dataclass(frozen=True, slots=True)
class Case:
    """One recording."""

    about: str
    script: Script
    run: Run = one_turn
    answers: Answers = lambda _: ALLOW
    changes: dict[str, Any] = field(default_factory=dict)


WRITE = ToolCall("Bash", {"command": "echo hi > f.txt; cat f.txt", "description": "Write and read a file"})
LOGIN = {"CLAUDE_CODE_OAUTH_TOKEN": "sk-ant-oat01-scripted", "ANTHROPIC_API_KEY": None}
LIMITS = {
    "anthropic-ratelimit-unified-status": "allowed_warning",
    "anthropic-ratelimit-unified-reset": "1795400000",
    "anthropic-ratelimit-unified-representative-claim": "five_hour",
    "anthropic-ratelimit-unified-5h-utilization": "0.91",
    "anthropic-ratelimit-unified-5h-reset": "1795400000",
    "anthropic-ratelimit-unified-5h-surpassed-threshold": "0.9",
}
QUESTION = {
    "questions": [
        {
            "question": "Which color?",
            "header": "Color",
            "options": [{"label": "Red", "description": "warm"}, {"label": "Blue", "description": "cold"}],
            "multiSelect": False,
        }
    ]
}
CHILD = ToolCall(
    "Agent", {"description": "look", "prompt": "[[scenario:child]] look", "subagent_type": "general-purpose"}
)

CASES = {
    "tool_allowed": Case(
        "Thinking, text, a Bash call that a person allows, and the answer.",
        Script(
            [
                Reply(
                    thinking="I will write a file.",
                    text="Writing.",
                    tool=WRITE,
                    usage=Usage(uncached_input_tokens=1200, cache_write_5m_tokens=800, output_tokens=96),
                ),
                Reply(text="Done.", usage=Usage(uncached_input_tokens=150, cache_read_tokens=2000, output_tokens=64)),
            ]
        ),
    ),
    "tool_refused": Case(
        "A Bash call that a person refuses.", Script([Reply(tool=WRITE), Reply(text="I see.")]), answers=lambda _: DENY
    ),
    "tool_never_asked": Case(
        "A Bash call in PERMISSION_MODE_DENY.",
        Script([Reply(tool=WRITE), Reply(text="I see.")]),
        changes={"permission_mode": session_pb2.PERMISSION_MODE_DENY},
    ),
    "question": Case(
        "The agent asks a question and a person answers.",
        Script([Reply(tool=ToolCall("AskUserQuestion", QUESTION)), Reply(text="Blue it is.")]),
        answers=lambda _: Answer(session_pb2.APPROVAL_OUTCOME_ALLOWED, message="Blue"),
    ),
    "sub_agent": Case(
        "A sub-agent that thinks, speaks and runs a tool.",
        Script(
            [Reply(tool=CHILD), Reply(text="It is done.")],
            scenarios={
                "child": [
                    Reply(
                        thinking="Hm.",
                        text="I look.",
                        tool=ToolCall("Bash", {"command": "echo child"}),
                        usage=Usage(uncached_input_tokens=101, output_tokens=51),
                    ),
                    Reply(text="I looked.", usage=Usage(uncached_input_tokens=102, output_tokens=52)),
                ]
            },
        ),
    ),
    "interrupted": Case(
        "An interrupt while the model speaks.",
        Script([Reply(text="abcd" * 100, pace=Pace(piece_chars=4), ends=Stall(after_pieces=5))]),
        run=interrupted,
    ),
    "dropped": Case(
        "A stream that breaks in the middle, at every attempt.",
        Script([Reply(text="abcd" * 100, pace=Pace(piece_chars=40, delay_s=0.05), ends=Drop(after_pieces=5))]),
    ),
    "rate_limited": Case("HTTP 429 until the client gives up.", Script([HttpError(status=429, retry_after_s=0)])),
    "not_logged_in": Case("No key and no login.", Script([]), changes={"environment": {"ANTHROPIC_API_KEY": None}}),
    "allowance": Case(
        "A login whose allowance is nearly used up.",
        Script([Reply(text="Hello.", headers=LIMITS)]),
        changes={"environment": LOGIN},
    ),
    "model_changed": Case("Two turns with two models, set live.", Script([Reply(text="Hello.")]), run=two_models),
}


async def record(name: str, folder: Path) -> list[bytes]:
    """Run a case on the real client; return its lines with this machine's paths taken out."""
    case, rig, outbox = CASES[name], Rig(folder), RecordingOutbox(CASES[name].answers)
    async with ScriptedModel(case.script) as model, rig.driver(model, outbox, **case.changes) as driver:
        await case.run(driver, outbox)
        port = model.url.rpartition(":")[2]
    slug = str(folder).replace("/", "-")
    lines = [
        line.replace(str(folder).encode(), b"/podium").replace(slug.encode(), b"-podium") for line in outbox.records
    ]
    return [line.replace(f"127.0.0.1:{port}".encode(), b"127.0.0.1:1") for line in lines]


def meaning(lines: list[bytes]) -> list[dict[str, Any]]:
    """Return what a recording means: drafts and deltas in the order they came, as JSON values."""
    normaliser = Normaliser(lambda native_id: f"/transcripts/{native_id}.jsonl")
    normaliser.begin(TURN_ID)
    found: list[dict[str, Any]] = []
    for line in lines:
        fed = normaliser.feed(line, NOW_NS)
        found += [{"delta": MessageToDict(delta, preserving_proto_field_name=True)} for delta in fed.deltas]
        found += [_shown(draft) for draft in fed.drafts]
    return found + [_shown(draft) for draft in normaliser.cut_short()]


def _shown(draft: Draft) -> dict[str, Any]:
    body = MessageToDict(draft.body, preserving_proto_field_name=True)
    if isinstance(draft.body, event_pb2.ProviderBound):
        body["tools"] = sorted(set(body["tools"]) & {"Bash", "Task", "Write"})  # the rest is of no interest here
        body["capabilities"] = body["capabilities"][:2]
    assert draft.turn_id == TURN_ID
    assert draft.source == event_pb2.SOURCE_PROVIDER
    shown: dict[str, Any] = {kind_of(draft.body): body}
    if draft.parent_tool_use_id:
        shown["parent_tool_use_id"] = draft.parent_tool_use_id
    if draft.happened_at_ns is not None:
        shown["happened_at_ns"] = draft.happened_at_ns
    return shown


def read(name: str) -> list[bytes]:
    return (FOLDER / name / "input.jsonl").read_bytes().splitlines()


def write(name: str, lines: list[bytes], client: str) -> None:
    """Store a recording with where it comes from."""
    folder = FOLDER / name
    folder.mkdir(exist_ok=True)
    (folder / "input.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
    recorded = time.strftime("%Y-%m-%d", time.gmtime())
    about = (
        f"{CASES[name].about}\n\n"
        f"Recorded {recorded} with {client} through `ClaudeDriver` against `podium.scripted_model`:\n"
        "the client is real, the model is scripted. Paths and ports are replaced; nothing else is changed.\n\n"
        f"    python -m tests.golden.claude.record {name}\n"
    )
    (folder / "ABOUT.md").write_text(about)


def write_expected(name: str) -> None:
    """Store what the recording means now; look at the difference before committing it."""
    shown = json.dumps(meaning(read(name)), indent=1, ensure_ascii=False, sort_keys=True)
    (FOLDER / name / "expected.json").write_text(shown + "\n")
