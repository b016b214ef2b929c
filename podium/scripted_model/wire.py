"""What a wire format must offer so that the server can play a script over it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from podium.scripted_model.script import Conversation, HttpError, Reply


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request for a model step."""

    conversation: Conversation
    streamed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Plain:
    """An answer that needs no script: a token count, a probe, a refusal."""

    status: int
    payload: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Frame:
    """Bytes to send in one go. A piece is one delta of content: pace, stall and drop count pieces."""

    data: bytes
    is_piece: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """A whole response with a body of known length."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class WireFormat(Protocol):
    """One vendor's HTTP interface. All methods are pure; `response_id` is unique per request."""

    @property
    def routes(self) -> tuple[str, ...]:
        """The methods and paths served, for the 404 that names them."""

    def read(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Call | Plain | None:
        """What the request asks for; None if the path is not this format's."""

    def stream_headers(self, reply: Reply, response_id: str) -> Mapping[str, str]:
        """The headers of a streamed reply."""

    def stream(self, reply: Reply, call: Call, response_id: str) -> list[Frame]:
        """The frames of a complete streamed reply, in order; `reply.ends` is the server's to act on."""

    def stream_error(self, kind: str, message: str) -> Frame:
        """An error inside a stream."""

    def whole(self, reply: Reply, call: Call, response_id: str) -> Encoded:
        """The reply as one body."""

    def error(self, error: HttpError, response_id: str) -> Encoded:
        """An error response."""
