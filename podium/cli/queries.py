"""SQL from the client's side: one statement, its answer as an Arrow table or as the stream it comes in."""

import io
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from podium.cli.client import Client
from podium.v1 import analytics_service_pb2 as api


@dataclass(slots=True)
class Answer:
    """Rows, and what is known of them: `age_s` of the copy that was read, whether there were more."""

    table: Any
    position: int
    age_s: float
    truncated: bool


async def pieces(client: Client, request: api.QueryRequest) -> AsyncIterator[api.QueryResponse]:
    """Yield the answer as it comes. Raises PodiumError."""
    async for piece in client.stream(client.analytics.Query, request):
        yield piece


async def query(client: Client, request: api.QueryRequest) -> Answer:
    """Return the whole answer; the indexer bounds its size. Raises PodiumError."""
    import pyarrow as pa  # noqa: PLC0415 - 0.2 s that only SQL needs

    buffer, first, last = io.BytesIO(), None, api.QueryResponse()
    async for piece in pieces(client, request):
        first = first if first is not None else piece
        last = piece
        buffer.write(piece.arrow_ipc)
    buffer.seek(0)
    first = first if first is not None else last
    age_s = first.age.seconds + first.age.nanos / 1e9
    with pa.ipc.open_stream(buffer) as reader:
        return Answer(reader.read_all(), first.position, age_s, last.truncated)
