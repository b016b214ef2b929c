"""Tokens: who calls, what they may do, and the files that say so.

The tokens file is JSON, mode 0600: `{"tokens": [{"name": "ci", "roles": ["run"], "sha256": "…"}]}`. It holds hashes
only; whoever made a token has the only copy.
"""

import hashlib
import hmac
import os
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import orjson

from podium.errors import InvalidArgument, PermissionDenied, Unauthenticated

TOKENS_MAX = 1000
TOKEN_LENGTH_MAX = 512


class Role(StrEnum):
    """What a token may do. `run` and `approve` may also read; `admin` may do all."""

    READ = "read"
    RUN = "run"
    APPROVE = "approve"
    ADMIN = "admin"


_IMPLIES = {
    Role.READ: {Role.READ},
    Role.RUN: {Role.READ, Role.RUN},
    Role.APPROVE: {Role.READ, Role.APPROVE},
    Role.ADMIN: set(Role),
}


@dataclass(frozen=True, slots=True)
class Principal:
    """Whose token it was, and what it allows."""

    name: str
    roles: frozenset[Role]

    def require(self, role: Role) -> None:
        """Raise PermissionDenied when the token does not allow `role`."""
        if role not in self.roles:
            raise PermissionDenied(
                "ROLE_TOO_LOW", f"the token {self.name!r} does not have the role {role!r}", needed=role, token=self.name
            )


class Tokens:
    """The tokens a service knows."""

    def __init__(self, by_hash: Mapping[bytes, Principal]) -> None:
        """Take principals by the SHA-256 of their token."""
        self._by_hash = dict(by_hash)

    @classmethod
    def read(cls, path: Path) -> "Tokens":
        """Read a tokens file; raises InvalidArgument that says what is wrong with it."""
        try:
            if path.stat().st_mode & 0o077:
                raise InvalidArgument(
                    "tokens_file", found=str(path), expected="a file that only its owner can read (0600)"
                )
            entries = orjson.loads(path.read_bytes())["tokens"]
            if len(entries) > TOKENS_MAX:
                raise InvalidArgument("tokens_file", found=len(entries), expected=f"at most {TOKENS_MAX} tokens")
            return cls({bytes.fromhex(entry["sha256"]): principal(entry["name"], entry["roles"]) for entry in entries})
        except (OSError, KeyError, TypeError, ValueError) as error:
            expected = f'{{"tokens": [{{"name", "roles", "sha256"}}]}} ({error})'
            raise InvalidArgument("tokens_file", found=str(path), expected=expected) from error

    def authenticate(self, token: str) -> Principal:
        """Return whose token it is, in a time that does not tell how near a wrong one came."""
        if not token:
            raise Unauthenticated("TOKEN_MISSING", "the call carries no token")
        digest = hashlib.sha256(token[:TOKEN_LENGTH_MAX].encode()).digest()
        found: Principal | None = None
        for known, whose in self._by_hash.items():
            found = whose if hmac.compare_digest(known, digest) else found
        if found is None:
            raise Unauthenticated("TOKEN_UNKNOWN", "the token is not one this service knows")
        return found


def principal(name: str, roles: Iterable[str]) -> Principal:
    """Return a principal with all that its roles imply."""
    return Principal(name, frozenset(implied for role in roles for implied in _IMPLIES[Role(role)]))


def new_token() -> str:
    """Return a fresh token: 256 random bits."""
    return "podium_" + secrets.token_urlsafe(32)


def entry(name: str, roles: Iterable[Role], token: str) -> dict[str, object]:
    """Return the tokens file's entry for `token`."""
    return {"name": name, "roles": list(roles), "sha256": hashlib.sha256(token.encode()).hexdigest()}


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def write_tokens(path: Path, entries: Iterable[Mapping[str, object]]) -> None:
    """Write a tokens file."""
    write_private(path, orjson.dumps({"tokens": list(entries)}, option=orjson.OPT_INDENT_2))
