"""From what was typed to what is asked for: prompts, schemas, folders, labels, permission modes."""

import sys
from pathlib import Path

from podium.cli import shapes
from podium.errors import InvalidArgument
from podium.v1 import content_pb2, session_pb2
from podium.v1 import session_service_pb2 as api

PROMPT_BYTES_MAX = 4 * 1024 * 1024


def turn_input(prompt: str | None, *, model: str = "", effort: str = "", schema: Path | None = None) -> api.TurnInput:
    """Return a turn; `-` and a missing prompt read standard input. Raises InvalidArgument."""
    if prompt in (None, "-"):
        if sys.stdin.isatty() and prompt is None:
            raise InvalidArgument(
                "PROMPT", found="", expected='text, e.g. podium run "explain this repo", or - for input'
            )
        prompt = sys.stdin.buffer.read(PROMPT_BYTES_MAX + 1).decode("utf-8", errors="replace")
    block = content_pb2.ContentBlock(text=content_pb2.TextBlock(text=prompt))
    return api.TurnInput(prompt=[block], model=model, effort=effort, output_schema_json=_schema(schema))


def choose_workspace(session: session_pb2.Session, chosen: str) -> None:
    """Set the folder or the name that is meant: what looks like a path or is a folder here is a folder."""
    folder = Path(chosen or ".").expanduser()
    if chosen and "/" not in chosen and chosen not in (".", "..", "~") and not folder.is_dir():
        session.workspace = chosen
        return
    try:
        session.directory = str(folder.resolve(strict=True))
    except OSError as error:
        raise InvalidArgument("--workspace", found=chosen, expected=f"a folder, or a name ({error})") from error


def permission_mode(chosen: str) -> session_pb2.PermissionMode.ValueType:
    """Return the mode that a word means, unspecified when empty."""
    if not chosen:
        return session_pb2.PERMISSION_MODE_UNSPECIFIED
    number = shapes.number(session_pb2.PermissionMode.DESCRIPTOR, chosen)
    if number is None:
        known = ", ".join(shapes.words(session_pb2.PermissionMode.DESCRIPTOR))
        raise InvalidArgument("--permission-mode", found=chosen, expected=f"one of {known}")
    return session_pb2.PermissionMode.ValueType(number)


def labels(given: list[str] | None) -> dict[str, str]:
    """Return labels from KEY=VALUE; raises InvalidArgument."""
    pairs = {}
    for text in given or []:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise InvalidArgument("--label", found=text, expected="KEY=VALUE")
        pairs[key] = value
    return pairs


def _schema(file: Path | None) -> str:
    if file is None:
        return ""
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument("--schema", found=str(file), expected=f"a file with a JSON Schema ({error})") from error
