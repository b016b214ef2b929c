"""Reads of the log that go on trying while it is away: a hiccup of the broker must not cost a turn."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from podium.errors import Unavailable

T = TypeVar("T")

_pause = wait_random_exponential(multiplier=0.05, max=1.0)


async def patiently(read: Callable[[], Awaitable[T]], outage_s: float) -> T:
    """Return what `read` returns once the log answers. Raises Unavailable after `outage_s`, and what `read` raises."""
    retrying = AsyncRetrying(
        retry=retry_if_exception_type(Unavailable), stop=stop_after_delay(outage_s), wait=_pause, reraise=True
    )

    async def once() -> T:
        # tenacity awaits what it can see to be a coroutine function: a lambda is none.
        return await read()

    return await retrying(once)
