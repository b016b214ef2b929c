"""`python -m podium.eventlog.server`: become a configured NATS server, or show its configuration.

For containers. Settings come from the environment, as the image's compose file gives them:

    PODIUM_NATS_DATA                    data folder (needed)
    PODIUM_NATS_HOST, _PORT             where clients connect; 127.0.0.1 and 4222
    PODIUM_NATS_SYNC                    `always` (default) or milliseconds, 20 to 100
    PODIUM_NATS_TLS_CERT, _TLS_KEY, _TLS_CA
    PODIUM_NATS_PRIVATE_NETWORK=1       other machines may connect without TLS
    PODIUM_NATS_STORE_BYTES_MAX, PODIUM_NATS_MEMORY_LIMIT_MIB, PODIUM_NATS_MONITOR_PORT
    PODIUM_NATS_PASSWORD_<ROLE>         or PODIUM_NATS_PASSWORD_<ROLE>_FILE, for GATEWAY, RUNNER, INDEXER, OPERATOR;
                                        with none of them, <data>/credentials.json is used and made when missing
    PODIUM_NATS_NAME, PODIUM_NATS_CLUSTER_ROUTES (separated by commas), PODIUM_NATS_CLUSTER_HOST, _PORT and
    PODIUM_NATS_CLUSTER_PASSWORD or …_FILE   for a member of a cluster; a route is HOST:PORT
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NoReturn

from podium.eventlog import credentials as passwords
from podium.eventlog.credentials import Credentials, CredentialsError
from podium.eventlog.roles import Role
from podium.eventlog.serverconfig import (
    ClusterMember,
    DataFolderLocked,
    ServerError,
    ServerSettings,
    ServerSettingsError,
    TlsFiles,
    masked,
)
from podium.eventlog.serverfiles import credentials_file, lock_folder, write_config
from podium.eventlog.serverprocess import environment, find_binary, name_for

_PREFIX = "PODIUM_NATS_"
_DEFAULT_PORT = 4222


def main(arguments: Sequence[str]) -> None:
    """Do what the arguments say; ends the process with status 2 and one sentence when it cannot."""
    parser = argparse.ArgumentParser(prog="python -m podium.eventlog.server", description=__doc__.splitlines()[0])
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--print-config", action="store_true", help="show the configuration without its passwords")
    action.add_argument("--run", action="store_true", help="become the NATS server")
    chosen = parser.parse_args(arguments)
    try:
        settings, credentials = from_environment(os.environ)
        if chosen.run:
            _become(settings, credentials)
        sys.stdout.write(masked(_configured(settings, credentials).read_text(encoding="utf-8"), credentials))
    except (ServerError, CredentialsError) as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)


def from_environment(environ: Mapping[str, str]) -> tuple[ServerSettings, Credentials]:
    """Return the settings and passwords that the environment gives; raises ServerSettingsError, CredentialsError."""
    values = _Values(environ)
    settings = ServerSettings(
        data=Path(values.needed("DATA")),
        name=values.text("NAME"),
        host=values.text("HOST") or "127.0.0.1",
        port=values.number("PORT") or _DEFAULT_PORT,
        sync=_sync(values.text("SYNC") or "always"),
        tls=_tls(values),
        plaintext_beyond_loopback=values.text("PRIVATE_NETWORK") == "1",
        store_bytes_max=values.number("STORE_BYTES_MAX"),
        memory_limit_mib=values.number("MEMORY_LIMIT_MIB") or ServerSettings.memory_limit_mib,
        monitor_port=values.number("MONITOR_PORT"),
        cluster=_cluster(values),
    )
    given = {role.value: values.secret(f"PASSWORD_{role.name}") for role in Role}
    if not any(given.values()):
        return settings, passwords.load_or_create(credentials_file(settings.data))
    return settings, passwords.parsed(given, where=f"{_PREFIX}PASSWORD_<ROLE>")


def _become(settings: ServerSettings, credentials: Credentials) -> NoReturn:
    """Replace this process by the server; signals and exit status are then the server's own."""
    binary = find_binary()
    lock = lock_folder(settings.data)
    if lock is None:
        raise DataFolderLocked(f"{settings.data}: another NATS server uses this folder")
    config = _configured(settings, credentials)
    # Held for as long as the server lives.
    os.set_inheritable(lock, True)  # noqa: FBT003 - the library takes it by position only
    os.execve(binary, [str(binary), "-c", str(config)], environment(settings))  # noqa: S606 - the container's first process


def _configured(settings: ServerSettings, credentials: Credentials) -> Path:
    settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    name = settings.name or name_for(settings.data)
    # A container's log is its standard error; its runtime bounds it.
    return write_config(settings, name=name, port=settings.port, credentials=credentials, log_file=None)


class _Values:
    """The environment's values for us; secrets may also stand in a file."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def text(self, name: str) -> str:
        return self._environ.get(_PREFIX + name, "")

    def needed(self, name: str) -> str:
        if not (value := self.text(name)):
            raise ServerSettingsError(f"{_PREFIX}{name} is not set")
        return value

    def number(self, name: str) -> int | None:
        if not (value := self.text(name)):
            return None
        if not value.isdecimal():
            raise ServerSettingsError(f"{_PREFIX}{name}: found {value!r}, expected a whole number")
        return int(value)

    def secret(self, name: str) -> str:
        if not (file := self.text(f"{name}_FILE")):
            return self.text(name)
        try:
            return Path(file).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise CredentialsError(f"{_PREFIX}{name}_FILE: {file} cannot be read: {error.strerror}") from error


def _sync(value: str) -> int | Literal["always"]:
    if value == "always":
        return "always"
    if not value.isdecimal():
        raise ServerSettingsError(f"{_PREFIX}SYNC: found {value!r}, expected 'always' or milliseconds")
    return int(value)


def _tls(values: _Values) -> TlsFiles | None:
    if not values.text("TLS_CERT"):
        return None
    ca = values.text("TLS_CA")
    return TlsFiles(Path(values.needed("TLS_CERT")), Path(values.needed("TLS_KEY")), Path(ca) if ca else None)


def _cluster(values: _Values) -> ClusterMember | None:
    if not values.text("CLUSTER_ROUTES"):
        return None
    password = values.secret("CLUSTER_PASSWORD")
    if not password:
        raise ServerSettingsError(f"{_PREFIX}CLUSTER_PASSWORD is not set")
    values.needed("NAME")
    routes = [route.strip() for route in values.text("CLUSTER_ROUTES").split(",")]
    return ClusterMember(
        name="podium",
        listen_host=values.text("CLUSTER_HOST") or "127.0.0.1",
        listen_port=values.number("CLUSTER_PORT") or 6222,
        routes=tuple(f"nats-route://route:{password}@{route}" for route in routes),
        password=password,
    )
