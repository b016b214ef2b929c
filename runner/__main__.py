"""`python -m runner`: puts the runner together and serves until it is told to stop."""

import asyncio
import os
import signal
import sys

from podium import telemetry
from podium.clock import SystemClock
from podium.errors import InvalidArgument, PodiumError
from podium.eventlog import (
    BlobStore,
    EventLog,
    NativeLog,
    Role,
    RunnerDirectory,
    UnacknowledgedBudget,
    WakeQueue,
)
from podium.eventlog.access import log_settings
from podium.eventlog.content import LongContent
from podium.names import token
from podium.settings import load
from runner.environment import allowed
from runner.providers.port import Provider, ProviderSettings
from runner.providers.registry import REGISTRY
from runner.service import WAKE_ACK_S, RunnerService, new_runner_id
from runner.session_host import Shared
from runner.settings import RunnerSettings
from runner.workspaces import Workspaces


def child_environment(settings: RunnerSettings, provider: str) -> dict[str, str]:
    """Return what a provider's client may see of this process's environment."""
    registered = REGISTRY[provider]
    names = {*registered.environment_names, *settings.child_environment}
    return allowed(os.environ, names, registered.environment_prefixes)


def providers(settings: RunnerSettings) -> dict[str, Provider]:
    """Return the providers to offer, by name; raises InvalidArgument for one that does not exist."""
    unknown = sorted(set(settings.providers) - set(REGISTRY))
    if unknown:
        raise InvalidArgument("PODIUM_PROVIDERS", found=unknown[0], expected=f"some of {', '.join(sorted(REGISTRY))}")
    return {
        name: REGISTRY[name].make(
            ProviderSettings(environment=child_environment(settings, name), allow_bypass=settings.allow_bypass)
        )
        for name in settings.providers or REGISTRY
    }


async def serve(settings: RunnerSettings) -> None:
    """Serve until SIGTERM or SIGINT, then drain."""
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    for field, value in (("PODIUM_HOST", settings.host), ("PODIUM_POOL", settings.pool)):
        token(value, field)
    settings.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    clock = SystemClock()
    async with EventLog.connect(log_settings(settings, Role.RUNNER), Role.RUNNER) as log:
        await log.check_streams()
        blobs = BlobStore(log.link, clock)
        async with NativeLog(log.link, blobs) as native:
            shared = Shared(
                settings=settings,
                runner_id=new_runner_id(token(settings.runner_name, "PODIUM_RUNNER_NAME")),
                log=log,
                native=native,
                content=LongContent(blobs),
                clock=clock,
                budget=UnacknowledgedBudget(settings.unacknowledged_bytes_max),
                slots=asyncio.Semaphore(settings.slots),
                workspaces=Workspaces(settings.state_dir, settings.roots),
                providers=providers(settings),
                environment=lambda provider: child_environment(settings, provider),
            )
            directory = RunnerDirectory(log.link, clock, ttl_s=settings.heartbeat_ttl_s)
            await RunnerService(shared, directory, WakeQueue(log.link, ack_wait_s=WAKE_ACK_S)).run(stop)


def main() -> int:
    """Run the runner; exit code 2 = a setting is wrong, 1 = something it needs is not there."""
    try:
        settings = load(RunnerSettings)
        telemetry.configure(service="runner", level=settings.log_level, form=settings.log_format)
        asyncio.run(serve(settings))
    except PodiumError as error:
        print(f"runner: {error.message}\n{error.advice}", file=sys.stderr)  # noqa: T201 - the last words
        return 2 if error.code == "INVALID_ARGUMENT" else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
