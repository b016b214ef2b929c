"""Pages of lists (AIP-158): sizes, and tokens that say where the next page begins. Pure."""

import base64
import binascii

import orjson
from google.protobuf.message import Message

from podium import names
from podium.errors import InvalidArgument

PAGE_SIZE = 50
PAGE_SIZE_MAX = 1000
_TOKEN_LENGTH_MAX = 1024
_NOT_FILTERS = ("page_size", "page_token", "at_least_position")

Key = list[int | str]
"""Where a page ended: the values the list is ordered by."""


def page_size(asked: int) -> int:
    """Return how many a page has: 50 unless asked for, never more than 1,000. Raises InvalidArgument below 0."""
    if asked < 0:
        raise InvalidArgument("page_size", found=asked, expected="0 (as many as is usual) to 1,000")
    return min(asked, PAGE_SIZE_MAX) or PAGE_SIZE


def token(request: Message, key: Key) -> str:
    """Return the token of the page behind `key`, good for this request's filters."""
    return base64.urlsafe_b64encode(orjson.dumps([_fingerprint(request), *key])).decode().rstrip("=")


def key(request: Message, page_token: str, *kinds: type[int] | type[str]) -> Key | None:
    """Return where the page before ended, None for the first page.

    `kinds`: the types of the values. Raises InvalidArgument for a token that is none, or of other filters.
    """
    if not page_token:
        return None
    fingerprint, *values = _decoded(page_token)
    if [type(value) for value in values] != list(kinds) or fingerprint != _fingerprint(request):
        raise _wrong(page_token)
    return values


def _decoded(page_token: str) -> list[int | str]:
    try:
        if len(page_token) > _TOKEN_LENGTH_MAX:
            raise _wrong(page_token)
        decoded = orjson.loads(
            base64.b64decode(page_token + "=" * (-len(page_token) % 4), altchars=b"-_", validate=True)
        )
    except (binascii.Error, ValueError) as error:
        raise _wrong(page_token) from error
    if not isinstance(decoded, list) or not decoded:
        raise _wrong(page_token)
    return decoded


def _fingerprint(request: Message) -> int:
    filters = type(request)()
    filters.CopyFrom(request)
    for field in _NOT_FILTERS:
        filters.ClearField(field)
    return names.fingerprint(filters.SerializeToString(deterministic=True))


def _wrong(page_token: str) -> InvalidArgument:
    expected = "next_page_token of the page before, with the same filters"
    return InvalidArgument("page_token", found=page_token, expected=expected)
