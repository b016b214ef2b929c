"""The bounds of what may be asked, and the checks of single fields. Pure."""

from collections.abc import Iterable, Mapping

import orjson

from podium import names
from podium.errors import InvalidArgument, ResourceExhausted
from podium.session import TITLE_LENGTH_MAX, prompt_text
from podium.v1 import content_pb2, session_service_pb2

QUEUED_TURNS_MAX = 16
PROMPT_BYTES_MAX = 4 * 1024 * 1024
LABELS_MAX = 16
LABEL_VALUE_LENGTH_MAX = 128
TEXT_LENGTH_MAX = 1000
JSON_BYTES_MAX = 64 * 1024
SYSTEM_PROMPT_BYTES_MAX = 8 * 1024
PATH_LENGTH_MAX = 1024


def request_id(text: str) -> str:
    """Return a request id of 1 to 128 printable characters, or raise InvalidArgument."""
    if not 1 <= len(text) <= names.REQUEST_ID_LENGTH_MAX or not text.isprintable():
        raise InvalidArgument(
            "request_id",
            found=text,
            expected=f"1 to {names.REQUEST_ID_LENGTH_MAX} printable characters, fresh for each request",
        )
    return text


def text(value: str, field: str, length_max: int = TEXT_LENGTH_MAX) -> str:
    """Return a text of at most `length_max` characters without control characters, or raise InvalidArgument."""
    if len(value) > length_max or any(ord(character) < 32 and character not in "\n\t" for character in value):
        raise InvalidArgument(
            field, found=value, expected=f"at most {length_max} characters, none of them control characters"
        )
    return value


def title(value: str) -> str:
    """Return a title: one line."""
    return " ".join(text(value, "title", TITLE_LENGTH_MAX).split())


def labels(given: Mapping[str, str], field: str) -> dict[str, str]:
    """Return labels: at most 16, names like pools, values of at most 128 characters."""
    if len(given) > LABELS_MAX:
        raise InvalidArgument(field, found=len(given), expected=f"at most {LABELS_MAX} labels")
    return {
        names.token(key, field): text(value, f"{field}.{key}", LABEL_VALUE_LENGTH_MAX) for key, value in given.items()
    }


def json_object(value: str, field: str) -> str:
    """Return a JSON object as it was given; empty stays empty."""
    if not value:
        return ""
    try:
        parsed = orjson.loads(value)
    except orjson.JSONDecodeError:
        parsed = None
    if not isinstance(parsed, dict) or len(value) > JSON_BYTES_MAX:
        raise InvalidArgument(field, found=value, expected=f"one JSON object of at most {JSON_BYTES_MAX} bytes")
    return value


def turn_input(turn: session_service_pb2.TurnInput) -> session_service_pb2.TurnInput:
    """Return the turn as it was given, or raise for an empty or too large prompt, or a malformed schema."""
    size = turn.ByteSize()
    if size > PROMPT_BYTES_MAX:
        message = f"the prompt has {size} bytes; at most {PROMPT_BYTES_MAX} are taken"
        raise ResourceExhausted("PROMPT_TOO_LARGE", message, size=size, limit=PROMPT_BYTES_MAX)
    if not _says_something(turn.prompt):
        raise InvalidArgument("turn.prompt", found=prompt_text(turn.prompt), expected="text, or a file by reference")
    text(turn.model, "turn.model", 128)
    text(turn.effort, "turn.effort", 32)
    json_object(turn.output_schema_json, "turn.output_schema_json")
    return turn


def _says_something(prompt: Iterable[content_pb2.ContentBlock]) -> bool:
    blocks = list(prompt)
    allowed = all(
        block.WhichOneof("block") in ("text", "attachment") and not block.HasField("full") for block in blocks
    )
    return allowed and any(block.text.text.strip() or block.HasField("attachment") for block in blocks)
