"""One worker process as its parent sees it: start, ask, read frames, kill. The one place that spawns it."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog

import indexer.sql
from indexer.sql.errors import QueryFailed, SqlError
from indexer.sql.frames import HEADER, BadFrame, Kind, parse_header

EXIT_LIMIT_S = 5.0
PIPE_BUFFER_BYTES = 1024 * 1024
# Where `indexer` is imported from, for a child that gets nothing else of our environment.
_ROOT = str(Path(indexer.sql.__file__).parents[2])

_log = structlog.get_logger(__name__)


class WorkerProcess:
    """A child that answers one query at a time. Whoever holds it kills it or gives it back."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        # asyncio's kill() polls, and a poll that reaps the child leaves asyncio's own watcher with exit code 255.
        # A pidfd neither reaps nor, the child being gone, hits whoever has its pid by then. Linux only.
        self._pidfd = _pidfd(process.pid)
        self._ready = False
        self._reading = asyncio.Lock()
        self._killed_for: SqlError | None = None
        self.answered = 0
        self.clean = True  # between queries; a worker that is given back unclean is not used again

    @classmethod
    async def start(cls, memory_bytes: int) -> "WorkerProcess":
        """Return a starting worker; it says itself when it is ready."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "indexer.sql.worker", str(os.getpid()), str(memory_bytes),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
            limit=PIPE_BUFFER_BYTES, env=worker_environment(),
            start_new_session=True,  # Ctrl-C is the parent's to handle
        )  # fmt: skip
        return cls(process)

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the child has not been seen to end."""
        return self._process.returncode is None

    async def ask(self, request: Mapping[str, Any], parameters: bytes) -> None:
        """Send one request, once the worker is ready. QueryFailed when it is not there."""
        self.clean = False
        if not self._ready:
            kind, _ = await self.read()
            if kind is not Kind.READY:
                raise self._broken()
            self._ready = True
        assert self._process.stdin is not None
        for kind, payload in ((Kind.QUERY, json.dumps(request).encode()), (Kind.PARAMETERS, parameters)):
            self._process.stdin.write(HEADER.pack(kind.value, len(payload)) + payload)
        try:
            await self._process.stdin.drain()
        except ConnectionError:
            raise self._broken() from None

    async def read(self) -> tuple[Kind, bytes]:
        """Return the next frame. QueryFailed (`WorkerDied`) when the worker ended or sent nonsense."""
        assert self._process.stdout is not None
        try:
            async with self._reading:
                kind, length = parse_header(await self._process.stdout.readexactly(HEADER.size))
                payload = await self._process.stdout.readexactly(length) if length else b""
        except (asyncio.IncompleteReadError, ConnectionError, BadFrame):
            self.kill()
            await self.ended()
            raise self._broken() from None
        if kind is Kind.END:
            self.clean = True
        return kind, payload

    def kill(self, reason: SqlError | None = None) -> None:
        """SIGKILL, now; may be repeated. `reason` is what the reader of its answer is told."""
        self._killed_for = self._killed_for or reason
        if self._process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            if self._pidfd is None:
                self._process.kill()
            else:
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    async def ended(self) -> None:
        """Wait, not for ever, until the killed child is gone and reaped."""
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(EXIT_LIMIT_S), self._reading:
                # asyncio reports the exit only after the pipes' ends, and those come behind the unread batches.
                while await self._process.stdout.read(PIPE_BUFFER_BYTES):
                    pass
                await self._process.wait()
        except TimeoutError:
            # A SIGKILL waits only for the kernel; asyncio reaps it then, and the query's own outcome matters more.
            _log.warning("query_worker_not_reaped", pid=self.pid, after_s=EXIT_LIMIT_S)
        finally:
            if self._pidfd is not None:
                os.close(self._pidfd)
                self._pidfd = None

    def _broken(self) -> SqlError:
        if self._killed_for is not None:
            return self._killed_for
        code = self._process.returncode
        cause = signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"
        return QueryFailed(
            "WorkerDied",
            f"the query worker ended ({cause}), most often for want of memory; aggregate, select less, or try again",
        )


def worker_environment() -> dict[str, str]:
    """Return all that a worker gets: no token, no key, no home."""
    return {
        "PATH": os.defpath,
        "PYTHONPATH": _ROOT,
        "TZ": "UTC",
        "LC_ALL": "C.UTF-8",
        "ARROW_DEFAULT_MEMORY_POOL": "system",
        # glibc reserves 64 MB of address space per arena, by default up to 8 per core: RLIMIT_AS counts them.
        "MALLOC_ARENA_MAX": "2",
    }


def _pidfd(pid: int) -> int | None:
    """Return a pidfd, None where there are none, or when the child has ended and been reaped already."""
    if not hasattr(os, "pidfd_open"):
        return None
    with contextlib.suppress(ProcessLookupError):
        return os.pidfd_open(pid)
    return None
