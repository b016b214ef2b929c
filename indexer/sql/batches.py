"""Arrow batches cut to size: record batches in, IPC messages of at most MAX_BATCH_BYTES out, in order. Pure."""

from collections.abc import Iterator

import pyarrow as pa

from indexer.sql.errors import QueryTooLarge
from indexer.sql.frames import MAX_BATCH_BYTES, MAX_FRAME_BYTES


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """Return the schema with dictionaries (DuckDB's enums) as plain values: each batch then stands alone."""
    return pa.schema([field.with_type(_plain(field.type)) for field in schema], metadata=schema.metadata)


def messages(batch: pa.RecordBatch) -> Iterator[pa.Buffer]:
    """Yield the batch as encapsulated IPC messages, halved by rows until each fits.

    QueryTooLarge (`row`) when a single row does not.
    """
    waiting = [batch]
    while waiting:
        part = waiting.pop()
        # get_total_buffer_size counts whole shared buffers, nbytes what the slice refers to.
        if part.nbytes <= MAX_BATCH_BYTES and (message := part.serialize()).size <= MAX_FRAME_BYTES:
            yield message
        elif part.num_rows <= 1:
            raise QueryTooLarge("row", MAX_BATCH_BYTES)
        else:
            half = part.num_rows // 2
            waiting += [part.slice(half), part.slice(0, half)]


def _plain(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    if pa.types.is_map(kind):
        return pa.map_(_plain(kind.key_type), _plain(kind.item_type))
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_plain(kind.value_type)))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(kind.value_field.with_type(_plain(kind.value_type)), kind.list_size)
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_plain(field.type)) for field in kind])
    return kind
