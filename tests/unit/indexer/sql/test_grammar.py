"""The lists behind the gate hold what they say: every entry is needed, every name exists, nothing dangerous is in."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import duckdb

from indexer.sql.bounds import AMPLIFIERS
from indexer.sql.functions import FUNCTIONS, TABLE_FUNCTIONS, TYPES, WINDOW_FUNCTIONS
from indexer.sql.grammar import EXPRESSIONS_BY_CLASS, PARTS_BY_TYPE, QUERIES_BY_TYPE, TABLES_BY_TYPE

DANGEROUS = re.compile(
    r"read_|glob|parquet|scan|sniff|duckdb|pragma|getenv|secret|setting|query|execute|serial|plan\b|nextval|currval|"
    r"setval|setseed|variable|log$|logs|logging|sleep|pg_get|privilege|inet_|schema|catalog|database|attach|copy|extension|"
    r"external|stats|checkpoint|connection|transaction_id|txid|invoke|make_type|search_path|vector_type|test_"
)
# Caught by the pattern above for their spelling alone.
HARMLESS = {"log", "greatest_common_divisor"}


def nodes(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for child in value.values():
            yield from nodes(child)
    elif isinstance(value, list):
        for child in value:
            yield from nodes(child)


def test_each_kind_of_node_is_needed_by_a_legitimate_query(
    corpus: list[str], serialize: Callable[[str], dict[str, Any]]
) -> None:
    seen = {(node.get("class"), node.get("type")) for sql in [*corpus, "SELECT $1"] for node in nodes(serialize(sql))
            if isinstance(node.get("type"), str)}  # fmt: skip
    classes, types = {c for c, _ in seen if c}, {t for c, t in seen if not c}
    assert set(EXPRESSIONS_BY_CLASS) == classes
    assert set(QUERIES_BY_TYPE) | set(PARTS_BY_TYPE) | set(TABLES_BY_TYPE) == types


def test_each_function_exists_in_this_duckdb(connection: duckdb.DuckDBPyConnection) -> None:
    known = {
        str(name).lower() for (name,) in connection.execute("SELECT function_name FROM duckdb_functions()").fetchall()
    }
    # The parser's own spellings: `->`, `ifnull`, `x !` and `filter` are turned into others or are syntax.
    by_the_parser = {"->", "!", "ifnull", "coalesce", "count_star"}
    assert (FUNCTIONS | TABLE_FUNCTIONS | WINDOW_FUNCTIONS) - known - by_the_parser == set()


def test_no_listed_function_reads_files_runs_sql_or_shows_the_process() -> None:
    listed = FUNCTIONS | TABLE_FUNCTIONS | WINDOW_FUNCTIONS
    assert {name for name in listed if DANGEROUS.search(name)} - HARMLESS == set()


def test_each_amplifier_is_a_listed_function() -> None:
    assert AMPLIFIERS <= FUNCTIONS


def test_each_type_exists_in_this_duckdb(connection: duckdb.DuckDBPyConnection) -> None:
    known = {str(name).lower() for (name,) in connection.execute("SELECT type_name FROM duckdb_types()").fetchall()}
    by_the_parser = {"array", "double precision", "character varying", "datetime", "timestamp with time zone"}
    assert TYPES - known - by_the_parser == set()
