"""What the endpoint was asked and when: a bounded record that tests and the demo can wait on.

All `_s` times are `time.monotonic()` of this process, in seconds; None means it has not happened.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Final

import orjson

from podium.scripted_model.environment import DUMMY_KEY

# About four hundred model steps of Claude Code (60 KB to 160 KB each); more would only fill memory.
KEEP_REQUESTS: Final = 512
KEEP_BYTES: Final = 64 * 1024 * 1024

SECRET_HEADERS: Final = ("x-api-key", "authorization", "proxy-authorization", "cookie")
REDACTED: Final = "<redacted>"


@dataclass(slots=False, kw_only=True, eq=False)
class RecordedRequest:
    """One request, filled in as it is answered."""

    number: int  # from 1, in order of arrival
    method: str
    path: str  # with the query
    headers: Mapping[str, str]  # names in lower case; keys other than the dummy one are redacted
    body_bytes: bytes
    received_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    received_s: float = field(default_factory=time.monotonic)
    session: str = ""
    agent: str = ""
    prompt: str = ""
    scenario: str = ""
    turn: int = 0
    step: int = 0
    attempt: int = 0
    status: int | None = None
    headers_sent_s: float | None = None
    first_byte_s: float | None = None  # of the body
    pieces_sent: int = 0
    finished_s: float | None = None  # the answer is over: complete, or dropped because the script says so
    dropped: bool = False  # the script closed the connection in mid-answer
    closed_s: float | None = None  # the client's end of the connection was seen to be closed
    closed_early: bool = False  # the client closed before the answer was over

    @cached_property
    def body(self) -> Any:
        """The JSON body, or None when it is not JSON."""
        try:
            return orjson.loads(self.body_bytes)
        except orjson.JSONDecodeError:
            return None

    @property
    def user_agent(self) -> str:
        """Names the client and its version: `claude-cli/2.1.330 (external, sdk-py, agent-sdk/0.2.187)`."""
        return self.headers.get("user-agent", "")

    def view(self) -> dict[str, Any]:
        """The record as JSON values, without the body."""
        hidden = ("body_bytes", "body")
        view = {name: value for name, value in vars(self).items() if name not in hidden}
        return {**view, "received_at": self.received_at.isoformat(), "body_size_bytes": len(self.body_bytes)}


class RequestLog:
    """The last requests, oldest first, and a way to wait for a fact about one of them."""

    def __init__(self, *, keep_requests: int = KEEP_REQUESTS, keep_bytes: int = KEEP_BYTES) -> None:
        self._keep_requests: Final = keep_requests
        self._keep_bytes: Final = keep_bytes
        self._requests: Final[deque[RecordedRequest]] = deque()
        self._bytes = 0
        self._count = 0
        self._waiting: Final[set[asyncio.Event]] = set()

    @property
    def count(self) -> int:
        """How many requests came in all, forgotten ones included."""
        return self._count

    def all(self) -> tuple[RecordedRequest, ...]:
        """The requests that are still kept, oldest first."""
        return tuple(self._requests)

    def open(self, *, method: str, path: str, headers: Mapping[str, str], body: bytes) -> RecordedRequest:
        """Record a request that has just come in; the oldest ones go when there are too many."""
        self._count += 1
        request = RecordedRequest(
            number=self._count, method=method, path=path, headers=_redact(headers), body_bytes=body
        )
        self._requests.append(request)
        self._bytes += len(body)
        while len(self._requests) > self._keep_requests or (self._bytes > self._keep_bytes and len(self._requests) > 1):
            self._bytes -= len(self._requests.popleft().body_bytes)
        self.changed()
        return request

    def changed(self) -> None:
        """Tell those who wait that a record has changed."""
        for event in self._waiting:
            event.set()

    async def wait_for(self, predicate: Callable[[RecordedRequest], bool], deadline_s: float) -> RecordedRequest:
        """The first kept request for which `predicate` holds, now or later.

        Raises TimeoutError after `deadline_s` seconds, with what was recorded until then.
        """
        event = asyncio.Event()
        self._waiting.add(event)
        try:
            async with asyncio.timeout(deadline_s):
                while True:
                    event.clear()
                    for request in self._requests:
                        if predicate(request):
                            return request
                    await event.wait()
        except TimeoutError:
            raise TimeoutError(f"no such request within {deadline_s} s; recorded: {self._summary()}") from None
        finally:
            self._waiting.discard(event)

    def _summary(self) -> str:
        last = list(self._requests)[-10:]
        lines = (
            f"#{r.number} {r.method} {r.path} -> {r.status} {r.scenario}/{r.turn}/{r.step} "
            f"pieces={r.pieces_sent} finished={r.finished_s is not None} closed_early={r.closed_early}"
            for r in last
        )
        return "; ".join(lines) or "nothing"


def _redact(headers: Mapping[str, str]) -> dict[str, str]:
    return {
        name: REDACTED if name in SECRET_HEADERS and DUMMY_KEY not in value else value
        for name, value in headers.items()
    }
