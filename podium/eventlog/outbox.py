"""What an owner has to say and the log has not confirmed: a queue, and the batch that is on its way. Pure.

An event keeps its id however often it is stamped: by it a batch whose answer was lost is recognised on the log.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from podium.drafts import Author, Draft, stamp
from podium.eventlog.stored import EVENTS_BYTES_MAX, EVENTS_MAX, StoredAppend, Tail
from podium.v1.event_pb2 import Event
from podium.v1.session_pb2 import SessionState

ENVELOPE_BYTES = 256
"""What an event takes beside its body: ids, times, and the objects that hold it."""


def size_of(draft: Draft) -> int:
    """Return what a draft counts for in the budget and in a batch, bytes."""
    return draft.body.ByteSize() + ENVELOPE_BYTES


Condition = Callable[[SessionState], bool]
"""Whether a fact still makes sense behind a state; pure."""


@dataclass(slots=True)
class Queued:
    """A draft with its event id, what must hold for it to be appended (None = nothing), and when it was handed in."""

    draft: Draft
    event_id: str
    size: int
    only_if: Condition | None
    said_at_ns: int


@dataclass(frozen=True, slots=True)
class Stamped:
    """The batch as it is sent: its events behind `expected`, and the state after them."""

    events: Sequence[Event]
    state: SessionState
    expected: int


class Outbox:
    """Drafts in the order they were put; at most one batch of them is on its way.

    Attributes:
        in_doubt: the batch was sent and it is not known whether it was stored.
    """

    def __init__(self, session_id: str, runner: str, epoch: int) -> None:
        """Take under whose name the drafts are stamped."""
        self.queued, self.acknowledged = 0, 0
        self.in_doubt = False
        self.batch: list[Queued] = []
        self.stamped: Stamped | None = None
        self._session_id, self._runner, self._epoch = session_id, runner, epoch
        self._queue: deque[Queued] = deque()

    @property
    def has_more(self) -> bool:
        """Return whether anything waits, on its way or not."""
        return bool(self._queue or self.batch)

    @property
    def bytes(self) -> int:
        """Return what is not acknowledged, in bytes of the budget."""
        return sum(queued.size for queued in (*self.batch, *self._queue))

    def put(self, draft: Draft, event_id: str, size: int, only_if: Condition | None = None, *, said_at_ns: int) -> None:
        """Queue a draft; `said_at_ns` is when it happened unless it says so itself."""
        self._queue.append(Queued(draft, event_id, size, only_if, said_at_ns))
        self.queued += 1

    def take(self) -> bool:
        """Make the next batch unless one is on its way; return whether there is one.

        At most EVENTS_MAX events and EVENTS_BYTES_MAX; an event above that goes alone.
        """
        size = sum(queued.size for queued in self.batch)
        while not self.in_doubt and self._queue and len(self.batch) < EVENTS_MAX:
            size += self._queue[0].size
            if self.batch and size > EVENTS_BYTES_MAX:
                break
            self.batch.append(self._queue.popleft())
            self.stamped = None
        return bool(self.batch)

    def leave_out(self, state: SessionState) -> int:
        """Drop from the batch what a foreign fact has overtaken; return how many bytes of the budget are free again.

        Not while in doubt: these very events may be on the log already.
        """
        if self.in_doubt:
            return 0
        wanted = [queued for queued in self.batch if queued.only_if is None or queued.only_if(state)]
        if len(wanted) == len(self.batch):
            return 0
        before = sum(queued.size for queued in self.batch)
        self.acknowledged += len(self.batch) - len(wanted)
        self.batch, self.stamped = wanted, None
        return before - sum(queued.size for queued in wanted)

    def stamp(self, tail: Tail, now_ns: Callable[[], int]) -> Stamped:
        """Return the batch as events behind `tail`: the same object as before when neither has changed."""
        if self.stamped is None or self.stamped.expected != tail.position:
            ids = iter([queued.event_id for queued in self.batch])
            author = Author(self._session_id, lambda _: next(ids), self._runner, self._epoch)
            drafts = [queued.draft for queued in self.batch]
            said_at_ns = [queued.said_at_ns for queued in self.batch]
            events, state = stamp(
                tail.state, drafts, author, now_ns=now_ns(), after_position=tail.position, said_at_ns=said_at_ns
            )
            self.stamped = Stamped(events, state, tail.position)
        return self.stamped

    def is_mine(self, stored: StoredAppend) -> bool:
        """Return whether a message on the log is the batch on its way."""
        return self.stamped is not None and stored.events[0].id == self.stamped.events[0].id

    def confirm(self) -> int:
        """Take note that the batch is stored; return how many bytes of the budget are free again."""
        size = sum(queued.size for queued in self.batch)
        self.acknowledged += len(self.batch)
        self.batch, self.stamped, self.in_doubt = [], None, False
        return size
