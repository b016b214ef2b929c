"""Names and ids: how they look, how they are derived, and which partition a session lives in."""

import hashlib
import os
import re
import uuid

from podium.errors import InvalidArgument

PARTITIONS = 256
"""Virtual and fixed for ever: a session's partition is part of its subject on the log."""

REQUEST_ID_LENGTH_MAX = 128
_SESSION_PREFIX = "sessions/"
_TOKEN = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}", re.ASCII)
_NAMESPACE = uuid.UUID("6f0c3a52-7a3e-5d43-9a44-2d1c0f6b8e11")
_FNV_OFFSET, _FNV_PRIME = 0x811C9DC5, 0x01000193


def session_name(session_id: str) -> str:
    """Return `sessions/{id}`."""
    return _SESSION_PREFIX + session_id


def session_id(name: str, field: str = "session") -> str:
    """Return the bare UUID in `sessions/{id}`; a bare UUID is taken as it is.

    Raises InvalidArgument that names `field`.
    """
    return bare_uuid(name.removeprefix(_SESSION_PREFIX), field, expected="sessions/{uuid}")


def bare_uuid(text: str, field: str, expected: str = "a bare UUID") -> str:
    """Return the UUID in its one spelling (lower case, dashes), or raise InvalidArgument that names `field`."""
    try:
        parsed = str(uuid.UUID(text))
    except ValueError:
        parsed = ""
    if parsed != text.lower():
        raise InvalidArgument(field, found=text, expected=expected)
    return parsed


def token(text: str, field: str) -> str:
    """Return a pool, host, runner, workspace or provider name that is safe in a subject and a file name.

    Lower-case letters, digits, `.`, `_` and `-`, at most 63; anything else raises InvalidArgument.
    """
    if not _TOKEN.fullmatch(text) or ".." in text:
        raise InvalidArgument(
            field, found=text, expected="1 to 63 of a-z 0-9 _ - . and no `..`, a letter or digit first"
        )
    return text


def new_id(now_ns: int) -> str:
    """Return a fresh UUIDv7 (RFC 9562) for the time `now_ns`, nanoseconds since 1970."""
    milliseconds = now_ns // 1_000_000
    # The 12 bits after the version carry the fraction of the millisecond, so that ids sort as they were made.
    fraction = (now_ns % 1_000_000) * 4096 // 1_000_000
    random = int.from_bytes(os.urandom(8), "big") & ((1 << 62) - 1)
    # Written out here: uuid.UUID takes four times as long, and every event gets one.
    digits = f"{milliseconds << 80 | 7 << 76 | fraction << 64 | 2 << 62 | random:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def derived_id(*parts: str) -> str:
    """Return the UUIDv5 of the parts: the same parts give the same id, on every gateway, for ever."""
    return str(uuid.uuid5(_NAMESPACE, "\x1f".join(f"{len(part)}:{part}" for part in parts)))


def session_id_for(principal: str, request_id: str) -> str:
    """Return the id of the session that this principal's CreateSession makes."""
    return derived_id("session", principal, request_id)


def turn_id_for(session_id: str, principal: str, request_id: str) -> str:
    """Return the id of the turn that this principal's request makes."""
    return derived_id("turn", session_id, principal, request_id)


def partition(session_id: str) -> int:
    """Return the session's virtual partition: FNV-1a-32 of its id, modulo 256."""
    digest = _FNV_OFFSET
    for byte in session_id.encode():
        digest = (digest ^ byte) * _FNV_PRIME & 0xFFFFFFFF
    return digest % PARTITIONS


def fingerprint(content: bytes) -> int:
    """Return 32 bits of a request's content; tells a retry from a reused request id."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=4).digest(), "big")


def request_key(principal: str, request_id: str) -> bytes:
    """Return the 8 bytes by which a session remembers a request."""
    return hashlib.blake2b(f"{len(principal)}:{principal}{request_id}".encode(), digest_size=8).digest()
