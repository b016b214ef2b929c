"""The tables of the store, each as the row it holds: names, order and types of all columns are said here and only here.

`indexer.schema` makes the DDL and the Arrow schemas from these classes; docs/sql.md describes the views over them.
Every table but `sessions` only ever grows. Times are microseconds since 1970, UTC.
"""

from dataclasses import dataclass, field
from typing import Annotated, NamedTuple, TypeAlias

import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Stored:
    """How a column is kept: its type in DuckDB's DDL, and in Arrow on the way there."""

    sql: str
    arrow: pa.DataType


Id: TypeAlias = Annotated[str, Stored("VARCHAR", pa.string())]
Text: TypeAlias = Annotated[str | None, Stored("VARCHAR", pa.string())]
# zstd: 3.2 GB of messages become 502 MB; DuckDB's own choice for long text (DICT_FSST) takes three times as much.
LongText: TypeAlias = Annotated[str | bytes | None, Stored("VARCHAR USING COMPRESSION zstd", pa.string())]
Place: TypeAlias = Annotated[int, Stored("BIGINT", pa.int64())]
Number: TypeAlias = Annotated[int | None, Stored("BIGINT", pa.int64())]
Fraction: TypeAlias = Annotated[float | None, Stored("DOUBLE", pa.float64())]
Flag: TypeAlias = Annotated[bool | None, Stored("BOOLEAN", pa.bool_())]
Moment: TypeAlias = Annotated[int | None, Stored("TIMESTAMPTZ", pa.timestamp("us", "UTC"))]
Time: TypeAlias = Annotated[int, Stored("TIMESTAMPTZ", pa.timestamp("us", "UTC"))]
Labels: TypeAlias = Annotated[list[tuple[str, str]], Stored("MAP(VARCHAR, VARCHAR)", pa.map_(pa.string(), pa.string()))]
Proto: TypeAlias = Annotated[bytes | None, Stored("BLOB", pa.binary())]


class EventRow(NamedTuple):
    """One event's envelope: rows = events."""

    session_id: Id
    revision: Place
    position: Place
    id: Id
    kind: Text
    created_at: Time
    recorded_at: Time
    turn_id: Text
    source: Text
    runner: Text
    epoch: Number
    principal: Text
    causation_id: Text
    parent_tool_use_id: Text


class MessageRow(NamedTuple):
    """One message, or the result that ends a turn. `position` rises with the rows: it prunes scans."""

    session_id: Id
    revision: Place
    position: Place
    id: Id
    role: Text
    content: LongText
    content_bytes: Number
    created_at: Time
    turn_id: Text
    parent_tool_use_id: Text
    model: Text
    native_id: Text
    api_message_id: Text


class TurnRequestRow(NamedTuple):
    """Somebody asked for a turn."""

    session_id: Id
    revision: Place
    created_at: Time
    turn_id: Text
    principal: Text
    model: Text
    effort: Text
    delivery: Text
    prompt: Text


class TurnStartRow(NamedTuple):
    """A turn began."""

    session_id: Id
    revision: Place
    created_at: Time
    turn_id: Text
    runner: Text
    epoch: Number
    model: Text
    effort: Text
    resumed: Flag


class TurnEndRow(NamedTuple):
    """A turn ended or was cancelled. The model is the one that spoke last in it, not counting sub-agents."""

    session_id: Id
    revision: Place
    created_at: Time
    turn_id: Text
    status: Text
    reason: Text
    problem_code: Text
    problem_message: Text
    problem_retryable: Flag
    queued_ms: Number
    duration_ms: Number
    first_token_ms: Number
    api_duration_ms: Number
    resolved_model: Text
    structured_output: LongText
    provider_cost_microusd: Number


class UsageRow(NamedTuple):
    """Tokens of one call to a model, or of one turn; disjoint buckets, NULL when the provider does not tell."""

    session_id: Id
    revision: Place
    created_at: Time
    id: Text
    turn_id: Text
    runner: Text
    parent_tool_use_id: Text
    scope: Text
    api_message_id: Text
    api_request_id: Text
    model: Text
    uncached_input_tokens: Number
    cache_read_tokens: Number
    cache_write_5m_tokens: Number
    cache_write_1h_tokens: Number
    output_tokens: Number
    reasoning_tokens: Number
    provider_cost_microusd: Number
    accuracy: Text


