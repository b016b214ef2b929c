"""The settings each service is started with: from the data folder and the options to PODIUM_* names."""

import json
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from podium.auth import write_private
from podium.cli.home import DataFolder
from podium.cli.stack.secrets import Secrets
from podium.eventlog import Role

GATEWAY_GRACE_S = 2.0


@dataclass(frozen=True, slots=True)
class Places:
    """Where the parts of one stack find each other."""

    folder: DataFolder
    secrets: Secrets
    nats_url: str
    gateway: str
    indexer: str


def gateway(places: Places) -> dict[str, str]:
    """Return the gateway's settings."""
    return {
        **_log(places, Role.GATEWAY),
        "PODIUM_LISTEN": places.gateway,
        "PODIUM_TOKENS_FILE": str(places.secrets.gateway_tokens),
        "PODIUM_INDEXER_ADDRESS": places.indexer,
        "PODIUM_INDEXER_TOKEN_FILE": str(places.secrets.indexer_token),
        # Those who watch would otherwise hold up a stop for as long as they may.
        "PODIUM_STOP_GRACE_S": str(GATEWAY_GRACE_S),
    }


def indexer(places: Places) -> dict[str, str]:
    """Return the indexer's settings."""
    return {
        **_log(places, Role.INDEXER),
        "PODIUM_LISTEN": places.indexer,
        "PODIUM_TOKENS_FILE": str(places.secrets.indexer_tokens),
        "PODIUM_STORE_FILE": str(places.folder.indexer / "podium.duckdb"),
        "PODIUM_STOP_GRACE_S": str(GATEWAY_GRACE_S),
    }


def runner(places: Places, *, drain_s: float, further: Mapping[str, str]) -> dict[str, str]:
    """Return the runner's settings."""
    return {
        **_log(places, Role.RUNNER),
        "PODIUM_HOST": host(places.folder),
        "PODIUM_STATE_DIR": str(places.folder.runner),
        "PODIUM_DRAIN_S": str(drain_s),
        **further,
    }


def runner_options(*, slots: int | None, roots: list[Path], allow_bypass: bool) -> dict[str, str]:
    """Return what `podium up` can be told about its runner."""
    told: dict[str, str] = {}
    if slots is not None:
        told["PODIUM_SLOTS"] = str(slots)
    if roots:
        told["PODIUM_ROOTS"] = json.dumps([str(root.expanduser().absolute()) for root in roots])
    if allow_bypass:
        told["PODIUM_ALLOW_BYPASS"] = "true"
    return told


def host(folder: DataFolder) -> str:
    """Return the host name of this data folder's sessions, fixed when it was used first.

    Sessions stay with their host, and a laptop has another name in another network.
    """
    file = folder.path / "host"
    try:
        return file.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        name = re.sub(r"[^a-z0-9-]+", "-", socket.gethostname().lower().partition(".")[0]).strip("-")[:63]
        write_private(file, (name or "localhost").encode())
        return name or "localhost"


def _log(places: Places, role: Role) -> dict[str, str]:
    return {"PODIUM_NATS_URL": places.nats_url, "PODIUM_NATS_CREDENTIALS_FILE": str(places.secrets.nats(role))}
