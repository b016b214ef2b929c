"""The draft for a record that could not be understood: nothing a provider says is dropped. Pure."""

import hashlib
from typing import Final

from podium.drafts import Draft
from podium.v1 import event_pb2

EXCERPT_BYTES_MAX: Final = 2048


def unreadable(record: bytes, reason: str, turn_id: str = "", size_bytes: int | None = None) -> Draft:
    """Return the draft for `record`, which may be only the first part of `size_bytes`."""
    body = event_pb2.UnreadableRecord(
        reason=reason,
        excerpt=record[:EXCERPT_BYTES_MAX].decode("utf-8", "replace")[:EXCERPT_BYTES_MAX],
        size_bytes=len(record) if size_bytes is None else size_bytes,
        sha256=hashlib.sha256(record).digest(),
    )
    return Draft(body, turn_id=turn_id, source=event_pb2.SOURCE_PROVIDER)
