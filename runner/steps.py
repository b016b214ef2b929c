"""What an owner does next with its session: from the state alone. Pure."""

from enum import Enum, auto

from podium.session import has_work, pending_approvals
from podium.v1.session_pb2 import SessionState


class Step(Enum):
    """One thing an owner can do."""

    WAIT = auto()
    """Nothing to do until something changes."""
    INTERRUPT = auto()
    """Tell the client to stop the running turn."""
    END_INTERRUPTED = auto()
    """The turn has no process any more, and somebody asked for its end."""
    END_LOST = auto()
    """The turn has no process any more: its owner was lost."""
    RESUME = auto()
    """All questions of a deferred turn are answered: go on with it."""
    START = auto()
    """Start the first turn of the queue."""
    GIVE_UP = auto()
    """Wait no more for a slot: the turn was cancelled or stopped, or another runner shall have it."""
    DETACH_DEFERRED = auto()
    """A question waits without a process; whoever hears the answer goes on."""
    DETACH_STOPPED = auto()
    """StopSession asked for the end of the process."""
    DETACH_DRAINED = auto()
    """The runner shuts down."""
    DETACH_IDLE = auto()
    """Nothing happened for a while."""


DETACHES = frozenset({Step.DETACH_DEFERRED, Step.DETACH_STOPPED, Step.DETACH_DRAINED, Step.DETACH_IDLE})


def next_step(
    state: SessionState, *, running: bool, waiting: str = "", interrupted: bool, draining: bool, idle: bool
) -> Step:
    """Return what to do in `state`.

    `running`: this owner runs a turn, or is about to. `waiting`: the id of that turn while it waits for a slot.
    `interrupted`: the client was told to stop it. `draining`: the runner shuts down. `idle`: there was no turn for
    long enough.
    """
    if running:
        if waiting:
            return Step.WAIT if _is_wanted(state, waiting, draining=draining) else Step.GIVE_UP
        stop = state.HasField("turn") and state.turn.interrupt_requested and not interrupted
        return Step.INTERRUPT if stop else Step.WAIT
    if state.HasField("turn"):
        return _without_process(state, draining=draining)
    if state.stop_requested:
        return Step.DETACH_STOPPED
    if draining:
        return Step.DETACH_DRAINED
    if state.queue:
        return Step.START
    return Step.DETACH_IDLE if idle else Step.WAIT


def may_start(state: SessionState, turn_id: str, *, draining: bool) -> bool:
    """Return whether a turn of the queue may start now."""
    is_first = bool(state.queue) and state.queue[0].id == turn_id
    return is_first and not state.HasField("turn") and not state.stop_requested and not draining


def may_detach(state: SessionState, step: Step) -> bool:
    """Return whether detaching still makes sense in a newer state: nothing came that this owner should do."""
    if step is Step.DETACH_IDLE:
        return not has_work(state)
    if not state.HasField("turn"):
        return step is not Step.DETACH_DEFERRED
    if state.turn.interrupt_requested or not _is_deferred(state):
        return False
    return step is Step.DETACH_DRAINED or (step is Step.DETACH_DEFERRED and bool(pending_approvals(state)))


def _is_wanted(state: SessionState, turn_id: str, *, draining: bool) -> bool:
    """Return whether a turn that waits for a slot shall go on waiting; one of its own is resumed."""
    if state.HasField("turn"):
        return state.turn.id == turn_id and not state.turn.interrupt_requested and not draining
    return may_start(state, turn_id, draining=draining)


def _without_process(state: SessionState, *, draining: bool) -> Step:
    if state.turn.interrupt_requested:
        return Step.END_INTERRUPTED
    if not _is_deferred(state):
        return Step.END_LOST
    if pending_approvals(state):
        return Step.DETACH_DEFERRED
    return Step.DETACH_DRAINED if draining else Step.RESUME


def _is_deferred(state: SessionState) -> bool:
    return any(approval.deferred for approval in state.approvals)
