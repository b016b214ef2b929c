"""The passwords of the NATS users, one per role, kept in one private file."""

import json
import os
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from podium.eventlog.roles import Role

_PASSWORD_BYTES = 32
_PASSWORD_LENGTH_MIN = 16


class CredentialsError(Exception):
    """The credentials file is missing, open to others, or not what it should be."""


@dataclass(frozen=True)
class Credentials:
    """A password for each role."""

    passwords: Mapping[Role, str] = field(repr=False)

    def password(self, role: Role) -> str:
        """Return the role's password; raises CredentialsError when there is none."""
        try:
            return self.passwords[role]
        except KeyError:
            raise CredentialsError(f"there is no password for the role {role}") from None


def generated() -> Credentials:
    """Return fresh random passwords of 256 bits.

    That many bits need no slow hash on the server's side: nobody guesses them.
    """
    return Credentials({role: secrets.token_urlsafe(_PASSWORD_BYTES) for role in Role})


def load_or_create(path: Path) -> Credentials:
    """Return the passwords in `path`, after writing fresh ones there when the file does not exist.

    The file is made readable by its owner only; two processes that start at once agree on one content.

    Raises CredentialsError.
    """
    try:
        if not path.exists():
            _write_once(path, generated())
    except OSError as error:
        raise CredentialsError(f"{path}: cannot be written: {error.strerror}") from error
    return load(path)


def load(path: Path) -> Credentials:
    """Return the passwords in a file as `load_or_create` writes it: {"gateway": "…", "runner": "…", …}.

    A service may be given a file with its own role alone. Raises CredentialsError when the file is missing,
    malformed, or readable by others.
    """
    try:
        mode = path.stat().st_mode
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CredentialsError(f"{path}: not there; `podium up` makes it beside the NATS server") from None
    except (OSError, ValueError) as error:
        raise CredentialsError(f"{path}: cannot be read: {error}") from error
    if stat.S_IMODE(mode) & 0o077:
        raise CredentialsError(f"{path}: mode {stat.S_IMODE(mode):04o} lets others read it; run chmod 600")
    return parsed(content, where=str(path))


def parsed(content: object, *, where: str) -> Credentials:
    """Return the passwords in a mapping of role names to strings; `where` names it in the error."""
    names = {role.value for role in Role}
    if not isinstance(content, dict) or not content or not content.keys() <= names:
        raise CredentialsError(f"{where}: expected a JSON object with some of the keys {', '.join(sorted(names))}")
    if not all(isinstance(password, str) and len(password) >= _PASSWORD_LENGTH_MIN for password in content.values()):
        raise CredentialsError(f"{where}: a password is a string of at least {_PASSWORD_LENGTH_MIN} characters")
    return Credentials({Role(name): password for name, password in content.items()})


def _write_once(path: Path, credentials: Credentials) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump({role.value: password for role, password in credentials.passwords.items()}, file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        # A link fails when the name is taken, a rename would replace what another process is already using.
        path.hardlink_to(draft)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
