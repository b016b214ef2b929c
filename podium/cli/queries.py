"""SQL from the client's side: one statement, its answer as a table, JSON lines, CSV, or the Arrow stream it comes in.

The answer is spooled to a file while it comes, so that its size is no question of memory.
"""

import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any, Literal, TypeAlias

import orjson
from rich.console import Console

from podium.cli import tables
from podium.cli.client import Client
from podium.v1 import analytics_service_pb2 as api

Form: TypeAlias = Literal["table", "json", "csv", "arrow"]

SPOOLED_BYTES_MAX = 16 * 1024 * 1024
"""Kept in memory up to this size."""


@dataclass(slots=True)
class Told:
    """What is known of an answer beside its rows."""

    rows: int = 0
    position: int = 0
    age_s: float = 0.0
    truncated: bool = False


async def write(client: Client, request: api.QueryRequest, form: Form, console: Console) -> Told:
    """Run a query and write its rows on standard output. Raises PodiumError."""
    if form == "arrow":
        told = Told()
        async for piece in _pieces(client, request, told):
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
        return told
    async with answered(client, request) as (told, reader):
        if form == "json":
            _write_json(reader, told)
        elif form == "csv":
            _write_csv(reader, told)
        else:
            told.rows = show(reader, console)
    return told


def show(reader: Any, console: Console) -> int:
    """Print an answer as a table and return how many rows it has."""
    columns = list(reader.schema.names)
    values = [[row[column] for column in columns] for row in _rows(reader)]
    console.print(tables.rows(columns, values, width=console.width))
    return len(values)


@asynccontextmanager
async def answered(client: Client, request: api.QueryRequest) -> AsyncIterator[tuple[Told, Any]]:
    """Run a query and yield what is known of the answer, and a reader of its record batches. Raises PodiumError."""
    import pyarrow as pa  # noqa: PLC0415 - 0.2 s that only SQL needs

    told = Told()
    with tempfile.SpooledTemporaryFile(max_size=SPOOLED_BYTES_MAX) as spooled:
        async for piece in _pieces(client, request, told):
            spooled.write(piece)
        spooled.seek(0)
        with pa.ipc.open_stream(spooled) as reader:
            yield told, reader


async def _pieces(client: Client, request: api.QueryRequest, told: Told) -> AsyncIterator[bytes]:
    first = True
    async for answer in client.stream(client.analytics.Query, request):
        if first:
            first = False
            told.position = answer.position
            told.age_s = answer.age.seconds + answer.age.nanos / 1e9
        told.truncated = answer.truncated
        yield answer.arrow_ipc


def _rows(reader: Any) -> Iterator[dict[str, Any]]:
    for batch in reader:
        yield from batch.to_pylist(maps_as_pydicts="lossy")


def _write_json(reader: Any, told: Told) -> None:
    for row in _rows(reader):
        told.rows += 1
        sys.stdout.buffer.write(orjson.dumps(row, default=_plain, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z))
    sys.stdout.buffer.flush()


def _write_csv(reader: Any, told: Told) -> None:
    from pyarrow import csv  # noqa: PLC0415 - as above

    with csv.CSVWriter(sys.stdout.buffer, reader.schema) as writer:
        for batch in reader:
            told.rows += batch.num_rows
            writer.write_batch(batch)
    sys.stdout.buffer.flush()


def _plain(value: Any) -> Any:
    """Return what orjson does not know as JSON: exact numbers as numbers, durations in seconds, bytes as hex."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes):
        return value.hex()
    return str(value)
