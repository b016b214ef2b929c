"""What each kind of event adds to the tables. Pure; the rows' columns are those of `indexer.projection.rows`.

Every function takes the event's envelope as it was made for `events`, and the body.
"""

from google.protobuf.timestamp_pb2 import Timestamp

from indexer.projection import words
from indexer.projection.carry import Carry
from indexer.projection.rows import (
    ApprovalRequestRow,
    ApprovalResolutionRow,
    AttachmentRow,
    EventRow,
    MessageRow,
    Rows,
    ToolResultRow,
    ToolUseRow,
    TurnEndRow,
    TurnRequestRow,
    TurnStartRow,
    UsageRow,
)
from podium.messages import RESULT, ROLES, Json, block_json, result_json, said_json
from podium.session import prompt_text
from podium.v1 import event_pb2 as e
from podium.v1 import session_pb2
from podium.v1.content_pb2 import ToolResultBlock, ToolUseBlock

PROMPT_BYTES_MAX = 4096
"""As much of a prompt as Turn.prompt shows; all of it is the turn's first message."""


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


def add_turn_request(rows: Rows, at: EventRow, requested: e.TurnRequested) -> None:
    """Add the request for a turn."""
    rows.turn_requests.append(
        TurnRequestRow(
            session_id=at.session_id,
            revision=at.revision,
            created_at=at.created_at,
            turn_id=at.turn_id,
            principal=at.principal,
            model=requested.model or None,
            effort=requested.effort or None,
            delivery=words.DELIVERY[requested.delivery] or "queue",
            prompt=shortened(prompt_text(requested.prompt)),
        )
    )


def add_turn_start(rows: Rows, at: EventRow, started: e.TurnStarted, carry: Carry) -> None:
    """Add the start of a turn."""
    carry.begin_turn(at.turn_id)
    rows.turn_starts.append(
        TurnStartRow(
            session_id=at.session_id,
            revision=at.revision,
            created_at=at.created_at,
            turn_id=at.turn_id,
            runner=at.runner,
            epoch=at.epoch or 0,
            model=started.model or None,
            effort=started.effort or None,
            resumed=started.resumed,
        )
    )


def add_turn_end(rows: Rows, at: EventRow, ended: e.TurnEnded, carry: Carry) -> None:
    """Add the end of a turn and the `result` message that people see."""
    model = carry.model if at.turn_id == carry.turn_id else ""
    used = carry.end_turn(at.turn_id)
    problem = ended.problem if ended.HasField("problem") else None
    cost = ended.provider_cost_microusd if ended.HasField("provider_cost_microusd") else None
    rows.turn_ends.append(
        TurnEndRow(
            session_id=at.session_id,
            revision=at.revision,
            created_at=at.created_at,
            turn_id=at.turn_id,
            status=words.TURN_STATUS[ended.status],
            reason=ended.reason or None,
            problem_code=problem.code if problem else None,
            problem_message=problem.message if problem else None,
            problem_retryable=problem.retryable if problem else None,
            queued_ms=ended.queued_ms,
            duration_ms=ended.duration_ms,
            first_token_ms=ended.first_token_ms or None,
            api_duration_ms=ended.api_duration_ms or None,
            resolved_model=model or None,
            structured_output=ended.structured_output_json or None,
            provider_cost_microusd=cost,
        )
    )
    content = result_json(at.session_id, used)
    rows.messages.append(
        MessageRow(
            session_id=at.session_id,
            revision=at.revision,
            position=at.position,
            id=at.id,
            role=RESULT,
            content=content,
            content_bytes=len(content),
            created_at=at.created_at,
            turn_id=at.turn_id,
            parent_tool_use_id=None,
            model=model or None,
            native_id=None,
            api_message_id=None,
        )
    )


def add_turn_cancelled(rows: Rows, at: EventRow, cancelled: e.TurnCancelled) -> None:
    """Add the end of a turn that never began."""
    rows.turn_ends.append(
        TurnEndRow(
            session_id=at.session_id,
            revision=at.revision,
            created_at=at.created_at,
            turn_id=at.turn_id,
            status=words.TURN_STATUS[session_pb2.TURN_STATUS_CANCELLED],
            reason=cancelled.reason or None,
            problem_code=None,
            problem_message=None,
            problem_retryable=None,
            queued_ms=None,
            duration_ms=None,
            first_token_ms=None,
            api_duration_ms=None,
            resolved_model=None,
            structured_output=None,
            provider_cost_microusd=None,
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


def add_approval_request(rows: Rows, at: EventRow, asked: e.ApprovalRequested) -> None:
    """Add a question to a person."""
    rows.approval_requests.append(
        ApprovalRequestRow(
            session_id=at.session_id,
            revision=at.revision,
            created_at=at.created_at,
            approval_id=asked.approval_id,
            turn_id=at.turn_id,
            kind=words.APPROVAL_KIND[asked.kind],
            tool_name=asked.tool_name or None,
            tool_use_id=asked.tool_use_id or None,
            input=asked.input_json or None,
            summary=asked.summary or None,
            options=asked.options_json or None,
            deadline=micros(asked.deadline) if asked.HasField("deadline") else None,
            on_deadline=words.DEADLINE_ACTION[asked.on_deadline],
        )
    )


def add_approval_resolution(rows: Rows, at: EventRow, settled: e.ApprovalResolved) -> None:
    """Add how a question was settled."""
    rows.approval_resolutions.append(
        ApprovalResolutionRow(
            session_id=at.session_id,
            revision=at.revision,
            created_at=at.created_at,
            approval_id=settled.approval_id,
            outcome=words.APPROVAL_OUTCOME[settled.outcome],
            principal=at.principal,
            updated_input=settled.updated_input_json or None,
            message=settled.message or None,
            remember=settled.remember_json or None,
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


def shortened(text: str, bytes_max: int = PROMPT_BYTES_MAX) -> str:
    """Return as much of the text as fits into `bytes_max` bytes of UTF-8, whole characters only."""
    encoded = text.encode()
    return text if len(encoded) <= bytes_max else encoded[:bytes_max].decode(errors="ignore")
