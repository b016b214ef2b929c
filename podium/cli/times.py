"""Times as people write them: dates, times, and how long ago."""

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from google.protobuf.timestamp_pb2 import Timestamp

from podium.errors import InvalidArgument

_AGO = re.compile(r"(\d{1,6})\s*(min|h|d|w)")
_UNITS = {"min": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def timestamp(text: str, option: str, *, zone: str, now: datetime) -> Timestamp | None:
    """Return `2026-11-01`, `2026-11-01T08:30`, or `7d` (ago) as a timestamp, None when empty.

    What has no zone of its own is in `zone` (IANA name; empty = UTC). Raises InvalidArgument that names `option`.
    """
    if not text:
        return None
    ago = _AGO.fullmatch(text)
    if ago is not None:
        at = now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    else:
        try:
            at = datetime.fromisoformat(text)
        except ValueError:
            expected = "a date or time like 2026-11-01 or 2026-11-01T08:30, or how long ago: 30min, 12h, 7d, 4w"
            raise InvalidArgument(option, found=text, expected=expected) from None
        if at.tzinfo is None:
            at = at.replace(tzinfo=_zone(zone))
    made = Timestamp()
    made.FromDatetime(at.astimezone(UTC))
    return made


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name or "UTC")
    except (ZoneInfoNotFoundError, ValueError):
        raise InvalidArgument("--tz", found=name, expected="a time zone like Europe/Berlin") from None
