"""From the feed's batches to transactions: as many events as pay, no older than a caller would notice."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from typing import Any, Protocol

from podium.eventlog import StoredAppend

EVENTS_ENOUGH = 500
"""Below this a transaction costs more than its rows."""

EVENTS_MAX = 5_000
BYTES_MAX = 32 * 1024 * 1024
LINGER_S = 0.2
"""How long few events wait for more."""


class Feed(Protocol):
    """What gives the appends, in the order of the log and without end."""

    async def __anext__(self) -> list[StoredAppend]:
        """Return the next ones, at least one."""


class Batches:
    """Cuts a feed into transactions. An async iterator; `close` when it is no longer asked.

    A batch is given out when it has EVENTS_MAX events or BYTES_MAX, when the next one is due (`LINGER_S` after its
    first append came), when somebody wants it (`wanted`), and from EVENTS_ENOUGH on whenever it is asked for: while
    one is being written the next grows by itself.
    """

    def __init__(self, feed: Feed, wanted: asyncio.Event, *, linger_s: float = LINGER_S) -> None:
        """Take where appends come from and how somebody says that he waits."""
        self._feed, self._wanted, self._linger_s = feed, wanted, linger_s
        self._waiting: deque[StoredAppend] = deque()
        self._events = 0
        self._arriving: asyncio.Future[list[StoredAppend]] | None = None

    @property
    def oldest_ns(self) -> int | None:
        """When the log stored the oldest append that waits here, nanoseconds since 1970; None = none waits."""
        return self._waiting[0].stored_at_ns if self._waiting else None

    @property
    def enough(self) -> bool:
        """Return whether the next batch is there already, so that asking for it waits for nothing."""
        return self._events >= EVENTS_ENOUGH

    def __aiter__(self) -> AsyncIterator[list[StoredAppend]]:
        return self

    async def __anext__(self) -> list[StoredAppend]:
        """Return the next transaction's appends, at least one. Raises what the feed raises."""
        while not self._waiting:
            await self._take(None)
        due = asyncio.get_running_loop().time() + self._linger_s
        while not self.enough and not self._wanted.is_set():
            if not await self._take(due):
                break
        self._wanted.clear()
        return list(self._cut())

    async def close(self) -> None:
        """Ask the feed no more. May run twice."""
        if self._arriving is not None:
            self._arriving.cancel()
            await asyncio.wait({self._arriving})
            self._arriving = None

    async def _take(self, due: float | None) -> bool:
        """Take what the feed has next; False when nothing came until `due` or somebody wants what there is."""
        if self._arriving is None:
            # Kept across calls: a feed that is asked and then not waited for must not lose what it answers.
            self._arriving = asyncio.ensure_future(self._feed.__anext__())
        timeout = None if due is None else max(0.0, due - asyncio.get_running_loop().time())
        wanted = asyncio.ensure_future(self._wanted.wait()) if due is not None else None
        try:
            awaited: set[asyncio.Future[Any]] = {self._arriving} if wanted is None else {self._arriving, wanted}
            await asyncio.wait(awaited, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if wanted is not None:
                wanted.cancel()
        if not self._arriving.done():
            return False
        arrived, self._arriving = self._arriving, None
        for append in arrived.result():
            self._waiting.append(append)
            self._events += events_in(append)
        return True

    def _cut(self) -> Iterator[StoredAppend]:
        events = size = 0
        while self._waiting:
            append = self._waiting[0]
            events += events_in(append)
            size += len(append.payload)
            # The first one goes in any case: an append is never divided.
            if events > events_in(append) and (events > EVENTS_MAX or size > BYTES_MAX):
                return
            self._waiting.popleft()
            self._events -= events_in(append)
            yield append


def events_in(append: StoredAppend) -> int:
    """Return how many events an append holds, from its headers."""
    return append.last_revision - append.first_revision + 1
