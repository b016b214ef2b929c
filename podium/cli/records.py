"""A session's events for programs: as they are, or as the messages of docs/messages.md."""

from typing import Any

import orjson

from podium import messages
from podium.cli import output, shapes
from podium.session import add_usage
from podium.v1 import runner_pb2, session_pb2
from podium.v1.event_pb2 import Event


class _Silent:
    """A view that shows nothing of its own."""

    def delta(self, delta: runner_pb2.Delta) -> None:
        """Leave it out."""

    def live(self) -> None:
        """Nothing changes."""

    def notice(self, text: str) -> None:
        """Leave it out."""

    def close(self) -> None:
        """Nothing is open."""


class Raw(_Silent):
    """Writes each event as one JSON object on a line of its own."""

    def event(self, event: Event) -> None:
        """Write an event."""
        output.write_json(shapes.event(event), lines=True)


class Messages(_Silent):
    """Collects messages, and a `result` for each turn that ended."""

    def __init__(self) -> None:
        """Begin with none."""
        self.messages: list[dict[str, Any]] = []
        self._tokens: dict[str, session_pb2.TokenTotals] = {}

    def event(self, event: Event) -> None:
        """Take an event."""
        value = message(event, self._tokens)
        if value is not None:
            self.messages.append(value)


def message(event: Event, tokens: dict[str, session_pb2.TokenTotals]) -> dict[str, Any] | None:
    """Return a message, or a turn's end as `result`, None for other events; `tokens` sums up usage by turn."""
    match event.WhichOneof("body"):
        case "message":
            said: dict[str, Any] = orjson.loads(messages.message_json(event))
            return said | {"turn_id": event.turn_id, "revision": event.revision}
        case "usage":
            add_usage(tokens.setdefault(event.turn_id, session_pb2.TokenTotals()), event.usage)
        case "turn_ended":
            return _result(event, tokens) | shapes.plain(event.turn_ended)
        case "turn_cancelled":
            return _result(event, tokens) | {"status": "cancelled", "reason": event.turn_cancelled.reason}
        case _:
            pass
    return None


def _result(event: Event, tokens: dict[str, session_pb2.TokenTotals]) -> dict[str, Any]:
    totals = tokens.pop(event.turn_id, session_pb2.TokenTotals())
    value: dict[str, Any] = orjson.loads(messages.result_json(event.session_id, totals))
    return value | {"turn_id": event.turn_id, "revision": event.revision}
