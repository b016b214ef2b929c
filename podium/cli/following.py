"""Follows one session until its turn is over: shows what happens, answers what it asks, interrupts on Ctrl-C.

A watch that breaks (the gateway was restarted, we were too slow) goes on from the last revision that was seen.
"""

import asyncio
import contextlib
import signal
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from tenacity import AsyncRetrying, retry_if_exception, stop_after_delay, wait_random_exponential

from podium.cli.client import Client, request_id
from podium.errors import PodiumError
from podium.v1 import runner_pb2, session_pb2
from podium.v1 import session_service_pb2 as api
from podium.v1.event_pb2 import Event

GATEWAY_AWAY_S_MAX = 120.0
HEARTBEAT_S = 10
SILENT_S_MAX = 5.0
"""A turn that has not started after so long says why."""
BREAKS_MAX = 5
"""Watches in a row that break before they have shown anything new."""
_TRY_AGAIN = frozenset({"NOT_RUNNING", "WATCHER_TOO_SLOW", "SHUTTING_DOWN", "LOG_UNAVAILABLE", "CANCELLED"})


class View(Protocol):
    """Where a session is shown, and who answers its questions."""

    def event(self, event: Event) -> None:
        """Show an event."""
        ...

    def delta(self, delta: runner_pb2.Delta) -> None:
        """Show what is being said."""
        ...

    def live(self) -> None:
        """All that was there is shown. May be told more than once."""
        ...

    def notice(self, text: str) -> None:
        """Say something of the command's own."""
        ...

    def close(self) -> None:
        """Nothing more is shown; what was being asked is taken back."""
        ...


@dataclass(slots=True)
class Turn:
    """The turn that is followed, and how it ended."""

    session: str
    id: str
    status: session_pb2.TurnStatus.ValueType = session_pb2.TURN_STATUS_UNSPECIFIED
    left: bool = False
    """The person left before the end; the turn goes on."""


async def follow(client: Client, turn: Turn, after_revision: int, view: View) -> None:
    """Show the session until the turn is over or the person leaves; says in `turn` how it ended.

    The first Ctrl-C interrupts the turn, the second one leaves it to itself. Raises PodiumError.
    """
    watching = asyncio.ensure_future(until_over(client, turn, after_revision, view))
    with _interrupts(client, turn, view, watching):
        try:
            await watching
        except asyncio.CancelledError:
            if not turn.left:
                raise
        finally:
            view.close()


async def until_over(client: Client, turn: Turn, after_revision: int, view: View) -> None:
    """Show the session until the turn is over; says in `turn` how it ended. Raises PodiumError."""
    started = asyncio.Event()
    telling = asyncio.create_task(_tell_of_waiting(client, turn, view, started))
    try:
        await _shown_to_its_end(client, turn, after_revision, view, started)
    finally:
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)


async def _shown_to_its_end(
    client: Client, turn: Turn, after_revision: int, view: View, started: asyncio.Event
) -> None:
    async for answer in watch(client, turn.session, after_revision):
        for event in answer.events:
            view.event(event)
            if event.turn_id == turn.id and event.HasField("turn_started"):
                started.set()
            if event.turn_id == turn.id and event.WhichOneof("body") in ("turn_ended", "turn_cancelled"):
                cancelled = session_pb2.TURN_STATUS_CANCELLED
                turn.status = event.turn_ended.status if event.HasField("turn_ended") else cancelled
                return
        for delta in answer.deltas:
            view.delta(delta)
        if answer.heartbeat.live:
            view.live()


async def _tell_of_waiting(client: Client, turn: Turn, view: View, started: asyncio.Event) -> None:
    """Say what a turn waits for when it does not start: nobody likes an empty screen."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(SILENT_S_MAX):
            await started.wait()
            return
    told = await client.call(client.sessions.GetSession, api.GetSessionRequest(name=turn.session))
    if turn.id not in told.queued_turn_ids:
        return
    if told.running_turn_id or turn.id != told.queued_turn_ids[0]:
        view.notice("it waits for the turns before it")
    elif told.session.runner:
        view.notice(f"it waits for a free slot on {told.session.runner}")
    else:
        view.notice("no runner has taken it yet; `podium runners` shows who lives")


async def watch(
    client: Client, session: str, after_revision: int, *, deltas: bool = True
) -> AsyncGenerator[api.WatchSessionResponse, None]:
    """Yield what happens in a session after a revision, for ever, over breaks of the connection.

    Raises PodiumError when the session cannot be watched, or no gateway answers for GATEWAY_AWAY_S_MAX.
    """
    breaks = 0
    while True:
        request = api.WatchSessionRequest(
            session=session, after_revision=after_revision, include_deltas=deltas, heartbeat_s=HEARTBEAT_S
        )
        try:
            async with contextlib.aclosing(client.stream(client.sessions.WatchSession, request)) as answers:
                async for answer in answers:
                    breaks = 0
                    after_revision = answer.events[-1].revision if answer.events else after_revision
                    yield answer
        except PodiumError as error:
            breaks += 1
            if not _may_try_again(error) or breaks > BREAKS_MAX:
                raise
            await _until_it_answers(client, session)


async def _until_it_answers(client: Client, session: str) -> None:
    retries = AsyncRetrying(
        stop=stop_after_delay(GATEWAY_AWAY_S_MAX),
        wait=wait_random_exponential(multiplier=0.2, max=5),
        retry=retry_if_exception(_may_try_again),
        reraise=True,
    )
    async for attempt in retries:
        with attempt:
            await client.call(client.sessions.GetSession, api.GetSessionRequest(name=session), seconds=5.0)


def _may_try_again(error: BaseException) -> bool:
    return isinstance(error, PodiumError) and (error.reason in _TRY_AGAIN or error.code == "UNAVAILABLE")


@contextmanager
def _interrupts(client: Client, turn: Turn, view: View, watching: asyncio.Future[None]) -> Iterator[None]:
    """Turn Ctrl-C into an interrupt of the turn, and a second one into leaving."""
    asked: list[asyncio.Task[None]] = []

    def pressed() -> None:
        if asked:
            turn.left = True
            watching.cancel()
            return
        view.notice("interrupting the turn; Ctrl-C again leaves it to itself")
        asked.append(asyncio.create_task(_interrupt(client, turn, view)))

    loop, before = asyncio.get_running_loop(), signal.getsignal(signal.SIGINT)
    loop.add_signal_handler(signal.SIGINT, pressed)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        signal.signal(signal.SIGINT, before)
        for task in asked:
            task.cancel()


async def _interrupt(client: Client, turn: Turn, view: View) -> None:
    request = api.InterruptTurnRequest(
        request_id=request_id(), session=turn.session, turn_id=turn.id, reason="Ctrl-C in podium"
    )
    try:
        await client.call(client.sessions.InterruptTurn, request)
    except PodiumError as error:
        view.notice(f"the turn could not be interrupted: {error.message}")
