"""What a runner offers: its providers and their models, asked again now and then.

A provider that breaks is not offered; the sessions of the others go on.
"""

import asyncio
from collections.abc import Iterable, Sequence

import structlog

from podium.clock import Clock, to_timestamp
from podium.errors import PodiumError
from podium.eventlog import RunnerDirectory
from podium.v1 import provider_pb2, runner_pb2
from runner.providers.port import Provider

_log = structlog.get_logger()

PROBE_DEADLINE_S = 20.0
MODELS_DEADLINE_S = 60.0
REPROBE_S = 300.0


class Offers:
    """The providers of one runner."""

    def __init__(self, runner_id: str, providers: Iterable[Provider], directory: RunnerDirectory, clock: Clock) -> None:
        """Take whom to ask, and where the models are told."""
        self.found: Sequence[provider_pb2.Provider] = ()
        """What the providers said of themselves."""
        self._runner_id = runner_id
        self._providers = list(providers)
        self._directory = directory
        self._clock = clock

    async def probe(self) -> None:
        """Ask every provider whether its client is there."""
        found = await asyncio.gather(*(self._probed(provider) for provider in self._providers))
        self.found = [provider for provider in found if provider is not None]

    async def keep_telling(self) -> None:
        """Keep the catalogs of the providers' models fresh, until cancelled."""
        while True:
            for provider in self._providers:
                await self._tell_of(provider)
            self._directory.beat_soon()
            await asyncio.sleep(REPROBE_S)
            await self.probe()

    async def _probed(self, provider: Provider) -> provider_pb2.Provider | None:
        try:
            async with asyncio.timeout(PROBE_DEADLINE_S):
                probed = await provider.probe()
        except Exception as error:  # noqa: BLE001 - whatever it was, the others are offered
            _log.warning("provider not offered", provider=provider.name, exc_info=error)
            return None
        probed.runner = self._runner_id
        probed.vendor = provider.vendor
        return probed

    async def _tell_of(self, provider: Provider) -> None:
        try:
            async with asyncio.timeout(MODELS_DEADLINE_S):
                models = await provider.models()
        except Exception as error:  # noqa: BLE001 - whatever it was, the others are offered
            _log.warning("models not read", provider=provider.name, exc_info=error)
            return
        if not models:
            return
        read_at = to_timestamp(self._clock.now_ns())
        catalog = runner_pb2.ModelCatalog(provider=provider.name, models=models, source="client", read_at=read_at)
        try:
            await self._directory.put_catalog(self._runner_id, catalog)
        except PodiumError as error:
            _log.warning("models not told", provider=provider.name, reason=error.message)
