"""What happened beside what was said, as lines for people. Pure."""

from typing import TypeAlias, assert_never

from podium.cli import shapes, tools
from podium.v1 import event_pb2 as e
from podium.v1 import session_pb2 as s

Line: TypeAlias = tuple[str, str]
"""A line and its style."""

_SEVERITY = {
    e.SEVERITY_INFO: ("detail", "·"),
    e.SEVERITY_WARNING: ("warn", "!"),
    e.SEVERITY_ERROR: ("bad", "✗"),
}
_OUTCOMES = {
    s.APPROVAL_OUTCOME_ALLOWED: ("good", "allowed"),
    s.APPROVAL_OUTCOME_DENIED: ("bad", "denied"),
    s.APPROVAL_OUTCOME_EXPIRED: ("warn", "nobody answered in time"),
    s.APPROVAL_OUTCOME_OWNER_LOST: ("warn", "the runner that asked was lost"),
    s.APPROVAL_OUTCOME_TURN_ENDED: ("warn", "the turn ended first"),
}


def lines(event: e.Event, *, details: bool) -> list[Line]:  # noqa: C901, PLR0911 - one case for each kind
    """Return the lines of an event; none for what is shown elsewhere (messages, turn ends) or is no news.

    `details`: also who owns the session, what the provider bound, which settings changed.
    """
    kind = event.WhichOneof("body")
    match kind:
        case "approval_requested":
            return _asked(event.approval_requested)
        case "approval_resolved":
            return [_settled(event.approval_resolved, event.principal)]
        case "approval_deferred":
            return [("  → the agent's process was ended meanwhile; the answer resumes it", "detail")]
        case "notice":
            style, mark = _SEVERITY.get(event.notice.severity, ("detail", "·"))
            return [(f"  {mark} {event.notice.message or event.notice.code}", style)]
        case "interrupt_requested":
            return [("  ■ asked to stop" + _because(event.interrupt_requested.reason), "warn")]
        case "stop_requested":
            return [("  ■ asked to end its process" + _because(event.stop_requested.reason), "warn")]
        case "unreadable_record":
            return [(f"  ! the provider said something unreadable: {event.unreadable_record.reason}", "warn")]
        case "runner_attached" | "runner_detached" | "turn_started" | "provider_bound" | "session_updated":
            told = _detail(event) if details else ""
            return [(f"  · {told}", "detail")] if told else []
        case "session_created" | "turn_requested" | "turn_cancelled" | "turn_ended":
            return []
        case "message" | "usage" | "context" | None:
            return []
        case _:
            assert_never(kind)


def _detail(event: e.Event) -> str:
    match event.WhichOneof("body"):
        case "runner_attached":
            return f"{event.runner_attached.runner} owns the session (epoch {event.runner_attached.epoch})"
        case "runner_detached":
            reason = shapes.word(e.DetachReason.DESCRIPTOR, event.runner_detached.reason)
            return f"{event.runner_detached.runner} gave the session up: {reason}"
        case "turn_started" if event.turn_started.resumed:
            return "the provider resumes its session"
        case "provider_bound":
            return f"{event.provider_bound.resolved_model}, client {event.provider_bound.client_version}"
        case "session_updated":
            return f"settings changed: {', '.join(event.session_updated.update_mask.paths)}"
        case _:
            return ""


def _asked(request: e.ApprovalRequested) -> list[Line]:
    if request.kind == s.APPROVAL_KIND_QUESTION:
        told: list[Line] = [("  ? the agent asks", "ask")]
        for asked in tools.questions(request):
            told.append((f"    {asked.get('question', '')}", "tool"))
            for number, option in enumerate(asked.get("options") or [], start=1):
                described = f": {option['description']}" if option.get("description") else ""
                told.append((f"      {number}  {option.get('label', '')}{described}", ""))
        return told
    plan = request.kind == s.APPROVAL_KIND_PLAN
    about = tools.about(tools.arguments(request.input_json)).splitlines()
    title = "  ? the agent shows its plan" if plan else f"  ? {request.tool_name} asks to run"
    return [(title, "ask"), *((f"    {line}", "") for line in about)]


def _settled(resolved: e.ApprovalResolved, principal: str) -> Line:
    style, told = _OUTCOMES.get(resolved.outcome, ("detail", "settled"))
    who = f" by {principal}" if principal else ""
    return (f"  → {told}{who}{_because(resolved.message)}", style)


def _because(reason: str) -> str:
    return f": {reason}" if reason else ""
