"""Runs queries for callers: admission, a fresh enough copy, a worker, the stream of batches. What the servicer calls.

Owns the worker processes and, through `Snapshots`, the copies. Everything is bounded: queries running and waiting, per
caller too, wall time, rows, bytes, memory. A query that is left early, cancelled or late costs its worker's life.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import pyarrow as pa

from indexer.sql.errors import QueryFailed, QueryTimedOut, StatementRefused, TooManyQueries, from_wire
from indexer.sql.frames import Kind
from indexer.sql.parameters import Parameters, encode_parameters
from indexer.sql.process import WorkerProcess
from indexer.sql.snapshot import Copy, Snapshots

GRACE_S = 1.0  # between the worker's own interrupt and our SIGKILL
MEBIBYTE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class QueryLimits:
    """What one query may cost. Wall time counts from the call to the last batch, the client's slowness included."""

    timeout_s: float = 30.0
    max_rows: int = 10_000_000
    max_bytes: int = 4 * 1024 * MEBIBYTE


@dataclass(frozen=True, slots=True)
class SqlSettings:
    """What all queries together may cost.

    `relations` are the public views and the column that identifies a row of each, None when there is none.
    """

    relations: Mapping[str, str | None]
    max_running: int = 2
    max_waiting: int = 16
    max_per_caller: int = 4
    memory_bytes: int = 512 * MEBIBYTE  # of each worker
    threads: int = 2
    idle_workers: int = 1  # kept warm: starting one costs 0.35 s
    queries_per_worker: int = 200  # then a fresh process: fragmentation and leaks end there
    limits: QueryLimits = field(default_factory=QueryLimits)


