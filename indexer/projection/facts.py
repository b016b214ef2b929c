"""What each kind of event adds to the tables. Pure; the rows' columns are those of `indexer.projection.rows`."""

from google.protobuf.timestamp_pb2 import Timestamp

from indexer.projection import words
from indexer.projection.carry import Carry
from indexer.projection.rows import (
    ApprovalRequestRow,
    ApprovalResolutionRow,
    AttachmentRow,
    MessageRow,
    Rows,
    ToolResultRow,
    ToolUseRow,
    TurnEndRow,
    TurnRequestRow,
    TurnStartRow,
    UsageRow,
)
from podium.messages import RESULT, ROLES, message_json, result_json
from podium.session import prompt_text
from podium.v1 import event_pb2, session_pb2
from podium.v1.event_pb2 import Event

PROMPT_BYTES_MAX = 4096
"""As much of a prompt as Turn.prompt shows; all of it is the turn's first message."""


def micros(at: Timestamp) -> int:
    """Return microseconds since 1970."""
    return at.seconds * 1_000_000 + at.nanos // 1000


def add_message(rows: Rows, event: Event, position: int, carry: Carry) -> None:
    """Add a message, and the tool calls and results in it."""
    message = event.message
    created_at = micros(event.created_at)
    role = ROLES.get(message.role, "system")
    if role == "assistant" and message.model and not event.parent_tool_use_id:
        carry.model = message.model
    content = message_json(event)
    rows.messages.append(
        MessageRow(
            event.session_id,
            event.revision,
            position,
            event.id,
            role,
            content,
            len(content),
            created_at,
            event.turn_id or None,
            event.parent_tool_use_id or None,
            message.model or None,
            message.native_id or None,
            message.api_message_id or None,
        )
    )
    for block in message.content:
        if block.HasField("tool_use"):
            rows.tool_uses.append(
                ToolUseRow(
                    session_id=event.session_id,
                    revision=event.revision,
                    created_at=created_at,
                    turn_id=event.turn_id or None,
                    tool_use_id=block.tool_use.id,
                    name=block.tool_use.name,
                    native_name=block.tool_use.native_name or block.tool_use.name,
                    input=block.tool_use.input_json or None,
                    parent_tool_use_id=event.parent_tool_use_id or None,
                )
            )
        elif block.HasField("tool_result"):
            rows.tool_results.append(
                ToolResultRow(
                    session_id=event.session_id,
                    revision=event.revision,
                    created_at=created_at,
                    tool_use_id=block.tool_result.tool_use_id,
                    output=block.tool_result.text,
                    structured_output=block.tool_result.structured_json or None,
                    is_error=block.tool_result.is_error,
                )
            )


def add_turn_request(rows: Rows, event: Event) -> None:
    """Add the request for a turn."""
    requested = event.turn_requested
    rows.turn_requests.append(
        TurnRequestRow(
            session_id=event.session_id,
            revision=event.revision,
            created_at=micros(event.created_at),
            turn_id=event.turn_id,
            principal=event.principal or None,
            model=requested.model or None,
            effort=requested.effort or None,
            delivery=words.DELIVERY[requested.delivery] or "queue",
            prompt=shortened(prompt_text(requested.prompt)),
        )
    )


def add_turn_start(rows: Rows, event: Event, carry: Carry) -> None:
    """Add the start of a turn."""
    carry.begin_turn(event.turn_id)
    rows.turn_starts.append(
        TurnStartRow(
            session_id=event.session_id,
            revision=event.revision,
            created_at=micros(event.created_at),
            turn_id=event.turn_id,
            runner=event.runner or None,
            epoch=event.epoch,
            model=event.turn_started.model or None,
            effort=event.turn_started.effort or None,
            resumed=event.turn_started.resumed,
        )
    )


