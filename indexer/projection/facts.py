"""What each kind of event adds to the tables. Pure; the rows' columns are those of `indexer.projection.rows`.

Every function takes the event's envelope as it was made for `events`, and the body.
"""

from google.protobuf.timestamp_pb2 import Timestamp

from indexer.projection import words
from indexer.projection.carry import Carry
from indexer.projection.rows import (
    AttachmentRow,
    EventRow,
    MessageRow,
    Rows,
    ToolResultRow,
    ToolUseRow,
    UsageRow,
)
from podium.messages import ROLES, Json, block_json, said_json
from podium.v1 import event_pb2 as e
from podium.v1.content_pb2 import ToolResultBlock, ToolUseBlock


def micros(at: Timestamp) -> int:
    """Return microseconds since 1970."""
    return at.seconds * 1_000_000 + at.nanos // 1000


def add_message(rows: Rows, at: EventRow, message: e.Message, carry: Carry) -> None:
    """Add a message, and the tool calls and results in it."""
    content: list[Json] = []
    # Once over the blocks: each step of upb's iterator makes an object, which costs more than what is done with it.
    for block in message.content:
        content.append(value := block_json(block))
        if "truncated" in value:
            rows.shortened.add(at.position)
        if value["type"] == "tool_use":
            rows.tool_uses.append(_tool_use(at, block.tool_use))
        elif value["type"] == "tool_result":
            rows.tool_results.append(_tool_result(at, block.tool_result))
    role = ROLES.get(message.role, "system")
    model = message.model or None
    if role == "assistant" and model and not at.parent_tool_use_id:
        carry.model = model
    said = said_json(at.session_id, at.parent_tool_use_id, message, content)
    rows.messages.append(
        MessageRow(
            at.session_id,
            at.revision,
            at.position,
            at.id,
            role,
            said,
            len(said),
            at.created_at,
            at.turn_id,
            at.parent_tool_use_id,
            model,
            message.native_id or None,
            message.api_message_id or None,
        )
    )


def add_usage(rows: Rows, at: EventRow, usage: e.Usage, carry: Carry) -> None:
    """Add a usage fact. What the provider does not tell is NULL, never 0."""
    carry.add(at.turn_id, usage)
    told = usage.accuracy != e.USAGE_ACCURACY_UNAVAILABLE
    cost = usage.provider_cost_microusd if usage.HasField("provider_cost_microusd") else None
    rows.usage.append(
        UsageRow(
            session_id=at.session_id,
            revision=at.revision,
            created_at=at.created_at,
            id=at.id,
            turn_id=at.turn_id,
            runner=at.runner,
            parent_tool_use_id=at.parent_tool_use_id,
            scope=words.USAGE_SCOPE[usage.scope],
            api_message_id=usage.api_message_id or None,
            api_request_id=usage.api_request_id or None,
            model=usage.model or None,
            uncached_input_tokens=usage.uncached_input_tokens if told else None,
            cache_read_tokens=usage.cache_read_tokens if told else None,
            cache_write_5m_tokens=usage.cache_write_5m_tokens if told else None,
            cache_write_1h_tokens=usage.cache_write_1h_tokens if told else None,
            output_tokens=usage.output_tokens if told else None,
            reasoning_tokens=usage.reasoning_tokens if told else None,
            provider_cost_microusd=cost,
            accuracy=words.USAGE_ACCURACY[usage.accuracy],
        )
    )


def add_attached(rows: Rows, at: EventRow, attached: e.RunnerAttached) -> None:
    """Add that a runner took the session."""
    rows.attachments.append(
        AttachmentRow(
            session_id=at.session_id,
            revision=at.revision,
            created_at=at.created_at,
            attached=True,
            runner=attached.runner,
            host=attached.host or None,
            epoch=attached.epoch,
            reason=words.ATTACH_REASON[attached.reason],
        )
    )


def add_detached(rows: Rows, at: EventRow, detached: e.RunnerDetached) -> None:
    """Add that a runner gave the session up."""
    rows.attachments.append(
        AttachmentRow(
            session_id=at.session_id,
            revision=at.revision,
            created_at=at.created_at,
            attached=False,
            runner=detached.runner,
            host=None,
            epoch=detached.epoch,
            reason=words.DETACH_REASON[detached.reason],
        )
    )


def _tool_use(at: EventRow, use: ToolUseBlock) -> ToolUseRow:
    return ToolUseRow(
        session_id=at.session_id,
        revision=at.revision,
        created_at=at.created_at,
        turn_id=at.turn_id,
        tool_use_id=use.id,
        name=use.name,
        native_name=use.native_name or use.name,
        input=use.input_json or None,
        parent_tool_use_id=at.parent_tool_use_id,
    )


def _tool_result(at: EventRow, result: ToolResultBlock) -> ToolResultRow:
    return ToolResultRow(
        session_id=at.session_id,
        revision=at.revision,
        created_at=at.created_at,
        tool_use_id=result.tool_use_id,
        output=result.text,
        structured_output=result.structured_json or None,
        is_error=result.is_error,
    )
