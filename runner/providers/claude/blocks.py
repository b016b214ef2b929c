"""The client's content blocks as Podium's. Pure.

Source: docs/providers.md#claude (Claude Code 2.1.330, recorded 2026-11-22).
"""

from collections.abc import Sequence
from typing import Final

from podium.v1 import content_pb2
from runner.providers.claude.records import JsonObject, dumps, mapping, objects, text

CANONICAL: Final = {"Agent": "Task"}
"""Claude's tool names are the canonical ones; this one has two (`Task` in init, `Agent` in calls)."""

_CALLS: Final = ("tool_use", "server_tool_use", "mcp_tool_use")


class UnknownBlock(ValueError):
    """A kind of block this version does not know."""


def tool_name(native: str) -> str:
    """Return the canonical name of a tool."""
    return CANONICAL.get(native, native)


def content_blocks(content: object) -> list[content_pb2.ContentBlock]:
    """Return the blocks of a message's `content`: a string or a list. Raises UnknownBlock."""
    if isinstance(content, str):
        return [content_pb2.ContentBlock(text=content_pb2.TextBlock(text=content))]
    return [_block(block) for block in objects(content)]


def attach_structure(blocks: Sequence[content_pb2.ContentBlock], structure: object) -> None:
    """Give the record's only tool result its structured form (`tool_use_result`)."""
    results = [block.tool_result for block in blocks if block.HasField("tool_result")]
    if len(results) == 1 and isinstance(structure, dict | list):
        results[0].structured_json = dumps(structure)


def _block(block: JsonObject) -> content_pb2.ContentBlock:
    kind = text(block, "type")
    if kind == "text":
        return content_pb2.ContentBlock(text=content_pb2.TextBlock(text=text(block, "text")))
    if kind == "thinking":
        thinking = content_pb2.ThinkingBlock(thinking=text(block, "thinking"))
        return content_pb2.ContentBlock(thinking=thinking)
    if kind == "redacted_thinking":
        return content_pb2.ContentBlock(thinking=content_pb2.ThinkingBlock(redacted=True))
    if kind in _CALLS:
        return content_pb2.ContentBlock(tool_use=_call(block))
    if kind.endswith("tool_result"):
        return content_pb2.ContentBlock(tool_result=_result(block))
    if kind in ("image", "document"):
        return content_pb2.ContentBlock(text=content_pb2.TextBlock(text=_described(block)))
    raise UnknownBlock(f"unknown content block {kind!r}")


def _call(block: JsonObject) -> content_pb2.ToolUseBlock:
    native = text(block, "name")
    return content_pb2.ToolUseBlock(
        id=text(block, "id"),
        name=tool_name(native),
        native_name=native,
        input_json=dumps(mapping(block, "input")),
    )


def _result(block: JsonObject) -> content_pb2.ToolResultBlock:
    content = block.get("content")
    kind = text(block, "type")
    parts = [content] if isinstance(content, str) else [_shown(part) for part in objects(content)]
    result = content_pb2.ToolResultBlock(
        tool_use_id=text(block, "tool_use_id"),
        text="\n".join(part for part in parts if part),
        is_error=block.get("is_error") is True,
    )
    if kind != "tool_result":  # Results of the service's own tools have a shape of their own.
        result.structured_json = dumps(content)
    return result


def _shown(part: JsonObject) -> str:
    if part.get("type") == "text":
        return text(part, "text")
    if part.get("type") in ("image", "document"):
        return _described(part)
    return dumps(part)


def _described(block: JsonObject) -> str:
    """Name a picture or file: its bytes stay in the client's transcript and in the native log."""
    source = mapping(block, "source")
    size_bytes = len(text(source, "data")) * 3 // 4
    return f"[{text(block, 'type')} {text(source, 'media_type') or 'of unknown type'}, {size_bytes} bytes]"
