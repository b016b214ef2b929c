"""A turn that runs: what was heard of it, and when it is over."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from podium.clock import Clock
from runner.providers.claude.normalise import Fed
from runner.providers.claude.records import JsonObject, text
from runner.providers.claude.transcript import OpenCall
from runner.providers.port import TurnSpec

_LOOK_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class Limits:
    """How long the driver waits for its client.

    Attributes:
        start_s: from the start of the process to its first answer.
        interrupt_s: from an interrupt to the turn's end; then the process is ended.
        silence_s: without a line while a turn runs and nobody is asked; tools may be silent for long.
        idle_s: from a turn's result to the client's word that nothing follows.
        resume_s: from the start of a client that resumes a question to its asking again.
    """

    start_s: float = 60.0
    interrupt_s: float = 5.0
    silence_s: float = 1800.0
    idle_s: float = 2.0
    resume_s: float = 30.0


class Ending(Enum):
    """How the reading of a turn ended."""

    RESULT = auto()
    """The client said how it went."""
    GONE = auto()
    """The client's process has ended."""
    DEFERRED = auto()
    """A question waits, and the client shall be ended."""
    STUCK = auto()
    """Asked to stop, the client did not."""
    NOT_RESUMED = auto()
    """Resumed for its question, the client did not ask it."""
    SILENT = auto()
    """The client said nothing for too long."""


@dataclass(slots=True)
class RunningTurn:
    """The one turn of a driver."""

    turn: TurnSpec
    clock: Clock
    end: asyncio.Future[Ending] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    result: JsonObject | None = None
    interrupted: bool = False
    deferred: OpenCall | None = None
    is_open: bool = False
    """The client works on it; what it says before that is about its start."""
    has_begun: bool = False
    """The client asked or said something."""
    asking: int = 0
    """Questions a person has not answered yet."""
    heard_s: float = field(init=False)
    _state: str = ""
    _background_tasks: int = 0

    def __post_init__(self) -> None:
        self.heard_now()

    def heard_now(self) -> None:
        """The client is as if heard now."""
        self.heard_s = self.clock.monotonic()

    def hear(self, fed: Fed) -> None:
        """Take a record of the client into account."""
        self.heard_now()
        if not self.is_open:
            return
        self.has_begun = self.has_begun or fed.kind in ("assistant", "user", "result")
        match fed.kind:
            case "result":
                self.result = fed.record
            case "system/session_state_changed":
                self._state = text(fed.record, "state")
            case "system/background_tasks_changed":
                tasks = fed.record.get("tasks")
                self._background_tasks = len(tasks) if isinstance(tasks, list) else 0
            case _:
                pass
        # A result ends one run of the model. The client is `idle` once no background agent will wake it again.
        if self.result is not None and (self.interrupted or self._state != "running"):
            self.settle(Ending.RESULT)

    async def ended(self, limits: Limits) -> Ending:
        """Wait for the turn's end, within the limits, and return it. Raises what `fail` was told."""
        interrupted_s: float | None = None
        while not self.end.done():
            now_s = self.clock.monotonic()
            if self.asking:
                self.heard_s = now_s
            if self.interrupted:
                interrupted_s = interrupted_s or now_s
            deadline_s, ending = min(self._deadlines(limits, interrupted_s), key=lambda one: one[0])
            if deadline_s <= now_s:
                self.settle(ending)
            # Not until the deadline at once: an interrupt or a result moves it.
            await asyncio.wait((self.end,), timeout=max(0.0, min(deadline_s - now_s, _LOOK_S)))
        return self.end.result()

    def _deadlines(self, limits: Limits, interrupted_s: float | None) -> Iterator[tuple[float, Ending]]:
        yield self.heard_s + limits.silence_s, Ending.SILENT
        if self.turn.resumes_deferred and not self.has_begun:
            yield self.heard_s + limits.resume_s, Ending.NOT_RESUMED
        if self.result is not None and self._background_tasks == 0:
            # Nothing is known that could follow the result, and yet the client did not say `idle`.
            yield self.heard_s + limits.idle_s, Ending.RESULT
        if interrupted_s is not None:
            yield interrupted_s + limits.interrupt_s, Ending.STUCK

    def raise_if_broken(self) -> None:
        """Raise what `fail` was told, if it was."""
        if self.end.done() and not self.end.cancelled() and (error := self.end.exception()) is not None:
            raise error

    def settle(self, ending: Ending) -> None:
        """The turn ended so; what came first holds."""
        if not self.end.done():
            self.end.set_result(ending)

    def fail(self, error: BaseException) -> None:
        """The turn cannot go on; run_turn raises `error`."""
        if not self.end.done():
            self.end.set_exception(error)
