"""What turns, and the questions in them, add to the tables. Pure; as `indexer.projection.facts`."""

from indexer.projection import words
from indexer.projection.carry import Carry
from indexer.projection.facts import micros
from indexer.projection.rows import (
    ApprovalRequestRow,
    ApprovalResolutionRow,
    EventRow,
    MessageRow,
    Rows,
    TurnEndRow,
    TurnRequestRow,
    TurnStartRow,
)
from podium.messages import RESULT, result_json
from podium.session import prompt_text
from podium.v1 import event_pb2 as e
from podium.v1 import session_pb2

PROMPT_BYTES_MAX = 4096
"""As much of a prompt as Turn.prompt shows; all of it is the turn's first message."""


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


def shortened(text: str, bytes_max: int = PROMPT_BYTES_MAX) -> str:
    """Return as much of the text as fits into `bytes_max` bytes of UTF-8, whole characters only."""
    encoded = text.encode()
    return text if len(encoded) <= bytes_max else encoded[:bytes_max].decode(errors="ignore")
