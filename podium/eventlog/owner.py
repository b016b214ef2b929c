"""The owner's side of a session: what happened is queued here and stored in order, once, by whoever owns it now.

Stop and wait: one append is on its way at a time, and what comes meanwhile makes the next one larger. A conflict
means that somebody else appended: a gateway's fact is taken in and the batch is stamped again behind it; a higher
epoch ends the writer for ever.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, Self

from nats.aio.msg import Msg
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_delay, wait_random_exponential

from podium import names
from podium.clock import Clock
from podium.drafts import Author, Draft, stamp
from podium.errors import Fenced, Unavailable
from podium.eventlog.appends import Conflict
from podium.eventlog.budget import UnacknowledgedBudget
from podium.eventlog.layout import live_subject, yield_subject
from podium.eventlog.link import Link
from podium.eventlog.reads import stored_from_headers
from podium.eventlog.stored import EVENTS_BYTES_MAX, EVENTS_MAX, StoredAppend, Tail
from podium.v1.event_pb2 import Event
from podium.v1.session_pb2 import SessionState

YIELD_S = 0.25
OUTAGE_S = 300.0
ENVELOPE_BYTES = 256
"""What an event takes beside its body: ids, times, and the object that holds it."""
CLOSE_TIMEOUT_S = 5.0
_pause_when_unavailable = wait_random_exponential(multiplier=0.02, max=1.0)


class Log(Protocol):
    """What writing needs of the log."""

    @property
    def link(self) -> Link:
        """Return the connection."""
        ...

    async def tail(self, session_id: str) -> Tail:
        """Return the newest position and state, from the leader."""
        ...

    async def message_after(self, session_id: str, position: int) -> StoredAppend | None:
        """Return the first message after a position, from the leader."""
        ...

    async def append(self, session_id: str, events: Sequence[Event], state: SessionState, *, expected: int) -> int:
        """Store events after `expected`."""
        ...


Offload = Callable[[Draft], Awaitable[Draft]]
"""Moves long content into the object store; returns the draft as it is when there is none."""


Condition = Callable[[SessionState], bool]
"""Whether a fact still makes sense behind a state; pure."""


@dataclass(slots=True)
class _Queued:
    """A draft with its event id, which stays the same however often it is stamped: that is how it is recognised."""

    draft: Draft
    event_id: str
    size: int
    only_if: Condition | None


@dataclass(slots=True)
class _Stamped:
    """A batch as it was sent, and the guard it was sent with."""

    events: list[Event]
    state: SessionState
    expected: int


class SessionWriter:
    """Writes one session's facts under one epoch. An async context manager; leaving it does not wait for the queue.

    Attributes:
        state: the newest state known, with the facts of others; must not be changed.
        position: the position of the message after which it is the state.
    """

    def __init__(
        self,
        log: Log,
        session_id: str,
        *,
        runner: str,
        epoch: int,
        tail: Tail,
        clock: Clock,
        budget: UnacknowledgedBudget,
        on_change: Callable[[SessionState], None] = lambda _: None,
        new_id: Callable[[int], str] = names.new_id,
        offload: Offload | None = None,
        outage_s: float = OUTAGE_S,
    ) -> None:
        """Take over at `tail`, the result of the attach.

        `on_change` is called with the state after own or foreign facts were stored. It is told of states, not of
        events: several facts may lie between two calls.
        """
        if tail.state is None:
            raise ValueError(f"session {session_id} is not there; an owner attaches first")
        self.state: SessionState = tail.state
        self.position = tail.position
        self.session_id, self.epoch = session_id, epoch
        self._log, self._clock, self._budget = log, clock, budget
        self._runner, self._new_id, self._offload, self._outage_s = runner, new_id, offload, outage_s
        self._on_change = on_change
        self._queue: deque[_Queued] = deque()
        self._sending: list[_Queued] = []
        self._stamped: _Stamped | None = None
        self._in_doubt = False
        self._queued, self._acknowledged = 0, 0
        self._work = asyncio.Event()
        self._stale = False
        self._seen_position = tail.position
        self._awaiting_answer = False
        self._yield_until, self._may_yield = 0.0, True
        self._foreign = asyncio.Event()
        self._changed = asyncio.Condition()
        self._ended: asyncio.Future[None] | None = None
        self._pump: asyncio.Task[None] | None = None
        self._around = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        link = self._log.link
        self._ended = asyncio.get_running_loop().create_future()
        async with contextlib.AsyncExitStack() as around:
            await around.enter_async_context(
                link.subscribe(live_subject(self.session_id), self._heard, on_missed=self._look_again)
            )
            await around.enter_async_context(link.subscribe(yield_subject(self.session_id), self._asked_to_yield))
            around.callback(link.on_reconnect(self._look_again))
            self._around = around.pop_all()
        # What was appended between the attach and the subscription was not heard.
        self._look_again()
        self._pump = asyncio.create_task(self._run(), name=f"writer of {self.session_id}")
        return self

    async def __aexit__(self, *_: object) -> None:
        async with self._around:
            if self._pump is not None:
                self._pump.cancel()
                await asyncio.wait([self._pump], timeout=CLOSE_TIMEOUT_S)
            await self._end(Unavailable("SHUTTING_DOWN", f"the writer of session {self.session_id} is closed"))
        if self._ended is not None and self._ended.done():
            self._ended.exception()

    async def write(self, drafts: Sequence[Draft], *, only_if: Condition | None = None) -> None:
        """Queue facts, oldest first; wait while the runner's budget of unacknowledged bytes is used up.

        `only_if` is asked with the state that the append will follow: a fact that a gateway's has overtaken (the turn
        was cancelled, the question answered) is left out. Nothing can come between the answer and the append.
        Raises Fenced once another owner has the session, Unavailable after an outage longer than the limit.
        """
        for draft in drafts:
            self._raise_if_ended()
            now_ns = self._clock.now_ns()
            # When it happened is now, not when the log has time for it.
            draft = draft if draft.happened_at_ns is not None else replace(draft, happened_at_ns=now_ns)
            queued = _Queued(draft, self._new_id(now_ns), draft.body.ByteSize() + ENVELOPE_BYTES, only_if)
            await self._budget.acquire(queued.size)
            if self._is_ended:
                self._budget.release(queued.size)
                self._raise_if_ended()
            self._queue.append(queued)
            self._queued += 1
            self._work.set()

    async def flush(self) -> Tail:
        """Return the position and state once everything queued so far is stored. Raises as `write`."""
        target = self._queued
        async with self._changed:
            await self._changed.wait_for(lambda: self._is_ended or self._acknowledged >= target)
        if self._acknowledged < target:
            self._raise_if_ended()
        return Tail(self.position, self.state)

    async def ended(self) -> None:
        """Wait until nothing can be written any more, and raise why: Fenced, Unavailable, or what broke the writer."""
        assert self._ended is not None
        await asyncio.shield(self._ended)

    @property
    def unacknowledged(self) -> int:
        """Return how many facts wait for the log."""
        return self._queued - self._acknowledged

    @property
    def _is_ended(self) -> bool:
        return self._ended is not None and self._ended.done()

    def _raise_if_ended(self) -> None:
        if self._ended is None:
            raise RuntimeError("enter the writer first")
        if self._ended.done():
            self._ended.result()

    # What is heard from outside: never awaits, only leaves marks for the pump.

    def _heard(self, message: Msg) -> None:
        stored = stored_from_headers(message)
        if stored.position <= self._seen_position:
            return
        self._seen_position = stored.position
        # While an append is on its way it may be just that one: the answer, or the conflict, will tell.
        if not self._awaiting_answer:
            self._foreign.set()
            self._look_again()

    def _look_again(self) -> None:
        self._stale = True
        self._work.set()

    def _asked_to_yield(self, _: Msg) -> None:
        # One pause, then at least one append: gateways must not keep an owner from writing.
        if self._may_yield:
            self._yield_until = time.monotonic() + YIELD_S

    # The pump: the only one that touches state, position and what is on its way.

    async def _run(self) -> None:
        try:
            while True:
                await self._work.wait()
                self._work.clear()
                while self._stale or self._queue:
                    try:
                        await self._step()
                    except (Conflict, Unavailable):
                        await self._patiently(self._step)
        except Exception as error:  # noqa: BLE001  # kept, and raised to everybody who writes, flushes or waits
            await self._end(error)

    async def _step(self) -> None:
        await self._look()
        await self._pause()
        if self._sending or self._take():
            await self._send()

    async def _look(self) -> None:
        # In doubt the own batch is looked for first: to take its position for a foreign one would store it twice.
        if self._in_doubt:
            await self._settle()
        elif self._stale:
            await self._catch_up()

    def _take(self) -> bool:
        size = 0
        while self._queue and len(self._sending) < EVENTS_MAX:
            size += self._queue[0].size
            if self._sending and size > EVENTS_BYTES_MAX:
                break
            self._sending.append(self._queue.popleft())
        return bool(self._sending)

    async def _send(self) -> None:
        if self._offload is not None:
            for queued in self._sending:
                queued.draft = await self._offload(queued.draft)
        await self._leave_out_overtaken()
        if not self._sending:
            return
        stamped = self._stamp()
        self._in_doubt = self._awaiting_answer = True
        try:
            position = await self._log.append(self.session_id, stamped.events, stamped.state, expected=stamped.expected)
        finally:
            self._awaiting_answer = False
        await self._stored(position, stamped.state)
        if self._seen_position > position:
            # Something foreign came right behind it.
            self._look_again()

    async def _leave_out_overtaken(self) -> None:
        if self._stamped is not None and self._stamped.expected == self.position:
            return  # These very events may be on the log already.
        wanted = [queued for queued in self._sending if queued.only_if is None or queued.only_if(self.state)]
        if len(wanted) == len(self._sending):
            return
        for queued in self._sending:
            if queued not in wanted:
                self._budget.release(queued.size)
        self._acknowledged += len(self._sending) - len(wanted)
        self._sending = wanted
        async with self._changed:
            self._changed.notify_all()

    def _stamp(self) -> _Stamped:
        """Return the batch as events behind the newest known message; the same object while that stays the same."""
        if self._stamped is None or self._stamped.expected != self.position:
            ids = iter([queued.event_id for queued in self._sending])
            author = Author(self.session_id, lambda _: next(ids), self._runner, self.epoch)
            events, state = stamp(
                self.state,
                [queued.draft for queued in self._sending],
                author,
                now_ns=self._clock.now_ns(),
                after_position=self.position,
            )
            self._stamped = _Stamped(events, state, self.position)
        return self._stamped

    async def _settle(self) -> None:
        """Find out what became of an append without an answer, or with a conflict for one."""
        assert self._stamped is not None
        stored = await self._log.message_after(self.session_id, self._stamped.expected)
        if stored is not None and stored.events[0].id == self._stamped.events[0].id:
            await self._stored(stored.position, self._stamped.state)
        elif stored is not None:
            # Somebody was faster; whatever copy of the batch is still on its way fails its guard.
            self._in_doubt = False
        if stored is not None:
            await self._catch_up()

    async def _catch_up(self) -> None:
        self._stale = False
        try:
            tail = await self._log.tail(self.session_id)
        except Unavailable:
            self._stale = True
            raise
        if tail.state is None:
            raise LookupError(f"session {self.session_id} was erased under its owner")
        if tail.position > self.position:
            self._foreign.set()
            await self._adopt(tail.position, tail.state)

    async def _pause(self) -> None:
        """Leave the log to a gateway that asked for it, until it has appended or its time is over."""
        wait_s = self._yield_until - time.monotonic()
        if wait_s <= 0 or not self._may_yield:
            return
        self._may_yield = False
        self._foreign.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._foreign.wait()
        await self._look()

    async def _stored(self, position: int, state: SessionState) -> None:
        """Take note that the batch on its way is on the log."""
        for queued in self._sending:
            self._budget.release(queued.size)
        self._acknowledged += len(self._sending)
        self._sending, self._stamped, self._in_doubt, self._may_yield = [], None, False, True
        await self._adopt(position, state)

    async def _adopt(self, position: int, state: SessionState) -> None:
        self.position = position
        self._seen_position = max(self._seen_position, position)
        self.state = state
        if state.epoch > self.epoch:
            raise Fenced(self.session_id, own_epoch=self.epoch, epoch=state.epoch)
        self._on_change(state)
        async with self._changed:
            self._changed.notify_all()

    async def _patiently(self, step: Callable[[], Awaitable[None]]) -> None:
        """Do a step again until it is done or the log was away longer than the limit."""
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type((Conflict, Unavailable)),
            stop=stop_after_delay(self._outage_s),
            wait=self._wait_s,
            reraise=True,
        ):
            with attempt:
                if not self._log.link.connected:
                    # Woken by the reconnect itself, not by a timer.
                    await self._log.link.wait_connected(1.0)
                await step()

    def _wait_s(self, attempt: RetryCallState) -> float:
        error = attempt.outcome.exception() if attempt.outcome else None
        return 0.0 if isinstance(error, Conflict) else _pause_when_unavailable(attempt)

    async def _end(self, error: Exception) -> None:
        assert self._ended is not None
        if self._ended.done():
            return
        for queued in (*self._sending, *self._queue):
            self._budget.release(queued.size)
        self._ended.set_exception(error)
        async with self._changed:
            self._changed.notify_all()
