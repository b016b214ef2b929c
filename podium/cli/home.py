"""Podium's files on this machine: the data folder of `podium up`, and how other commands find what runs.

    <state folder>/podium/          default data folder, and `current`: the folder of the `podium up` started last
    <data>/podium.json              {"address", "token_file", "pid"}: written when ready, removed at the end
    <data>/token                    the token of the user of this machine, role admin
    <data>/secrets/                 what each service may know, one file each
    <data>/nats, indexer, runner    each service's own folder
    <data>/logs/                    what the services say, bounded

The state folder is $XDG_STATE_HOME or ~/.local/state. All secrets have mode 0600.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import orjson

from podium.auth import write_private
from podium.cli.failures import CliError, Exit

HOW_TO_START = "Start Podium with `podium up`, or say where it is with PODIUM_ADDRESS and PODIUM_TOKEN_FILE."


@dataclass(frozen=True, slots=True)
class DataFolder:
    """Where everything of one `podium up` lies."""

    path: Path

    @property
    def secrets(self) -> Path:
        """Return the folder of what each service may know."""
        return self.path / "secrets"

    @property
    def nats(self) -> Path:
        """Return the folder of the NATS server: the log itself."""
        return self.path / "nats"

    @property
    def indexer(self) -> Path:
        """Return the folder of the projection."""
        return self.path / "indexer"

    @property
    def runner(self) -> Path:
        """Return the folder of the runner's own state."""
        return self.path / "runner"

    @property
    def logs(self) -> Path:
        """Return the folder of what the services say."""
        return self.path / "logs"

    @property
    def token_file(self) -> Path:
        """Return the file with the user's token."""
        return self.path / "token"

    @property
    def lock_file(self) -> Path:
        """Return the file that a running `podium up` holds locked."""
        return self.path / "up.lock"

    @property
    def endpoint_file(self) -> Path:
        """Return the file that says where the API answers."""
        return self.path / "podium.json"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the API answers and how to be let in; `source` says who told so."""

    address: str
    token: str
    source: str
    ca_file: Path | None = None


def state_home() -> Path:
    """Return Podium's folder in the user's state folder."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "podium"


def data_folder(chosen: Path | None) -> DataFolder:
    """Return the chosen data folder, else the default one; always absolute."""
    return DataFolder((chosen or state_home()).expanduser().absolute())


def announce(folder: DataFolder, address: str) -> None:
    """Write where the API answers, and that this folder is the one commands shall use."""
    facts = {"address": address, "token_file": str(folder.token_file), "pid": os.getpid()}
    write_private(folder.endpoint_file, orjson.dumps(facts, option=orjson.OPT_INDENT_2))
    pointer = _pointer()
    pointer.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_private(pointer, str(folder.path).encode())


def withdraw(folder: DataFolder) -> None:
    """Take back what `announce` wrote, unless another `podium up` has replaced it."""
    folder.endpoint_file.unlink(missing_ok=True)
    if _pointed() == folder.path:
        _pointer().unlink(missing_ok=True)


def discover(chosen: Path | None) -> Endpoint:
    """Return where to go: `--data`, else PODIUM_ADDRESS, else the `podium up` started last, else the default folder.

    PODIUM_TOKEN or PODIUM_TOKEN_FILE replace the token that was found, PODIUM_CA_FILE names the CA of a TLS address.
    Raises CliError NOT_RUNNING or TOKEN_UNREADABLE.
    """
    ca_file = os.environ.get("PODIUM_CA_FILE")
    address = os.environ.get("PODIUM_ADDRESS", "") if chosen is None else ""
    source, token_file = "PODIUM_ADDRESS", ""
    if not address:
        folder = data_folder(chosen) if chosen is not None else DataFolder(_pointed() or state_home())
        address, token_file = _read_endpoint(folder)
        source = str(folder.endpoint_file)
    elif not (os.environ.get("PODIUM_TOKEN") or os.environ.get("PODIUM_TOKEN_FILE")):
        token_file = str(DataFolder(_pointed() or state_home()).token_file)
    return Endpoint(address, _token(token_file), source, Path(ca_file) if ca_file else None)


def _read_endpoint(folder: DataFolder) -> tuple[str, str]:
    try:
        facts = orjson.loads(folder.endpoint_file.read_bytes())
        return str(facts["address"]), str(facts["token_file"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"no running Podium was found: {folder.endpoint_file} is not there"
        if not isinstance(error, FileNotFoundError):
            message = f"no running Podium was found: {folder.endpoint_file} cannot be read: {error}"
        raise CliError("NOT_RUNNING", message, HOW_TO_START, exit_code=Exit.UNREACHABLE) from error


def _token(token_file: str) -> str:
    given = os.environ.get("PODIUM_TOKEN", "")
    if given:
        return given
    path = Path(os.environ.get("PODIUM_TOKEN_FILE") or token_file)
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        message = f"the token file {path} cannot be read: {error}"
        advice = "Set PODIUM_TOKEN, or PODIUM_TOKEN_FILE to a file with a token of that gateway."
        raise CliError("TOKEN_UNREADABLE", message, advice, exit_code=Exit.NOT_ALLOWED) from error


def _pointer() -> Path:
    return state_home() / "current"


def _pointed() -> Path | None:
    try:
        text = _pointer().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return Path(text) if text else None