def add_turn_end(rows: Rows, event: Event, position: int, carry: Carry) -> None:
    """Add the end of a turn and the `result` message that people see."""
    ended = event.turn_ended
    model = carry.model if event.turn_id == carry.turn_id else ""
    used = carry.end_turn(event.turn_id)
    problem = ended.problem if ended.HasField("problem") else None
    cost = ended.provider_cost_microusd if ended.HasField("provider_cost_microusd") else None
    rows.turn_ends.append(
        TurnEndRow(
            session_id=event.session_id,
            revision=event.revision,
            created_at=micros(event.created_at),
            turn_id=event.turn_id,
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
    content = result_json(event.session_id, used)
    rows.messages.append(
        MessageRow(
            session_id=event.session_id,
            revision=event.revision,
            position=position,
            id=event.id,
            role=RESULT,
            content=content,
            content_bytes=len(content),
            created_at=micros(event.created_at),
            turn_id=event.turn_id or None,
            parent_tool_use_id=None,
            model=model or None,
            native_id=None,
            api_message_id=None,
        )
    )


def add_turn_cancelled(rows: Rows, event: Event) -> None:
    """Add the end of a turn that never began."""
    rows.turn_ends.append(
        TurnEndRow(
            session_id=event.session_id,
            revision=event.revision,
            created_at=micros(event.created_at),
            turn_id=event.turn_id,
            status=words.TURN_STATUS[session_pb2.TURN_STATUS_CANCELLED],
            reason=event.turn_cancelled.reason or None,
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


def add_usage(rows: Rows, event: Event, carry: Carry) -> None:
    """Add a usage fact. What the provider does not tell is NULL, never 0."""
    usage = event.usage
    carry.add(event)
    told = usage.accuracy != event_pb2.USAGE_ACCURACY_UNAVAILABLE
    cost = usage.provider_cost_microusd if usage.HasField("provider_cost_microusd") else None
    rows.usage.append(
        UsageRow(
            session_id=event.session_id,
            revision=event.revision,
            created_at=micros(event.created_at),
            id=event.id,
            turn_id=event.turn_id or None,
            runner=event.runner or None,
            parent_tool_use_id=event.parent_tool_use_id or None,
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


def add_approval_request(rows: Rows, event: Event) -> None:
    """Add a question to a person."""
    asked = event.approval_requested
    rows.approval_requests.append(
        ApprovalRequestRow(
            session_id=event.session_id,
            revision=event.revision,
            created_at=micros(event.created_at),
            approval_id=asked.approval_id,
            turn_id=event.turn_id or None,
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


def add_approval_resolution(rows: Rows, event: Event) -> None:
    """Add how a question was settled."""
    settled = event.approval_resolved
    rows.approval_resolutions.append(
        ApprovalResolutionRow(
            session_id=event.session_id,
            revision=event.revision,
            created_at=micros(event.created_at),
            approval_id=settled.approval_id,
            outcome=words.APPROVAL_OUTCOME[settled.outcome],
            principal=event.principal or None,
            updated_input=settled.updated_input_json or None,
            message=settled.message or None,
            remember=settled.remember_json or None,
        )
    )


def add_attached(rows: Rows, event: Event) -> None:
    """Add that a runner took the session."""
    attached = event.runner_attached
    rows.attachments.append(
        AttachmentRow(
            session_id=event.session_id,
            revision=event.revision,
            created_at=micros(event.created_at),
            attached=True,
            runner=attached.runner,
            host=attached.host or None,
            epoch=attached.epoch,
            reason=words.ATTACH_REASON[attached.reason],
        )
    )


def add_detached(rows: Rows, event: Event) -> None:
    """Add that a runner gave the session up."""
    detached = event.runner_detached
    rows.attachments.append(
        AttachmentRow(
            session_id=event.session_id,
            revision=event.revision,
            created_at=micros(event.created_at),
            attached=False,
            runner=detached.runner,
            host=None,
            epoch=detached.epoch,
            reason=words.DETACH_REASON[detached.reason],
        )
    )


def shortened(text: str, bytes_max: int = PROMPT_BYTES_MAX) -> str:
    """Return as much of the text as fits into `bytes_max` bytes of UTF-8, whole characters only."""
    encoded = text.encode()
    return text if len(encoded) <= bytes_max else encoded[:bytes_max].decode(errors="ignore")
