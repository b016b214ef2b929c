"""How a turn ended, from the client's last words. Pure."""

from typing import Final

from podium.v1 import event_pb2, session_pb2
from runner.processes import LaunchRefusal, refusal
from runner.providers import problems
from runner.providers.claude.notices import error_class
from runner.providers.claude.records import JsonObject, dumps, number, text
from runner.providers.claude.transcript import Totals
from runner.providers.port import TurnOutcome

_ABORTED: Final = ("aborted_streaming", "aborted_tools")
_FULL: Final = ("prompt_too_long", "blocking_limit", "rapid_refill_breaker")
_MICRO: Final = 1_000_000
_NOT_FOUND: Final = 404
_SERVER_ERRORS: Final = 500
_CLASS_CODES: Final = {
    event_pb2.NOTICE_CLASS_AUTH: problems.NOT_LOGGED_IN,
    event_pb2.NOTICE_CLASS_QUOTA: problems.QUOTA_USED_UP,
    event_pb2.NOTICE_CLASS_RATE_LIMIT: problems.RATE_LIMITED,
}
_REFUSAL_CODES: Final = {
    LaunchRefusal.CLI_NOT_FOUND: problems.NOT_INSTALLED,
    LaunchRefusal.CLI_NOT_EXECUTABLE: problems.NOT_INSTALLED,
    LaunchRefusal.LOCKED: problems.SESSION_LOCKED,
    LaunchRefusal.FENCED: problems.SESSION_LOCKED,
}
SESSION_LOST_WORDS: Final = "No conversation found with session ID"
ALREADY_EXISTS_WORDS: Final = "is already in use"


def totals_of(result: JsonObject) -> Totals:
    """Return the client's running totals from a result."""
    cost = result.get("total_cost_usd")
    return Totals(float(cost) if isinstance(cost, int | float) else 0.0, number(result, "duration_api_ms"))


def outcome(
    result: JsonObject, *, interrupted: bool, needs_structure: bool, word: str, quota: bool, before: Totals | None
) -> TurnOutcome:
    """Return how the turn ended.

    Args:
        result: the client's last `result` record of the turn.
        interrupted: somebody asked for the turn's end.
        needs_structure: the turn asked for an answer that follows a schema.
        word: the client's word for the turn's last API error.
        quota: the account's allowance refused a call of the turn.
        before: the running totals when the turn began; None = unknown, then cost and time are, too.
    """
    structured = result.get("structured_output")
    problem = None
    if interrupted or text(result, "terminal_reason") in _ABORTED:
        status = session_pb2.TURN_STATUS_INTERRUPTED
    else:
        problem = _problem(result, word, quota=quota)
        if problem is None and needs_structure and structured is None:
            problem = problems.problem(
                problems.OUTPUT_NOT_STRUCTURED, "the answer does not follow the asked-for schema"
            )
        status = session_pb2.TURN_STATUS_COMPLETED if problem is None else session_pb2.TURN_STATUS_FAILED
    after = totals_of(result)
    return TurnOutcome(
        status=status,
        reason=text(result, "terminal_reason") or text(result, "subtype"),
        problem=problem,
        api_duration_ms=0 if before is None else max(0, after.api_ms - before.api_ms),
        structured_output_json="" if structured is None else dumps(structured),
        provider_cost_microusd=None if before is None else max(0, round((after.cost_usd - before.cost_usd) * _MICRO)),
    )


def exit_problem(exit_code: int | None, said: str) -> session_pb2.Problem:
    """Return why the client's process ended by itself; `said` is the end of its standard error."""
    refused = refusal(exit_code)
    code = problems.PROCESS_DIED if refused is None else _REFUSAL_CODES.get(refused, problems.START_FAILED)
    if "not logged in" in said.lower() or "invalid api key" in said.lower():
        code = problems.NOT_LOGGED_IN
    how = "was ended by signal" if exit_code is not None and exit_code < 0 else "ended with code"
    number_ = "unknown" if exit_code is None else str(abs(exit_code))
    return problems.problem(code, f"the client {how} {number_}; it said: {said or 'nothing'}")


def _problem(result: JsonObject, word: str, *, quota: bool) -> session_pb2.Problem | None:
    if result.get("is_error") is not True:
        return None
    errors = result.get("errors")
    listed = "; ".join(str(error) for error in errors) if isinstance(errors, list) else ""
    said = listed or text(result, "result") or text(result, "subtype") or "the client did not say why"
    return problems.problem(_code(result, said, word, quota=quota), said)


def _code(result: JsonObject, said: str, word: str, *, quota: bool) -> str:
    status, terminal = number(result, "api_error_status"), text(result, "terminal_reason")
    if SESSION_LOST_WORDS in said:
        return problems.SESSION_LOST
    if terminal in _FULL:
        return problems.CONTEXT_FULL
    if text(result, "subtype") == "error_max_structured_output_retries":
        return problems.OUTPUT_NOT_STRUCTURED
    if status or word or terminal == "api_error":
        return _api_code(word, status, quota=quota or text(result, "api_error") == "usage_limit_reached")
    return problems.TURN_FAILED


def _api_code(word: str, status: int, *, quota: bool) -> str:
    known = _CLASS_CODES.get(error_class(word, status))
    if known is not None:
        return problems.QUOTA_USED_UP if quota and known == problems.RATE_LIMITED else known
    if status == _NOT_FOUND or word == "model_not_found":
        return problems.MODEL_UNKNOWN
    if not status:
        return problems.CONNECTION_LOST
    return problems.OVERLOADED if status >= _SERVER_ERRORS else problems.REQUEST_REFUSED
