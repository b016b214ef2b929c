"""Tables for people fit the terminal and say what they do not know."""

import io
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console, RenderableType

from podium.cli import output, tables
from podium.v1 import analytics_service_pb2, session_pb2

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def shown(made: RenderableType, width: int = 100) -> list[str]:
    console = Console(file=io.StringIO(), theme=output.THEME, width=width, color_system=None)
    console.print(made)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_rows_stand_in_columns_while_they_fit() -> None:
    made = tables.rows(["name", "n"], [["a", 1_000], [None, 2]], width=80)
    assert shown(made) == ["name      n", "───────────", "a     1,000", "null      2"]


def test_wide_rows_stand_upright_without_what_is_null() -> None:
    columns = [f"column_{number}" for number in range(20)]
    values = [["value", *[None] * 18, 7], ["other", *[None] * 18, 8]]
    assert shown(tables.rows(columns, values, width=80)) == [
        "column_0   value",
        "column_19  7",
        "",
        "column_0   other",
        "column_19  8",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (1234567, "1,234,567"),
        (0.1, "0.1"),
        (Decimal("0.000584"), "0.000584"),
        ("two\nlines", "two⏎lines"),
        ("\x1b[31mred", "[31mred"),
        ({"a": [1]}, '{"a":[1]}'),
        (NOW, "2026-11-22 12:00:00.000Z"),
        ("x" * 500, "x" * 199 + "…"),
    ],
)
def test_values_take_one_line(value: object, text: str) -> None:
    assert tables.cell(value).plain == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s ago"), (59, "59 s ago"), (60, "1 min ago"), (7200, "2 h ago"), (3 * 86_400, "3 d ago")],
)
def test_ages_are_told_in_words(seconds: int, text: str) -> None:
    stamp = Timestamp()
    stamp.FromDatetime(NOW - timedelta(seconds=seconds))
    assert tables.ago(stamp, NOW) == text


def test_a_sum_with_an_inexact_call_is_a_lower_bound_and_no_cost_is_unknown() -> None:
    rows = [
        analytics_service_pb2.UsageRow(
            keys=["opus"],
            tokens=session_pb2.TokenTotals(input_tokens=1000, output_tokens=10, provider_cost_microusd=5000),
            calls=1,
        ),
        analytics_service_pb2.UsageRow(
            keys=["other"], tokens=session_pb2.TokenTotals(input_tokens=500), calls=1, inexact_calls=1
        ),
    ]
    lines = shown(tables.usage(["model"], rows))
    assert lines[2].split() == ["opus", "1,000", "0", "10", "1", "$0.0050"]
    assert lines[3].split() == ["other", "≥", "500", "≥", "0", "≥", "0", "≥", "1", "unknown"]
    assert lines[-1].split() == ["all", "≥", "1,500", "≥", "0", "≥", "10", "≥", "2", "$0.0050"]


def test_what_a_session_waits_for_stands_beside_its_status() -> None:
    waiting = session_pb2.Session(status=session_pb2.SESSION_STATUS_RUNNING, waiting_on=session_pb2.WAITING_ON_APPROVAL)
    assert tables.status(waiting).plain == "running (approval)"
    assert (
        tables.status(session_pb2.Session(status=session_pb2.SESSION_STATUS_IDLE, archived=True)).plain
        == "idle (archived)"
    )
