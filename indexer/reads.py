"""What all answers from the store have in common: they wait for a position, have a deadline, and know the session."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from indexer.progress import Progress
from indexer.store import Store, StoreFailed
from podium.errors import DeadlineExceeded, InvalidArgument, Unavailable, session_not_found

MARGIN_S = 0.1
"""Kept of the caller's deadline, so that the answer "not yet" still reaches him."""


@dataclass(frozen=True, slots=True)
class Span:
    """Where on the log a session's facts are: scans of the large tables skip everything else."""

    first_position: int
    last_position: int


class Reads:
    """Answers from the store, within the caller's deadline."""

    def __init__(self, store: Store, progress: Progress, *, timeout_s: float) -> None:
        """`timeout_s`: for callers that set no deadline, and the most for those that do."""
        self._store, self._progress, self._timeout_s = store, progress, timeout_s

    def time_left_s(self, context: Any) -> float:
        """Return how long this call may take."""
        remaining = context.time_remaining()
        return self._timeout_s if remaining is None else max(0.0, min(self._timeout_s, remaining - MARGIN_S))

    async def reached(self, position: int, context: Any) -> None:
        """Wait until the store has `position`. Raises Unavailable when the deadline comes first."""
        if position < 0:
            raise InvalidArgument("at_least_position", found=position, expected="a position of the log, 0 = any")
        await self._progress.reach(position, timeout_s=self.time_left_s(context))

    async def rows(
        self, sql: str, parameters: Sequence[object] | Mapping[str, object], context: Any
    ) -> list[tuple[Any, ...]]:
        """Return the rows of a SELECT. Raises DeadlineExceeded and Unavailable."""
        timeout_s = self.time_left_s(context)
        try:
            async with asyncio.timeout(timeout_s):
                return await self._store.rows(sql, parameters)
        except TimeoutError:
            raise DeadlineExceeded("QUERY_TIMED_OUT", f"the answer was not ready within {timeout_s:.1f} s") from None
        except StoreFailed as error:
            raise Unavailable("PROJECTION_UNAVAILABLE", str(error)) from error

    async def span(self, session_id: str, context: Any) -> Span:
        """Return where the session's facts are. Raises NotFound when the store has none of them."""
        found = await self.rows(
            'SELECT first_position, "position" FROM core.sessions WHERE id = ?', [session_id], context
        )
        if not found:
            raise session_not_found(session_id)
        return Span(*found[0])
