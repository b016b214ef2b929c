"""The configuration of the NATS server: from settings to text, pure.

Source: https://docs.nats.io/running-a-nats-service/configuration (checked with nats-server 2.15.1, which
`nats-server -t` in the tests repeats). The format is a superset of JSON, so JSON is what we write.
"""

import ipaddress
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from podium.eventlog.credentials import Credentials
from podium.eventlog.roles import Role, permissions

ACCOUNT = "PODIUM"
MIB = 1024 * 1024
PAYLOAD_BYTES_MAX = 2 * MIB
"""Twice the largest event message: headers count, and a request may carry a little more than its message."""
SYNC_INTERVAL_MS_RANGE = (20, 100)
"""Embedded: at most this much is lost with the power; nothing is lost with a process."""
STORE_RESERVE_BYTES = 512 * MIB
"""Left free on the disk, so that the limit is met before the disk is full."""
LOG_BYTES_MAX = 8 * MIB
LOG_FILES_MAX = 3


class ServerError(Exception):
    """The NATS server could not be started, or did not stay."""


class BinaryMissing(ServerError):
    """There is no nats-server to run."""


class PortInUse(ServerError):
    """Somebody else listens on the port."""


class DataFolderLocked(ServerError):
    """Another server uses the data folder."""


class DataFolderUnusable(ServerError):
    """The data folder cannot be written: permissions, a full disk, or not a folder."""


class ServerSettingsError(ServerError):
    """The settings contradict themselves or what is safe."""


@dataclass(frozen=True)
class TlsFiles:
    """The server's certificate and key; with `ca`, clients must show a certificate as well."""

    certificate: Path
    key: Path
    ca: Path | None = None


@dataclass(frozen=True)
class ClusterMember:
    """This server's place in a cluster: its route port, and the route URLs of all members."""

    name: str
    listen_port: int
    routes: tuple[str, ...]
    password: str = field(repr=False)
    listen_host: str = "127.0.0.1"


@dataclass(frozen=True)
class ServerSettings:
    """What a NATS server is started with.

    Attributes:
        data: the folder that holds everything of this server; made with mode 0700.
        name: the server's name, unique within a cluster; empty = derived from the folder.
        port: client port; 0 = a free one, kept while the object lives.
        sync: milliseconds between fsyncs (20 to 100), or "always": before each acknowledgement.
        plaintext_beyond_loopback: allows a host that others can reach without TLS (a private network).
        memory_limit_mib: soft limit of the Go heap (GOMEMLIMIT).
    """

    data: Path
    name: str = ""
    host: str = "127.0.0.1"
    port: int = 0
    sync: int | Literal["always"] = 50
    tls: TlsFiles | None = None
    plaintext_beyond_loopback: bool = False
    store_bytes_max: int | None = None
    memory_limit_mib: int = 512
    max_connections: int = 4096
    monitor_port: int | None = None
    cluster: ClusterMember | None = None

    def __post_init__(self) -> None:
        """Refuse what would lose data or show it to others."""
        low, high = SYNC_INTERVAL_MS_RANGE
        if self.sync != "always" and not low <= self.sync <= high:
            raise ServerSettingsError(f"sync: found {self.sync} ms, expected {low} to {high}, or 'always'")
        if not is_loopback(self.host) and self.tls is None and not self.plaintext_beyond_loopback:
            raise ServerSettingsError(
                f"host: {self.host} can be reached by others; give a certificate, or allow plaintext "
                "when the network is private"
            )


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach the host; names other than localhost count as reachable."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def store_limit(*, free_bytes: int, used_bytes: int) -> int:
    """Return how much JetStream may store: what it has, and what is free, less a reserve.

    The server's own default is three quarters of what is free at start, and forgets what it already holds:
    a log that has grown is then refused after a restart (nats-server #8322).
    """
    return max(used_bytes, used_bytes + free_bytes - STORE_RESERVE_BYTES, MIB)


def render(
    settings: ServerSettings, *, name: str, port: int, store_bytes: int, credentials: Credentials, log_file: Path | None
) -> str:
    """Return the configuration file: JSON, with the passwords in it, so keep it private."""
    config: dict[str, object] = {
        "server_name": name,
        "host": settings.host,
        "port": port,
        "max_payload": PAYLOAD_BYTES_MAX,
        # A slow reader is cut off when this much waits for it.
        "max_pending": 64 * MIB,
        "max_connections": settings.max_connections,
        "ping_interval": "20s",
        "ping_max": 3,
        "write_deadline": "10s",
        "jetstream": {
            "store_dir": str(settings.data / "store"),
            "max_file_store": store_bytes,
            # No stream of ours is kept in memory; consumers need a little.
            "max_memory_store": 64 * MIB,
            "sync_interval": "always" if settings.sync == "always" else f"{settings.sync}ms",
        },
        "system_account": "SYS",
        "accounts": {"SYS": {"users": []}, ACCOUNT: {"jetstream": "enabled", "users": _users(credentials)}},
    }
    if log_file is not None:
        config |= {"log_file": str(log_file), "log_size_limit": LOG_BYTES_MAX, "logfile_max_num": LOG_FILES_MAX}
    if settings.monitor_port is not None:
        config["http"] = f"127.0.0.1:{settings.monitor_port}"
    if settings.tls is not None:
        config["tls"] = _tls(settings.tls)
    if settings.cluster is not None:
        config["cluster"] = _cluster(settings.cluster)
    # The server's reader knows \", \\ and \n, not \u: other characters stand as they are.
    return json.dumps(config, indent=2, ensure_ascii=False) + "\n"


def masked(config: str, credentials: Credentials) -> str:
    """Return the configuration without the passwords, to be shown."""
    for role, password in credentials.passwords.items():
        config = config.replace(json.dumps(password, ensure_ascii=False), f'"<password of {role}>"')
    return config


def _users(credentials: Credentials) -> list[Mapping[str, object]]:
    return [
        {"user": role.value, "password": credentials.password(role), "permissions": permissions(role).as_config()}
        for role in Role
    ]


def _tls(files: TlsFiles) -> dict[str, object]:
    block: dict[str, object] = {"cert_file": str(files.certificate), "key_file": str(files.key), "timeout": 5}
    if files.ca is not None:
        block |= {"ca_file": str(files.ca), "verify": True}
    return block


def _cluster(member: ClusterMember) -> dict[str, object]:
    return {
        "name": member.name,
        "listen": f"{member.listen_host}:{member.listen_port}",
        "authorization": {"user": "route", "password": member.password, "timeout": 5},
        "routes": list(member.routes),
        "no_advertise": True,
    }
