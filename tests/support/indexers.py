"""A real indexer, as a process of its own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from podium import auth
from podium.settings import ServiceSettings
from tests.support import processes


@dataclass
class Indexer:
    """A running indexer."""

    service: processes.Service
    address: str


@asynccontextmanager
async def indexer(settings: ServiceSettings, folder: Path, **given: str) -> AsyncIterator[Indexer]:
    """Run an indexer that knows the gateways of tests.support.gateways; `given`: further PODIUM_* settings."""
    folder.mkdir(parents=True, exist_ok=True)
    tokens_file = folder / "tokens.json"
    auth.write_tokens(tokens_file, [auth.entry("gateway", [auth.Role.READ], "token-of-gateway")])
    environment = {
        "PODIUM_NATS_URL": settings.nats_url,
        "PODIUM_NATS_CREDENTIALS_FILE": str(settings.nats_credentials_file),
        "PODIUM_LISTEN": "127.0.0.1:0",
        "PODIUM_TOKENS_FILE": str(tokens_file),
        "PODIUM_STORE_FILE": str(folder / "podium.duckdb"),
        **given,
    }
    async with processes.service("indexer", folder, environment) as service:
        line = await service.said("serving")
        yield Indexer(service, str(line["listen"]))