class ToolUseRow(NamedTuple):
    """The model asked for a tool."""

    session_id: Id
    revision: Place
    created_at: Time
    turn_id: Text
    tool_use_id: Text
    name: Text
    native_name: Text
    input: LongText
    parent_tool_use_id: Text


class ToolResultRow(NamedTuple):
    """A tool answered."""

    session_id: Id
    revision: Place
    created_at: Time
    tool_use_id: Text
    output: LongText
    structured_output: LongText
    is_error: Flag


class ApprovalRequestRow(NamedTuple):
    """A person was asked. The same question comes again when the process that asks is resumed."""

    session_id: Id
    revision: Place
    created_at: Time
    approval_id: Text
    turn_id: Text
    kind: Text
    tool_name: Text
    tool_use_id: Text
    input: LongText
    summary: Text
    options: Text
    deadline: Moment
    on_deadline: Text


class ApprovalResolutionRow(NamedTuple):
    """A question was settled."""

    session_id: Id
    revision: Place
    created_at: Time
    approval_id: Text
    outcome: Text
    principal: Text
    updated_input: LongText
    message: Text
    remember: Text


class AttachmentRow(NamedTuple):
    """A runner took a session (`attached`) or gave it up."""

    session_id: Id
    revision: Place
    created_at: Time
    attached: Flag
    runner: Text
    host: Text
    epoch: Number
    reason: Text


class SessionRow(NamedTuple):
    """One session as its newest append says: the one table whose rows are replaced.

    `session` is the serialised podium.v1.Session, for lists. From `first_position` on: what the projection needs to
    go on after a restart (`indexer.projection.carry`).
    """

    id: Text
    title: Text
    provider: Text
    vendor: Text
    model: Text
    resolved_model: Text
    effort: Text
    permission_mode: Text
    workspace: Text
    pool: Text
    labels: Labels
    status: Text
    waiting_on: Text
    problem_code: Text
    problem_message: Text
    context_used_percent: Fraction
    jsonl_path: Text
    provider_session_id: Text
    client_version: Text
    runner: Text
    host: Text
    parent_session_id: Text
    origin: Text
    archived: Flag
    message_count: Number
    turn_count: Number
    queued_turns: Number
    input_tokens: Number
    cache_read_input_tokens: Number
    cache_creation_input_tokens: Number
    uncached_input_tokens: Number
    output_tokens: Number
    reasoning_tokens: Number
    provider_cost_microusd: Number
    revision: Number
    position: Number
    created_at: Time
    updated_at: Moment
    session: Proto
    first_position: Number
    running_turn_id: Text
    turn_tokens: Proto
    turn_model: Text


@dataclass(slots=True)
class Rows:
    """What a batch of the log adds: rows by table.

    `shortened`: positions of the appends with blocks whose text is kept beside the log.
    """

    events: list[EventRow] = field(default_factory=list)
    messages: list[MessageRow] = field(default_factory=list)
    turn_requests: list[TurnRequestRow] = field(default_factory=list)
    turn_starts: list[TurnStartRow] = field(default_factory=list)
    turn_ends: list[TurnEndRow] = field(default_factory=list)
    usage: list[UsageRow] = field(default_factory=list)
    tool_uses: list[ToolUseRow] = field(default_factory=list)
    tool_results: list[ToolResultRow] = field(default_factory=list)
    approval_requests: list[ApprovalRequestRow] = field(default_factory=list)
    approval_resolutions: list[ApprovalResolutionRow] = field(default_factory=list)
    attachments: list[AttachmentRow] = field(default_factory=list)
    sessions: list[SessionRow] = field(default_factory=list)
    shortened: set[int] = field(default_factory=set)


TABLES: dict[str, type[tuple[object, ...]]] = {
    "events": EventRow,
    "messages": MessageRow,
    "turn_requests": TurnRequestRow,
    "turn_starts": TurnStartRow,
    "turn_ends": TurnEndRow,
    "usage": UsageRow,
    "tool_uses": ToolUseRow,
    "tool_results": ToolResultRow,
    "approval_requests": ApprovalRequestRow,
    "approval_resolutions": ApprovalResolutionRow,
    "attachments": AttachmentRow,
    "sessions": SessionRow,
}
"""Every table of schema `core` that holds rows, and its row."""
