"""The worker's DuckDB: the one file of the SQL path that imports it, opens the copy, and translates its errors.

Read-only and sealed: no external access, no file system after opening, no extensions, no temporary files, no settings.
"""

import json
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import duckdb
import pyarrow as pa

from indexer.sql.allowlist import CATALOG, SCHEMA, Vetted, vet
from indexer.sql.errors import QueryFailed, QueryTimedOut, QueryTooLarge, SqlError
from indexer.sql.rewrite import UNGROUPED_COLUMN, Relation, wrap_dependent_columns

ROWS_PER_READ = 16_384  # eight of DuckDB's vectors: small enough to be prompt, large enough to be fast

# Order matters: the file system goes after the file is open, the lock goes last.
_SEAL = (
    "SET python_enable_replacements = false",
    "SET autoinstall_known_extensions = false",
    "SET autoload_known_extensions = false",
    "SET allow_community_extensions = false",
    "SET enable_external_access = false",
    "SET disabled_filesystems = 'LocalFileSystem'",
    "SET TimeZone = 'UTC'",  # the answer does not depend on the machine
    "SET lock_configuration = true",
)

# `/home/…` in an error is the machine's, `/message/content` is the user's JSON pointer.
_ROOTS = "|".join(sorted(re.escape(entry.name) for entry in Path("/").iterdir()))
_PATHS = re.compile(rf"/(?:{_ROOTS})(?:/[^\s'\"`,;:)]*)?")


class Snapshot:
    """One open copy of the store. Not for two threads, except `interrupt`."""

    def __init__(self, path: str, *, memory_bytes: int, threads: int, keys: Mapping[str, str | None]) -> None:
        """Open and seal the copy at `path`; `keys` are the public views and the column that identifies a row."""
        config: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": f"{memory_bytes // 1024}KiB",
            "temp_directory": "",
            "threads": threads,
        }
        try:
            self._connection = duckdb.connect(path, read_only=True, config=config)
            for statement in _SEAL:
                self._connection.execute(statement)
            self._relations = {name.lower(): Relation(self._columns(name), key) for name, key in keys.items()}
        except duckdb.Error as error:
            raise translated(error, memory_bytes) from error
        self._memory_bytes = memory_bytes

    def close(self) -> None:
        """Let go of the file; an answer half read ends here."""
        self._connection.close()

    def interrupt(self) -> None:
        """Stop the running query at its next check; from any thread."""
        self._connection.interrupt()

    def vetted(self, text: str, parameters: Mapping[str, Any] | None) -> Vetted:
        """Return the statement as the gate lets it through; StatementRefused otherwise."""
        return vet(text, serialize=self._serialize, relations=self._relations, parameters=parameters)

    def relation(self, text: str, parameters: Mapping[str, Any] | None) -> duckdb.DuckDBPyRelation:
        """Return the bound, not yet running query, its functional dependencies spelt out if DuckDB asks for it.

        `parameters` are by placeholder name; None binds NULLs, for the schema alone.

        StatementRefused, QueryFailed, QueryTooLarge.
        """
        vetted = self.vetted(text, parameters)
        given = dict.fromkeys(vetted.parameters) if parameters is None else dict(parameters)
        try:
            return self._bound(vetted.text, given)
        except duckdb.BinderException as error:
            if UNGROUPED_COLUMN not in str(error):
                raise
            rewritten = self._rewritten(vetted)
            if rewritten is None:
                raise
            return self._bound(self.vetted(rewritten, parameters).text, given)

    def reader(self, text: str, parameters: Mapping[str, Any]) -> pa.RecordBatchReader:
        """Return the answer as a stream; `relation` streams where `execute` would hold all of it in memory."""
        return self.relation(text, parameters).to_arrow_reader(ROWS_PER_READ)

    def schema(self, text: str) -> pa.Schema:
        """Return the schema of the answer without computing it."""
        return self.relation(text, None).limit(0).to_arrow_reader(1).schema

    def parameter_names(self, text: str) -> frozenset[str]:
        """Return the names of the placeholders: `1`, `2` for `?` and `$1`, else as written."""
        return self.vetted(text, None).parameters

    def _bound(self, text: str, parameters: Mapping[str, Any]) -> duckdb.DuckDBPyRelation:
        statements = self._connection.extract_statements(text)
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise QueryFailed("ParserDisagreement", "DuckDB does not see one SELECT here; write the query more plainly")
        return self._connection.sql(text, params=dict(parameters) or None)

    def _rewritten(self, vetted: Vetted) -> str | None:
        statement = wrap_dependent_columns(vetted.tree, self._relations, self._render)
        return None if statement is None else self._deserialize(statement)

    def _render(self, expression: Mapping[str, Any]) -> str:
        tree = self._serialize("SELECT 1")["statements"][0]
        tree["node"]["select_list"] = [expression]
        return self._deserialize(tree).removeprefix("SELECT ")

    def _serialize(self, text: str) -> dict[str, Any]:
        tree: dict[str, Any] = json.loads(self._value("SELECT json_serialize_sql(?)", text))
        return tree

    def _deserialize(self, statement: Mapping[str, Any]) -> str:
        tree = json.dumps({"error": False, "statements": [statement]})
        return self._value("SELECT json_deserialize_sql(?::JSON)", tree)

    def _value(self, sql: str, argument: str) -> str:
        ((value,),) = self._connection.execute(sql, [argument]).fetchall()
        return str(value)

    def _columns(self, view: str) -> tuple[str, ...]:
        rows = self._connection.execute(
            "SELECT column_name FROM duckdb_columns() WHERE database_name = ? AND schema_name = ? AND table_name = ? "
            "ORDER BY column_index",
            [CATALOG, SCHEMA, view],
        ).fetchall()
        return tuple(str(name) for (name,) in rows)


class Deadline:
    """Interrupts the snapshot's query when `seconds` have passed. A context manager."""

    def __init__(self, snapshot: Snapshot, seconds: float) -> None:
        self.seconds = seconds
        self._timer = threading.Timer(max(seconds, 0.0), snapshot.interrupt)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()


def translated(error: BaseException, memory_bytes: int, limit_s: float = 0.0) -> SqlError:
    """Return the typed error for what DuckDB or the interpreter raised; its text without paths and not long."""
    match error:
        case SqlError():
            return error
        case duckdb.InterruptException():
            return QueryTimedOut(limit_s)
        case MemoryError():  # Arrow's too
            return QueryTooLarge("memory", memory_bytes)
        case RecursionError():
            return QueryFailed("RecursionError", "the statement is nested too deeply; split it with WITH")
        case duckdb.Error() | pa.ArrowException() | OSError() | ValueError() | TypeError():
            return _from_text(str(error), type(error).__name__, memory_bytes, limit_s)
        case _:
            return QueryFailed("Internal", f"the query worker met {type(error).__name__}; please report it")


def _from_text(text: str, name: str, memory_bytes: int, limit_s: float) -> SqlError:
    """Return the error by DuckDB's own heading: in mid-stream Arrow passes all of them on as OSError."""
    if text.startswith(("Out of Memory Error", "std::bad_alloc", "bad allocation")) or "std::bad_alloc" in text[:200]:
        return QueryTooLarge("memory", memory_bytes)
    if text.startswith("INTERRUPT Error"):
        return QueryTimedOut(limit_s)
    heading = re.match(r"([A-Z][A-Za-z ]{2,40}) Error: ", text)
    return QueryFailed(heading[1].replace(" ", "") + "Exception" if heading else name, scrubbed(text))


def scrubbed(text: str) -> str:
    """Return `text` without absolute paths of this machine."""
    return _PATHS.sub("<path>", text)
