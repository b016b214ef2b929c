"""A real runner on a real log, with the real Claude Code CLI against the scripted model."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
from podium.scripted_model import claude_environment
from podium.settings import ServiceSettings
from runner.providers.port import Provider, ProviderSettings
from runner.providers.registry import REGISTRY
from runner.service import WAKE_ACK_S, RunnerService, new_runner_id
from runner.session_host import Shared
from runner.settings import RunnerSettings
from runner.workspaces import Workspaces
from tests.support.gateways import CLOCK, HEARTBEAT_TTL_S


@dataclass
class Runner:
    """A runner in this process."""

    id: str
    service: RunnerService
    stop: asyncio.Event
    home: Path
    settings: RunnerSettings
    shared: Shared
    task: asyncio.Task[None] = field(init=False)


@asynccontextmanager
async def runner(
    settings: ServiceSettings,
    folder: Path,
    model_url: str,
    *,
    providers: Mapping[str, Provider] | None = None,
    **given: Any,
) -> AsyncIterator[Runner]:
    """Run a runner until the block ends; `folder` holds its state, its workspaces and the clients' home.

    Its provider is Claude at `model_url`, unless `providers` are given.
    """
    home = folder / "home"
    home.mkdir(parents=True, exist_ok=True)
    (folder / "work").mkdir(exist_ok=True)
    environment = claude_environment(home, model_url)
    runner_settings = RunnerSettings(
        nats_url=settings.nats_url,
        nats_credentials_file=settings.nats_credentials_file,
        host=str(given.pop("host", "h1")),
        roots=[folder / "work"],
        **{"state_dir": folder / "state", "drain_s": 5, "heartbeat_ttl_s": HEARTBEAT_TTL_S, **given},
    )
    claude = ProviderSettings(environment=environment, allow_bypass=runner_settings.allow_bypass)
    async with AsyncExitStack() as around:
        log = await around.enter_async_context(EventLog.connect(log_settings(settings, Role.RUNNER), Role.RUNNER))
        blobs = BlobStore(log.link, CLOCK)
        native = await around.enter_async_context(NativeLog(log.link, blobs))
        shared = Shared(
            settings=runner_settings,
            runner_id=new_runner_id(runner_settings.runner_name),
            log=log,
            native=native,
            content=LongContent(blobs),
            clock=CLOCK,
            budget=UnacknowledgedBudget(runner_settings.unacknowledged_bytes_max),
            slots=asyncio.Semaphore(runner_settings.slots),
            workspaces=Workspaces(runner_settings.state_dir, runner_settings.roots),
            providers=dict(providers or {"claude": REGISTRY["claude"].make(claude)}),
            environment=lambda _: environment,
        )
        directory = RunnerDirectory(log.link, CLOCK, ttl_s=runner_settings.heartbeat_ttl_s)
        service = RunnerService(shared, directory, WakeQueue(log.link, ack_wait_s=WAKE_ACK_S))
        running = Runner(shared.runner_id, service, asyncio.Event(), home, runner_settings, shared)
        running.task = asyncio.create_task(service.run(running.stop))
        try:
            yield running
        finally:
            running.stop.set()
            with suppress(asyncio.CancelledError):
                await running.task
