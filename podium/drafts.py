"""Drafts become events: what an author knows, plus the revision, times and ids that an append gives it. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from podium.clock import NS, to_ns, to_timestamp
from podium.session import advance, fold, next_created_ns
from podium.v1 import event_pb2 as e
from podium.v1.session_pb2 import SessionState

Body: TypeAlias = (
    e.SessionCreated
    | e.SessionUpdated
    | e.RunnerAttached
    | e.RunnerDetached
    | e.ProviderBound
    | e.TurnRequested
    | e.TurnCancelled
    | e.TurnStarted
    | e.TurnEnded
    | e.InterruptRequested
    | e.StopRequested
    | e.Message
    | e.ApprovalRequested
    | e.ApprovalDeferred
    | e.ApprovalResolved
    | e.Usage
    | e.Context
    | e.Notice
    | e.UnreadableRecord
)
"""What can have happened: any body of an Event."""

_KINDS = {
    getattr(e, field.message_type.name): field.name
    for field in e.Event.DESCRIPTOR.oneofs_by_name["body"].fields
    if field.message_type is not None
}


def kind_of(body: Body) -> str:
    """Return the body's field name in Event, e.g. `turn_started`."""
    return _KINDS[type(body)]


@dataclass(frozen=True, slots=True)
class Draft:
    """A fact as its author knows it, before it has a place on the log.

    `happened_at_ns`: nanoseconds since 1970; None = the time of the append.
    """

    body: Body
    turn_id: str = ""
    source: e.Source.ValueType = e.SOURCE_RUNNER
    happened_at_ns: int | None = None
    principal: str = ""
    causation_id: str = ""
    request_fingerprint: int = 0
    traceparent: str = ""
    parent_tool_use_id: str = ""
    may_ignore: bool = False


@dataclass(frozen=True, slots=True)
class Author:
    """Who appends: the session, the runner and its epoch (empty and 0 for a gateway), and how ids are made."""

    session_id: str
    new_id: Callable[[int], str]
    runner: str = ""
    epoch: int = 0


def stamp(
    state: SessionState | None,
    drafts: Sequence[Draft],
    author: Author,
    *,
    now_ns: int,
    after_position: int,
    said_at_ns: Sequence[int] | None = None,
) -> tuple[list[e.Event], SessionState]:
    """Return the drafts as events that follow `state`, and the state after them.

    Revisions go on without a gap, `created_at` rises by at least 1 µs, `recorded_at` is `now_ns`.
    `after_position` is the position the append is guarded with. `state` stays as it is. `said_at_ns`: when each draft
    happened that does not say so itself; None = now.
    """
    events: list[e.Event] = []
    after = fold(state, ())
    created_ns, times_ns = to_ns(after.session.updated_at), said_at_ns or [now_ns] * len(drafts)
    # What all have in common is set once and copied: a busy owner stamps thousands a second.
    common = e.Event(
        session_id=author.session_id,
        recorded_at=to_timestamp(now_ns),
        runner=author.runner,
        epoch=author.epoch,
        after_position=after_position,
    )
    for revision, (draft, said_ns) in enumerate(zip(drafts, times_ns, strict=True), after.session.revision + 1):
        happened_at_ns = said_ns if draft.happened_at_ns is None else draft.happened_at_ns
        created_ns = next_created_ns(created_ns, happened_at_ns)
        event = e.Event()
        event.CopyFrom(common)
        event.id = author.new_id(now_ns)
        event.revision = revision
        event.created_at.seconds, event.created_at.nanos = divmod(created_ns, NS)
        event.source = draft.source
        _describe(event, draft)
        body: e.Message = getattr(event, kind_of(draft.body))
        # SetInParent first: a body without any field set must still say what happened.
        body.SetInParent()
        body.MergeFrom(draft.body)  # type: ignore[arg-type]  # the field was chosen by the body's own type
        events.append(event)
        advance(after, event)
    return events, after


def _describe(event: e.Event, draft: Draft) -> None:
    """Set what most drafts leave empty."""
    if draft.turn_id:
        event.turn_id = draft.turn_id
    if draft.principal:
        event.principal = draft.principal
    if draft.causation_id:
        event.causation_id = draft.causation_id
    if draft.request_fingerprint:
        event.request_fingerprint = draft.request_fingerprint
    if draft.traceparent:
        event.traceparent = draft.traceparent
    if draft.parent_tool_use_id:
        event.parent_tool_use_id = draft.parent_tool_use_id
    if draft.may_ignore:
        event.may_ignore = True
