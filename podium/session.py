"""The session aggregate: what a session is after its events. Pure: no I/O, no clock, no ids made here.

The gateway decides on this state, the owner acts on it, the indexer shows it; every append carries it.
"""

from collections.abc import Iterable, Iterator
from typing import assert_never

from podium import names
from podium.v1 import content_pb2, event_pb2, session_pb2
from podium.v1.event_pb2 import Event
from podium.v1.session_pb2 import SessionState

VERSION = 1
"""Version of the fold below; raise it when the same events give another state."""

UNTITLED = "Untitled"
TITLE_LENGTH_MAX = 256
PROMPT_TITLE_LENGTH = 80
RECENT_REQUESTS_MAX = 1000
PROBLEM_LENGTH_MAX = 1000
STATE_BYTES_MAX = 24 * 1024
"""1,000 remembered requests take 12,000 bytes; labels, queue and approvals are bounded to fit beside them."""

_DERIVES_NOTHING = frozenset({"message", "usage", "context", "provider_bound", "unreadable_record"})
"""Kinds that change nothing of what `_derive` looks at; nearly all events are of these, and it takes half of a fold."""

_KEY_BYTES, _FINGERPRINT_BYTES = 8, 4
_ENTRY_BYTES = _KEY_BYTES + _FINGERPRINT_BYTES
_US = 1_000


def evolve(state: SessionState | None, event: Event) -> SessionState:
    """Return the state after `event`; `state` stays as it is. None = before the first event."""
    return fold(state, (event,))


def fold(state: SessionState | None, events: Iterable[Event]) -> SessionState:
    """Return the state after all `events`, oldest first; `state` stays as it is."""
    after = SessionState(version=VERSION)
    if state is not None:
        after.CopyFrom(state)
    for event in events:
        advance(after, event)
    return after


def advance(state: SessionState, event: Event) -> None:
    """Make `state` the state after `event`, in place: for folds that own their state."""
    _apply(state, event)
    if event.WhichOneof("body") not in _DERIVES_NOTHING:
        _derive(state)


def revision_of(state: SessionState | None) -> int:
    """Return the newest revision, 0 before the first event."""
    return state.session.revision if state is not None else 0


def id_of(state: SessionState) -> str:
    """Return the session's bare UUID."""
    return names.session_id(state.session.name)


