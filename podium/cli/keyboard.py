"""Lines that a person types, read without a thread and without blocking: a prompt can be taken back at any time."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from rich.console import Console

LINE_BYTES_MAX = 64 * 1024


class Keyboard:
    """Standard input as lines; only for a terminal."""

    def __init__(self, descriptor: int) -> None:
        """Take the terminal's file descriptor."""
        self._descriptor = descriptor
        self._buffer = b""
        self._arrived = asyncio.Event()
        self._ended = False

    async def line(self, console: Console, prompt: str) -> str | None:
        """Show `prompt` and return the next line without its end; None at the end of input (Ctrl-D)."""
        console.print(prompt, end="", soft_wrap=True)
        while b"\n" not in self._buffer and not self._ended:
            self._arrived.clear()
            await self._arrived.wait()
        if self._ended and not self._buffer:
            # Ctrl-D ends one line of a terminal, not the terminal.
            self._ended = False
            console.print()
            return None
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode("utf-8", errors="replace").strip()

    def listen(self) -> None:
        """Take what is typed."""
        asyncio.get_running_loop().add_reader(self._descriptor, self._read)

    def rest(self) -> None:
        """Leave the terminal to another program, or to nobody."""
        asyncio.get_running_loop().remove_reader(self._descriptor)

    def _read(self) -> None:
        typed = os.read(self._descriptor, 4096)
        self._ended = not typed
        self._buffer = (self._buffer + typed)[-LINE_BYTES_MAX:]
        self._arrived.set()


def is_terminal() -> bool:
    """Return whether a person can be asked: input and output are a terminal."""
    return sys.stdin.isatty() and sys.stderr.isatty() and sys.stdout.isatty()


@asynccontextmanager
async def keyboard() -> AsyncIterator[Keyboard | None]:
    """Yield the keyboard, None when nobody sits at one."""
    if not is_terminal():
        yield None
        return
    keys = Keyboard(sys.stdin.fileno())
    keys.listen()
    try:
        yield keys
    finally:
        keys.rest()
