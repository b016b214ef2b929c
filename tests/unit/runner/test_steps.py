"""What an owner does next: the table, and properties over all states."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podium.session import has_work, pending_approvals
from podium.v1 import session_pb2 as s
from runner.steps import DETACHES, Step, may_detach, may_start, next_step

OWNER = s.Owner(runner="r1", host="h1", epoch=1)


def state(
    *,
    turn: str = "",
    queue: tuple[str, ...] = (),
    interrupted: bool = False,
    stop: bool = False,
    asked: tuple[tuple[bool, int], ...] = (),
) -> s.SessionState:
    """Return an owned session; `asked`: per question whether it was deferred, and its outcome."""
    made = s.SessionState(owner=OWNER, epoch=1, stop_requested=stop)
    for turn_id in queue:
        made.queue.add(id=turn_id)
    if turn:
        made.turn.CopyFrom(s.ActiveTurn(id=turn, interrupt_requested=interrupted))
        for number, (deferred, outcome) in enumerate(asked):
            made.approvals.add(id=f"a{number}", turn_id=turn, deferred=deferred, outcome=outcome)
    return made


PENDING, ANSWERED = (True, 0), (True, s.APPROVAL_OUTCOME_ALLOWED)


@pytest.mark.parametrize(
    ("now", "more", "expected"),
    [
        (state(), {}, Step.WAIT),
        (state(), {"idle": True}, Step.DETACH_IDLE),
        (state(), {"draining": True}, Step.DETACH_DRAINED),
        (state(stop=True), {"draining": True}, Step.DETACH_STOPPED),
        (state(queue=("t1",)), {}, Step.START),
        (state(queue=("t1",)), {"idle": True}, Step.START),
        (state(queue=("t1",)), {"draining": True}, Step.DETACH_DRAINED),
        (state(queue=("t1",), stop=True), {}, Step.DETACH_STOPPED),
        # Waiting for a slot.
        (state(queue=("t1", "t2")), {"running": True, "waiting": "t1"}, Step.WAIT),
        (state(queue=("t2",)), {"running": True, "waiting": "t1"}, Step.GIVE_UP),
        (state(), {"running": True, "waiting": "t1"}, Step.GIVE_UP),
        (state(queue=("t1",), stop=True), {"running": True, "waiting": "t1"}, Step.GIVE_UP),
        (state(queue=("t1",)), {"running": True, "waiting": "t1", "draining": True}, Step.GIVE_UP),
        (state(turn="t1", asked=(ANSWERED,)), {"running": True, "waiting": "t1"}, Step.WAIT),
        (state(turn="t1", asked=(ANSWERED,)), {"running": True, "waiting": "t1", "draining": True}, Step.GIVE_UP),
        (state(turn="t1", asked=(ANSWERED,), interrupted=True), {"running": True, "waiting": "t1"}, Step.GIVE_UP),
        # Running.
        (state(turn="t1"), {"running": True}, Step.WAIT),
        (state(turn="t1"), {"running": True, "draining": True, "idle": True}, Step.WAIT),
        (state(turn="t1", stop=True), {"running": True}, Step.WAIT),
        (state(turn="t1", interrupted=True), {"running": True}, Step.INTERRUPT),
        (state(turn="t1", interrupted=True), {"running": True, "interrupted": True}, Step.WAIT),
        # A turn that nothing runs.
        (state(turn="t1"), {}, Step.END_LOST),
        (state(turn="t1"), {"draining": True}, Step.END_LOST),
        (state(turn="t1", asked=((False, 0),)), {}, Step.END_LOST),
        (state(turn="t1", interrupted=True), {}, Step.END_INTERRUPTED),
        (state(turn="t1", interrupted=True, asked=(PENDING,)), {}, Step.END_INTERRUPTED),
        (state(turn="t1", asked=(PENDING,)), {}, Step.DETACH_DEFERRED),
        (state(turn="t1", asked=(PENDING, ANSWERED)), {}, Step.DETACH_DEFERRED),
        (state(turn="t1", asked=(ANSWERED, ANSWERED)), {}, Step.RESUME),
        (state(turn="t1", asked=(ANSWERED,), queue=("t2",)), {}, Step.RESUME),
        (state(turn="t1", asked=(ANSWERED,)), {"draining": True}, Step.DETACH_DRAINED),
    ],
)
def test_the_next_step(now: s.SessionState, more: dict[str, object], expected: Step) -> None:
    told = {"running": False, "interrupted": False, "draining": False, "idle": False, **more}
    assert next_step(now, **told) is expected  # type: ignore[arg-type]


states = st.builds(
    state,
    turn=st.sampled_from(["", "t1"]),
    queue=st.sampled_from([(), ("t2",), ("t2", "t3")]),
    interrupted=st.booleans(),
    stop=st.booleans(),
    asked=st.lists(st.tuples(st.booleans(), st.sampled_from([0, 1])), max_size=3).map(tuple),
)


@given(states, st.booleans(), st.booleans())
def test_an_owner_without_a_turn_of_its_own_never_waits_while_there_is_work(
    now: s.SessionState,
    draining: bool,  # noqa: FBT001
    idle: bool,  # noqa: FBT001
) -> None:
    step = next_step(now, running=False, interrupted=False, draining=draining, idle=idle)
    assert step is not Step.WAIT or not has_work(now)


@given(states, states, st.booleans(), st.booleans())
def test_no_step_repeats_for_ever(now: s.SessionState, newer: s.SessionState, draining: bool, idle: bool) -> None:  # noqa: FBT001
    """A detach that the same state refuses would be tried again and again."""
    step = next_step(now, running=False, interrupted=False, draining=draining, idle=idle)
    if step in DETACHES:
        # An idle owner is only told so when there is nothing to do.
        assert may_detach(now, step)
        if may_detach(newer, step):
            return
        other = next_step(newer, running=False, interrupted=False, draining=draining, idle=idle)
        assert other is not step


@given(states, st.sampled_from(sorted(DETACHES, key=lambda step: step.value)))
def test_nobody_detaches_from_a_turn_that_needs_a_process(now: s.SessionState, step: Step) -> None:
    if may_detach(now, step) and now.HasField("turn"):
        assert any(approval.deferred for approval in now.approvals)
        assert not now.turn.interrupt_requested
        assert pending_approvals(now) or step is Step.DETACH_DRAINED


@given(states, st.booleans())
def test_a_turn_starts_only_as_the_first_of_the_queue_of_a_session_at_rest(now: s.SessionState, draining: bool) -> None:  # noqa: FBT001
    if may_start(now, "t2", draining=draining):
        assert now.queue[0].id == "t2"
        assert not now.HasField("turn")
        assert not now.stop_requested
        assert not draining
