"""Query: one SELECT of a caller's, run by `indexer.sql`, as pieces of an Arrow IPC stream."""

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pyarrow as pa
from google.protobuf.duration_pb2 import Duration

from indexer.reads import Reads
from indexer.sql import errors as sql
from indexer.sql.service import QueryLimits, QueryResult, QueryRunner
from podium import errors, rpc
from podium.errors import InvalidArgument, PodiumError
from podium.v1 import analytics_service_pb2 as api

_END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"
"""How an Arrow IPC stream ends."""

_ROWS_AT_ONCE = 65_536
"""More than a worker sends in one batch: its own limit must not be met before ours is seen to be passed."""


class Queries:
    """Answers Query."""

    def __init__(self, runner: QueryRunner, reads: Reads, limits: QueryLimits) -> None:
        """`limits`: of each query; `limits.max_rows` ends an answer, it does not fail it."""
        self._runner, self._reads, self._limits = runner, reads, limits

    async def run(self, request: api.QueryRequest, context: Any) -> AsyncIterator[api.QueryResponse]:
        """Yield the answer: the schema first, then batches, then how it ended. Raises PodiumError."""
        parameters = _parameters(request.parameters_json)
        rows_max = _rows_max(request.max_rows, self._limits.max_rows)
        await self._reads.reached(request.at_least_position, context)
        limits = QueryLimits(
            timeout_s=min(self._limits.timeout_s, self._reads.time_left_s(context)),
            max_rows=rows_max + _ROWS_AT_ONCE,
            max_bytes=self._limits.max_bytes,
        )
        asked = self._runner.query(
            request.sql, parameters, limits, rpc.caller().name, request.at_least_position or None
        )
        try:
            async with asked as result:
                async for response in _responses(result, rows_max):
                    yield response
        except sql.SqlError as error:
            raise translated(error) from error


async def _responses(result: QueryResult, rows_max: int) -> AsyncIterator[api.QueryResponse]:
    age = Duration()
    age.FromNanoseconds(int(result.snapshot_age_s * 1e9))
    yield api.QueryResponse(arrow_ipc=result.ipc_schema, position=result.position, age=age)
    room = rows_max
    async for message in result:
        batch = pa.ipc.read_record_batch(pa.py_buffer(message), result.schema)
        if batch.num_rows > room:
            if room:
                yield api.QueryResponse(arrow_ipc=batch.slice(0, room).serialize().to_pybytes())
            yield api.QueryResponse(arrow_ipc=_END_OF_STREAM, truncated=True)
            return
        room -= batch.num_rows
        yield api.QueryResponse(arrow_ipc=message)
    yield api.QueryResponse(arrow_ipc=_END_OF_STREAM)


def translated(error: sql.SqlError) -> PodiumError:
    """Return what the caller is told."""
    text = str(error)
    match error:
        case sql.StatementRefused():
            return errors.StatementRefused("SQL_REFUSED", text, found=error.found, allowed=error.allowed)
        case sql.QueryTimedOut():
            return errors.DeadlineExceeded("QUERY_TIMED_OUT", text)
        case sql.QueryTooLarge():
            return errors.ResourceExhausted("QUERY_TOO_LARGE", text, resource=error.resource, limit=error.limit)
        case sql.TooManyQueries():
            return errors.ResourceExhausted("TOO_MANY_QUERIES", text, limit=error.limit)
        case sql.QueryFailed() if error.kind not in ("WorkerDied", "Internal"):
            return errors.StatementRefused("SQL_FAILED", text, kind=error.kind)
        case _:
            return errors.Unavailable("PROJECTION_UNAVAILABLE", text)


def _parameters(parameters_json: str) -> list[Any] | None:
    if not parameters_json:
        return None
    expected = "one JSON array of numbers, strings, booleans and nulls"
    try:
        parameters = orjson.loads(parameters_json)
    except orjson.JSONDecodeError as error:
        raise InvalidArgument("parameters_json", found=parameters_json, expected=expected) from error
    if not isinstance(parameters, list) or any(isinstance(value, list | dict) for value in parameters):
        raise InvalidArgument("parameters_json", found=parameters_json, expected=expected)
    return parameters


def _rows_max(asked: int, allowed: int) -> int:
    if asked < 0:
        raise InvalidArgument("max_rows", found=asked, expected="0 (as many as the indexer allows) or more")
    return min(asked or allowed, allowed)
