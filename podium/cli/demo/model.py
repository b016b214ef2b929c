"""The scripted model endpoint as a process of the demo's, and who called it."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import orjson

from podium.cli.failures import CliError
from podium.cli.stack.logs import ServiceLog
from podium.cli.stack.process import ServiceProcess, service_environment
from podium.scripted_model.server import REQUESTS_PATH

START_S_MAX = 30.0
STOP_S_MAX = 6.0
POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Model:
    """A running endpoint."""

    url: str
    label: str
    process: ServiceProcess

    async def requests(self) -> list[Mapping[str, Any]]:
        """Return what it was asked, oldest first: method, path, headers, user agent …"""

        def get() -> list[Mapping[str, Any]]:
            with urlopen(self.url + REQUESTS_PATH, timeout=5.0) as answer:  # noqa: S310 - loopback, made above
                told: list[Mapping[str, Any]] = orjson.loads(answer.read())["requests"]
                return told

        return await asyncio.to_thread(get)


@asynccontextmanager
async def scripted_model(folder: Path) -> AsyncIterator[Model]:
    """Run the endpoint with the demo's script while the block runs. Raises CliError when it does not start."""
    ready = folder / "model.json"
    arguments = ["-m", "podium.scripted_model", "--scenario", "demo", "--ready-file", str(ready)]
    environment = service_environment({"PATH": "/usr/bin:/bin"}, {})
    process = ServiceProcess("scripted model", arguments, environment, ServiceLog(folder / "model.log"))
    await process.start()
    try:
        async with asyncio.timeout(START_S_MAX):
            while not ready.exists():
                if process.pid is None:
                    raise CliError("DEMO_FAILED", f"the scripted model ended:\n{process.said()}", "")
                await asyncio.sleep(POLL_S)
        told = orjson.loads(ready.read_bytes())
        yield Model(told["url"], told["podium"], process)
    finally:
        await process.stop(STOP_S_MAX)
