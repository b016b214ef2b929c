"""The owner's side of a session: what happened is queued here and stored in order, once, by whoever owns it now.

Stop and wait: one append is on its way at a time, and what comes meanwhile makes the next one larger. A conflict
means that somebody else appended: a gateway's fact is taken in and the batch is stamped again behind it; a higher
epoch ends the writer for ever.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Self

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_delay, wait_random_exponential

from podium import names
from podium.clock import Clock
from podium.drafts import Draft
from podium.errors import Aborted, Fenced, PodiumError, Unavailable
from podium.eventlog.appends import Conflict
from podium.eventlog.budget import UnacknowledgedBudget
from podium.eventlog.connection import EventLog
from podium.eventlog.ears import Ears
from podium.eventlog.outbox import Condition, Outbox, size_of
from podium.eventlog.stored import Tail
from podium.v1.session_pb2 import SessionState

log = logging.getLogger(__name__)

RECONNECT_WAIT_S = 1.0
CLOSE_TIMEOUT_S = 5.0
_pause_when_unavailable = wait_random_exponential(multiplier=0.02, max=1.0)

Offload = Callable[[Draft], Awaitable[Draft]]
"""Moves long content beside the log (`LongContent.out`); what it cannot move ends the writer."""


class SessionWriter:
    """Writes one session's facts under one epoch. An async context manager; leaving it does not wait for the queue.

    Attributes:
        state: the newest state known, with the facts of others; must not be changed.
        position: the position of the message after which it is the state.
    """

    def __init__(
        self,
        log: EventLog,
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
        outage_s: float | None = None,
    ) -> None:
        """Take over at `tail`, the result of the attach.

        `on_change` is called with the state after own or foreign facts were stored. It is told of states, not of
        events: several facts may lie between two calls. `outage_s`: how long the log may be away, default: the
        connection's setting.
        """
        if tail.state is None:
            raise ValueError(f"session {session_id} is not there; an owner attaches first")
        self.session_id, self.epoch = session_id, epoch
        self.state: SessionState = tail.state
        self.position = tail.position
        self._log, self._clock, self._budget, self._new_id, self._offload = log, clock, budget, new_id, offload
        self._outage_s = log.settings.outage_s if outage_s is None else outage_s
        self._on_change = on_change
        self._outbox = Outbox(session_id, runner, epoch)
        self._work = asyncio.Event()
        self._ears = Ears(tail.position, self._work.set)
        self._changed = asyncio.Condition()
        self._ended: asyncio.Future[None] | None = None
        self._pump: asyncio.Task[None] | None = None
        self._around = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._ended = asyncio.get_running_loop().create_future()
        await self._around.enter_async_context(self._ears.open(self._log.link, self.session_id, self._outage_s))
        self._pump = asyncio.create_task(self._run(), name=f"writer of {self.session_id}")
        return self

    async def __aexit__(self, *_: object) -> None:
        async with self._around:
            if self._pump is not None:
                self._pump.cancel()
                await asyncio.wait([self._pump], timeout=CLOSE_TIMEOUT_S)
            await self._end(Unavailable("SHUTTING_DOWN", f"the writer of session {self.session_id} is closed"))

    async def write(self, drafts: Sequence[Draft], *, only_if: Condition | None = None) -> None:
        """Queue facts, oldest first; wait while the runner's budget of unacknowledged bytes is used up.

        `only_if` is asked with the state that the append will follow: a fact that a gateway's has overtaken (the turn
        was cancelled, the question answered) is left out. Nothing can come between the answer and the append.
        Raises Fenced once another owner has the session, Unavailable after an outage longer than the limit.
        """
        for draft in drafts:
            self._raise_if_ended()
            now_ns, size = self._clock.now_ns(), size_of(draft)
            if not self._budget.take(size):
                await self._budget.acquire(size)
                if self._is_ended:
                    self._budget.release(size)
                    self._raise_if_ended()
            # When it happened is now, not when the log has time for it.
            self._outbox.put(draft, self._new_id(now_ns), size, only_if, said_at_ns=now_ns)
            self._work.set()

    async def flush(self) -> Tail:
        """Return the position and state once everything queued so far is stored. Raises as `write`."""
        target = self._outbox.queued
        async with self._changed:
            await self._changed.wait_for(lambda: self._is_ended or self._outbox.acknowledged >= target)
        if self._outbox.acknowledged < target:
            self._raise_if_ended()
        return Tail(self.position, self.state)

    async def ended(self) -> None:
        """Wait until nothing can be written any more, and raise why: Fenced, Unavailable, or what broke the writer."""
        if self._ended is None:
            raise RuntimeError("enter the writer first")
        await asyncio.shield(self._ended)

    @property
    def unacknowledged(self) -> int:
        """Return how many facts wait for the log."""
        return self._outbox.queued - self._outbox.acknowledged

    @property
    def _is_ended(self) -> bool:
        return self._ended is not None and self._ended.done()

    def _raise_if_ended(self) -> None:
        if self._ended is None:
            raise RuntimeError("enter the writer first")
        if self._ended.done():
            self._ended.result()

    # The pump: the only one that touches state, position and what is on its way.

    async def _run(self) -> None:
        try:
            while True:
                await self._work.wait()
                self._work.clear()
                while self._ears.stale or self._outbox.has_more:
                    try:
                        await self._step()
                    except (Conflict, Unavailable):
                        await self._step_patiently()
        except Exception as error:  # kept, and raised to everybody who writes, flushes or waits
            if not isinstance(error, PodiumError):
                log.exception("the writer of session %s broke", self.session_id)
            await self._end(error)

    async def _step_patiently(self) -> None:
        """Do a step again until it is done or the log was away longer than the limit."""
        retrying = AsyncRetrying(
            retry=retry_if_exception_type((Conflict, Unavailable)),
            stop=stop_after_delay(self._outage_s),
            wait=_pause,
            reraise=True,
        )
        try:
            await retrying(self._step)
        except Conflict as conflict:
            raise Aborted("SESSION_BUSY", f"{conflict}, for {self._outage_s} s", session=self.session_id) from conflict

    async def _step(self) -> None:
        if not self._log.link.connected:
            # Woken by the reconnect itself, not by a timer.
            await self._log.link.wait_connected(RECONNECT_WAIT_S)
        await self._look()
        if await self._ears.pause_if_asked():
            await self._look()
        if self._outbox.take():
            await self._send()

    async def _look(self) -> None:
        # In doubt the own batch is looked for first: to take its position for a foreign one would store it twice.
        if self._outbox.in_doubt:
            await self._settle()
        elif self._ears.stale:
            await self._catch_up()

    async def _send(self) -> None:
        if self._offload is not None:
            for queued in self._outbox.batch:
                queued.draft = await self._offload(queued.draft)
        self._budget.release(self._outbox.leave_out(self.state))
        if not self._outbox.batch:
            async with self._changed:
                self._changed.notify_all()
            return
        stamped = self._outbox.stamp(Tail(self.position, self.state), self._clock.now_ns)
        self._outbox.in_doubt = self._ears.expecting = True
        try:
            position = await self._log.append(self.session_id, stamped.events, stamped.state, expected=stamped.expected)
        finally:
            self._ears.expecting = False
        await self._confirm(position, stamped.state)

    async def _settle(self) -> None:
        """Find out what became of an append that got no answer, or a conflict for one."""
        stamped = self._outbox.stamped
        assert stamped is not None
        stored = await self._log.message_after(self.session_id, stamped.expected)
        if stored is None:
            # Not there yet, and perhaps never: the same message is sent again, and one of the two is taken.
            return
        if self._outbox.is_mine(stored):
            await self._confirm(stored.position, stamped.state)
        else:
            # Somebody was faster; whatever copy of the batch is still on its way fails its guard.
            self._outbox.in_doubt = False
        await self._catch_up()

    async def _catch_up(self) -> None:
        self._ears.stale = False
        try:
            tail = await self._log.tail(self.session_id)
        except Unavailable:
            self._ears.stale = True
            raise
        if tail.state is None:
            raise LookupError(f"session {self.session_id} was erased under its owner")
        if tail.position > self.position:
            self._ears.found_foreign()
            await self._adopt(tail.position, tail.state)

    async def _confirm(self, position: int, state: SessionState) -> None:
        self._budget.release(self._outbox.confirm())
        self._ears.stored(position)
        await self._adopt(position, state)

    async def _adopt(self, position: int, state: SessionState) -> None:
        self.position, self.state = position, state
        self._ears.know(position)
        if state.epoch > self.epoch:
            raise Fenced(self.session_id, own_epoch=self.epoch, epoch=state.epoch)
        self._on_change(state)
        async with self._changed:
            self._changed.notify_all()

    async def _end(self, error: Exception) -> None:
        assert self._ended is not None
        if self._ended.done():
            return
        self._budget.release(self._outbox.bytes)
        self._ended.set_exception(error)
        self._ended.exception()  # Seen: whoever asks gets it, and nobody has to.
        async with self._changed:
            self._changed.notify_all()


def _pause(attempt: RetryCallState) -> float:
    error = attempt.outcome.exception() if attempt.outcome else None
    return 0.0 if isinstance(error, Conflict) else _pause_when_unavailable(attempt)
