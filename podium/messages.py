"""A session's messages as people, SQL and programs see them: the JSON of docs/messages.md. Pure.

What a person, a model or a tool said is `{"type", "session_id", "message": {"role", "content": [block, …]}}`; each
finished turn ends with `{"type": "result", "session_id", "usage": {…}}`.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

import orjson

from podium.v1 import event_pb2
from podium.v1.content_pb2 import Blob, ContentBlock
from podium.v1.event_pb2 import Event, Message
from podium.v1.session_pb2 import TokenTotals

Json: TypeAlias = dict[str, Any]

ROLES: Mapping[int, str] = {
    event_pb2.ROLE_UNSPECIFIED: "system",
    event_pb2.ROLE_USER: "user",
    event_pb2.ROLE_ASSISTANT: "assistant",
    event_pb2.ROLE_SYSTEM: "system",
}
"""Words for Message.role; a role that is not said is the client's own."""

RESULT = "result"
"""The word for the row that ends a turn."""


def message_json(event: Event) -> bytes:
    """Return a `message` event as one compact JSON object, UTF-8; see `said_json`."""
    message = event.message
    return said_json(
        event.session_id, event.parent_tool_use_id, message, [block_json(each) for each in message.content]
    )


def said_json(session_id: str, parent_tool_use_id: str | None, message: Message, content: list[Json]) -> bytes:
    """Return a message with these blocks as one compact JSON object, UTF-8.

    Beside the three keys: `parent_tool_use_id` when a sub-agent speaks, `partial` when it was cut short.
    A block whose text is kept beside the log shows its first part and `truncated`.
    """
    role = ROLES.get(message.role, "system")
    value: Json = {"type": role, "session_id": session_id, "message": {"role": role, "content": content}}
    if parent_tool_use_id:
        value["parent_tool_use_id"] = parent_tool_use_id
    if message.partial:
        value["partial"] = True
    return orjson.dumps(value)


def result_json(session_id: str, tokens: TokenTotals) -> bytes:
    """Return the message that ends a turn: what the turn used, null when nothing is known of it."""
    return orjson.dumps({"type": RESULT, "session_id": session_id, "usage": usage_json(tokens)})


def usage_json(tokens: TokenTotals) -> Json | None:
    """Return token totals under their SQL names, None when nothing is known.

    No call to a model uses 0 tokens: all zero means that nobody told.
    """
    if not tokens.input_tokens and not tokens.output_tokens:
        return None
    return {
        "input_tokens": tokens.input_tokens,
        "output_tokens": tokens.output_tokens,
        "cache_read_input_tokens": tokens.cache_read_input_tokens,
        "cache_creation_input_tokens": tokens.cache_creation_input_tokens,
    }


def block_json(block: ContentBlock) -> Json:
    """Return one content block in the style of Claude's messages; an unknown kind is `{"type": "unknown"}`."""
    value: Json
    match block.WhichOneof("block"):
        case "text":
            value = {"type": "text", "text": block.text.text}
        case "thinking" if block.thinking.redacted:
            value = {"type": "redacted_thinking"}
        case "thinking":
            value = {"type": "thinking", "thinking": block.thinking.thinking}
        case "tool_use":
            value = _tool_use(block)
        case "tool_result":
            value = _tool_result(block)
        case "attachment":
            value = _by_reference(block.attachment.blob)
            value["title"] = block.attachment.title
        case _:
            value = {"type": "unknown"}
    # Every blob has a name. HasField would take as long as all the rest of this function.
    if block.full.object:
        value["truncated"] = {"size_bytes": block.full.size_bytes, "sha256": block.full.sha256.hex()}
    return value


def _tool_use(block: ContentBlock) -> Json:
    use = block.tool_use
    value: Json = {"type": "tool_use", "id": use.id, "name": use.name, "input": embedded(use.input_json)}
    if use.native_name and use.native_name != use.name:
        value["native_name"] = use.native_name
    return value


def _tool_result(block: ContentBlock) -> Json:
    result = block.tool_result
    content: str | list[Json] = result.text
    if result.attachments:
        content = [{"type": "text", "text": result.text}] if result.text else []
        content += [_by_reference(blob) for blob in result.attachments]
    return {
        "type": "tool_result",
        "tool_use_id": result.tool_use_id,
        "content": content,
        "is_error": result.is_error,
    }


def embedded(json_text: str) -> Any:
    """Return JSON text as a value for orjson to write as it is; text that is no JSON becomes a JSON string.

    So one bad record can never make a whole message unreadable.
    """
    if not json_text:
        return {}
    try:
        orjson.loads(json_text)
    except orjson.JSONDecodeError:
        return json_text
    return orjson.Fragment(json_text)


def _by_reference(blob: Blob) -> Json:
    kind = "image" if blob.media_type.startswith("image/") else "document"
    source: Json = {
        "type": "blob",
        "object": blob.object,
        "media_type": blob.media_type,
        "size_bytes": blob.size_bytes,
        "sha256": blob.sha256.hex(),
    }
    return {"type": kind, "source": source}
