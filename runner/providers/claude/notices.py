"""What the client says beside the conversation, as notices for people. Pure.

Source: docs/providers.md#claude-records (Claude Code 2.1.330, recorded 2026-11-22).
"""

from typing import Final

from podium.clock import to_timestamp
from podium.v1 import event_pb2
from runner.providers.claude.records import JsonObject, mapping, number, text

_MS: Final = 1_000_000
_S: Final = 1_000_000_000

_AUTH: Final = ("authentication_failed", "oauth_org_not_allowed")
_QUOTA: Final = ("billing_error",)


def error_class(word: str, http_status: int) -> event_pb2.NoticeClass.ValueType:
    """Return what an API error is about, from the client's word for it and the HTTP status (0 = none)."""
    if word in _AUTH or http_status in (401, 403):
        return event_pb2.NOTICE_CLASS_AUTH
    if word in _QUOTA or http_status == 402:
        return event_pb2.NOTICE_CLASS_QUOTA
    if word == "rate_limit" or http_status == 429:
        return event_pb2.NOTICE_CLASS_RATE_LIMIT
    if http_status == 0:
        return event_pb2.NOTICE_CLASS_TRANSPORT
    return event_pb2.NOTICE_CLASS_RETRY


def api_retry(record: JsonObject, now_ns: int) -> event_pb2.Notice:
    """Return the notice that a call to the model failed and is tried again."""
    status, word = number(record, "error_status"), text(record, "error")
    delay_ms = number(record, "retry_delay_ms")
    attempt = f"attempt {number(record, 'attempt')} of {number(record, 'max_retries')}"
    found = f"HTTP {status}" if status else "no answer"
    return event_pb2.Notice(
        severity=event_pb2.SEVERITY_WARNING,
        notice_class=error_class(word, status),
        code="api_retry",
        message=f"The model's service failed ({word or 'unknown'}, {found}); {attempt} in {delay_ms} ms.",
        retryable=True,
        retry_at=to_timestamp(now_ns + delay_ms * _MS),
        http_status=status,
    )


def api_error(word: str, said: str, http_status: int) -> event_pb2.Notice:
    """Return the notice that the client gave a call up; `said` is its text for people."""
    about = error_class(word, http_status)
    retrying = about == event_pb2.NOTICE_CLASS_RETRY
    return event_pb2.Notice(
        severity=event_pb2.SEVERITY_ERROR,
        notice_class=event_pb2.NOTICE_CLASS_UNSPECIFIED if retrying else about,
        code=word or "api_error",
        message=said,
        http_status=http_status,
    )


def rate_limit(record: JsonObject) -> event_pb2.Notice:
    """Return the notice on the account's allowance."""
    limit = mapping(record, "rate_limit_info")
    status = text(limit, "status")
    rejected = status == "rejected"
    resets_at = number(limit, "resetsAt")
    used = limit.get("utilization")
    share = f", {used:.0%} used" if isinstance(used, float) else ""
    return event_pb2.Notice(
        # Only a refusal makes the session wait; a warning must not show it as waiting.
        severity=event_pb2.SEVERITY_ERROR if rejected else event_pb2.SEVERITY_INFO,
        notice_class=event_pb2.NOTICE_CLASS_QUOTA,
        code=f"rate_limit_{status or 'unknown'}",
        message=f"Allowance {text(limit, 'rateLimitType') or 'of the account'}: {status or 'unknown'}{share}.",
        retryable=rejected and resets_at > 0,
        retry_at=to_timestamp(resets_at * _S) if resets_at > 0 else None,
    )


def permission_denied(record: JsonObject) -> event_pb2.Notice:
    """Return the notice that a tool was refused without asking."""
    return event_pb2.Notice(
        severity=event_pb2.SEVERITY_INFO,
        notice_class=event_pb2.NOTICE_CLASS_PERMISSION,
        code="permission_denied",
        message=f"{text(record, 'tool_name')}: {text(record, 'message')}",
    )


def compacted(record: JsonObject) -> event_pb2.Notice:
    """Return the notice that the client summed up the conversation."""
    details = mapping(record, "compact_metadata") or mapping(record, "compactMetadata")
    before = number(details, "pre_tokens") or number(details, "preTokens")
    return event_pb2.Notice(
        severity=event_pb2.SEVERITY_INFO,
        notice_class=event_pb2.NOTICE_CLASS_COMPACTION,
        code="compact_boundary",
        message=f"The conversation was compacted ({text(details, 'trigger') or 'auto'}, {before} tokens before).",
    )


def not_written(path: str) -> event_pb2.Notice:
    """Return the notice that the client kept no transcript of a turn; it says so itself only later."""
    return event_pb2.Notice(
        severity=event_pb2.SEVERITY_WARNING,
        notice_class=event_pb2.NOTICE_CLASS_PROCESS,
        code="transcript_not_written",
        message=f"The client wrote nothing to {path}, as on a full disk: another process cannot resume this session.",
    )


def writes_lost(record: JsonObject) -> event_pb2.Notice:
    """Return the client's own, later word that it could not write its transcript."""
    lost = record.get("lost")
    what = ", ".join(str(one) for one in lost) if isinstance(lost, list) else "parts of the session"
    return event_pb2.Notice(
        severity=event_pb2.SEVERITY_WARNING,
        notice_class=event_pb2.NOTICE_CLASS_PROCESS,
        code="session_writes_lost",
        message=f"The client could not write {what}: {text(record, 'error_code') or 'it does not say why'}.",
    )


def task_ended(record: JsonObject) -> event_pb2.Notice:
    """Return the notice that a sub-agent or background command ended."""
    status = text(record, "status") or "ended"
    return event_pb2.Notice(
        severity=event_pb2.SEVERITY_INFO,
        code=f"task_{status}",
        message=text(record, "summary") or text(record, "description"),
    )


def other(record: JsonObject) -> event_pb2.Notice:
    """Return the notice for what the client wants a person to know, in its own words."""
    said = text(record, "text") or text(record, "content") or text(record, "message") or text(record, "error")
    return event_pb2.Notice(severity=event_pb2.SEVERITY_INFO, code=text(record, "subtype"), message=said)
