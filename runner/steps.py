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
    DETACH_DEFERRED = auto()
    """A question waits without a process; whoever hears the answer goes on."""
    DETACH_STOPPED = auto()
    """StopSession asked for the end of the process."""
    DETACH_DRAINED = auto()
    """The runner shuts down."""
    DETACH_IDLE = auto()
    """Nothing happened for a while."""


DETACHES = frozenset({Step.DETACH_DEFERRED, Step.DETACH_STOPPED, Step.DETACH_DRAINED, Step.DETACH_IDLE})


def next_step(state: SessionState, *, running: bool, interrupted: bool, draining: bool, idle: bool) -> Step:
    """Return what to do in `state`.

    `running`: this owner runs a turn, or is about to. `interrupted`: the client was told to stop it.
    `draining`: the runner shuts down. `idle`: there was no turn for long enough.
    """
    if running:
        stop = state.HasField("turn") and state.turn.interrupt_requested and not interrupted
        return Step.INTERRUPT if stop else Step.WAIT
    if state.HasField("turn"):
        return _without_process(state)
    if state.stop_requested:
        return Step.DETACH_STOPPED
    if draining:
        return Step.DETACH_DRAINED
    if state.queue:
        return Step.START
    return Step.DETACH_IDLE if idle else Step.WAIT


def _without_process(state: SessionState) -> Step:
    if state.turn.interrupt_requested:
        return Step.END_INTERRUPTED
    if not any(approval.deferred for approval in state.approvals):
        return Step.END_LOST
    return Step.DETACH_DEFERRED if pending_approvals(state) else Step.RESUME


def may_detach(state: SessionState, step: Step) -> bool:
    """Return whether detaching still makes sense in a newer state: nothing came that this owner should do."""
    if step is Step.DETACH_DEFERRED:
        return state.HasField("turn") and bool(pending_approvals(state)) and not state.turn.interrupt_requested
    if step is Step.DETACH_IDLE:
        return not has_work(state)
    return not state.HasField("turn")
