"""A client's process as the runner holds it: started through the launcher, read line by line, ended within bounds.

Owns the process's three pipes. One reader and one writer at a time.
"""

import asyncio
import contextlib
import os
import signal
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from runner.processes import Launch, prepare_launch

LINE_BYTES_MAX: Final = 64 * 1024 * 1024
"""A line above this is cut; a tool result of 10 MB comes through whole."""

STDERR_LINES_MAX: Final = 50
STDERR_LINE_BYTES_MAX: Final = 4096
_READ_BYTES: Final = 256 * 1024
_EXIT_S: Final = 5.0
"""The launcher gives its tree 2 s after TERM and 3 s after KILL; port.CLOSE_DEADLINE_S bounds the whole."""
_LAST_WORDS_S: Final = 0.3


@dataclass(frozen=True, slots=True)
class Line:
    """One line without its newline. `size_bytes` is larger than the data when the line was too long to keep."""

    data: bytes
    size_bytes: int


class Child:
    """A running client."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        """Take a process with three pipes; use `start`."""
        self._process: Final = process
        self._handle: Final = os.pidfd_open(process.pid) if hasattr(os, "pidfd_open") else None
        self._has_closed_output = False
        self._stderr: Final[deque[str]] = deque(maxlen=STDERR_LINES_MAX)
        self._stderr_task: Final = asyncio.create_task(self._read_stderr(), name="provider-stderr")
        self._exited: Final = asyncio.create_task(process.wait(), name="provider-exit")
        self._exited.add_done_callback(self._let_go)

    @classmethod
    async def start(cls, folder: Path, launch: Launch, arguments: Sequence[str]) -> Self:
        """Start the launcher for `launch` with `arguments` for the client; `folder` is the session's own.

        Raises OSError when the folder cannot be written or the launcher cannot be started.
        """
        start = await asyncio.to_thread(prepare_launch, folder, launch)
        passed = {name: os.environ[name] for name in launch.pass_through if name in os.environ}
        process = await asyncio.create_subprocess_exec(
            start,
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=passed,
            limit=_READ_BYTES,
        )
        return cls(process)

    @property
    def exit_code(self) -> int | None:
        """Its exit code, minus the signal's number when a signal ended it, None while it runs."""
        return self._process.returncode

    @property
    def said(self) -> str:
        """The end of what it said on standard error."""
        return "\n".join(self._stderr)

    async def lines(self) -> AsyncIterator[Line]:
        """Yield its output line by line until it closes the pipe; a last line without newline counts."""
        assert self._process.stdout is not None
        framer = Framer()
        while chunk := await self._process.stdout.read(_READ_BYTES):
            for line in framer.push(chunk):
                yield line
        if last := framer.rest():
            yield last
        self._has_closed_output = True

    async def write(self, data: bytes) -> None:
        """Write to its standard input. Raises ConnectionError when it does not read any more."""
        assert self._process.stdin is not None
        if self._process.stdin.is_closing():
            raise BrokenPipeError("the client's input is closed")
        self._process.stdin.write(data)
        await self._process.stdin.drain()

    def close_input(self) -> None:
        """Tell it that no more input comes; it ends by itself when it has nothing to do."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def terminate(self) -> None:
        """Ask the launcher to end it and all it started: TERM, and KILL two seconds later."""
        self._send(signal.SIGTERM)

    async def wait(self, timeout_s: float) -> int | None:
        """Return its exit code, or None when it still runs after `timeout_s`."""
        await asyncio.wait((self._exited,), timeout=timeout_s)
        return self._process.returncode

    async def end(self, grace_s: float = 0.0) -> None:
        """End it: `grace_s` to leave by itself, then the launcher's TERM and KILL, then KILL of the launcher."""
        if self._has_closed_output:
            await self.wait(_LAST_WORDS_S)
        if self.exit_code is None and grace_s > 0:
            self.close_input()
            await self.wait(grace_s)
        if self.exit_code is None:
            self.terminate()
            await self.wait(_EXIT_S)
        if self.exit_code is None:
            # The kernel kills the client with the launcher, and the session's mark finds what is left.
            self._send(signal.SIGKILL)
            await self.wait(_LAST_WORDS_S)
        self.close_input()
        # A descendant that escaped may hold the pipe open for ever; what it says is of no use any more.
        await asyncio.wait((self._stderr_task,), timeout=_LAST_WORDS_S)
        self._stderr_task.cancel()

    def _send(self, number: signal.Signals) -> None:
        """Send a signal to this process and no other.

        Not Process.send_signal: it looks first whether the process has ended, and may so take the exit code away
        from asyncio, which then reports 255.
        """
        if self.exit_code is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            if self._handle is not None:
                signal.pidfd_send_signal(self._handle, number)
            else:
                os.kill(self._process.pid, number)

    def _let_go(self, _: object) -> None:
        if self._handle is not None:
            os.close(self._handle)

    async def _read_stderr(self) -> None:
        assert self._process.stderr is not None
        framer = Framer(line_bytes_max=STDERR_LINE_BYTES_MAX)
        while chunk := await self._process.stderr.read(_READ_BYTES):
            for line in framer.push(chunk):
                self._keep(line)
        if last := framer.rest():
            self._keep(last)

    def _keep(self, line: Line) -> None:
        if text := line.data.decode("utf-8", "replace").strip():
            self._stderr.append(text)


class Framer:
    """Cuts a stream of bytes into lines, in linear time, and never keeps more than `line_bytes_max` of one."""

    def __init__(self, line_bytes_max: int = LINE_BYTES_MAX) -> None:
        """Start with an empty line."""
        self._max: Final = line_bytes_max
        self._parts: list[bytes] = []
        self._kept = 0
        self._size = 0

    def push(self, chunk: bytes) -> list[Line]:
        """Return the lines that `chunk` completes, oldest first."""
        first, *rest = chunk.split(b"\n")
        self._add(first)
        lines = []
        for piece in rest:
            lines.append(self._take())
            self._add(piece)
        return lines

    def rest(self) -> Line | None:
        """Return the last line when no newline ended it."""
        return self._take() if self._size else None

    def _add(self, piece: bytes) -> None:
        if piece:
            kept = piece[: self._max - self._kept]
            self._parts.append(kept)
            self._kept += len(kept)
            self._size += len(piece)

    def _take(self) -> Line:
        line = Line(b"".join(self._parts), self._size)
        self._parts, self._kept, self._size = [], 0, 0
        return line
