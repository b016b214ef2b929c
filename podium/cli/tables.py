"""Tables for people: sessions, usage, and rows of any query. Widths follow the terminal."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import orjson
from google.protobuf.timestamp_pb2 import Timestamp
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from podium import names
from podium.cli import shapes
from podium.cli.flow import printable
from podium.v1 import analytics_service_pb2, session_pb2

SHORT_ID = 8
CELL_LENGTH_MAX = 200
READABLE_WIDTH = 24
NULL = "null"
TITLE_WIDTH_MIN = 16
_STATUS = {"idle": "", "running": "good", "error": "bad"}


def table(*columns: str, right: Sequence[str] = (), keep: Sequence[str] = ()) -> Table:
    """Return an empty table; `right` are aligned so, `keep` are never wrapped."""
    made = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    for column in columns:
        made.add_column(
            column,
            justify="right" if column in right else "left",
            no_wrap=column in right or column in keep,
            overflow="fold" if column in keep or column in right else "ellipsis",
        )
    return made


def sessions(listed: Iterable[session_pb2.Session], *, now: datetime) -> Table:
    """Return sessions, one a line."""
    made = table(
        "id", "title", "status", "model", "workspace", "messages", "tokens", "context", "updated",
        right=("messages", "tokens", "context"), keep=("id", "status", "updated"),
    )  # fmt: skip
    made.columns[1].min_width = TITLE_WIDTH_MIN
    for one in listed:
        tokens = one.tokens.input_tokens + one.tokens.output_tokens
        made.add_row(
            Text(names.session_id(one.name)[:SHORT_ID], style="id"),
            Text(printable(one.title), no_wrap=True),
            status(one),
            one.model or one.resolved_model or one.provider,
            one.workspace,
            f"{one.message_count:,}",
            f"{tokens:,}" if tokens else "",
            f"{one.context_used_percent:.0f} %" if one.HasField("context_used_percent") else "",
            ago(one.updated_at, now),
        )
    return made


def status(session: session_pb2.Session) -> Text:
    """Return a session's status with what it waits for."""
    told = shapes.word(session_pb2.SessionStatus.DESCRIPTOR, session.status) or ""
    waits = shapes.word(session_pb2.WaitingOn.DESCRIPTOR, session.waiting_on)
    style = _STATUS.get(told, "")
    if waits:
        return Text.assemble((told, style), (f" ({waits})", "warn"))
    if session.archived:
        return Text.assemble((told, style), (" (archived)", "detail"))
    return Text(told, style=style)


def usage(dimensions: Sequence[str], rows: Iterable[analytics_service_pb2.UsageRow]) -> Table:
    """Return groups of usage, one a line, and their sum when there are several."""
    figures = ("input", "cached", "output", "calls", "cost")
    made = table(*dimensions, *figures, right=figures, keep=dimensions)
    listed = list(rows)
    for row in listed:
        made.add_row(*(escape(key) or "-" for key in row.keys), *_figures([row]))
    if len(listed) > 1:
        made.add_section()
        made.add_row(*["[bold]all[/]", *[""] * (len(dimensions) - 1)][: len(dimensions)], *_figures(listed))
    return made


def _figures(rows: Sequence[analytics_service_pb2.UsageRow]) -> list[str]:
    sums = [
        sum(row.tokens.input_tokens for row in rows),
        sum(row.tokens.cache_read_input_tokens for row in rows),
        sum(row.tokens.output_tokens for row in rows),
        sum(row.calls for row in rows),
    ]
    known = [row.tokens.provider_cost_microusd for row in rows if row.tokens.HasField("provider_cost_microusd")]
    # "at least": some calls did not tell all their tokens.
    mark = "≥ " if any(row.inexact_calls for row in rows) else ""
    return [*(f"{mark}{figure:,}" for figure in sums), f"${sum(known) / 1_000_000:.4f}" if known else "unknown"]


def rows(columns: Sequence[str], values: Iterable[Sequence[Any]], *, width: int) -> Table:
    """Return the rows of a query: one a line, or one column a line when they would not fit into `width`."""
    values = [list(row) for row in values]
    listed = [[cell(value) for value in row] for row in values]
    if listed and _width(columns, listed) > width:
        return _upright(columns, listed)
    numeric = [
        escape(column)
        for place, column in enumerate(columns)
        if values and all(row[place] is None or _is_number(row[place]) for row in values)
    ]
    made = table(*(escape(column) for column in columns), right=numeric)
    for row in listed:
        made.add_row(*row)
    return made


def _width(columns: Sequence[str], listed: Sequence[Sequence[Text]]) -> int:
    """Return how wide a table must be for its columns to be told apart."""
    widest = [max(row[place].cell_len for row in listed) for place in range(len(columns))]
    return sum(max(len(column), min(size, READABLE_WIDTH)) + 2 for column, size in zip(columns, widest, strict=True))


def _upright(columns: Sequence[str], listed: Sequence[Sequence[Text]]) -> Table:
    """Return a table with one column of the answer a line; what is null is left out."""
    made = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    made.add_column(style="detail", no_wrap=True)
    made.add_column(overflow="fold")
    for number, row in enumerate(listed, start=1):
        if number > 1:
            made.add_row()
        for column, value in zip(columns, row, strict=True):
            if value.plain != NULL:
                made.add_row(escape(column), value)
    return made


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def cell(value: Any) -> Text:
    """Return a value as people read it: one line, long text cut."""
    if value is None:
        return Text(NULL, style="detail")
    if isinstance(value, datetime):
        text = value.isoformat(sep=" ", timespec="milliseconds").replace("+00:00", "Z")
    elif isinstance(value, bool):
        text = str(value).lower()
    elif isinstance(value, float):
        text = f"{value:,.6g}"
    elif isinstance(value, int):
        text = f"{value:,}"
    elif isinstance(value, list | dict):
        text = orjson.dumps(value, default=str).decode()
    else:
        text = str(value)
    text = printable(text).replace("\n", "⏎")
    return Text(text if len(text) <= CELL_LENGTH_MAX else text[: CELL_LENGTH_MAX - 1] + "…")


def ago(stamp: Timestamp, now: datetime) -> str:
    """Return how long ago something was, e.g. `5 min ago`; a date when it was more than a week."""
    at = datetime.fromtimestamp(stamp.seconds, UTC)
    seconds = max(0, int((now - at).total_seconds()))
    for size, unit in ((60, "s"), (3600, "min"), (86_400, "h"), (7 * 86_400, "d")):
        if seconds < size:
            divisor = {"s": 1, "min": 60, "h": 3600, "d": 86_400}[unit]
            return f"{seconds // divisor} {unit} ago"
    return at.astimezone().strftime("%Y-%m-%d")


def show(console: Console, made: Table, *, empty: str) -> None:
    """Print a table, or what it means that it has no rows."""
    if made.row_count:
        console.print(made)
    else:
        console.print(f"[detail]{escape(empty)}[/]")
