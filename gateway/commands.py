"""A command on its way: decided on the newest state, appended, answered; the same request twice is answered alike."""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.catalog import Catalog
from gateway.decide import Answer, Asked, Command, decide
from podium.clock import Clock
from podium.drafts import Draft
from podium.errors import AlreadyExists, NotFound, log_unavailable
from podium.eventlog import EventLog, StoredAppend, command
from podium.eventlog.content import LongContent
from podium.session import evolve, fold, id_of, seen
from podium.v1 import session_pb2 as s
from podium.v1 import session_service_pb2 as api
from podium.v1.event_pb2 import Event, TurnRequested
from podium.v1.session_pb2 import SessionState


@dataclass(frozen=True, slots=True)
class Done:
    """A command that took effect (now or before), or changed nothing: its answer, and the session's newest state."""

    answer: Answer
    state: SessionState


class _Repeated(Exception):
    """The request had its effect before."""


class Commands:
    """Runs commands against the log."""

    def __init__(self, log: EventLog, clock: Clock, content: LongContent) -> None:
        """Take the log, connected as gateway, and where long prompts go."""
        self._log = log
        self._clock = clock
        self._content = content

    async def run(self, request: Command, asked: Asked, catalog: Catalog) -> Done:
        """Return the answer to `request`; its facts are on the log.

        Raises what `decide` raises, AlreadyExists for a request id used with other content, Aborted or Unavailable when
        the log did not take it in time: asking again with the same request id is safe.
        """
        await self._move_long_prompt(request)
        answer: Answer | None = None

        def attempt(state: SessionState | None) -> list[Draft]:
            nonlocal answer
            if _was_asked(state, request, asked):
                raise _Repeated
            decision = decide(state, request, asked, catalog)
            answer = decision.answer
            return list(decision.drafts)

        try:
            result = await command(self._log, asked.session_id, attempt, clock=self._clock)
        except _Repeated:
            return await self._answered_before(request, asked)
        if answer is None or result.tail.state is None:
            raise log_unavailable("deciding", "the log found the request's facts but not its session")
        _complete(answer, result.position, result.events, result.tail.state)
        await self._look_back(request, answer, result.tail.state)
        return Done(answer, result.tail.state)

    async def _look_back(self, request: Command, answer: Answer, state: SessionState) -> None:
        """Find out about a turn that is neither running, waiting, nor the last one: how it ended, or NotFound."""
        match answer:
            case api.CancelTurnResponse(status=s.TURN_STATUS_UNSPECIFIED) if isinstance(request, api.CancelTurnRequest):
                answer.status = await self._status_of(state, request.turn_id)
            case api.InterruptTurnResponse(effect=api.INTERRUPT_EFFECT_NOTHING) if answer.turn_id != state.last_turn_id:
                if answer.turn_id:
                    await self._status_of(state, answer.turn_id)
            case _:
                pass

    async def _status_of(self, state: SessionState, turn_id: str) -> s.TurnStatus.ValueType:
        status = s.TURN_STATUS_UNSPECIFIED
        async for stored in self._log.history(id_of(state)):
            if stored.kinds & {"turn_requested", "turn_ended", "turn_cancelled"}:
                for event in stored.events:
                    status = _status_after(event) if event.turn_id == turn_id else status
        if not status:
            raise NotFound("TURN_NOT_FOUND", f"the session has no turn {turn_id}", turn=turn_id)
        return status

    async def _move_long_prompt(self, request: Command) -> None:
        """Put what is too long for the log into the object store; nobody refers to it if the request is refused."""
        if isinstance(request, api.StartTurnRequest | api.CreateSessionRequest):
            moved = (await self._content.out(Draft(TurnRequested(prompt=request.turn.prompt)))).body
            if isinstance(moved, TurnRequested) and request.HasField("turn"):
                del request.turn.prompt[:]
                request.turn.prompt.extend(moved.prompt)

    async def _answered_before(self, request: Command, asked: Asked) -> Done:
        """Decide again on the state that the request met, and answer with the facts it made."""
        before: SessionState | None = None
        async for stored in self._log.history(asked.session_id):
            mine = [event for event in stored.events if _caused_by(event, asked)]
            if mine:
                return await self._same_again(request, asked, before, stored, mine)
            before = stored.state
        raise log_unavailable("answering a repeated request", "its facts are not in the session's history")

    async def _same_again(
        self, request: Command, asked: Asked, before: SessionState | None, stored: StoredAppend, mine: list[Event]
    ) -> Done:
        if mine[0].request_fingerprint != asked.fingerprint:
            message = f"the request id {asked.request_id!r} was used before, for another request"
            raise AlreadyExists("REQUEST_ID_REUSED", message, request_id=asked.request_id)
        for event in stored.events:
            if event.revision < mine[0].revision:
                before = evolve(before, event)
        answer = decide(before, request, asked).answer
        _complete(answer, stored.position, mine, fold(before, mine))
        newest = await self._log.tail(asked.session_id)
        return Done(answer, newest.state or stored.state)


def _status_after(event: Event) -> s.TurnStatus.ValueType:
    if event.HasField("turn_ended"):
        return event.turn_ended.status
    return s.TURN_STATUS_CANCELLED if event.HasField("turn_cancelled") else s.TURN_STATUS_QUEUED


def _was_asked(state: SessionState | None, request: Command, asked: Asked) -> bool:
    if state is None:
        return False
    # The session's id is made from the request's: where it exists, this request has made it.
    made_it = isinstance(request, api.CreateSessionRequest)
    return made_it or seen(state, asked.principal, asked.request_id) is not None


def _caused_by(event: Event, asked: Asked) -> bool:
    return event.causation_id == asked.request_id and event.principal == asked.principal


def _complete(answer: Answer, position: int, events: Sequence[Event], state: SessionState) -> None:
    """Fill in what only the append knows: position, revision, the session after it."""
    answer.position = position
    match answer:
        case api.CreateSessionResponse() | api.UpdateSessionResponse():
            answer.session.CopyFrom(state.session)
        case api.StartTurnResponse():
            answer.revision = events[0].revision
        case _:
            pass
