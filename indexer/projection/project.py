"""A batch of the log becomes rows: the fold of everything the store shows. Pure.

The same log gives the same rows, whatever the batches: nothing here knows a clock, and what must be remembered between
two batches is a session's `Carry`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, assert_never

from indexer.projection import facts, turns, words
from indexer.projection.carry import Carry
from indexer.projection.facts import micros
from indexer.projection.rows import EventRow, Rows
from indexer.projection.sessions import session_row
from podium.v1.event_pb2 import Event
from podium.v1.session_pb2 import SessionState


class Append(Protocol):
    """What the projection reads of one message of the log."""

    @property
    def position(self) -> int:
        """Its place on the log."""

    @property
    def session_id(self) -> str:
        """The session all of its events belong to."""

    @property
    def events(self) -> Sequence[Event]:
        """The events, by rising revision."""

    @property
    def state(self) -> SessionState:
        """The state after the last event."""


class RevisionGap(Exception):
    """A session's revisions do not follow one another: something is missing, or there twice."""

    def __init__(self, session_id: str, *, position: int, expected: int, found: int) -> None:
        """Say where, which revision should have come and which one did."""
        super().__init__(
            f"session {session_id} goes on with revision {found} at position {position} of the log, "
            f"expected {expected}; nothing after it is projected"
        )
        self.session_id, self.position, self.expected, self.found = session_id, position, expected, found


class UnknownEvent(Exception):
    """A newer Podium wrote an event that must not be skipped and that this one does not know."""

    def __init__(self, session_id: str, *, position: int, revision: int) -> None:
        """Say where."""
        super().__init__(
            f"session {session_id} has at revision {revision}, position {position} of the log, a kind of event that "
            "this indexer does not know and that may not be skipped; update the indexer"
        )
        self.session_id, self.position, self.revision = session_id, position, revision


@dataclass(frozen=True, slots=True)
class Projected:
    """What a batch adds: rows, what to remember of its sessions, and the position of its last append."""

    rows: Rows
    carries: dict[str, Carry]
    position: int


def project(
    appends: Iterable[Append], carries: Mapping[str, Carry], *, after: int, erased: frozenset[str] = frozenset()
) -> Projected:
    """Return what the appends add, in their order.

    Args:
        appends: rising in position; those at or before `after` are skipped, they are in the store already.
        carries: of every session that is in the store and among the appends; they stay as they are.
        after: position of the store.
        erased: sessions whose gaps are explained.

    Raises RevisionGap or UnknownEvent.
    """
    rows, own, newest = Rows(), dict[str, Carry](), dict[str, Append]()
    position = after
    for append in appends:
        if append.position <= position:
            continue
        position = append.position
        carry = own.get(append.session_id)
        if carry is None:
            known = carries.get(append.session_id)
            carry = own[append.session_id] = known.copy() if known else Carry(first_position=position)
        _add(rows, append, carry, gaps_allowed=append.session_id in erased)
        newest[append.session_id] = append
    rows.sessions += [session_row(last.state, last.position, own[name]) for name, last in newest.items()]
    return Projected(rows, own, position)


def _add(rows: Rows, append: Append, carry: Carry, *, gaps_allowed: bool) -> None:
    position, session_id = append.position, append.session_id
    events = append.events
    # An append is one moment, said in each of its events.
    recorded_at = micros(events[0].recorded_at) if events else 0
    for event in events:
        revision = event.revision
        if revision != carry.revision + 1 and not (gaps_allowed and revision > carry.revision):
            raise RevisionGap(append.session_id, position=position, expected=carry.revision + 1, found=revision)
        carry.revision = revision
        row = EventRow(
            session_id,
            revision,
            position,
            event.id,
            event.WhichOneof("body"),
            micros(event.created_at),
            recorded_at,
            event.turn_id or None,
            words.SOURCE[event.source],
            event.runner or None,
            event.epoch or None,
            event.principal or None,
            event.causation_id or None,
            event.parent_tool_use_id or None,
        )
        rows.events.append(row)
        _add_fact(rows, row, event, carry)


def _add_fact(rows: Rows, at: EventRow, event: Event, carry: Carry) -> None:  # noqa: C901, PLR0912  # flat: a case per kind
    kind = event.WhichOneof("body")
    match kind:
        case "message":
            facts.add_message(rows, at, event.message, carry)
        case "usage":
            facts.add_usage(rows, at, event.usage, carry)
        case "turn_requested":
            turns.add_turn_request(rows, at, event.turn_requested)
        case "turn_cancelled":
            turns.add_turn_cancelled(rows, at, event.turn_cancelled)
        case "turn_started":
            turns.add_turn_start(rows, at, event.turn_started, carry)
        case "turn_ended":
            turns.add_turn_end(rows, at, event.turn_ended, carry)
        case "approval_requested":
            turns.add_approval_request(rows, at, event.approval_requested)
        case "approval_resolved":
            turns.add_approval_resolution(rows, at, event.approval_resolved)
        case "runner_attached":
            facts.add_attached(rows, at, event.runner_attached)
        case "runner_detached":
            facts.add_detached(rows, at, event.runner_detached)
        case "provider_bound":
            carry.model = event.provider_bound.resolved_model or carry.model
        case (
            "session_created" | "session_updated" | "interrupt_requested" | "stop_requested" | "approval_deferred"
            | "context" | "notice" | "unreadable_record"
        ):  # fmt: skip
            pass  # In the session's row, or an envelope in `events`.
        case None:
            if not event.may_ignore:
                raise UnknownEvent(at.session_id, position=at.position, revision=at.revision)
        case _:
            assert_never(kind)
