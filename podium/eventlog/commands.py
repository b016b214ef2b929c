"""How a command becomes facts: look at the session, decide, append what was decided if nothing came in between."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_delay, wait_random

from podium import names
from podium.clock import Clock
from podium.drafts import Author, Draft, stamp
from podium.errors import Aborted, Unavailable
from podium.eventlog.appends import Conflict
from podium.eventlog.connection import EventLog
from podium.eventlog.stored import StoredAppend, Tail
from podium.v1.event_pb2 import Event, RunnerAttached
from podium.v1.session_pb2 import SessionState

COMMAND_DEADLINE_S = 10.0
CONFLICTS_BEFORE_YIELD = 2
CONFLICT_PAUSE_S_MAX = 0.004
UNAVAILABLE_PAUSE_S = (0.05, 0.25)

Decide: TypeAlias = Callable[[SessionState | None], Sequence[Draft]]
"""What shall happen, given the state; nothing = no change is needed. Raises a PodiumError to refuse. Pure: it may be
called several times."""


@dataclass(frozen=True, slots=True)
class CommandResult:
    """What became of a command: the session after it, and the facts it made (none = nothing changed)."""

    tail: Tail
    events: Sequence[Event]

    @property
    def position(self) -> int:
        """Return the position of the command's facts, 0 when it made none."""
        return self.tail.position if self.events else 0


async def command(
    log: EventLog,
    session_id: str,
    decide: Decide,
    *,
    clock: Clock,
    new_id: Callable[[int], str] = names.new_id,
    deadline_s: float = COMMAND_DEADLINE_S,
) -> CommandResult:
    """Append what `decide` makes of the session's newest state, as a gateway.

    Raises what `decide` raises; Aborted (SESSION_BUSY) after too many conflicts; Unavailable when the log did not
    answer in time: then the facts may or may not be there, and the same request id tells.
    """
    author = Author(session_id, new_id)
    return await _Attempts(log, decide, lambda _: author, clock, may_ask_to_yield=True).run(session_id, deadline_s)


async def attach(
    log: EventLog,
    session_id: str,
    claim: Callable[[SessionState | None], RunnerAttached],
    *,
    clock: Clock,
    new_id: Callable[[int], str] = names.new_id,
    deadline_s: float = COMMAND_DEADLINE_S,
) -> CommandResult:
    """Append the RunnerAttached that `claim` returns, written under its own epoch; the result's state has it as owner.

    `claim` raises to leave the session alone, and sets the epoch to one more than the state's. Raises as `command`.
    """

    def decide(state: SessionState | None) -> list[Draft]:
        return [Draft(claim(state))]

    def author(state: SessionState | None) -> Author:
        attached = claim(state)
        return Author(session_id, new_id, attached.runner, attached.epoch)

    # Whom it takes over is gone, or does not know yet: its role may not ask anybody for a pause.
    return await _Attempts(log, decide, author, clock, may_ask_to_yield=False).run(session_id, deadline_s)


@dataclass
class _Attempts:
    """One command on its way: how often it lost the race, and what it may already have stored."""

    log: EventLog
    decide: Decide
    author: Callable[[SessionState | None], Author]
    clock: Clock
    may_ask_to_yield: bool
    conflicts: int = 0
    guard: int = 0
    unanswered: set[str] = field(default_factory=set)
    """First event ids of the appends guarded with `guard` whose answer never came: at most one of them is stored."""

    async def run(self, session_id: str, deadline_s: float) -> CommandResult:
        retrying = AsyncRetrying(
            retry=retry_if_exception_type((Conflict, Unavailable)),
            stop=stop_after_delay(deadline_s),
            wait=_pause,
            reraise=True,
        )
        try:
            return await retrying(self._once, session_id)
        except Conflict as conflict:
            raise Aborted(
                "SESSION_BUSY",
                f"session {session_id}: {self.conflicts} appends came in between within {deadline_s} s",
                session=session_id,
            ) from conflict

    async def _once(self, session_id: str) -> CommandResult:
        if self.unanswered and (stored := await self._found(session_id)):
            return CommandResult(Tail(stored.position, stored.state), stored.events)
        tail = await self.log.tail(session_id)
        drafts = self.decide(tail.state)
        if not drafts:
            return CommandResult(tail, ())
        events, state = stamp(
            tail.state, drafts, self.author(tail.state), now_ns=self.clock.now_ns(), after_position=tail.position
        )
        try:
            position = await self.log.append(session_id, events, state, expected=tail.position)
        except Conflict:
            self.conflicts += 1
            if self.may_ask_to_yield and self.conflicts >= CONFLICTS_BEFORE_YIELD:
                await self.log.ask_to_yield(session_id)
            raise
        except Unavailable:
            self.guard = tail.position
            self.unanswered.add(events[0].id)
            raise
        return CommandResult(Tail(position, state), events)

    async def _found(self, session_id: str) -> StoredAppend | None:
        """Return the unanswered append that is on the log: it would be the first message after its guard."""
        stored = await self.log.message_after(session_id, self.guard)
        if stored is None:
            return None
        if stored.events[0].id in self.unanswered:
            return stored
        # Somebody else's: what is still on its way fails its guard.
        self.unanswered.clear()
        return None


_briefly = wait_random(0, CONFLICT_PAUSE_S_MAX)
_longer = wait_random(*UNAVAILABLE_PAUSE_S)


def _pause(attempt: RetryCallState) -> float:
    error = attempt.outcome.exception() if attempt.outcome else None
    return _briefly(attempt) if isinstance(error, Conflict) else _longer(attempt)
