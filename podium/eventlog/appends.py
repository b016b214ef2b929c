"""The guarded append: one message, taken only if nothing was appended to the session since the author looked.

What the server's answers mean (nats-server 2.15.1, server/errors.json):

    stream and sequence   stored there
    10071                 something was appended in between, or this very message was (its first answer got lost)
    10164                 another append to the session is just being replicated (R3): its fate is open, ask again
    503, no responders    no leader now
    no answer             it may have been stored
"""

import asyncio
import random
from collections.abc import Sequence

import orjson

from podium.errors import Unavailable, log_unavailable
from podium.eventlog.layout import EVENTS, events_subject
from podium.eventlog.link import Link, LinkError, NoAnswer
from podium.eventlog.stored import AppendTooLarge, encode
from podium.v1.event_pb2 import Event
from podium.v1.session_pb2 import SessionState

EXPECTED_POSITION = "Nats-Expected-Last-Subject-Sequence"
EXPECTED_STREAM = "Nats-Expected-Stream"
WRONG_LAST_SEQUENCE = 10071
WRONG_LAST_SEQUENCE_IN_FLIGHT = 10164
MESSAGE_TOO_LARGE = 10054
IN_FLIGHT_RETRIES_MAX = 40
IN_FLIGHT_PAUSE_S = (0.002, 0.010)


class Conflict(Exception):
    """Something was appended to the session after the expected position; read the tail and decide again."""

    def __init__(self, session_id: str, expected: int) -> None:
        """Say which guard failed."""
        super().__init__(f"session {session_id}: the newest message is not the one at {expected}")
        self.session_id, self.expected = session_id, expected


class InDoubt(Unavailable):
    """No answer came: the append may have been stored. Look at the message after `expected` before anything else."""

    def __init__(self, error: Exception) -> None:
        """Say what was seen of it."""
        super().__init__("LOG_UNAVAILABLE", f"it is not known whether the log took an append: {error}")


async def append(link: Link, session_id: str, events: Sequence[Event], state: SessionState, *, expected: int) -> int:
    """Store the events after the message at `expected` (0 = none yet) and return their position.

    Raises Conflict when another message is there, InDoubt when no answer came, Unavailable when it was not stored,
    AppendTooLarge.
    """
    headers, payload = encode(events, state)
    headers[EXPECTED_POSITION] = str(expected)
    for _ in range(IN_FLIGHT_RETRIES_MAX):
        position = await _publish(link, session_id, headers, payload, expected)
        if position is not None:
            return position
        await asyncio.sleep(random.uniform(*IN_FLIGHT_PAUSE_S))  # noqa: S311  # spreads retries, guards nothing
    raise log_unavailable("appending", "another append to the session stays in flight")


async def _publish(link: Link, session_id: str, headers: dict[str, str], payload: bytes, expected: int) -> int | None:
    try:
        answer = await link.request(events_subject(session_id), payload, headers=headers)
    except NoAnswer as error:
        raise InDoubt(error) from error
    except LinkError as error:
        raise log_unavailable("appending", error) from error
    content = orjson.loads(answer.data)
    refusal = content.get("error")
    if refusal is None:
        if content["stream"] != EVENTS:
            raise log_unavailable("appending", f"stream {content['stream']} took it instead of {EVENTS}")
        return int(content["seq"])
    match refusal.get("err_code"):
        case int(code) if code == WRONG_LAST_SEQUENCE:
            raise Conflict(session_id, expected)
        case int(code) if code == WRONG_LAST_SEQUENCE_IN_FLIGHT:
            return None
        case int(code) if code == MESSAGE_TOO_LARGE:
            raise AppendTooLarge(f"{len(payload)} bytes: {refusal.get('description')}")
        case _:
            raise log_unavailable("appending", f"{refusal.get('description')} (err_code {refusal.get('err_code')})")
