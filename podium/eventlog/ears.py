"""What a session's owner hears of others: that something was appended, and that one asks it to wait.

Hearing only leaves marks; the owner acts on them when it comes to it.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

from nats.aio.msg import Msg
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from podium.errors import log_unavailable
from podium.eventlog.layout import live_subject, yield_subject
from podium.eventlog.link import Link, LinkError, NoAnswer, NotConnected
from podium.eventlog.reads import stored_from_headers

YIELD_S = 0.25
"""A gateway that asked for a pause has appended within a few milliseconds, or has gone."""


class Ears:
    """The marks.

    Attributes:
        stale: the newest message may be one the owner does not know.
        expecting: an append is on its way; what is heard now may be just that one.
    """

    def __init__(self, position: int, wake: Callable[[], None]) -> None:
        """Know everything up to `position`; `wake` is called when there is something to look at."""
        self.stale = False
        self.expecting = False
        self._known_position = position
        self._wake = wake
        self._foreign = asyncio.Event()
        self._yield_until, self._may_yield = 0.0, True

    @contextlib.asynccontextmanager
    async def open(self, link: Link, session_id: str, outage_s: float) -> AsyncIterator[None]:
        """Listen while the block runs. Raises Unavailable when the log was away longer than `outage_s`."""
        retrying = AsyncRetrying(
            retry=retry_if_exception_type((NotConnected, NoAnswer)),
            stop=stop_after_delay(outage_s),
            wait=wait_random_exponential(multiplier=0.02, max=1.0),
            reraise=True,
        )
        try:
            around: contextlib.AsyncExitStack = await retrying(self._listen, link, session_id)
        except LinkError as error:
            raise log_unavailable("listening for what others append", error) from error
        async with around:
            # What was appended before the subscription was there is not heard.
            self.look_again()
            yield

    async def _listen(self, link: Link, session_id: str) -> contextlib.AsyncExitStack:
        await link.wait_connected(1.0)
        async with contextlib.AsyncExitStack() as around:
            await around.enter_async_context(
                link.subscribe(live_subject(session_id), self._appended, on_missed=self.look_again)
            )
            await around.enter_async_context(link.subscribe(yield_subject(session_id), self._asked_to_yield))
            return around.pop_all()

    def look_again(self) -> None:
        """Mark what is known as doubtful."""
        self.stale = True
        self._wake()

    def know(self, position: int) -> None:
        """Take note that the owner has seen everything up to `position`."""
        self._known_position = max(self._known_position, position)

    def stored(self, position: int) -> None:
        """Take note that the own append is stored at `position`."""
        self._may_yield = True
        if self._known_position > position:
            # Heard while it was on its way, and not it: something came right behind it.
            self.look_again()
        self.know(position)

    def found_foreign(self) -> None:
        """Take note that somebody else has appended: no pause is needed any more."""
        self._foreign.set()

    async def pause_if_asked(self) -> bool:
        """Wait until somebody else has appended, or the time for it is over; return whether there was a pause."""
        wait_s = self._yield_until - time.monotonic()
        if wait_s <= 0 or not self._may_yield:
            return False
        self._may_yield = False
        self._foreign.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._foreign.wait()
        return True

    def _appended(self, message: Msg) -> None:
        position = stored_from_headers(message).position
        if position <= self._known_position:
            return
        self._known_position = position
        # While an append is on its way the answer, or the conflict, will tell.
        if not self.expecting:
            self.found_foreign()
            self.look_again()

    def _asked_to_yield(self, _: Msg) -> None:
        # One pause, then at least one append: gateways must not keep an owner from writing.
        if self._may_yield:
            self._yield_until = time.monotonic() + YIELD_S
