"""Reading one session: its newest message and single messages from the leader, its history by batch direct get.

A direct get may be answered by a replica that lags behind (17 stale answers in 3,600 after an acknowledged write),
so nothing is decided on one: history is read up to a position that the leader named.
"""

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Any

import orjson
from nats.aio.msg import Msg

from podium.errors import Unavailable, log_unavailable
from podium.eventlog.client import parse_headers
from podium.eventlog.layout import EVENTS, events_subject, session_of
from podium.eventlog.link import ApiError, Link, LinkError, status_of
from podium.eventlog.stored import StoredAppend, Tail
from podium.session import VERSION, fold
from podium.v1.session_pb2 import SessionState

NO_MESSAGE_FOUND = 10037
BATCH_MESSAGES = 512
BATCH_BYTES = 4 * 1024 * 1024
REPLICA_PAUSE_S = 0.02
REPLICA_RETRIES_MAX = 50
"""A replica that does not catch up within a second is given up on; the leader is asked message by message."""


async def tail(link: Link, session_id: str) -> Tail:
    """Return the session's newest position and state, from the leader. Raises Unavailable."""
    message = await _leader_get(link, {"last_by_subj": events_subject(session_id)})
    if message is None:
        return Tail(0, None)
    if message.state.version == VERSION:
        return Tail(message.position, message.state)
    return Tail(message.position, await _folded(link, message))


async def message_after(link: Link, session_id: str, position: int) -> StoredAppend | None:
    """Return the session's first message after a position, from the leader; None = nothing there yet.

    Raises Unavailable.
    """
    return await _leader_get(link, {"seq": position + 1, "next_by_subj": events_subject(session_id)})


async def last_position(link: Link) -> int:
    """Return the position of the newest message of all sessions. Raises Unavailable."""
    try:
        info = await link.api(f"STREAM.INFO.{EVENTS}")
    except LinkError as error:
        raise log_unavailable("asking for the newest position", error) from error
    return int(info["state"]["last_seq"])


async def history(
    link: Link, session_id: str, *, after_revision: int = 0, after_position: int = 0, up_to_position: int | None = None
) -> AsyncIterator[StoredAppend]:
    """Yield the session's messages, oldest first, up to a position (default: the newest now).

    `after_revision`: messages that hold nothing newer are left out; the first one may begin before it.
    `after_position`: start after this message; saves reading what is known.
    Raises Unavailable; a caller that goes on later starts after the last position it got.
    """
    end = (await tail(link, session_id)).position if up_to_position is None else up_to_position
    position, stale = after_position, 0
    while position < end:
        batch = await _direct_batch(link, session_id, position + 1)
        for message in batch:
            if message.position > end:
                return
            position = message.position
            if message.last_revision > after_revision:
                yield message
        stale = 0 if batch else stale + 1
        if stale > REPLICA_RETRIES_MAX:
            raise log_unavailable("reading history", f"no replica has message {end} of session {session_id}")
        if stale:
            await asyncio.sleep(REPLICA_PAUSE_S)


async def _folded(link: Link, newest: StoredAppend) -> SessionState:
    """Return the state by this program's own fold, for a message that another version of it wrote."""
    state: SessionState | None = None
    async for message in history(link, newest.session_id, up_to_position=newest.position):
        state = fold(state, message.events)
    return fold(state, ())


async def _leader_get(link: Link, query: dict[str, Any]) -> StoredAppend | None:
    try:
        content = await link.api(f"STREAM.MSG.GET.{EVENTS}", query)
    except ApiError as error:
        if error.err_code == NO_MESSAGE_FOUND:
            return None
        raise log_unavailable("reading", error) from error
    except LinkError as error:
        raise log_unavailable("reading", error) from error
    message = content["message"]
    return StoredAppend(
        position=message["seq"],
        session_id=session_of(message["subject"]),
        # Without its first line, NATS/1.0.
        headers=parse_headers(base64.b64decode(message.get("hdrs", "")).partition(b"\r\n")[2]),
        payload=base64.b64decode(message.get("data", "")),
        stored_at=message["time"],
    )


async def _direct_batch(link: Link, session_id: str, first: int) -> list[StoredAppend]:
    query = {
        "seq": first,
        "next_by_subj": events_subject(session_id),
        "batch": BATCH_MESSAGES,
        "max_bytes": BATCH_BYTES,
    }
    try:
        answers = await link.request_many(f"$JS.API.DIRECT.GET.{EVENTS}", orjson.dumps(query), is_last=_ends_batch)
    except LinkError as error:
        raise log_unavailable("reading history", error) from error
    status = status_of(answers[-1])
    if status not in (204, 404):
        raise Unavailable(
            "LOG_UNAVAILABLE", f"reading history was refused: {(answers[-1].headers or {}).get('Description')}"
        )
    return [stored_from_headers(message) for message in answers[:-1]]


def _ends_batch(message: Msg) -> bool:
    return status_of(message) != 0


def stored_from_headers(message: Msg) -> StoredAppend:
    """Return a message whose place on the log is in its headers: a direct get's or a republished one."""
    headers = message.headers or {}
    return StoredAppend(
        position=int(headers["Nats-Sequence"]),
        session_id=session_of(headers["Nats-Subject"]),
        headers=headers,
        payload=message.data,
        stored_at=headers["Nats-Time-Stamp"],
    )
