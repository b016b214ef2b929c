"""Looking at a session without taking part: what was, up to a revision, and what happens, until somebody leaves."""

import contextlib

from podium.cli.client import Client
from podium.cli.following import View, watch
from podium.v1 import session_pb2
from podium.v1 import session_service_pb2 as api
from podium.v1.event_pb2 import Event

LOOKED_BACK_REVISIONS = 5_000
"""A turn that runs is shown from its start, unless that is longer ago."""


async def history(client: Client, session: str, view: View, *, at_revision: int | None = None) -> None:
    """Show all events up to a revision, else up to now. Raises PodiumError."""
    async with contextlib.aclosing(watch(client, session, 0)) as answers:
        async for answer in answers:
            for event in answer.events:
                if at_revision is not None and event.revision > at_revision:
                    return
                view.event(event)
            if answer.heartbeat.live:
                return


async def show_last_turn(client: Client, told: api.GetSessionResponse, view: View) -> None:
    """Show the newest turn of a session, as far as it has come."""
    first = max(0, told.session.revision - LOOKED_BACK_REVISIONS)
    last: list[Event] = []
    async with contextlib.aclosing(watch(client, told.session.name, first)) as answers:
        async for answer in answers:
            for event in answer.events:
                if event.HasField("turn_started"):
                    last.clear()
                last.append(event)
            if answer.heartbeat.live:
                break
    for event in last:
        view.event(event)


async def observe(
    client: Client, told: api.GetSessionResponse, view: View, *, after_revision: int | None, until_idle: bool
) -> session_pb2.TurnStatus.ValueType:
    """Show what happens, for ever or until no turn runs or waits; return how the last turn ended.

    Without `after_revision` it begins with the turn that runs, else with what comes next.
    """
    beginning = after_revision is None and told.running_turn_id
    first = told.session.revision if after_revision is None else after_revision
    if beginning:
        first = max(0, told.session.revision - LOOKED_BACK_REVISIONS)
    unfinished = _Unfinished()
    async with contextlib.aclosing(watch(client, told.session.name, first)) as answers:
        async for answer in answers:
            for event in answer.events:
                unfinished.take(event)
                if beginning and event.turn_id == told.running_turn_id:
                    beginning = ""
                if not beginning:
                    view.event(event)
            for delta in answer.deltas:
                view.delta(delta)
            if answer.heartbeat.live:
                view.live()
                unfinished.live(told)
            if until_idle and unfinished.is_idle:
                return unfinished.last
    return unfinished.last


class _Unfinished:
    """Which turns run or wait, and how the last one ended."""

    def __init__(self) -> None:
        self._turns: set[str] = set()
        self._over: set[str] = set()
        self._is_live = False
        self.last: session_pb2.TurnStatus.ValueType = session_pb2.TURN_STATUS_UNSPECIFIED

    @property
    def is_idle(self) -> bool:
        return self._is_live and not self._turns

    def live(self, told: api.GetSessionResponse) -> None:
        """All that was there was seen; turns that began before the first event are told by the session."""
        if not self._is_live:
            self._is_live = True
            self._turns |= {turn for turn in (told.running_turn_id, *told.queued_turn_ids) if turn} - self._over

    def take(self, event: Event) -> None:
        match event.WhichOneof("body"):
            case "turn_requested":
                self._turns.add(event.turn_id)
            case "turn_ended" | "turn_cancelled":
                self._turns.discard(event.turn_id)
                self._over.add(event.turn_id)
                cancelled = session_pb2.TURN_STATUS_CANCELLED
                self.last = event.turn_ended.status if event.HasField("turn_ended") else cancelled
            case _:
                pass
