"""A statement's parameters on their way to the worker: one row of Arrow, as Flight SQL sends them too. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from indexer.sql.errors import QueryFailed, QueryTooLarge
from indexer.sql.frames import MAX_BATCH_BYTES

Parameters = Sequence[Any] | Mapping[str, Any]


def encode_parameters(parameters: Parameters | None) -> bytes:
    """Return the values as an Arrow IPC stream of one row, columns named `1`, `2` … or as given; empty for none.

    QueryTooLarge over 4 MB, QueryFailed (`InvalidParameter`) for what Arrow cannot hold.
    """
    if not parameters:
        return b""
    named = parameters if isinstance(parameters, Mapping) else {str(i): v for i, v in enumerate(parameters, 1)}
    try:
        batch = pa.RecordBatch.from_pylist([dict(named)])
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise QueryFailed("InvalidParameter", f"a parameter that Arrow cannot hold: {error}") from None
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    encoded = sink.getvalue()
    if encoded.size > MAX_BATCH_BYTES:
        raise QueryTooLarge("parameters", MAX_BATCH_BYTES)
    return bytes(encoded)


def decode_parameters(encoded: bytes) -> dict[str, Any]:
    """Return the values by placeholder name, from what `encode_parameters` gave."""
    if not encoded:
        return {}
    rows = pa.ipc.open_stream(encoded).read_all().to_pylist()
    return dict(rows[0]) if rows else {}
