"""The store's tables: DDL and Arrow schemas, made from the row classes. Pure."""

from collections.abc import Sequence
from typing import NamedTuple, get_type_hints

import pyarrow as pa

from indexer.projection.rows import TABLES, Stored

SCHEMA_VERSION = 1
"""Raise it with every change of a table or of what the projection puts into one: an older file is built anew."""


class Column(NamedTuple):
    """One column: its name and how it is kept."""

    name: str
    stored: Stored


def columns(row: type[tuple[object, ...]]) -> list[Column]:
    """Return the columns of a row class, in order."""
    hints = get_type_hints(row, include_extras=True)
    return [Column(name, hint.__metadata__[0]) for name, hint in hints.items()]


COLUMNS = {table: columns(row) for table, row in TABLES.items()}
ARROW = {table: pa.schema([(c.name, c.stored.arrow) for c in each]) for table, each in COLUMNS.items()}


def ddl() -> list[str]:
    """Return the statements that make an empty store, views aside.

    No key is declared: 5 million ids cost 196 MB of index and three times the load time; what must be unique is
    so because a session's revisions are checked one by one before they get here.
    """
    statements = [
        "CREATE SCHEMA core",
        "CREATE TABLE core.meta (schema_version INTEGER NOT NULL, position BIGINT NOT NULL)",
    ]
    for table, each in COLUMNS.items():
        listed = ", ".join(f'"{column.name}" {column.stored.sql}' for column in each)
        statements.append(f"CREATE TABLE core.{table} ({listed})")
    return statements


def arrow_table(table: str, rows: Sequence[tuple[object, ...]]) -> pa.Table:
    """Return rows as an Arrow table with the table's schema; at least one row."""
    schema = ARROW[table]
    # zip(*rows) turns rows into columns in C: 10 ns a value, where appending to a list per column takes 40.
    arrays = [pa.array(values, kind) for values, kind in zip(zip(*rows, strict=True), schema.types, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)
