"""Where a command prints: consoles for people, JSON for programs."""

import os
import sys
from typing import Any

import orjson
from rich.console import Console
from rich.theme import Theme

THEME = Theme(
    {
        "prompt": "bold cyan",
        "thinking": "dim italic",
        "tool": "bold",
        "detail": "dim",
        "good": "green",
        "bad": "bold red",
        "warn": "yellow",
        "ask": "bold yellow",
        "id": "cyan",
    }
)


class Mode:
    """How this process prints; set once by the command's own options."""

    as_json = False


def console(*, stderr: bool = False) -> Console:
    """Return a console on standard output, or on standard error for what is not the command's result."""
    width = None if (sys.stderr if stderr else sys.stdout).isatty() or "COLUMNS" in os.environ else 120
    return Console(stderr=stderr, theme=THEME, highlight=False, width=width)


def write_json(value: Any, *, lines: bool = False) -> None:
    """Write one JSON value: indented, or on one line of its own when it is one of many."""
    option = 0 if lines else orjson.OPT_INDENT_2
    sys.stdout.buffer.write(orjson.dumps(value, option=option | orjson.OPT_APPEND_NEWLINE))
    sys.stdout.buffer.flush()


def json_mode(chosen: bool) -> bool:
    """Note that the command prints JSON, so that an error is JSON too; return it."""
    Mode.as_json = chosen
    return chosen
