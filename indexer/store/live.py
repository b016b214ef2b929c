"""The live DuckDB file while it is open: one writer, a few readers, and copies.

One thread writes (`commit`, `quiesced`, `carries`), a few read; DuckDB's snapshots keep them apart. Rows and the
position of the log they come from are in one transaction, so a crash at any moment neither loses nor doubles a row.
"""

import asyncio
import contextlib
import errno
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import duckdb
import pyarrow as pa

from indexer import schema
from indexer.projection.carry import Carry
from indexer.projection.project import Projected
from indexer.projection.rows import TABLES
from indexer.sql.snapshot import Quiet
from podium.v1.session_pb2 import TokenTotals

T = TypeVar("T")
Parameters: TypeAlias = Sequence[object] | Mapping[str, object]

CHECKPOINT_AT = "256MB"
"""Of WAL. With DuckDB's 16 MB a commit's p99 is 780 ms, with this 18 ms."""

_NEVER = "1TB"
READERS = 3
INTERRUPT_WAIT_S = 5.0
READS_WAIT_S = 2.0
"""How long a checkpoint waits for running reads; new ones wait for it, so this is what it may cost them."""


class StoreFailed(Exception):
    """DuckDB could not do it. `fatal`: this process cannot use the file any more."""

    def __init__(self, doing: str, error: duckdb.Error) -> None:
        """Keep what was tried and the first line of what DuckDB says."""
        self.fatal = isinstance(error, duckdb.FatalException | duckdb.InternalException)
        super().__init__(f"DuckDB failed while {doing}: {str(error).partition(chr(10))[0][:500]}")


