"""DuckDB's parser, and the corpus of legitimate queries, for the pure parts of the SQL path."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

CORPUS = Path(__file__).parents[3] / "integration" / "indexer" / "sql" / "legitimate.sql"

Tree = dict[str, Any]


@pytest.fixture(scope="session")
def connection() -> duckdb.DuckDBPyConnection:
    return duckdb.connect()


@pytest.fixture(scope="session")
def serialize(connection: duckdb.DuckDBPyConnection) -> Callable[[str], Tree]:
    def tree(text: str) -> Tree:
        ((value,),) = connection.execute("SELECT json_serialize_sql(?)", [text]).fetchall()
        result: Tree = json.loads(value)
        return result

    return tree


@pytest.fixture(scope="session")
def deserialize(connection: duckdb.DuckDBPyConnection) -> Callable[[Tree], str]:
    def text(statement: Tree) -> str:
        tree = json.dumps({"error": False, "statements": [statement]})
        ((value,),) = connection.execute("SELECT json_deserialize_sql(?::JSON)", [tree]).fetchall()
        return str(value)

    return text


@pytest.fixture(scope="session")
def corpus() -> list[str]:
    return re.split(r"^-- query: .*\n", CORPUS.read_text(), flags=re.MULTILINE)[1:]
