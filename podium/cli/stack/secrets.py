"""The secrets of a `podium up`: made once, kept in the data folder, each file readable by its owner only.

nats.<service>.json     the NATS password of one service and no other
gateway.tokens.json     hashes of the tokens of the API; add your own here
indexer.tokens.json     hash of the gateway's token
indexer.token           the gateway's token for the indexer
../token                the token of this machine's user, role admin
"""

from dataclasses import dataclass
from pathlib import Path

import orjson

from podium import auth
from podium.cli.home import DataFolder
from podium.eventlog import Role
from podium.eventlog.credentials import Credentials


@dataclass(frozen=True, slots=True)
class Secrets:
    """The files a service is pointed to."""

    folder: Path

    @property
    def gateway_tokens(self) -> Path:
        """Return the tokens the gateway knows."""
        return self.folder / "gateway.tokens.json"

    @property
    def indexer_tokens(self) -> Path:
        """Return the tokens the indexer knows."""
        return self.folder / "indexer.tokens.json"

    @property
    def indexer_token(self) -> Path:
        """Return the gateway's token for the indexer."""
        return self.folder / "indexer.token"

    def nats(self, role: Role) -> Path:
        """Return the file with the NATS password of `role` alone."""
        return self.folder / f"nats.{role.value}.json"


def prepare(folder: DataFolder, user: str) -> Secrets:
    """Make the services' folders, and the tokens that are not there yet; `user` is the name of the user's."""
    for made in (folder.secrets, folder.logs, folder.runner, folder.indexer):
        made.mkdir(parents=True, exist_ok=True, mode=0o700)
    secrets = Secrets(folder.secrets)
    _know(secrets.gateway_tokens, auth.entry(user, [auth.Role.ADMIN], _token(folder.token_file)))
    _know(secrets.indexer_tokens, auth.entry("gateway", [auth.Role.ADMIN], _token(secrets.indexer_token)))
    return secrets


def share_passwords(secrets: Secrets, credentials: Credentials) -> None:
    """Give each service the file with its own NATS password."""
    for role in Role:
        auth.write_private(secrets.nats(role), orjson.dumps({role.value: credentials.password(role)}))


def _token(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        token = auth.new_token()
        auth.write_private(path, token.encode())
        return token


def _know(path: Path, entry: dict[str, object]) -> None:
    """Add an entry to a tokens file unless its token is there; the entries of others stay."""
    entries: list[dict[str, object]] = []
    if path.exists():
        auth.Tokens.read(path)  # raises what is wrong with it
        entries = orjson.loads(path.read_bytes())["tokens"]
    if all(known["sha256"] != entry["sha256"] for known in entries):
        auth.write_tokens(path, [*entries, entry])
