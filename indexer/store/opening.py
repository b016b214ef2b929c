"""Opens the live DuckDB file: makes it when it is not there, anew when it is of another version or on demand."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import duckdb

from indexer import schema, views
from indexer.store.live import CHECKPOINT_AT, Store


class StoreUnusable(Exception):
    """The file cannot be opened. `in_use`: because another process has it."""

    def __init__(self, path: Path, error: duckdb.Error) -> None:
        """Say which file, why, and what to do."""
        why = str(error).partition("\n")[0][:500]
        self.in_use = "Could not set lock" in why
        remedy = "stop the indexer that has it, or set PODIUM_STORE_FILE to another file"
        if not self.in_use:
            remedy = "build it anew from the log: python -m indexer --rebuild"
        super().__init__(f"{path} cannot be opened: {why}; {remedy}")


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """What the live database may use. A second thread costs every insert of a batch half as much again."""

    memory_bytes: int = 1024**3
    threads: int = 1


@contextlib.asynccontextmanager
async def open_store(
    path: Path, limits: StoreLimits | None = None, *, rebuild: bool = False
) -> AsyncIterator[Store]:  # fmt: skip
    """Yield the store at `path`, made empty when there is none, when its tables are of another version, or on demand.

    Whoever feeds it starts after `Store.position`; an empty one is rebuilt by reading the log from its beginning.
    Raises StoreUnusable.
    """
    connection, position = await asyncio.to_thread(_open, path, limits or StoreLimits(), rebuild=rebuild)
    store = Store(path, connection, position)
    try:
        yield store
    finally:
        await asyncio.shield(store.close())


def _open(path: Path, limits: StoreLimits, *, rebuild: bool) -> tuple[duckdb.DuckDBPyConnection, int]:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if rebuild:
        _discard(path, limits)
    connection = _connect(path, limits)
    version, position = _meta(connection)
    if version == schema.SCHEMA_VERSION:
        return connection, position
    if version is not None:
        connection.close()
        _delete(path)
        connection = _connect(path, limits)
    connection.execute("BEGIN")
    for statement in (*schema.ddl(), *views.ddl()):
        connection.execute(statement)
    connection.execute("INSERT INTO core.meta VALUES (?, 0)", [schema.SCHEMA_VERSION])
    connection.execute("COMMIT")
    return connection, 0


def _discard(path: Path, limits: StoreLimits) -> None:
    """Make room for a new store; what cannot be read is put aside. Raises StoreUnusable when somebody has the file."""
    try:
        _connect(path, limits).close()
    except StoreUnusable as error:
        if error.in_use:
            raise
        path.replace(path.with_name(f"{path.name}.unreadable"))
    _delete(path)


def _connect(path: Path, limits: StoreLimits) -> duckdb.DuckDBPyConnection:
    config: dict[str, str | bool | int | float | list[str]] = {
        "checkpoint_threshold": CHECKPOINT_AT,
        "memory_limit": f"{limits.memory_bytes // 1024}KiB",
        "threads": limits.threads,
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "python_enable_replacements": False,
    }
    try:
        connection = duckdb.connect(str(path), config=config)
        connection.execute("SET TimeZone = 'UTC'")
    except duckdb.Error as error:
        raise StoreUnusable(path, error) from error
    return connection


def _meta(connection: duckdb.DuckDBPyConnection) -> tuple[int | None, int]:
    """Return the version of the tables and the position; None and 0 for a new file, version 0 for a foreign one."""
    tables = connection.execute("SELECT schema_name || '.' || table_name FROM duckdb_tables()").fetchall()
    if not tables:
        return None, 0
    if ("core.meta",) not in tables:
        return 0, 0
    version, position = connection.execute("SELECT schema_version, position FROM core.meta").fetchall()[0]
    return int(version), int(position)


def _delete(path: Path) -> None:
    # The WAL first: without its database it means nothing, while a new database must never meet an old WAL.
    for file in (path.with_name(f"{path.name}.wal"), path):
        file.unlink(missing_ok=True)
