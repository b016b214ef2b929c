"""Text written piece by piece: indented, wrapped at words, never rewritten, so that any terminal can show it."""

import re

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

MARK = "❯ "  # noqa: RUF001 - a prompt, as shells draw it
"""What stands before a person's prompt."""

_PARTS = re.compile(r"\n|[^\S\n]+|\S+")
_NOT_PRINTED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Flow:
    """One block of text on a console; `write` its pieces, then `finish`."""

    def __init__(self, console: Console, *, style: str = "", first: str, indent: str, column: int = 0) -> None:
        """`first` stands before the first line, which begins at `column`, `indent` before the others."""
        self._console = console
        self._style = style
        self._prefix = first
        self._indent = indent
        self._width = console.width if console.is_terminal else None
        self._column = 0
        self._taken = column
        self._held = ""
        self._spaces = ""

    def write(self, piece: str) -> None:
        """Show the next piece; its last word waits until its end is known, so that it can be wrapped."""
        parts: list[str] = _PARTS.findall(printable(self._held + piece))
        self._held = parts.pop() if parts and not parts[-1].isspace() else ""
        self._print(parts)

    def finish(self) -> None:
        """Show what waits, and end the block with a line break."""
        parts = [self._held] if self._held else []
        self._held = ""
        self._print([*parts, "\n"] if parts or self._column or self._taken else [])

    def _print(self, parts: list[str]) -> None:
        text = "".join(self._placed(part) for part in parts)
        if text:
            self._console.print(Text(text, style=self._style), end="", soft_wrap=True)

    def _placed(self, part: str) -> str:
        """Return `part` with what must stand before it: the indent of a new line, or the spaces since the last word."""
        if part == "\n":
            placed = self._start() if self._prefix != self._indent and not self._column else ""
            self._column, self._taken, self._spaces = 0, 0, ""
            return placed + "\n"
        if part.isspace():
            self._spaces += part
            return ""
        spaces, self._spaces = self._spaces, ""
        size = cell_len(spaces) + cell_len(part)
        if self._width is not None and self._column > len(self._indent) and self._column + size > self._width:
            self._column = 0
            return "\n" + self._start() + self._put(part)
        return self._start() + self._put(spaces + part)

    def _start(self) -> str:
        """Return the indent when a line begins."""
        if self._column:
            return ""
        prefix, self._prefix = self._prefix, self._indent
        self._column, self._taken = self._taken, 0
        return self._put(prefix)

    def _put(self, text: str) -> str:
        self._column += cell_len(text)
        return text


def printable(text: str) -> str:
    """Return text without control characters: what a tool prints must not move the cursor or set colours."""
    return _NOT_PRINTED.sub("", text.expandtabs(4).replace("\r\n", "\n"))
