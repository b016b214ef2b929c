"""Write the table of commands in README.md from the commands themselves, between its markers.

    .venv/bin/python tools/document_commands.py            after a change to the command line

tests/project/test_documents.py proves the table fresh.
"""

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

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
    for command in app.registered_commands:
        first_line = (inspect.getdoc(command.callback) or "").partition("\n")[0]
        yield f"| `podium {command.name}` | {first_line} |"
    for group in app.registered_groups:
        for command in group.typer_instance.registered_commands if group.typer_instance else ():
            first_line = (inspect.getdoc(command.callback) or "").partition("\n")[0]
            yield f"| `podium {group.name} {command.name}` | {first_line} |"


if __name__ == "__main__":
    sys.exit(main())
