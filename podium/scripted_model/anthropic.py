"""Anthropic Messages over HTTP: reads the requests of Claude Code, writes replies as events or as one body.

Sources, checked 2026-11-22: requests recorded from Claude Code 2.1.330 (claude-agent-sdk 0.2.187,
`anthropic-version: 2023-06-01`) on loopback; events, error kinds and usage fields as in
docs.anthropic.com "Messages", "Streaming messages", "Errors" and "Rate limits".
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal

import orjson

from podium.scripted_model.anthropic_history import HistoryError, read_messages
from podium.scripted_model.script import Conversation, HttpError, Reply, ToolCall, Usage
from podium.scripted_model.wire import Call, Encoded, Frame, Plain

MESSAGES: Final = "/v1/messages"
COUNT_TOKENS: Final = "/v1/messages/count_tokens"
# Claude Code asks this before its first request when non-essential traffic is allowed.
HELLO: Final = "/api/hello"

ERROR_KINDS: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}

# One token is about four characters of English; count_tokens only needs to be of the right order.
CHARS_PER_TOKEN: Final = 4


class AnthropicMessages:
    """The wire format of `POST /v1/messages`; see `WireFormat`."""

    routes = (f"POST {MESSAGES}", f"POST {COUNT_TOKENS}", f"HEAD {HELLO}")

    def read(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Call | Plain | None:
        """A Call for a readable messages request, a Plain for a token count or a request the real API refuses."""
        if method in ("GET", "HEAD") and path == HELLO:
            return Plain(status=200, payload={"message": "hello"})
        if method != "POST" or path not in (MESSAGES, COUNT_TOKENS):
            return None
        if "x-api-key" not in headers and "authorization" not in headers:
            return _refusal(401, "x-api-key header is required")
        try:
            request = orjson.loads(body)
            conversation = _conversation(request, headers)
        except (orjson.JSONDecodeError, HistoryError) as fault:
            return _refusal(400, str(fault))
        if path == COUNT_TOKENS:
            return Plain(status=200, payload={"input_tokens": max(len(body) // CHARS_PER_TOKEN, 1)})
        return Call(conversation=conversation, streamed=bool(request.get("stream")))

    def stream_headers(self, reply: Reply, response_id: str) -> Mapping[str, str]:
        """Server-sent events, with the request id that Claude Code stores in its transcript."""
        return {
            "content-type": "text/event-stream; charset=utf-8",
            "cache-control": "no-cache",
            "request-id": f"req_{response_id}",
            **reply.headers,
        }

    def stream(self, reply: Reply, call: Call, response_id: str) -> list[Frame]:
        """message_start, a ping, the blocks, message_delta with the final usage, message_stop."""
        message = {**_message(reply, call, response_id), "content": [], "stop_reason": None}
        # The real API reports the output count so far here; 1 is what it most often says.
        message["usage"] = {**_usage(reply.usage), "output_tokens": 1}
        stop = {"stop_reason": _stop_reason(reply), "stop_sequence": None}
        return [
            _event({"type": "message_start", "message": message}),
            _event({"type": "ping"}),
            *_block_frames(reply, response_id),
            _event({"type": "message_delta", "delta": stop, "usage": _usage(reply.usage)}),
            _event({"type": "message_stop"}),
        ]

    def stream_error(self, kind: str, message: str) -> Frame:
        """An `error` event."""
        return _event({"type": "error", "error": {"type": kind, "message": message}})

    def whole(self, reply: Reply, call: Call, response_id: str) -> Encoded:
        """The message as one JSON object."""
        headers = {"content-type": "application/json", "request-id": f"req_{response_id}", **reply.headers}
        return Encoded(status=200, headers=headers, body=orjson.dumps(_message(reply, call, response_id)))

    def error(self, error: HttpError, response_id: str) -> Encoded:
        """An error object with the kind that belongs to the status."""
        kind = error.kind or ERROR_KINDS.get(error.status, "api_error")
        message = error.message or f"scripted: {kind}"
        headers = {"content-type": "application/json", "request-id": f"req_{response_id}", **error.headers}
        if error.retry_after_s is not None:
            headers["retry-after"] = str(error.retry_after_s)
        payload = {
            "type": "error",
            "error": {"type": kind, "message": message},
            "request_id": headers["request-id"],
        }
        return Encoded(status=error.status, headers=headers, body=orjson.dumps(payload))


def rate_limit_headers(
    *,
    status: Literal["allowed", "allowed_warning", "rejected"],
    utilization: float,
    resets_at_unix_s: int,
    window: Literal["five_hour", "seven_day"] = "five_hour",
) -> dict[str, str]:
    """The headers of a subscription's limit, for a Reply or, with `rejected`, for an HttpError 429.

    Claude Code turns them into a RateLimitEvent, and only for a subscription: see
    `claude_environment(..., subscription=True)`. A rejected 429 is then not retried.
    """
    prefix = "anthropic-ratelimit-unified"
    short = {"five_hour": "5h", "seven_day": "7d"}[window]
    # Without a threshold that was passed, Claude Code takes a warning for a plain `allowed`.
    warning = {f"{prefix}-{short}-surpassed-threshold": str(utilization)} if status == "allowed_warning" else {}
    return {
        f"{prefix}-status": status,
        f"{prefix}-reset": str(resets_at_unix_s),
        f"{prefix}-representative-claim": window,
        f"{prefix}-{short}-status": status,
        f"{prefix}-{short}-reset": str(resets_at_unix_s),
        f"{prefix}-{short}-utilization": str(utilization),
        **warning,
    }


def _conversation(request: object, headers: Mapping[str, str]) -> Conversation:
    if not isinstance(request, dict) or not isinstance(request.get("model"), str):
        raise HistoryError("model: Field required")
    return Conversation(
        model=request["model"],
        messages=read_messages(request.get("messages")),
        session=headers.get("x-claude-code-session-id", ""),
        agent=headers.get("x-claude-code-agent-id", ""),
        effort=(request.get("output_config") or {}).get("effort", ""),
    )


def _refusal(status: int, message: str) -> Plain:
    return Plain(
        status=status,
        payload={"type": "error", "error": {"type": ERROR_KINDS[status], "message": message}},
    )


def _message(reply: Reply, call: Call, response_id: str) -> dict[str, Any]:
    return {
        "id": f"msg_{response_id}",
        "type": "message",
        "role": "assistant",
        "model": call.conversation.model,
        "content": [block for block, _ in _blocks(reply, response_id)],
        "stop_reason": _stop_reason(reply),
        "stop_sequence": None,
        "usage": _usage(reply.usage),
    }


def _stop_reason(reply: Reply) -> str:
    return reply.stop_reason or ("tool_use" if reply.tool_calls else "end_turn")


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.uncached_input_tokens,
        "cache_read_input_tokens": usage.cache_read_tokens,
        "cache_creation_input_tokens": usage.cache_write_5m_tokens + usage.cache_write_1h_tokens,
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.cache_write_5m_tokens,
            "ephemeral_1h_input_tokens": usage.cache_write_1h_tokens,
        },
        "output_tokens": usage.output_tokens,
        "service_tier": "standard",
    }


def _blocks(reply: Reply, response_id: str) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Each content block as it is at the end, with the deltas that build it."""
    if reply.thinking:
        signature = reply.signature or _signature(reply.thinking)
        deltas = [{"type": "thinking_delta", "thinking": piece} for piece in _pieces(reply.thinking, reply)]
        deltas.append({"type": "signature_delta", "signature": signature})
        yield {"type": "thinking", "thinking": reply.thinking, "signature": signature}, deltas
    pieces = _pieces(reply.text, reply) if isinstance(reply.text, str) else list(reply.text)
    if pieces:
        yield {"type": "text", "text": "".join(pieces)}, [{"type": "text_delta", "text": piece} for piece in pieces]
    for index, call in enumerate(reply.tool_calls):
        yield _tool_block(call, index, reply, response_id)


