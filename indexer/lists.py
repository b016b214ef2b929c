"""The four lists of SessionService, from the store: what is asked becomes one SELECT, its rows become messages."""

from typing import Any

from indexer import paging
from indexer.projection import words
from indexer.projection.words import numbers
from indexer.reads import Reads
from podium import names
from podium.clock import to_timestamp
from podium.errors import InvalidArgument
from podium.v1 import event_pb2, session_pb2
from podium.v1 import session_service_pb2 as api

MESSAGES_BYTES_MAX = 2 * 1024 * 1024
"""A page of messages ends here; a message longer than that is a page of its own."""

_TURN_STATUS = numbers(words.TURN_STATUS)
_APPROVAL_KIND = numbers(words.APPROVAL_KIND)
_APPROVAL_OUTCOME = numbers(words.APPROVAL_OUTCOME)
_DEADLINE_ACTION = numbers(words.DEADLINE_ACTION)

_SESSIONS = """
    SELECT session, epoch_us(created_at), id FROM core.sessions
    WHERE ($created_at IS NULL OR (epoch_us(created_at), id) < ($created_at, $id))
        AND (len($statuses) = 0 OR list_contains($statuses, status))
        AND ($provider = '' OR provider = $provider)
        AND ($workspace = '' OR workspace = $workspace)
        AND ($archived OR NOT archived)
        AND (NOT $unfinished OR status = 'running' OR queued_turns > 0)
        AND len(list_filter(
            $labels::STRUCT(key VARCHAR, value VARCHAR)[],
            lambda label: map_extract_value(labels, label.key) IS DISTINCT FROM label.value)) = 0
    ORDER BY created_at DESC, id DESC LIMIT $rows"""

_TURNS = """
    SELECT id, status, prompt, model, resolved_model, effort, principal,
        epoch_us(requested_at), epoch_us(started_at), epoch_us(ended_at), reason,
        problem_code, problem_message, problem_retryable,
        input_tokens, cache_read_input_tokens, cache_creation_input_tokens, uncached_input_tokens,
        output_tokens, reasoning_tokens, (cost_usd * 1000000)::BIGINT, revision, runner
    FROM turns WHERE session_id = $session_id AND revision > $after ORDER BY revision LIMIT $rows"""

# Two steps: which messages, by their sizes; then their texts, of which one alone may have megabytes.
_MESSAGE_SIZES = """
    SELECT revision, content_bytes, "position" FROM core.messages
    WHERE session_id = $session_id AND revision > $after AND role <> 'system'
        AND "position" BETWEEN $first_position AND $last_position
    ORDER BY revision LIMIT $rows"""
_MESSAGES = """
    SELECT id, role, content, turn_id, revision, epoch_us(created_at) FROM core.messages
    WHERE session_id = $session_id AND revision BETWEEN $first AND $last AND role <> 'system'
        AND "position" BETWEEN $first_position AND $last_position
    ORDER BY revision"""

_APPROVALS = """
    SELECT id, session_id, turn_id, kind, tool_name, tool_use_id, input, summary, options,
        epoch_us(deadline), on_deadline, epoch_us(requested_at),
        outcome, updated_input, message, remember, epoch_us(resolved_at), resolved_by
    FROM approvals
    WHERE ($session_id = '' OR session_id = $session_id) AND ($resolved OR outcome IS NULL)
        AND ($requested_at IS NULL OR (epoch_us(requested_at), id) > ($requested_at, $id))
    ORDER BY requested_at, id LIMIT $rows"""


class Lists:
    """Answers ListSessions, ListTurns, ListMessages and ListApprovals. All raise PodiumError."""

    def __init__(self, reads: Reads) -> None:
        """Take what reads the store."""
        self._reads = reads

    async def sessions(self, request: api.ListSessionsRequest, context: Any) -> api.ListSessionsResponse:
        """Return a page of sessions, newest first."""
        size = paging.page_size(request.page_size)
        created_at, after_id = paging.key(request, request.page_token, int, str) or (None, "")
        parameters = {
            "created_at": created_at,
            "id": after_id,
            "statuses": [_status(number) for number in request.statuses],
            "provider": request.provider,
            "workspace": request.workspace,
            "archived": request.include_archived,
            "unfinished": request.unfinished,
            "labels": [{"key": name, "value": value} for name, value in request.labels.items()],
            "rows": size + 1,
        }
        await self._reads.reached(request.at_least_position, context)
        rows = await self._reads.rows(_SESSIONS, parameters, context)
        return api.ListSessionsResponse(
            sessions=[session_pb2.Session.FromString(session) for session, _, _ in rows[:size]],
            next_page_token=paging.token(request, [*rows[size - 1][1:]]) if len(rows) > size else "",
        )

    async def turns(self, request: api.ListTurnsRequest, context: Any) -> api.ListTurnsResponse:
        """Return a page of a session's turns, oldest first."""
        session_id = names.session_id(request.session)
        size = paging.page_size(request.page_size)
        (after,) = paging.key(request, request.page_token, int) or (0,)
        await self._reads.reached(request.at_least_position, context)
        await self._reads.span(session_id, context)
        parameters = {"session_id": session_id, "after": after, "rows": size + 1}
        rows = await self._reads.rows(_TURNS, parameters, context)
        turns = [_turn(session_id, row) for row in rows[:size]]
        return api.ListTurnsResponse(
            turns=turns, next_page_token=paging.token(request, [turns[-1].revision]) if len(rows) > size else ""
        )

    async def messages(self, request: api.ListMessagesRequest, context: Any) -> api.ListMessagesResponse:
        """Return a page of a session's messages, oldest first."""
        session_id = names.session_id(request.session)
        size = paging.page_size(request.page_size)
        (after,) = paging.key(request, request.page_token, int) or (request.after_revision,)
        await self._reads.reached(request.at_least_position, context)
        span = await self._reads.span(session_id, context)
        of_session = {"session_id": session_id, "first_position": span.first_position}
        sizes = await self._reads.rows(
            _MESSAGE_SIZES,
            of_session | {"last_position": span.last_position, "after": after, "rows": size + 1},
            context,
        )
        chosen = sizes[: _fitting(sizes[:size])]
        if not chosen:
            return api.ListMessagesResponse()
        (first, _, first_position), (last, _, last_position) = chosen[0], chosen[-1]
        where = {"first_position": first_position, "last_position": last_position, "first": first, "last": last}
        rows = await self._reads.rows(_MESSAGES, of_session | where, context)
        return api.ListMessagesResponse(
            messages=[_message(session_id, row) for row in rows],
            next_page_token=paging.token(request, [last]) if len(sizes) > len(chosen) else "",
        )

    async def approvals(self, request: api.ListApprovalsRequest, context: Any) -> api.ListApprovalsResponse:
        """Return a page of questions, oldest first."""
        session_id = names.session_id(request.session) if request.session else ""
        size = paging.page_size(request.page_size)
        requested_at, after_id = paging.key(request, request.page_token, int, str) or (None, "")
        parameters = {
            "session_id": session_id,
            "resolved": request.include_resolved,
            "requested_at": requested_at,
            "id": after_id,
            "rows": size + 1,
        }
        await self._reads.reached(request.at_least_position, context)
        if session_id:
            await self._reads.span(session_id, context)
        rows = await self._reads.rows(_APPROVALS, parameters, context)
        last = rows[size - 1] if len(rows) > size else None
        return api.ListApprovalsResponse(
            approvals=[_approval(row) for row in rows[:size]],
            next_page_token=paging.token(request, [last[11], last[0]]) if last else "",
        )


