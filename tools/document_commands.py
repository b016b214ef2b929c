"""Write the table of commands in README.md from the commands themselves, between its markers.

    .venv/bin/python tools/document_commands.py            after a change to the command line

tests/project/test_documents.py proves the table fresh.
"""

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import typer

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from podium.cli.app import app  # noqa: E402 - the packages are found through ROOT

DOCUMENT = ROOT / "README.md"
BEGIN, END = "<!-- commands -->", "<!-- end -->"


def main() -> int:
    """Write the document anew."""
    DOCUMENT.write_text(documented(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


def documented(text: str) -> str:
    """Return the document with its table made anew; raises ValueError when the markers are missing."""
    before, begin, rest = text.partition(f"{BEGIN}\n")
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{DOCUMENT}: expected {BEGIN} … {END}")
    return before + begin + "\n".join(table()) + "\n" + end + after


def table() -> Iterator[str]:
    """Yield a Markdown table of the commands, in the order of `podium --help`."""
    yield "| command | what it does |"
    yield "|---|---|"
    yield from rows(app, "podium")


def rows(commands: typer.Typer, typed: str) -> Iterator[str]:
    """Yield a row for each command; `typed` is what stands before it."""
    for command in commands.registered_commands:
        if command.callback is None:
            raise ValueError(f"{typed} {command.name}: no function")
        first_line = (inspect.getdoc(command.callback) or "").partition("\n")[0]
        yield f"| `{typed} {command.name or command.callback.__name__}` | {first_line} |"
    for group in commands.registered_groups:
        if group.typer_instance is not None:
            yield from rows(group.typer_instance, f"{typed} {group.name or group.typer_instance.info.name}")


if __name__ == "__main__":
    sys.exit(main())
