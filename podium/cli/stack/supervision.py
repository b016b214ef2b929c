"""Keeps one service running: starts it again when it ends, a bounded number of times, with growing pauses."""

import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt, wait_exponential

from podium.cli.failures import CliError
from podium.errors import PodiumError

RESTARTS_MAX = 5
"""In a row: a service that then ran for STABLE_S begins with a clean record."""
STABLE_S = 60.0
PAUSE_S_MAX = 10.0


class Service(Protocol):
    """What can be kept running."""

    name: str

    async def start(self) -> None:
        """Start it; it has not ended before."""
        ...

    async def wait(self) -> int:
        """Return its exit status once it has ended."""
        ...

    def said(self) -> str:
        """Return the last it said."""
        ...


class Ended(Exception):
    """A service ended that nobody had told to."""

    def __init__(self, status: int) -> None:
        """Take its exit status."""
        super().__init__(f"ended with status {status}")
        self.status = status


async def keep(
    service: Service, notice: Callable[[str], None], *, stable_s: float = STABLE_S, pause_s: float = 0.5
) -> None:
    """Watch a service that runs, and start it again whenever it ends, until cancelled.

    Raises CliError SERVICE_FAILED when it ended RESTARTS_MAX times without running for `stable_s` in between, and
    the PodiumError of its last start when it could not be started so often.
    """

    def tell(attempt: RetryCallState) -> None:
        pause = attempt.next_action.sleep if attempt.next_action is not None else 0.0
        error = attempt.outcome.exception() if attempt.outcome is not None else None
        what = error if isinstance(error, Ended) else f"cannot be started: {error}"
        notice(f"{service.name} {what}; starting it again in {pause:.1f} s")

    start: Callable[[], Awaitable[None]] | None = None
    while True:
        attempts = AsyncRetrying(
            stop=stop_after_attempt(RESTARTS_MAX + 1),
            wait=wait_exponential(multiplier=pause_s, max=PAUSE_S_MAX),
            retry=retry_if_exception_type((Ended, PodiumError)),
            before_sleep=tell,
            reraise=True,
        )
        try:
            async for attempt in attempts:
                with attempt:
                    if start is not None:
                        await start()
                    start = service.start
                    await _run_to_its_end(service, stable_s)
        except Ended as ended:
            raise failed(service, ended.status, f"{RESTARTS_MAX} restarts did not help") from None


async def _run_to_its_end(service: Service, stable_s: float) -> None:
    """Raise Ended when the service ends early; one that ran long enough ends without a mark on its record."""
    began = time.monotonic()
    status = await service.wait()
    if time.monotonic() - began < stable_s:
        raise Ended(status)


def failed(service: Service, status: int, why: str) -> CliError:
    """Return the error for a service that cannot be kept running, with its last words."""
    return _with_last_words(service, f"{service.name} ended with status {status}; {why}")


def never_ready(service: Service, seconds: float) -> CliError:
    """Return the error for a service that runs and cannot be used."""
    return _with_last_words(service, f"{service.name} was not ready after {seconds:.0f} s")


def _with_last_words(service: Service, message: str) -> CliError:
    said = service.said()
    if said:
        message += f". The last it said:\n{said}"
    return CliError("SERVICE_FAILED", message, "Read the whole log in the data folder's logs/.", service=service.name)