def _status(number: int) -> str:
    word = words.SESSION_STATUS.get(number)
    if word is None:
        raise InvalidArgument("statuses", found=number, expected="idle, running or error")
    return word


def _fitting(sizes: list[tuple[int, int, int]]) -> int:
    """Return how many of the messages fit into a page: at least one."""
    total = 0
    for count, (_, size, _) in enumerate(sizes):
        total += size
        if count and total > MESSAGES_BYTES_MAX:
            return count
    return len(sizes)


def _turn(session_id: str, row: tuple[Any, ...]) -> api.Turn:
    (turn_id, status, prompt, model, resolved_model, effort, principal, requested, started, ended, reason) = row[:11]
    problem_code, problem_message, retryable = row[11:14]
    sent, cache_read, cache_write, uncached, output, reasoning, cost, revision, runner = row[14:]
    known = sent is not None or cost is not None
    return api.Turn(
        id=turn_id,
        session=names.session_name(session_id),
        status=_TURN_STATUS.get(status, session_pb2.TURN_STATUS_UNSPECIFIED),  # type: ignore[arg-type]  # a number of it
        prompt=prompt,
        model=model,
        resolved_model=resolved_model,
        effort=effort,
        principal=principal,
        requested_at=_time(requested),
        started_at=_time(started),
        ended_at=_time(ended),
        reason=reason,
        problem=session_pb2.Problem(code=problem_code, message=problem_message, retryable=retryable)
        if problem_code
        else None,
        tokens=session_pb2.TokenTotals(
            input_tokens=sent,
            cache_read_input_tokens=cache_read,
            cache_creation_input_tokens=cache_write,
            uncached_input_tokens=uncached,
            output_tokens=output,
            reasoning_tokens=reasoning,
            provider_cost_microusd=cost,
        )
        if known
        else None,
        revision=revision,
        runner=runner,
    )


def _message(session_id: str, row: tuple[Any, ...]) -> api.SessionMessage:
    message_id, role, content, turn_id, revision, created = row
    return api.SessionMessage(
        id=message_id,
        session=names.session_name(session_id),
        role=role,
        content_json=content,
        turn_id=turn_id,
        revision=revision,
        created_at=_time(created),
    )


def _approval(row: tuple[Any, ...]) -> api.Approval:
    approval_id, session_id, turn_id, kind, tool_name, tool_use_id, arguments, summary, options = row[:9]
    deadline, on_deadline, requested, outcome, updated_input, message, remember, resolved, resolved_by = row[9:]
    return api.Approval(
        id=approval_id,
        session=names.session_name(session_id),
        turn_id=turn_id,
        request=event_pb2.ApprovalRequested(
            approval_id=approval_id,
            kind=_APPROVAL_KIND.get(kind, 0),  # type: ignore[arg-type]  # a number of it
            tool_name=tool_name,
            tool_use_id=tool_use_id,
            input_json=arguments,
            summary=summary,
            options_json=options,
            deadline=_time(deadline),
            on_deadline=_DEADLINE_ACTION.get(on_deadline, 0),  # type: ignore[arg-type]  # a number of it
        ),
        requested_at=_time(requested),
        resolution=event_pb2.ApprovalResolved(
            approval_id=approval_id,
            outcome=_APPROVAL_OUTCOME.get(outcome, 0),  # type: ignore[arg-type]  # a number of it
            updated_input_json=updated_input,
            message=message,
            remember_json=remember,
        )
        if outcome
        else None,
        resolved_at=_time(resolved),
        resolved_by=resolved_by,
    )


def _time(micros: int | None) -> Any:
    return None if micros is None else to_timestamp(micros * 1000)
