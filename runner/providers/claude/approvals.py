"""A question of the client as Podium's, and a person's answer as the client's. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from podium.v1 import event_pb2, session_pb2
from runner.providers.claude.blocks import tool_name
from runner.providers.claude.records import JsonObject, dumps, text
from runner.providers.port import Answer

QUESTION_TOOL: Final = "AskUserQuestion"
PLAN_TOOL: Final = "ExitPlanMode"
_SUMMARY_LENGTH_MAX: Final = 200
_TELLING: Final = ("command", "file_path", "notebook_path", "path", "url", "query", "pattern", "description", "prompt")
"""Which argument tells most about a call, best first."""

_REFUSED: Final = {
    session_pb2.APPROVAL_OUTCOME_DENIED: "The user does not allow this.",
    session_pb2.APPROVAL_OUTCOME_EXPIRED: "Nobody answered in time, so this is not allowed.",
    session_pb2.APPROVAL_OUTCOME_OWNER_LOST: "The question was lost before it was answered.",
    session_pb2.APPROVAL_OUTCOME_TURN_ENDED: "The turn ended before this was answered.",
}


@dataclass(frozen=True, slots=True)
class Reply:
    """What to tell the client: `input` set = allowed with it, else refused with `message`."""

    input: dict[str, Any] | None = None
    remember: JsonObject | None = None
    message: str = ""


def question(
    native_name: str, arguments: Mapping[str, object], *, tool_use_id: str, said: str, suggestions: list[JsonObject]
) -> event_pb2.ApprovalRequested:
    """Return the question whether a call may run, or the agent's own question or plan.

    `said`: the client's line about the call, or empty. `suggestions`: rules the client could remember.
    """
    return event_pb2.ApprovalRequested(
        kind=_kind(native_name),
        tool_name=tool_name(native_name),
        tool_use_id=tool_use_id,
        input_json=dumps(arguments),
        summary=_summary(native_name, arguments, said),
        options_json=dumps(suggestions) if suggestions else "",
    )


def reply(answer: Answer, native_name: str, arguments: Mapping[str, object]) -> Reply:
    """Return the client's form of `answer`. An answer that cannot be read is a refusal that says so."""
    if answer.outcome != session_pb2.APPROVAL_OUTCOME_ALLOWED:
        return Reply(
            message=answer.message or _REFUSED.get(answer.outcome, _REFUSED[session_pb2.APPROVAL_OUTCOME_DENIED])
        )
    try:
        updated = orjson.loads(answer.updated_input_json) if answer.updated_input_json else dict(arguments)
        remember = orjson.loads(answer.remember_json) if answer.remember_json else None
    except orjson.JSONDecodeError as wrong:
        return Reply(message=f"The answer could not be read ({wrong}), so this is not allowed.")
    if not isinstance(updated, dict) or not (remember is None or isinstance(remember, dict)):
        return Reply(message="The answer could not be read (expected JSON objects), so this is not allowed.")
    if native_name == QUESTION_TOOL and answer.message and "answers" not in updated:
        updated["answers"] = _one_answer_for_all(updated, answer.message)
    return Reply(input=updated, remember=remember)


def _kind(native_name: str) -> session_pb2.ApprovalKind.ValueType:
    if native_name == QUESTION_TOOL:
        return session_pb2.APPROVAL_KIND_QUESTION
    if native_name == PLAN_TOOL:
        return session_pb2.APPROVAL_KIND_PLAN
    return session_pb2.APPROVAL_KIND_PERMISSION


def _summary(native_name: str, arguments: Mapping[str, object], said: str) -> str:
    if native_name == QUESTION_TOOL:
        line = " / ".join(text(asked, "question") for asked in _questions(arguments))
    elif native_name == PLAN_TOOL:
        line = str(arguments.get("plan") or "Is the plan good?")
    else:
        telling = next((str(arguments[key]) for key in _TELLING if arguments.get(key)), "")
        line = f"{native_name}: {said or telling}" if said or telling else native_name
    line = " ".join(line.split())
    return line if len(line) <= _SUMMARY_LENGTH_MAX else line[: _SUMMARY_LENGTH_MAX - 1] + "…"


def _one_answer_for_all(arguments: Mapping[str, object], said: str) -> dict[str, str]:
    return {text(asked, "question"): said for asked in _questions(arguments)}


def _questions(arguments: Mapping[str, object]) -> list[JsonObject]:
    questions = arguments.get("questions")
    return [asked for asked in questions if isinstance(asked, dict)] if isinstance(questions, list) else []
