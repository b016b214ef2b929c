"""`python -m runner.probe`: what this machine's providers find, as one JSON array; `podium doctor` reads it.

Needs no log and no gateway. Each element: {"name", "display_name", "installed", "version", "authentication", "hint"}.
"""

import asyncio
import sys

import orjson

from podium import telemetry
from podium.errors import PodiumError
from podium.settings import load
from podium.v1 import provider_pb2
from runner.__main__ import providers
from runner.providers.port import Provider
from runner.settings import RunnerSettings

PROBE_DEADLINE_S = 20.0


async def probed(provider: Provider) -> dict[str, object]:
    """Return what a provider finds, within PROBE_DEADLINE_S."""
    try:
        async with asyncio.timeout(PROBE_DEADLINE_S):
            found = await provider.probe()
    except TimeoutError:
        hint = f"its client did not answer within {PROBE_DEADLINE_S:.0f} s"
        found = provider_pb2.Provider(name=provider.name, display_name=provider.display_name, hint=hint)
    authentication = provider_pb2.Authentication.Name(found.authentication).removeprefix("AUTHENTICATION_").lower()
    return {
        "name": found.name,
        "display_name": found.display_name,
        "installed": found.installed,
        "version": found.version,
        "authentication": authentication,
        "hint": found.hint,
    }


async def probe_all(settings: RunnerSettings) -> list[dict[str, object]]:
    """Return what all providers of the settings find. Raises InvalidArgument for one that does not exist."""
    return list(await asyncio.gather(*(probed(provider) for provider in providers(settings).values())))


def main() -> int:
    """Print what was found; exit code 2 = a setting is wrong."""
    try:
        settings = load(RunnerSettings)
        telemetry.configure(service="probe", level=settings.log_level, form=settings.log_format)
        found = asyncio.run(probe_all(settings))
    except PodiumError as error:
        print(f"runner: {error.message}\n{error.advice}", file=sys.stderr)  # noqa: T201 - the last words
        return 2
    sys.stdout.buffer.write(orjson.dumps(found, option=orjson.OPT_APPEND_NEWLINE))
    return 0


if __name__ == "__main__":
    sys.exit(main())
