"""The contract's messages as JSON for programs, with the names that SQL and the seed's messages use. Pure.

Every field is there, unset ones as null. Ids are bare UUIDs; times are RFC 3339 in UTC; enums are lower-case words
(`idle`, `allowed`), null when not said; `*_json` fields are embedded under their name without the ending; token sums
stand beside the other fields as in SQL; costs are US dollars.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeAlias

import orjson
from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from podium.v1 import analytics_service_pb2, session_pb2
from podium.v1.event_pb2 import Event

Json: TypeAlias = dict[str, Any]
# Two classes describe a field, one in Python and one in C; both have what is read here.
Field: TypeAlias = Any

_SESSION_PREFIX = "sessions/"
_MICRO = 1_000_000


def plain(message: Message) -> Json:
    """Return any message of the contract as JSON values."""
    value: Json = {}
    for field in message.DESCRIPTOR.fields:
        _put(value, field, message)
    return value


def event(message: Event) -> Json:
    """Return an event: what all have, then `kind` and the body under the name of its kind."""
    kind = message.WhichOneof("body") or "unknown"
    bodies = {field.name for field in Event.DESCRIPTOR.oneofs_by_name["body"].fields}
    value = {name: told for name, told in plain(message).items() if name not in bodies}
    value["kind"] = kind
    if kind != "unknown":
        value[kind] = plain(getattr(message, kind))
    return value


def usage_row(dimensions: list[str], row: analytics_service_pb2.UsageRow) -> Json:
    """Return one group of usage, its keys under the names of the dimensions."""
    return {**dict(zip(dimensions, row.keys, strict=True)), **_tokens(row.tokens), **_calls(row)}


def word(enum: EnumDescriptor, number: int) -> str | None:
    """Return an enum's word; None for "not said", `unknown_{number}` for one of a newer contract."""
    if number == 0:
        return None
    named = enum.values_by_number.get(number)
    prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return named.name.removeprefix(prefix).lower() if named is not None else f"unknown_{number}"


def number(enum: EnumDescriptor, text: str) -> int | None:
    """Return the number of a word, None when there is no such word."""
    words = {word(enum, value.number): value.number for value in enum.values}
    return words.get(text.replace("-", "_").lower())


def words(enum: EnumDescriptor) -> list[str]:
    """Return all words of an enum."""
    return [told for value in enum.values if (told := word(enum, value.number)) is not None]


def _put(value: Json, field: Field, message: Message) -> None:
    held = getattr(message, field.name)
    name = _name(field)
    flattened = _FLATTENED.get(field.message_type.full_name) if field.message_type is not None else None
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        value[name] = dict(held)
    elif field.is_repeated:
        value[name] = [_single(field, one) for one in held]
    elif flattened is not None:
        value.update(flattened(held))
    elif field.has_presence and not message.HasField(field.name):
        # A oneof's other members are left out; what could have been said and was not is null.
        if field.containing_oneof is None or field.message_type is None:
            value[name] = None
    else:
        value[name] = _single(field, held)


def _name(field: Field) -> str:
    named = _NAMES.get((field.containing_type.name, field.name)) or _NAMES.get(("", field.name))
    return named or field.name.removesuffix("_json").replace("provider_cost_microusd", "cost_usd")


_NAMES: Mapping[tuple[str, str], str] = {
    ("Session", "name"): "id",
    ("Session", "parent"): "parent_session_id",
    ("", "session"): "session_id",
}


def _single(field: Field, held: Any) -> Any:
    if field.enum_type is not None:
        return word(field.enum_type, held)
    if field.message_type is not None:
        return _message(held)
    if isinstance(held, bytes):
        return held.hex()
    if field.name.endswith("_microusd"):
        return held / _MICRO
    if isinstance(held, str):
        return _text(field.name, held)
    return held


def _text(name: str, held: str) -> Any:
    if name.endswith("_json"):
        return embedded(held)
    return held.removeprefix(_SESSION_PREFIX) if name in ("name", "session", "parent") else held


def embedded(text: str) -> Any:
    """Return JSON text as the value it is, null when empty, the text itself when it is no JSON."""
    if not text:
        return None
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def _message(held: Message) -> Any:
    if isinstance(held, Timestamp):
        return time(held)
    if isinstance(held, Duration):
        return held.seconds + held.nanos / 1_000_000_000
    if isinstance(held, FieldMask):
        return list(held.paths)
    return plain(held)


def time(stamp: Timestamp) -> str:
    """Return a time as RFC 3339 in UTC, to the microsecond."""
    at = datetime.fromtimestamp(stamp.seconds, UTC).replace(microsecond=stamp.nanos // 1000)
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _tokens(held: session_pb2.TokenTotals) -> Json:
    return {_name(field): told for field, told in _told(held)}


def _told(held: Message) -> list[tuple[Field, Any]]:
    return [
        (
            field,
            None if field.has_presence and not held.HasField(field.name) else _single(field, getattr(held, field.name)),
        )
        for field in held.DESCRIPTOR.fields
    ]


def _calls(row: analytics_service_pb2.UsageRow) -> Json:
    return {"calls": row.calls, "inexact_calls": row.inexact_calls}


def _problem(held: session_pb2.Problem) -> Json:
    return {"problem_code": held.code or None, "problem_message": held.message or None}


_FLATTENED: Mapping[str, Callable[[Any], Json]] = {
    "podium.v1.TokenTotals": _tokens,
    "podium.v1.Problem": _problem,
}
