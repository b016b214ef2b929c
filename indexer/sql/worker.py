"""The child process that answers queries: `python -m indexer.sql.worker <parent pid>`, frames on stdin and stdout.

It owns one read-only copy of the store at a time and nothing else. It may be killed at any moment.
Imports are kept to what a query needs; `tests/integration/indexer/sql/test_worker.py` names what may not be loaded.
"""

import contextlib
import fcntl
import io
import json
import os
import queue
import sys
import threading
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

import pyarrow as pa

from indexer.sql.batches import messages, plain_schema
from indexer.sql.duck import Deadline, Snapshot, translated
from indexer.sql.errors import QueryTooLarge, StatementRefused, to_wire
from indexer.sql.frames import Kind, read_frame, write_frame
from indexer.sql.parameters import decode_parameters
from indexer.sql.sandbox import confine, die_with_parent

Request = dict[str, Any]

_PIPE_BYTES = 1024 * 1024  # Linux's limit for users; with its default of 64 KB a batch takes 45 wake-ups


@dataclass(frozen=True, slots=True)
class _Opened:
    path: str
    snapshot: Snapshot


class Worker:
    """Answers one request after the other."""

    def __init__(self, answers: BinaryIO) -> None:
        self._answers = answers
        self._opened: _Opened | None = None

    def answer(self, request: Request, parameters: bytes) -> None:
        """Send the schema and the batches, or the error, of one request."""
        try:
            snapshot = self._snapshot(request)
            with Deadline(snapshot, request["timeout_s"]):
                if request["schema_only"]:
                    self._describe(snapshot, request)
                else:
                    self._query(snapshot, request, decode_parameters(parameters))
        except BrokenPipeError:
            raise
        except Exception as error:  # noqa: BLE001 - the parent must hear of it, whatever it is; it ends no task
            failure = translated(error, request["memory_bytes"], request["limit_s"])
            if not isinstance(failure, StatementRefused):
                self._close()  # an answer may be half read, and DuckDB takes no other work on that connection
            self._send(Kind.ERROR, json.dumps(to_wire(failure)).encode())

    def _snapshot(self, request: Request) -> Snapshot:
        """Return the copy the request names, opening it when another or none is open."""
        if self._opened is not None and self._opened.path == request["snapshot"]:
            return self._opened.snapshot
        self._close()
        snapshot = Snapshot(
            request["snapshot"],
            memory_bytes=request["memory_bytes"],
            threads=request["threads"],
            keys=request["keys"],
        )
        self._opened = _Opened(request["snapshot"], snapshot)
        return snapshot

    def _close(self) -> None:
        if self._opened is not None:
            self._opened.snapshot.close()
            self._opened = None

    def _describe(self, snapshot: Snapshot, request: Request) -> None:
        names = sorted(snapshot.parameter_names(request["sql"]))
        self._send(Kind.SCHEMA, memoryview(plain_schema(snapshot.schema(request["sql"])).serialize()))
        self._send(Kind.NAMES, json.dumps(names).encode())
        self._send(Kind.END, json.dumps({"rows": 0, "bytes": 0}).encode())

    def _query(self, snapshot: Snapshot, request: Request, parameters: dict[str, Any]) -> None:
        reader = snapshot.reader(request["sql"], parameters)
        schema = plain_schema(reader.schema)
        self._send(Kind.SCHEMA, memoryview(schema.serialize()))
        rows = size = 0
        for batch in reader:
            rows += batch.num_rows
            if rows > request["max_rows"]:
                raise QueryTooLarge("rows", request["max_rows"])
            for message in messages(batch if batch.schema.equals(schema) else batch.cast(schema)):
                size += message.size
                if size > request["max_bytes"]:
                    raise QueryTooLarge("bytes", request["max_bytes"])
                self._send(Kind.BATCH, memoryview(message))
        self._send(Kind.END, json.dumps({"rows": rows, "bytes": size}).encode())

    def _send(self, kind: Kind, payload: bytes | memoryview) -> None:
        write_frame(self._answers, kind, payload)


def _listen(requests: BinaryIO, inbox: "queue.SimpleQueue[tuple[Request, bytes]]") -> None:
    """Pass requests on; end the process, whatever it is doing, when the parent closes the pipe."""
    while True:
        header, parameters = read_frame(requests), read_frame(requests)
        if header is None or parameters is None:
            os._exit(0)
        inbox.put((json.loads(header[1]), parameters[1]))


def _own_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Return stdin and stdout for frames alone: whatever a library prints goes to stderr instead."""
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):  # over the user's quota: slower, not wrong
            fcntl.fcntl(answers, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    os.dup2(2, 1)
    requests = io.BufferedReader(io.FileIO(os.dup(0), "rb"))
    return requests, cast("BinaryIO", _Whole(answers))


class _Whole(io.RawIOBase):
    """A pipe that is written whole: one `write` of a raw file may take only a part."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw

    def write(self, payload: Any, /) -> int:
        view = memoryview(payload)
        done = 0
        while done < len(view):
            done += self._raw.write(view[done:])
        return done


def main() -> None:
    """Serve requests until the parent closes the pipe or kills us."""
    die_with_parent(int(sys.argv[1]))
    confined = int(sys.argv[2])
    requests, answers = _own_pipes()
    inbox: queue.SimpleQueue[tuple[Request, bytes]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(requests, inbox), daemon=True, name="parent").start()
    pa.set_cpu_count(1)
    confine(confined)
    worker = Worker(answers)
    write_frame(answers, Kind.READY)
    while True:
        request, parameters = inbox.get()
        worker.answer(request, parameters)


if __name__ == "__main__":
    main()
