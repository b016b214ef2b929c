"""What a user may ask: the seed's three queries word for word, and everything in legitimate.sql."""

from collections.abc import Callable
from typing import Any

import pytest

from indexer.sql.service import QueryRunner

Rows = Callable[..., Any]
Shared = tuple[Any, Any, QueryRunner]

pytestmark = pytest.mark.asyncio(loop_scope="module")


def seed(number: int, sections: Callable[[str, str], list[tuple[str, str]]]) -> str:
    return next(sql for title, sql in sections("legitimate.sql", "query") if title.startswith(f"seed {number}"))


async def test_the_seeds_first_query_counts_messages_and_keeps_empty_sessions(
    shared: Shared, rows_of: Rows, sections: Any
) -> None:
    table = await rows_of(shared[2], seed(1, sections))
    assert table.column_names == ["title", "model", "msg_count"]
    rows = [tuple(row.values()) for row in table.to_pylist()]
    assert rows[:2] == [("Implement smart contract", "gpt-5.2", 3), ("Explore Slither testing", "opus", 2)]
    assert sorted(rows[2:]) == [("Empty but named", "opus", 0), ("Untitled", "opus", 0)]


async def test_the_seeds_second_query_lists_named_sessions_newest_first(
    shared: Shared, rows_of: Rows, sections: Any
) -> None:
    table = await rows_of(shared[2], seed(2, sections))
    assert table.column_names == ["title", "model", "context_used_percent", "status", "created_at"]
    assert table["title"].to_pylist() == ["Empty but named", "Explore Slither testing", "Implement smart contract"]
    assert table["context_used_percent"].to_pylist() == [0.0, 12.0, 61.5]


async def test_the_seeds_third_query_gives_the_conversation_in_order(
    shared: Shared, rows_of: Rows, sections: Any
) -> None:
    table = await rows_of(shared[2], seed(3, sections).replace("<session_id>", "s1"))
    assert table.column_names == ["role", "preview", "created_at"]
    assert table["role"].to_pylist() == ["user", "assistant", "result"]
    assert table["preview"][0].as_py().startswith('{"type": "user"')


async def test_a_legitimate_query_runs(shared: Shared, rows_of: Rows, legitimate: tuple[str, str]) -> None:
    table = await rows_of(shared[2], legitimate[1])
    assert table.num_columns >= 1
