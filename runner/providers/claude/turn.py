"""A turn that runs: what was heard of it, and when it is over."""

import asyncio
import time
from dataclasses import dataclass, field
from enum import Enum, auto

from runner.providers.claude.normalise import Fed
from runner.providers.claude.records import JsonObject, text
from runner.providers.claude.transcript import OpenCall
from runner.providers.port import TurnSpec


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
    heard_s: float = field(default_factory=time.monotonic)
    _state: str = ""
    _background_tasks: int = 0

    def hear(self, fed: Fed) -> None:
        """Take a record of the client into account."""
        self.heard_s = time.monotonic()
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

    @property
    def waits_for_idle(self) -> bool:
        """The result is there, and nothing is known that could follow it."""
        return self.result is not None and self._background_tasks == 0

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
