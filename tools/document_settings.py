"""Write the tables of settings in docs/operations.md from the settings classes, between their markers.

    .venv/bin/python tools/document_settings.py            after a change to a settings class

tests/project/test_documents.py proves the tables fresh.
"""

import os
import re
import socket
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args, get_origin
from unittest import mock

import annotated_types
from pydantic.fields import FieldInfo

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from gateway.settings import GatewaySettings  # noqa: E402 - the packages are found through ROOT
from indexer.settings import IndexerSettings  # noqa: E402
from podium.settings import ListenSettings, ServiceSettings  # noqa: E402
from runner.settings import RunnerSettings  # noqa: E402

DOCUMENT = ROOT / "docs/operations.md"

TABLES: dict[str, tuple[type[ServiceSettings], type[ServiceSettings] | None]] = {
    "every service": (ServiceSettings, None),
    "gateway and indexer": (ListenSettings, ServiceSettings),
    "gateway": (GatewaySettings, ListenSettings),
    "indexer": (IndexerSettings, ListenSettings),
    "runner": (RunnerSettings, ServiceSettings),
}
"""Name of each table -> the class it shows, and the class whose fields stand in another table."""


def main() -> int:
    """Write the document anew."""
    DOCUMENT.write_text(documented(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


def documented(text: str) -> str:
    """Return the document with every table made anew; raises ValueError when a marker is missing."""
    for name, (settings, base) in TABLES.items():
        begin, end = f"<!-- settings: {name} -->", "<!-- end -->"
        pattern = re.compile(f"{re.escape(begin)}\n.*?{re.escape(end)}", re.DOTALL)
        if len(pattern.findall(text)) != 1:
            raise ValueError(f"{DOCUMENT}: expected {begin} … {end} once")
        made = "\n".join([begin, *table(settings, base), end])
        text = pattern.sub(made.replace("\\", r"\\"), text)
    return text


def table(settings: type[ServiceSettings], base: type[ServiceSettings] | None) -> Iterator[str]:
    """Yield a Markdown table of the settings that `settings` adds to `base`."""
    inherited = set(base.model_fields) if base is not None else set()
    yield "| setting | value | default | meaning |"
    yield "|---|---|---|---|"
    for name, field in settings.model_fields.items():
        if name not in inherited:
            meaning = (field.description or "").replace("|", "\\|")
            yield f"| `PODIUM_{name.upper()}` | {value(field)} | {default(field)} | {meaning} |"


def value(field: FieldInfo) -> str:
    """Return what may stand there, in words."""
    kind: Any = field.annotation
    if get_origin(kind) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(kind))
    kinds = {bool: "`true` or `false`", int: "whole number", float: "number", str: "text", Path: "path"}
    optional = [one for one in get_args(kind) if one is not type(None)]
    name = kinds.get(optional[0] if len(optional) == 1 and type(None) in get_args(kind) else kind, "JSON")
    return " ".join([name, *bounds(field.metadata)])


def bounds(metadata: Iterable[object]) -> Iterator[str]:
    """Yield the limits of a number, in words."""
    for limit in metadata:
        match limit:
            case annotated_types.Ge():
                yield f"from {limit.ge}"
            case annotated_types.Gt():
                yield f"over {limit.gt}"
            case annotated_types.Le():
                yield f"to {limit.le}"
            case _:
                raise ValueError(f"no words for the limit {limit!r}")


def default(field: FieldInfo) -> str:
    """Return the default as its user would write it; what a machine decides is named, not shown."""
    with anywhere():
        found = field.get_default(call_default_factory=True, validated_data={})
    match found:
        case None | "":
            return "none"
        case bool():
            return f"`{str(found).lower()}`"
        case Path() | str():
            return f"`{shown(found)}`" if found != MACHINE else MACHINE
        case list() | frozenset():
            return "`[" + ", ".join(f'"{shown(one)}"' for one in sorted(found)) + "]`"
        case dict():
            return f"`{found}`"
        case float():
            return f"`{found:g}`"
        case _:
            return f"`{found}`"


def shown(text: Path | str) -> str:
    """Return a path or text without the home folder of whoever runs this."""
    return str(text).replace(HOME, "~")


HOME = "/home/you"
MACHINE = "the machine's name"


@contextmanager
def anywhere() -> Iterator[None]:
    """Let defaults come out alike on every machine: the home folder is `~`, the machine has no name of its own."""
    environment = {name: text for name, text in os.environ.items() if not name.startswith("XDG_")} | {"HOME": HOME}
    with (
        mock.patch.dict(os.environ, environment, clear=True),
        mock.patch.object(socket, "gethostname", return_value=MACHINE),
    ):
        yield


if __name__ == "__main__":
    sys.exit(main())
