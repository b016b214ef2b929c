"""How far the projection is, as the loop that moves it and the calls that wait for it share it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from podium.errors import Unavailable


@dataclass(slots=True)
class Progress:
    """Position, trouble, and who waits. Belongs to one event loop.

    `position`: everything up to it is committed. `problem`: why it stands still, or "". `stopped`: it will not go on
    without help. `wanted`: somebody waits for what is not committed yet. `pending_since`: returns when the log stored
    the oldest append that is here and not committed yet, nanoseconds since 1970; None = there is none.
    """

    position: int
    problem: str = ""
    stopped: bool = False
    wanted: asyncio.Event = field(default_factory=asyncio.Event)
    pending_since: Callable[[], int | None] = lambda: None
    _moved: asyncio.Event = field(default_factory=asyncio.Event)

    def advance(self, position: int) -> None:
        """Say that everything up to `position` is committed; trouble, if there was any, is over."""
        self.position, self.problem = position, ""
        self._wake()

    def trouble(self, problem: str, *, stopped: bool = False) -> None:
        """Say why it does not go on for now, or for good."""
        self.problem, self.stopped = problem, stopped
        self._wake()

    async def reach(self, position: int, *, timeout_s: float) -> None:
        """Return when `position` is committed; what is pending is committed at once for that.

        Raises Unavailable: PROJECTION_BEHIND when the time is up, PROJECTION_UNAVAILABLE when it will never come.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while self.position < position:
                    self._refuse_if_stopped(position)
                    self.wanted.set()
                    await self._moved.wait()
        except TimeoutError:
            raise Unavailable(
                "PROJECTION_BEHIND",
                f"the projection is at position {self.position} and did not reach {position} within {timeout_s:.1f} s"
                + (f": {self.problem}" if self.problem else ""),
                position=self.position,
                at_least_position=position,
            ) from None

    def _refuse_if_stopped(self, position: int) -> None:
        if self.stopped:
            raise Unavailable(
                "PROJECTION_UNAVAILABLE",
                f"the projection stands still at position {self.position}, before {position}: {self.problem}",
                position=self.position,
                at_least_position=position,
            )

    def _wake(self) -> None:
        # A fresh event per change: whoever waits looks again, whoever comes later waits for the next one.
        self._moved.set()
        self._moved = asyncio.Event()
