"""One line of the client's output as a JSON object, and safe ways to look into it. Pure."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias

import orjson

JsonObject: TypeAlias = Mapping[str, Any]

_EMPTY: JsonObject = {}


class NotARecord(ValueError):
    """The line is not one JSON object."""


def parse(line: bytes) -> JsonObject:
    """Return the object in `line`. Raises NotARecord.

    Text with half of a surrogate pair, which a cut emoji leaves, is taken with `?` in its place.
    """
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError as wrong:
        record = _parse_leniently(line, wrong)
    if not isinstance(record, dict):
        raise NotARecord(f"expected a JSON object, found {type(record).__name__}")
    return record


def dumps(value: object) -> str:
    """Return `value` as compact JSON."""
    return orjson.dumps(value).decode()


def text(record: JsonObject, key: str) -> str:
    """Return the string at `key`, empty when it is missing or not a string."""
    value = record.get(key)
    return value if isinstance(value, str) else ""


def number(record: JsonObject, key: str) -> int:
    """Return the whole number at `key`, 0 when it is missing or not a number."""
    value = record.get(key)
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0


def mapping(record: JsonObject, key: str) -> JsonObject:
    """Return the object at `key`, an empty one when it is missing or no object."""
    value = record.get(key)
    return value if isinstance(value, dict) else _EMPTY


def objects(value: object) -> Sequence[JsonObject]:
    """Return the objects in `value` when it is a list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def happened_at_ns(record: JsonObject) -> int | None:
    """Return when the client made the record, nanoseconds since 1970; None when it does not say."""
    try:
        moment = datetime.fromisoformat(text(record, "timestamp"))
    except ValueError:
        return None
    return round(moment.timestamp() * 1_000) * 1_000_000 if moment.tzinfo else None


def _parse_leniently(line: bytes, wrong: ValueError) -> object:
    try:
        value = json.loads(line)
        return orjson.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    except (ValueError, RecursionError):
        raise NotARecord(f"not JSON: {wrong}") from wrong