def _tool_block(
    call: ToolCall, index: int, reply: Reply, response_id: str
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    identifier = call.id or f"toolu_{response_id}_{index}"
    block = {"type": "tool_use", "id": identifier, "name": call.name, "input": dict(call.input)}
    source = json.dumps(call.input, ensure_ascii=False)
    return block, [{"type": "input_json_delta", "partial_json": piece} for piece in _pieces(source, reply)]


_EMPTY: Final[dict[str, dict[str, Any]]] = {
    "thinking": {"thinking": "", "signature": ""},
    "text": {"text": ""},
    "tool_use": {"input": {}},
}


def _block_frames(reply: Reply, response_id: str) -> Iterator[Frame]:
    for index, (block, deltas) in enumerate(_blocks(reply, response_id)):
        start = {**block, **_EMPTY[block["type"]]}
        yield _event({"type": "content_block_start", "index": index, "content_block": start})
        for delta in deltas:
            yield _event({"type": "content_block_delta", "index": index, "delta": delta}, is_piece=True)
        yield _event({"type": "content_block_stop", "index": index})


def _pieces(text: str, reply: Reply) -> list[str]:
    size = reply.pace.piece_chars
    return [text[start : start + size] for start in range(0, len(text), size)]


def _signature(thinking: str) -> str:
    return base64.b64encode(hashlib.sha256(b"podium-scripted:" + thinking.encode()).digest()).decode()


def _event(event: Mapping[str, Any], *, is_piece: bool = False) -> Frame:
    data = b"event: " + event["type"].encode() + b"\ndata: " + orjson.dumps(event) + b"\n\n"
    return Frame(data, is_piece)