class QueryResult:
    """An answer under way: its schema, how old the data is, and the batches as they come.

    `ipc_schema` is an encapsulated Arrow IPC message; it and the batches, in order, are an IPC stream. `rows` counts
    when the last batch has come.
    """

    def __init__(self, worker: WorkerProcess, ipc_schema: bytes, copy: Copy, age_s: float) -> None:
        self._worker = worker
        self.ipc_schema = ipc_schema
        self.snapshot_age_s = age_s
        self.position = copy.position
        self.rows = 0

    @property
    def schema(self) -> pa.Schema:
        """The schema for those who have Arrow at hand."""
        return pa.ipc.read_schema(pa.py_buffer(self.ipc_schema))

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield encapsulated IPC record batches of at most 4 MB. Any SqlError may come in place of the next one."""
        while not self._worker.clean:
            kind, payload = await _answer(self._worker, Kind.BATCH, Kind.END)
            if kind is Kind.END:
                self.rows = int(json.loads(payload)["rows"])
            else:
                yield payload


@dataclass(frozen=True, slots=True)
class Description:
    """What a statement would answer: the schema (IPC message) and the names of its placeholders."""

    ipc_schema: bytes
    parameters: tuple[str, ...]


class QueryRunner:
    """The read-only SQL service. An async context manager; its exit kills every worker and may run twice."""

    def __init__(self, snapshots: Snapshots, settings: SqlSettings) -> None:
        self._snapshots = snapshots
        self._settings = settings
        self._slots = asyncio.Semaphore(settings.max_running)
        self._callers: Counter[str] = Counter()
        self._idle: list[WorkerProcess] = []
        self._busy: set[WorkerProcess] = set()
        self._closed = False

    async def __aenter__(self) -> Self:
        await self._warm_up()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closed = True
        workers = [*self._idle, *self._busy]
        self._idle.clear()
        self._busy.clear()
        for worker in workers:
            worker.kill()
        for worker in workers:
            await worker.ended()

    @asynccontextmanager
    async def query(
        self,
        sql: str,
        parameters: Parameters | None = None,
        limits: QueryLimits | None = None,
        caller: str = "",
        at_least_position: int | None = None,
    ) -> AsyncIterator[QueryResult]:
        """Run one SELECT; the schema is there when the block is entered, the batches come by iterating.

        `parameters` are values in order for `?` and `$1`, or by name for `$name`; anything Arrow can hold. `caller` is
        who asks, for the limit per caller. With `at_least_position` it waits for a copy that has this position.

        Any SqlError, on entering or in place of a batch. Leaving the block before the end kills the worker.
        """
        limits = limits or self._settings.limits
        arguments = encode_parameters(parameters)
        async with self._asked(sql, arguments, limits, caller, at_least_position, schema_only=False) as (_, result):
            yield result

    async def describe(self, sql: str, limits: QueryLimits | None = None, caller: str = "") -> Description:
        """Return the schema and the placeholders of one SELECT without running it. Any SqlError."""
        limits = limits or self._settings.limits
        async with self._asked(sql, b"", limits, caller, None, schema_only=True) as (worker, result):
            _, names = await _answer(worker, Kind.NAMES)
            await _answer(worker, Kind.END)
            return Description(result.ipc_schema, tuple(json.loads(names)))

    @asynccontextmanager
    async def _asked(
        self, sql: str, arguments: bytes, limits: QueryLimits, caller: str, at_least: int | None, *, schema_only: bool
    ) -> AsyncIterator[tuple[WorkerProcess, QueryResult]]:
        """Hold a place, a copy and a worker that has answered with a schema; the deadline kills the worker."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + limits.timeout_s
        late = QueryTimedOut(limits.timeout_s)
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout_at(deadline + GRACE_S):
                    await stack.enter_async_context(self._admitted(caller))
                    copy = await stack.enter_async_context(self._snapshots.lease(at_least))
                    worker = await stack.enter_async_context(self._worker())
                    age_s = self._snapshots.age_s(copy)
                    request = self._request(sql, copy, limits, deadline - loop.time(), schema_only=schema_only)
                    await worker.ask(request, arguments)
                    _, ipc_schema = await _answer(worker, Kind.SCHEMA)
            except TimeoutError:
                raise late from None
            killer = loop.call_at(deadline + GRACE_S, worker.kill, late)
            stack.callback(killer.cancel)
            yield worker, QueryResult(worker, ipc_schema, copy, age_s)

    def _request(
        self, sql: str, copy: Copy, limits: QueryLimits, left_s: float, *, schema_only: bool
    ) -> dict[str, Any]:
        settings = self._settings
        return {
            "sql": sql,
            "schema_only": schema_only,
            "snapshot": str(copy.path),
            "keys": dict(settings.relations),
            "memory_bytes": settings.memory_bytes,
            "threads": settings.threads,
            "timeout_s": left_s,
            "limit_s": limits.timeout_s,
            "max_rows": limits.max_rows,
            "max_bytes": limits.max_bytes,
        }

    @asynccontextmanager
    async def _admitted(self, caller: str) -> AsyncIterator[None]:
        """Hold one of the running places; wait for one, unless too many wait already. TooManyQueries."""
        settings = self._settings
        if self._callers[caller] >= settings.max_per_caller:
            raise TooManyQueries("caller", settings.max_per_caller)
        if self._callers.total() >= settings.max_running + settings.max_waiting:
            raise TooManyQueries("service", settings.max_running + settings.max_waiting)
        self._callers[caller] += 1
        try:
            async with self._slots:
                yield
        finally:
            self._callers[caller] -= 1
            if not self._callers[caller]:
                del self._callers[caller]

    @asynccontextmanager
    async def _worker(self) -> AsyncIterator[WorkerProcess]:
        """Lend a worker; afterwards it is kept warm if it finished cleanly, and killed if not."""
        worker = await self._taken()
        self._busy.add(worker)
        try:
            yield worker
        finally:
            self._busy.discard(worker)
            worker.answered += 1
            fit = worker.clean and worker.alive and worker.answered < self._settings.queries_per_worker
            if fit and not self._closed and len(self._idle) < self._settings.idle_workers:
                self._idle.append(worker)
            else:
                worker.kill()
                await worker.ended()
                await self._warm_up()

    async def _taken(self) -> WorkerProcess:
        while self._idle:
            worker = self._idle.pop()
            if worker.alive:
                return worker
            await worker.ended()
        return await WorkerProcess.start(self._settings.memory_bytes)

    async def _warm_up(self) -> None:
        """Start what is missing of the idle workers, without waiting until they are ready."""
        while not self._closed and len(self._idle) < self._settings.idle_workers:
            self._idle.append(await WorkerProcess.start(self._settings.memory_bytes))


async def _answer(worker: WorkerProcess, *expected: Kind) -> tuple[Kind, bytes]:
    """Return the worker's next frame, one of the expected kinds; raise the error it reports instead."""
    kind, payload = await worker.read()
    if kind is Kind.ERROR:
        error = from_wire(json.loads(payload))
        # A refusal or a mistake in the query leaves the worker as it was; after a limit it is not trusted.
        worker.clean = isinstance(error, StatementRefused | QueryFailed)
        raise error
    if kind not in expected:
        worker.kill()
        raise QueryFailed("WorkerDied", f"the query worker sent {kind.name} out of turn; try again")
    return kind, payload
