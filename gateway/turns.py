"""What became of a turn, from the events of its session."""

from collections.abc import AsyncIterator

from podium.errors import log_unavailable
from podium.eventlog.content import LongContent
from podium.session import add_usage, prompt_text
from podium.v1 import event_pb2 as e
from podium.v1 import session_pb2 as s
from podium.v1 import session_service_pb2 as api

PROMPT_SHOWN_LENGTH = 4096


async def outcome(
    events: AsyncIterator[e.Event], session: str, turn_id: str, content: LongContent
) -> api.RunTurnResponse:
    """Return the turn once it has ended; `events` are the session's, from its request on.

    Long answers come back whole. Raises BlobError, Unavailable.
    """
    view = TurnView(session, turn_id)
    async for event in events:
        view.see(event)
        if view.over:
            view.response.final_text = text_of(await content.back(view.answer))
            view.response.structured_output_json = (await content.back(view.ended)).structured_output_json
            return view.response
    raise log_unavailable("waiting for a turn", "the session's events ended before the turn")


def text_of(message: e.Message) -> str:
    """Return the text of a message, without its thinking and tool calls."""
    return "".join(block.text.text for block in message.content if block.HasField("text"))


class TurnView:
    """A turn, folded from its session's events."""

    def __init__(self, session: str, turn_id: str) -> None:
        """Take the turn to look at."""
        self.response = api.RunTurnResponse(turn=api.Turn(id=turn_id, session=session))
        self.over = False
        self.answer = e.Message()
        """The agent's newest message with text; a long text may be shortened."""
        self.ended = e.TurnEnded()
        """How it ended; a long structured answer may be missing."""

    def see(self, event: e.Event) -> None:
        """Take the next event; those of other turns change nothing, but for the model that the client reports."""
        turn = self.response.turn
        if event.HasField("provider_bound"):
            turn.resolved_model = event.provider_bound.resolved_model
        if event.turn_id != turn.id:
            return
        self.response.revision = event.revision
        match event.WhichOneof("body"):
            case "turn_requested":
                self._requested(event)
            case "turn_started":
                turn.status = s.TURN_STATUS_RUNNING
                turn.started_at.CopyFrom(event.created_at)
                turn.model, turn.effort = event.turn_started.model, event.turn_started.effort
                turn.runner = event.runner
            case "message":
                self._said(event)
            case "usage":
                add_usage(turn.tokens, event.usage)
            case "turn_cancelled":
                self._end(event, s.TURN_STATUS_CANCELLED, event.turn_cancelled.reason)
            case "turn_ended":
                self._ended(event)
            case _:
                pass

    def _requested(self, event: e.Event) -> None:
        turn, requested = self.response.turn, event.turn_requested
        turn.status = s.TURN_STATUS_QUEUED
        turn.prompt = prompt_text(requested.prompt)[:PROMPT_SHOWN_LENGTH]
        turn.model, turn.effort = requested.model, requested.effort
        turn.principal, turn.revision = event.principal, event.revision
        turn.requested_at.CopyFrom(event.created_at)

    def _said(self, event: e.Event) -> None:
        """Keep the newest text of the agent itself: what a sub-agent says is not the answer."""
        message = event.message
        if message.role == e.ROLE_ASSISTANT and text_of(message) and not event.parent_tool_use_id:
            self.answer = message

    def _ended(self, event: e.Event) -> None:
        self.ended = ended = event.turn_ended
        turn = self.response.turn
        self._end(event, ended.status, ended.reason)
        if ended.HasField("problem"):
            turn.problem.CopyFrom(ended.problem)
        if ended.HasField("provider_cost_microusd"):
            turn.tokens.provider_cost_microusd += ended.provider_cost_microusd

    def _end(self, event: e.Event, status: s.TurnStatus.ValueType, reason: str) -> None:
        turn = self.response.turn
        turn.status, turn.reason = status, reason
        turn.ended_at.CopyFrom(event.created_at)
        self.over = True
