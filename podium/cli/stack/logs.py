"""What a service says: kept in a file that never grows beyond its bound, and its last words in memory."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

FILE_BYTES_MAX = 8 * 1024 * 1024
FILES_KEPT = 2
"""The file that is written and the one before it."""
LINE_BYTES_MAX = 64 * 1024
TAIL_LINES = 40


class ServiceLog:
    """The log file of one service."""

    def __init__(self, path: Path, on_line: Callable[[str], object] | None = None) -> None:
        """Take the file; each line also goes to `on_line`."""
        self.path = path
        self._on_line = on_line
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._file: BinaryIO | None = None
        self._size = 0

    def last_words(self, lines: int = TAIL_LINES) -> str:
        """Return the last lines that were said since the service was started last."""
        return "\n".join(list(self._tail)[-lines:])

    def begin(self) -> None:
        """Forget the last words: the service starts anew."""
        self._tail.clear()

    async def read(self, stream: asyncio.StreamReader) -> None:
        """Write all that comes until the stream ends."""
        with contextlib.closing(self):
            while line := await _line(stream):
                self._write(line if line.endswith(b"\n") else line + b"\n")
                text = line.decode("utf-8", errors="replace").rstrip("\n")
                self._tail.append(text)
                if self._on_line is not None:
                    self._on_line(text)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, line: bytes) -> None:
        if self._file is None:
            self._file = self.path.open("ab", buffering=0)
            self._size = self._file.tell()
        if self._size + len(line) > FILE_BYTES_MAX:
            self.close()
            self.path.replace(self.path.with_suffix(self.path.suffix + ".1"))
            self._file = self.path.open("ab", buffering=0)
            self._size = 0
        self._file.write(line)
        self._size += len(line)


async def _line(stream: asyncio.StreamReader) -> bytes:
    """Return the next line, or the first LINE_BYTES_MAX bytes of a longer one."""
    try:
        return await stream.readuntil(b"\n")
    except asyncio.IncompleteReadError as ended:
        return ended.partial
    except asyncio.LimitOverrunError as longer:
        return await stream.readexactly(min(longer.consumed, LINE_BYTES_MAX))