def next_created_ns(newest_ns: int, happened_at_ns: int) -> int:
    """Return `happened_at_ns` in whole µs, or 1 µs after the session's newest event when that is later."""
    return max(happened_at_ns // _US * _US, newest_ns + _US)


def seen(state: SessionState | None, principal: str, request_id: str) -> int | None:
    """Return the fingerprint of the remembered request, None when it had no effect yet (or long ago)."""
    if state is None:
        return None
    key = names.request_key(principal, request_id)
    memory = state.recent_requests
    for at in range(len(memory) - _ENTRY_BYTES, -1, -_ENTRY_BYTES):
        if memory[at : at + _KEY_BYTES] == key:
            return int.from_bytes(memory[at + _KEY_BYTES : at + _ENTRY_BYTES], "big")
    return None


def pending_approvals(state: SessionState) -> list[session_pb2.OpenApproval]:
    """Return the questions nobody has answered yet, oldest first."""
    return [approval for approval in state.approvals if not approval.outcome]


def has_work(state: SessionState) -> bool:
    """Return whether a runner has something to do for this session now."""
    if state.HasField("turn"):
        waits = state.turn.deferred and bool(pending_approvals(state))
        return not waits or state.turn.interrupt_requested
    return bool(state.queue) or (state.stop_requested and state.HasField("owner"))


def prompt_text(blocks: Iterable[content_pb2.ContentBlock]) -> str:
    """Return the text of a prompt, its blocks joined by newlines."""
    return "\n".join(block.text.text for block in blocks if block.HasField("text"))


def add_usage(totals: session_pb2.TokenTotals, usage: event_pb2.Usage) -> None:
    """Add a usage fact to sums, in place: its disjoint buckets become what people call input and output."""
    written = usage.cache_write_5m_tokens + usage.cache_write_1h_tokens
    totals.input_tokens += usage.uncached_input_tokens + usage.cache_read_tokens + written
    totals.cache_read_input_tokens += usage.cache_read_tokens
    totals.cache_creation_input_tokens += written
    totals.uncached_input_tokens += usage.uncached_input_tokens
    totals.output_tokens += usage.output_tokens
    totals.reasoning_tokens += usage.reasoning_tokens
    if usage.HasField("provider_cost_microusd"):
        totals.provider_cost_microusd += usage.provider_cost_microusd


def _apply(state: SessionState, event: Event) -> None:  # noqa: C901, PLR0912, PLR0915 - one case for each kind of event
    session = state.session
    session.revision = event.revision
    session.updated_at.CopyFrom(event.created_at)
    if event.causation_id and event.source == event_pb2.SOURCE_GATEWAY:
        _remember(state, event)
    kind = event.WhichOneof("body")
    match kind:
        case "session_created":
            _created(session, event)
        case "session_updated":
            _updated(session, event.session_updated)
        case "runner_attached":
            _attached(state, event.runner_attached)
        case "runner_detached":
            _detached(state, event.runner_detached)
        case "provider_bound":
            _bound(session, event.provider_bound)
        case "turn_requested":
            _turn_requested(state, event)
        case "turn_cancelled":
            _drop_from_queue(state, event.turn_id)
        case "turn_started":
            _turn_started(state, event)
        case "turn_ended":
            _turn_ended(state, event)
        case "interrupt_requested":
            if state.turn.id == event.turn_id and state.HasField("turn"):
                state.turn.interrupt_requested = True
                state.turn.interrupt_reason = event.interrupt_requested.reason[:PROBLEM_LENGTH_MAX]
        case "stop_requested":
            # Without an owner there is no process to end, and nothing to wait for.
            state.stop_requested = state.HasField("owner")
        case "message":
            session.message_count += event.message.role != event_pb2.ROLE_SYSTEM
            _clear_quota(session)
        case "approval_requested":
            _approval_requested(state, event)
        case "approval_deferred":
            for approval in _approvals(state, event.approval_deferred.approval_id):
                approval.deferred = True
        case "approval_resolved":
            for approval in _approvals(state, event.approval_resolved.approval_id):
                approval.outcome = event.approval_resolved.outcome
                approval.resolved_after_position = event.after_position
        case "usage":
            add_usage(session.tokens, event.usage)
            if state.HasField("turn") and state.turn.id == event.turn_id:
                add_usage(state.turn.tokens, event.usage)
        case "context":
            if event.context.window_tokens > 0:
                percent = 100 * event.context.used_tokens / event.context.window_tokens
                session.context_used_percent = min(100.0, percent)
        case "notice":
            if event.notice.notice_class in (event_pb2.NOTICE_CLASS_QUOTA, event_pb2.NOTICE_CLASS_RATE_LIMIT):
                waits = event.notice.severity != event_pb2.SEVERITY_INFO and state.HasField("turn")
                session.waiting_on = session_pb2.WAITING_ON_QUOTA if waits else session.waiting_on
        case "unreadable_record" | None:
            pass
        case _:
            assert_never(kind)


def _derive(state: SessionState) -> None:
    """Set what follows from the rest: status, what it waits for, how many turns wait."""
    session = state.session
    running = state.HasField("turn")
    if running:
        session.status = session_pb2.SESSION_STATUS_RUNNING
    elif state.last_turn_status in (session_pb2.TURN_STATUS_FAILED, session_pb2.TURN_STATUS_LOST):
        session.status = session_pb2.SESSION_STATUS_ERROR
    else:
        session.status = session_pb2.SESSION_STATUS_IDLE
    session.queued_turns = len(state.queue)
    if pending_approvals(state):
        session.waiting_on = session_pb2.WAITING_ON_APPROVAL
    elif not state.HasField("owner") and has_work(state):
        session.waiting_on = session_pb2.WAITING_ON_RUNNER
    elif session.waiting_on != session_pb2.WAITING_ON_QUOTA or not running:
        session.waiting_on = session_pb2.WAITING_ON_UNSPECIFIED


def _created(session: session_pb2.Session, event: Event) -> None:
    created = event.session_created
    session.name = names.session_name(event.session_id)
    session.title = created.title or UNTITLED
    session.provider, session.vendor = created.provider, created.vendor
    session.model, session.effort = created.model, created.effort
    session.permission_mode = created.permission_mode
    session.workspace, session.pool = created.workspace, created.pool
    session.labels.update(created.labels)
    session.runner_labels.update(created.runner_labels)
    session.parent = names.session_name(created.parent_session_id) if created.parent_session_id else ""
    session.origin = created.origin
    session.approval_policy.CopyFrom(created.approval_policy)
    session.system_prompt_addition = created.system_prompt_addition
    session.directory = created.directory
    session.created_at.CopyFrom(event.created_at)


def _updated(session: session_pb2.Session, update: event_pb2.SessionUpdated) -> None:
    for path in update.update_mask.paths:
        match path:
            case "title":
                session.title = update.title or UNTITLED
            case "model":
                session.model = update.model
            case "effort":
                session.effort = update.effort
            case "permission_mode":
                session.permission_mode = update.permission_mode
            case "archived":
                session.archived = update.archived
            case "labels":
                session.labels.clear()
                session.labels.update(update.labels)
            case _:
                pass  # A newer gateway's field; this reader does not show it.


def _attached(state: SessionState, attached: event_pb2.RunnerAttached) -> None:
    state.epoch = attached.epoch
    state.owner.CopyFrom(session_pb2.Owner(runner=attached.runner, host=attached.host, epoch=attached.epoch))
    state.session.runner, state.session.host = attached.runner, attached.host
    if state.HasField("turn") and state.turn.deferred:
        state.turn.deferred = False
        state.turn.epoch = attached.epoch


def _detached(state: SessionState, detached: event_pb2.RunnerDetached) -> None:
    if state.owner.epoch != detached.epoch:
        return
    state.ClearField("owner")
    state.session.runner = ""
    state.stop_requested = False
    if state.HasField("turn"):
        state.turn.deferred = any(approval.deferred for approval in state.approvals)


def _bound(session: session_pb2.Session, bound: event_pb2.ProviderBound) -> None:
    session.provider_session_id = bound.provider_session_id
    session.jsonl_path = bound.jsonl_path or session.jsonl_path
    session.client_version = bound.client_version or session.client_version
    session.resolved_model = bound.resolved_model or session.resolved_model


def _turn_requested(state: SessionState, event: Event) -> None:
    if state.session.title == UNTITLED:
        first_line = prompt_text(event.turn_requested.prompt).strip().partition("\n")[0]
        state.session.title = first_line[:PROMPT_TITLE_LENGTH].rstrip() or UNTITLED
    state.session.turn_count += 1
    state.queue.add(
        id=event.turn_id,
        requested_at=event.created_at,
        after_position=event.after_position,
        steer=event.turn_requested.delivery == event_pb2.DELIVERY_STEER,
    )


def _turn_started(state: SessionState, event: Event) -> None:
    queued = next((turn for turn in state.queue if turn.id == event.turn_id), session_pb2.QueuedTurn())
    state.turn.CopyFrom(
        session_pb2.ActiveTurn(
            id=event.turn_id,
            requested_at=queued.requested_at,
            started_at=event.created_at,
            epoch=event.epoch,
            after_position=queued.after_position,
        )
    )
    _drop_from_queue(state, event.turn_id)
    state.session.model = event.turn_started.model or state.session.model
    state.session.effort = event.turn_started.effort or state.session.effort


def _turn_ended(state: SessionState, event: Event) -> None:
    ended, session = event.turn_ended, state.session
    if state.HasField("turn") and state.turn.id == event.turn_id:
        state.ClearField("turn")
        still_open = [approval for approval in state.approvals if approval.turn_id != event.turn_id]
        del state.approvals[:]
        state.approvals.extend(still_open)
    # A turn that never started (an interrupt came first) leaves the queue without a message of its own.
    _drop_from_queue(state, event.turn_id)
    state.last_turn_status, state.last_turn_id = ended.status, event.turn_id
    session.message_count += 1
    session.ClearField("problem")
    if ended.HasField("problem"):
        session.problem.CopyFrom(ended.problem)
        session.problem.message = ended.problem.message[:PROBLEM_LENGTH_MAX]
    if ended.HasField("provider_cost_microusd"):
        session.tokens.provider_cost_microusd += ended.provider_cost_microusd


def _approval_requested(state: SessionState, event: Event) -> None:
    requested = event.approval_requested
    for approval in _approvals(state, requested.approval_id):
        # Asked again by the process that resumed: the same question, no longer deferred.
        approval.deferred = False
        return
    state.approvals.add(
        id=requested.approval_id,
        turn_id=event.turn_id,
        tool_use_id=requested.tool_use_id,
        deadline=requested.deadline if requested.HasField("deadline") else None,
        on_deadline=requested.on_deadline,
    )


def _clear_quota(session: session_pb2.Session) -> None:
    if session.waiting_on == session_pb2.WAITING_ON_QUOTA:
        session.waiting_on = session_pb2.WAITING_ON_UNSPECIFIED


def _drop_from_queue(state: SessionState, turn_id: str) -> None:
    rest = [turn for turn in state.queue if turn.id != turn_id]
    if len(rest) != len(state.queue):
        kept = [session_pb2.QueuedTurn.FromString(turn.SerializeToString()) for turn in rest]
        del state.queue[:]
        state.queue.extend(kept)


def _approvals(state: SessionState, approval_id: str) -> Iterator[session_pb2.OpenApproval]:
    return (approval for approval in state.approvals if approval.id == approval_id)


def _remember(state: SessionState, event: Event) -> None:
    if seen(state, event.principal, event.causation_id) is not None:
        return
    entry = names.request_key(event.principal, event.causation_id)
    entry += event.request_fingerprint.to_bytes(_FINGERPRINT_BYTES, "big")
    state.recent_requests = (state.recent_requests + entry)[-RECENT_REQUESTS_MAX * _ENTRY_BYTES :]