class Store:
    """The live file. Made by `open_store`; its methods belong to one event loop."""

    def __init__(self, path: Path, connection: duckdb.DuckDBPyConnection, position: int) -> None:
        """Take an open database that has its tables."""
        self.path = path
        self.position = position
        """Position of the log up to which all rows are committed."""
        self._connection = connection
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="store-writer")
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="store-reader")
        self._cursors: asyncio.LifoQueue[duckdb.DuckDBPyConnection] = asyncio.LifoQueue()
        for _ in range(READERS):
            self._cursors.put_nowait(connection.cursor())
        self._quieting = asyncio.Lock()
        self._closed = False

    async def commit(self, projected: Projected) -> None:
        """Store the rows and their position, all or nothing. Raises StoreFailed."""
        await self._write("storing rows", lambda: self._commit(projected))

    async def carries(self, session_ids: Collection[str]) -> dict[str, Carry]:
        """Return what is remembered of those of the sessions that are in the store. Raises StoreFailed."""
        return await self._write("reading what is known of sessions", lambda: self._carries(session_ids))

    async def rows(self, sql: str, parameters: Parameters = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a SELECT; parameters in order for `?`, or by name for `$name`.

        Cancelling interrupts it. Raises StoreFailed.
        """
        cursor = await self._cursors.get()
        running = asyncio.get_running_loop().run_in_executor(self._readers, _fetched, cursor, sql, parameters)
        running.add_done_callback(lambda _: self._cursors.put_nowait(cursor))
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            cursor.interrupt()
            await asyncio.wait({running}, timeout=INTERRUPT_WAIT_S)
            raise

    async def table_hashes(self) -> dict[str, str]:
        """Return a hash of each table's rows that does not depend on their order, with their number.

        Equal logs give equal hashes, whatever the batches and restarts were. Raises StoreFailed.
        """
        hashes = {}
        for table in TABLES:
            found = await self.rows(f"SELECT count(*), coalesce(sum(hash(t)::HUGEINT), 0) FROM core.{table} t")  # noqa: S608
            hashes[table] = f"{found[0][0]}:{found[0][1] % 2**64:016x}"
        return hashes

    @contextlib.asynccontextmanager
    async def quiesced(self) -> AsyncIterator[Quiet]:
        """Run CHECKPOINT and hold off the next one until the block ends; commits go on, into the WAL alone.

        The file may be copied in the block, by another process: opening it in this one would drop DuckDB's lock.
        Raises OSError, as copying does.
        """
        async with self._quieting:
            try:
                async with self._no_reads():
                    position = await self._write("writing a checkpoint", self._settle)
            except StoreFailed as error:
                raise OSError(errno.EIO, str(error)) from error
            try:
                yield Quiet(self.path, position)
            finally:
                await asyncio.shield(self._write("leaving a checkpoint", lambda: self._checkpoint_at(CHECKPOINT_AT)))

    @contextlib.asynccontextmanager
    async def _no_reads(self) -> AsyncIterator[None]:
        """Hold every reader's place: DuckDB refuses CHECKPOINT while somebody reads an older state."""
        held: list[duckdb.DuckDBPyConnection] = []
        try:
            await self._hold(held)
            yield
        finally:
            for cursor in held:
                self._cursors.put_nowait(cursor)

    async def _hold(self, held: list[duckdb.DuckDBPyConnection]) -> None:
        try:
            async with asyncio.timeout(READS_WAIT_S):
                while len(held) < READERS:
                    held.append(await self._cursors.get())
        except TimeoutError:
            raise OSError(errno.EBUSY, f"reads took longer than {READS_WAIT_S:g} s; try again") from None

    async def close(self) -> None:
        """End all work and close the file. May run twice."""
        if not self._closed:
            self._closed = True
            await asyncio.to_thread(self._close)

    async def _write(self, doing: str, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._writer, work)
        except duckdb.Error as error:
            raise StoreFailed(doing, error) from error

    def _commit(self, projected: Projected) -> None:
        batches = {
            table: schema.arrow_table(table, rows)
            for table in TABLES
            if (rows := getattr(projected.rows, table))
        }  # fmt: skip
        self._connection.execute("BEGIN")
        try:
            for table, batch in batches.items():
                self._insert(table, batch)
            self._connection.execute("UPDATE core.meta SET position = ?", [projected.position])
            self._connection.execute("COMMIT")
            # Here and not in the caller, who may be cancelled while this goes on.
            self.position = projected.position
        except duckdb.Error:
            with contextlib.suppress(duckdb.Error):  # A failed COMMIT has rolled back already.
                self._connection.execute("ROLLBACK")
            raise

    def _insert(self, table: str, batch: pa.Table) -> None:
        self._connection.register("batch", batch)
        try:
            if table == "sessions":
                # Replaced, not updated: with 50,000 sessions this takes a tenth of what a primary key or MERGE takes.
                self._connection.execute("DELETE FROM core.sessions WHERE id IN (SELECT id FROM batch)")
            self._connection.execute(f"INSERT INTO core.{table} SELECT * FROM batch")  # noqa: S608  # own names
        finally:
            self._connection.unregister("batch")

    def _carries(self, session_ids: Collection[str]) -> dict[str, Carry]:
        found = self._connection.execute(
            "SELECT id, revision, first_position, running_turn_id, turn_tokens, turn_model FROM core.sessions "
            "WHERE id IN (SELECT unnest(?))",
            [list(session_ids)],
        ).fetchall()
        return {
            name: Carry(
                revision, first, turn or "", TokenTotals.FromString(used) if used is not None else None, model or ""
            )
            for name, revision, first, turn, used, model in found
        }

    def _settle(self) -> int:
        self._connection.execute("CHECKPOINT")
        self._checkpoint_at(_NEVER)
        return int(self._connection.execute("SELECT position FROM core.meta").fetchall()[0][0])

    def _checkpoint_at(self, wal_size: str) -> None:
        self._connection.execute(f"SET GLOBAL checkpoint_threshold = '{wal_size}'")

    def _close(self) -> None:
        self._connection.interrupt()
        self._writer.shutdown(wait=True)
        self._readers.shutdown(wait=True, cancel_futures=True)
        while not self._cursors.empty():
            self._cursors.get_nowait().close()
        self._connection.close()


def _fetched(cursor: duckdb.DuckDBPyConnection, sql: str, parameters: Parameters) -> list[tuple[Any, ...]]:
    given = dict(parameters) if isinstance(parameters, Mapping) else list(parameters)
    try:
        return cursor.execute(sql, given).fetchall()
    except duckdb.Error as error:
        raise StoreFailed("reading", error) from error
