"""Every way a query can fail, with the facts as attributes and a form that crosses the worker's pipe.

SqlError
├── StatementRefused    the text is not one SELECT made of allowed parts; nothing ran
├── QueryTimedOut       the time limit passed, the client's download included
├── QueryTooLarge       memory, rows, bytes or one row passed its limit
├── QueryFailed         DuckDB said no, or the worker process died
├── TooManyQueries      the concurrency limit is reached; try again later
└── SnapshotUnavailable the store could not be copied and there is no earlier copy
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

MAX_MESSAGE_CHARS = 600  # DuckDB quotes the offending value, which can be megabytes of a transcript


class SqlError(Exception):
    """A query that gave no answer. `facts` is JSON-ready and rebuilds the error on the other side of the pipe."""

    code: ClassVar[str] = "sql"

    def __init__(self, text: str, /, **facts: Any) -> None:
        super().__init__(clip(text))
        self.facts: dict[str, Any] = facts


class StatementRefused(SqlError):
    """The statement did not pass the allow-list: what was found, what is allowed, what to do."""

    code = "refused"

    def __init__(self, found: str, allowed: str, remedy: str) -> None:
        self.found, self.allowed, self.remedy = clip(found), allowed, remedy
        super().__init__(
            f"found {self.found}; allowed: {allowed}; {remedy}", found=self.found, allowed=allowed, remedy=remedy
        )


class QueryTimedOut(SqlError):
    """The query took longer than `limit_s` seconds of wall time, waiting and download included."""

    code = "timed_out"

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        super().__init__(
            f"the query took longer than {limit_s:g} s; narrow it, add a LIMIT, or ask for more time", limit_s=limit_s
        )


class QueryTooLarge(SqlError):
    """The query passed `limit` of `resource`: `memory`, `rows`, `bytes` (of the answer), `row` or `parameters`."""

    code = "too_large"

    def __init__(self, resource: str, limit: int) -> None:
        self.resource, self.limit = resource, limit
        unit = "rows" if resource == "rows" else "bytes"
        super().__init__(
            f"the query passed its limit of {limit} {unit} ({resource}); "
            "aggregate, select fewer columns, cut long text with substr, or add a LIMIT",
            resource=resource,
            limit=limit,
        )


class QueryFailed(SqlError):
    """DuckDB could not answer, or the worker died. `kind` is DuckDB's class of error, or `WorkerDied`."""

    code = "failed"

    def __init__(self, kind: str, message: str) -> None:
        self.kind = kind
        super().__init__(message, kind=kind, message=clip(message))


class TooManyQueries(SqlError):
    """As many queries as allowed are running or waiting. `scope` is `caller` or `service`."""

    code = "too_many"

    def __init__(self, scope: str, limit: int) -> None:
        self.scope, self.limit = scope, limit
        super().__init__(
            f"{limit} queries are under way for this {scope}; wait for one to end and try again",
            scope=scope,
            limit=limit,
        )


class SnapshotUnavailable(SqlError):
    """The store could not be copied, and no earlier copy is there to answer from."""

    code = "snapshot"

    def __init__(self, reason: str) -> None:
        self.reason = clip(reason)
        super().__init__(f"no copy of the store to query: {self.reason}; try again later", reason=self.reason)


# What a worker may say of itself; the other two are the parent's.
_FROM_WORKER: Mapping[str, Callable[..., SqlError]] = {
    error.code: error for error in (StatementRefused, QueryTimedOut, QueryTooLarge, QueryFailed)
}


def to_wire(error: SqlError) -> dict[str, Any]:
    """Return the error as JSON-ready facts under its code."""
    return {"code": error.code, "facts": error.facts}


def from_wire(wire: Mapping[str, Any]) -> SqlError:
    """Return the error that `to_wire` described; a report that makes no sense is itself a `QueryFailed`."""
    try:
        return _FROM_WORKER[wire["code"]](**wire["facts"])
    except (KeyError, TypeError, ValueError):
        return QueryFailed("WorkerDied", "the query worker sent an error that cannot be read; try again")


def clip(text: str) -> str:
    """Return `text` on at most MAX_MESSAGE_CHARS characters, without control characters."""
    text = text.replace("\t", " ")
    clean = "".join(
        c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text[:MAX_MESSAGE_CHARS]
    )
    return clean if len(text) <= MAX_MESSAGE_CHARS else clean[:-1] + "…"
