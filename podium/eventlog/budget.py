"""How many bytes of facts a runner may hold before the log has acknowledged them: its back-pressure."""

import asyncio
import contextlib
from collections import deque

UNACKNOWLEDGED_BYTES_MAX = 64 * 1024 * 1024


class UnacknowledgedBudget:
    """A number of bytes that all sessions of a runner share, handed out in the order it was asked for.

    Whoever reads a provider's pipe waits here, and so the pipe fills up and the provider waits too.
    """

    def __init__(self, limit: int = UNACKNOWLEDGED_BYTES_MAX) -> None:
        """Take the limit in bytes of serialised facts."""
        self.limit = limit
        self.used = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    def take(self, size: int) -> bool:
        """Take `size` bytes if they are free and nobody waits before us; return whether they were."""
        if self._waiting or not self._fits(size):
            return False
        self.used += size
        return True

    async def acquire(self, size: int) -> None:
        """Return once `size` bytes are free and taken. More than the whole limit is given when nothing is used."""
        if self.take(size):
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release(size)
            else:
                # Gone already when somebody gave bytes back between the cancellation and now.
                with contextlib.suppress(ValueError):
                    self._waiting.remove((size, turn))
                self._hand_out()
            raise

    def release(self, size: int) -> None:
        """Give bytes back."""
        self.used -= size
        self._hand_out()

    def _fits(self, size: int) -> bool:
        return self.used + size <= self.limit or self.used == 0

    def _hand_out(self) -> None:
        while self._waiting and (self._waiting[0][1].done() or self._fits(self._waiting[0][0])):
            size, turn = self._waiting.popleft()
            if not turn.done():
                self.used += size
                turn.set_result(None)
