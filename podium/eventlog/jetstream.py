"""How what lies beside the facts is written and read: one message acknowledged, the newest of many, all of some."""

import asyncio
import base64
import contextlib
import random
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from nats.aio.msg import Msg

from podium.errors import log_unavailable
from podium.eventlog.link import ApiError, Link, LinkError, status_of

EXPECTED = "Nats-Expected-Last-Subject-Sequence"
TTL = "Nats-TTL"
NEWEST_MAX = 1024
"""The server answers at most so many subjects at once (413 above)."""

_WRONG_LAST_SEQUENCE, _WRONG_LAST_SEQUENCE_IN_FLIGHT = 10071, 10164
_NO_MESSAGE_FOUND = 10037
_IN_FLIGHT_ATTEMPTS_MAX = 40
_IN_FLIGHT_PAUSE_S = (0.002, 0.010)
_BATCH_MESSAGES, _BATCH_BYTES = 256, 4 * 1024 * 1024
_END_OF_BATCH, _NOTHING_FOUND = 204, 404


class NotTheNewest(Exception):
    """The subject's newest message is not the expected one."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A message of a stream; `time` is RFC 3339 as the server writes it."""

    subject: str
    sequence: int
    time: str
    headers: Mapping[str, str]
    payload: bytes


@contextlib.contextmanager
def log_needed(doing: str) -> Iterator[None]:
    """Turn what a link raises into Unavailable, which says what was being done."""
    try:
        yield
    except LinkError as error:
        raise log_unavailable(doing, error) from error


async def store(
    link: Link,
    subject: str,
    payload: bytes,
    *,
    headers: Mapping[str, str] | None = None,
    expected: int | None = None,
    ttl_s: int | None = None,
    timeout_s: float | None = None,
) -> int:
    """Store one message and return its sequence once the server has it.

    `expected`: the sequence of the subject's newest message, 0 = none; else NotTheNewest is raised. `ttl_s`: whole
    seconds, at least 1, after which the server forgets it. Raises LinkError; after NoAnswer it may be stored.
    """
    sent = dict(headers or {})
    if expected is not None:
        sent[EXPECTED] = str(expected)
    if ttl_s is not None:
        sent[TTL] = f"{ttl_s}s"
    for _ in range(_IN_FLIGHT_ATTEMPTS_MAX):
        answer = await link.request(subject, payload, headers=sent or None, timeout_s=timeout_s)
        content: dict[str, Any] = orjson.loads(answer.data)
        error = content.get("error")
        if error is None:
            return int(content["seq"])
        match error.get("err_code"):
            case int(code) if code == _WRONG_LAST_SEQUENCE:
                raise NotTheNewest(error.get("description", ""))
            case int(code) if code == _WRONG_LAST_SEQUENCE_IN_FLIGHT:
                # R3: another message of the subject is just being replicated; its fate decides about ours.
                await asyncio.sleep(random.uniform(*_IN_FLIGHT_PAUSE_S))  # noqa: S311 - spreads retries, guards nothing
            case code:
                raise ApiError(error.get("code", 0), code or 0, error.get("description", ""))
    raise NotTheNewest("another message of the subject stays in flight")


async def newest_at_leader(link: Link, stream: str, subject: str) -> Stored | None:
    """Return the subject's newest message as the stream's leader has it, None when there is none."""
    try:
        content = await link.api(f"STREAM.MSG.GET.{stream}", {"last_by_subj": subject})
    except ApiError as error:
        if error.err_code == _NO_MESSAGE_FOUND:
            return None
        raise
    message = content["message"]
    return Stored(
        subject=message["subject"],
        sequence=message["seq"],
        time=message["time"],
        headers=_parsed_headers(base64.b64decode(message.get("hdrs", ""))),
        payload=base64.b64decode(message.get("data", "")),
    )


async def newest(link: Link, stream: str, subjects: Sequence[str]) -> list[Stored]:
    """Return the newest message of each subject that matches; any replica answers, so it may lag a little.

    Raises ApiError when more than NEWEST_MAX subjects match.
    """
    return await _direct_get(link, stream, {"multi_last": list(subjects), "batch": NEWEST_MAX})


async def all_messages(link: Link, stream: str, subject: str) -> AsyncIterator[Stored]:
    """Yield what is stored on the subjects that match, oldest first; any replica answers."""
    first = 1
    while True:
        query = {"seq": first, "next_by_subj": subject, "batch": _BATCH_MESSAGES, "max_bytes": _BATCH_BYTES}
        batch = await _direct_get(link, stream, query)
        if not batch:
            return
        for message in batch:
            yield message
        first = batch[-1].sequence + 1


async def _direct_get(link: Link, stream: str, query: Mapping[str, Any]) -> list[Stored]:
    answers = await link.request_many(f"$JS.API.DIRECT.GET.{stream}", orjson.dumps(query), is_last=_ends_batch)
    status = status_of(answers[-1])
    if status not in (_END_OF_BATCH, _NOTHING_FOUND):
        raise ApiError(status, 0, (answers[-1].headers or {}).get("Description", ""))
    return [_from_headers(message) for message in answers[:-1]]


def _ends_batch(message: Msg) -> bool:
    return status_of(message) != 0


def _from_headers(message: Msg) -> Stored:
    headers = message.headers or {}
    return Stored(
        subject=headers["Nats-Subject"],
        sequence=int(headers["Nats-Sequence"]),
        time=headers["Nats-Time-Stamp"],
        headers=headers,
        payload=message.data,
    )


def _parsed_headers(block: bytes) -> dict[str, str]:
    """Return the fields of a `NATS/1.0` header block."""
    lines = block.decode("utf-8", errors="replace").split("\r\n")[1:]
    return {
        name.strip(): value.strip() for name, separator, value in (line.partition(":") for line in lines) if separator
    }
