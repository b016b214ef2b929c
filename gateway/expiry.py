"""Questions whose deadline is over while no process waits for the answer. Pure.

As long as a turn's client waits, its owner ends the question. A deferred turn has neither client nor owner: the
gateways end its questions then, and wake a runner to tell the client.
"""

from podium.clock import to_ns
from podium.drafts import Draft
from podium.session import pending_approvals
from podium.v1 import event_pb2 as e
from podium.v1 import session_pb2 as s

NOBODY_ANSWERED = "nobody answered in time"


def overdue(state: s.SessionState | None, now_ns: int) -> list[Draft]:
    """Return the facts that end the overdue questions of a deferred turn, and the turn where they say so."""
    if state is None or state.HasField("owner") or not state.turn.deferred:
        return []
    late = [one for one in pending_approvals(state) if one.HasField("deadline") and to_ns(one.deadline) <= now_ns]
    drafts = [_fact(state, _expired(one.id)) for one in late]
    interrupts = any(one.on_deadline == s.DEADLINE_ACTION_INTERRUPT for one in late)
    if interrupts and not state.turn.interrupt_requested:
        drafts.append(_fact(state, e.InterruptRequested(reason=NOBODY_ANSWERED)))
    return drafts


def _expired(approval_id: str) -> e.ApprovalResolved:
    return e.ApprovalResolved(approval_id=approval_id, outcome=s.APPROVAL_OUTCOME_EXPIRED, message=NOBODY_ANSWERED)


def _fact(state: s.SessionState, body: e.ApprovalResolved | e.InterruptRequested) -> Draft:
    return Draft(body, turn_id=state.turn.id, source=e.SOURCE_GATEWAY)
