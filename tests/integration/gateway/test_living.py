"""What a gateway makes of the runners that live: providers, models, placement, and who is missing."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from podium.clock import to_timestamp
from podium.drafts import Draft
from podium.eventlog import EventLog, RunnerDirectory, WakeQueue
from podium.names import session_id
from podium.v1 import event_pb2 as e
from podium.v1 import provider_pb2, runner_pb2
from podium.v1 import session_pb2 as s
from podium.v1 import session_service_pb2 as api
from tests.integration.gateway.test_commands import Owner, created, fresh, refused, said
from tests.support.gateways import CLOCK, HEARTBEAT_TTL_S, Gateway

OPUS = provider_pb2.Model(
    value="opus",
    provider="claude",
    vendor="anthropic",
    resolved_model="claude-opus-5-5",
    is_default=True,
    efforts=[provider_pb2.Effort(value="low"), provider_pb2.Effort(value="high", is_default=True)],
)
HAIKU = provider_pb2.Model(value="haiku", provider="claude", vendor="anthropic", priority=2)


@asynccontextmanager
async def living(log: EventLog, pool: str, **given: object) -> AsyncIterator[runner_pb2.Runner]:
    """Show a runner of a pool of its own, with one provider and its models, while the block lasts."""
    provider = provider_pb2.Provider(
        name="claude",
        installed=True,
        vendor="anthropic",
        capabilities=provider_pb2.Capabilities(permission_modes=["default", "plan"]),
    )
    runner = runner_pb2.Runner(
        id=f"r-{fresh()[:8]}",
        host=f"h-{pool}",
        pool=pool,
        slots=2,
        workspaces=["default", "amarillo"],
        providers=[provider],
        started_at=to_timestamp(CLOCK.now_ns()),
        **given,  # type: ignore[arg-type]
    )
    directory = RunnerDirectory(log.link, CLOCK, ttl_s=HEARTBEAT_TTL_S)
    catalog = runner_pb2.ModelCatalog(provider="claude", models=[OPUS, HAIKU])
    await directory.put_catalog(runner.id, catalog)
    beating = asyncio.create_task(directory.keep(lambda: runner))
    try:
        yield runner
    finally:
        beating.cancel()
        await directory.leave()


async def until(gateway: Gateway, holds: Callable[[set[str]], bool]) -> None:
    """Wait until the gateway's view of the runners' ids is as asked."""
    async with asyncio.timeout(20):
        while not holds({r.id for r in (await gateway.sessions.ListRunners(api.ListRunnersRequest())).runners}):
            await asyncio.sleep(0.02)


async def test_a_model_alone_finds_its_provider_and_an_effort_it_does_not_take_is_refused(
    gateway: Gateway, runner_log: EventLog
) -> None:
    async with living(runner_log, "models") as runner, asyncio.timeout(30):
        await until(gateway, lambda ids: runner.id in ids)
        # The catalog is read after the runner was seen.
        while not (await gateway.sessions.ListModels(api.ListModelsRequest())).models:
            await asyncio.sleep(0.02)
        session = (await created(gateway, pool="models", model="opus", effort="low")).session
        assert (session.provider, session.vendor) == ("claude", "anthropic")
        error = await refused(created(gateway, pool="models", model="opus", effort="max"))
        assert error.reason == "EFFORT_NOT_SUPPORTED"
        assert error.metadata["supported"] == "low,high"
        error = await refused(created(gateway, pool="models", model="opsu"))
        assert error.reason == "MODEL_UNKNOWN"
        assert "opus" in error.message
        error = await refused(created(gateway, pool="models", provider="cluade"))
        assert error.reason == "PROVIDER_UNKNOWN"
        error = await refused(
            created(gateway, pool="models", provider="claude", permission_mode=s.PERMISSION_MODE_BYPASS)
        )
        assert error.reason == "PERMISSION_MODE_NOT_SUPPORTED"
        # The session's effort goes with the model a later turn asks for.
        start = api.StartTurnRequest(request_id=fresh(), session=session.name, turn=said("go", model="haiku"))
        assert (await refused(gateway.sessions.StartTurn(start))).reason == "EFFORT_NOT_SUPPORTED"
        models = (await gateway.sessions.ListModels(api.ListModelsRequest(provider="claude"))).models
        assert [model.value for model in models[:2]] == ["opus", "haiku"]
        providers = (await gateway.sessions.ListProviders(api.ListProvidersRequest())).providers
        assert "claude" in {provider.name for provider in providers}


async def test_a_workspace_nobody_has_is_refused_and_a_known_one_taken(gateway: Gateway, runner_log: EventLog) -> None:
    async with living(runner_log, "spaces") as runner:
        await until(gateway, lambda ids: runner.id in ids)
        error = await refused(created(gateway, pool="spaces", workspace="amarilo"))
        assert error.reason == "NO_ELIGIBLE_RUNNER"
        assert "amarillo" in error.message
        assert (await created(gateway, pool="spaces", workspace="amarillo")).position
        assert (await created(gateway, pool="spaces", directory="/srv/blanco")).session.workspace == "blanco"
        assert (await created(gateway, pool="nobody", workspace="amarilo")).position


async def test_a_wake_goes_to_the_host_that_fits(gateway: Gateway, runner_log: EventLog) -> None:
    async with living(runner_log, "wakes", labels={"gpu": "yes"}) as runner:
        await until(gateway, lambda ids: runner.id in ids)
        await created(gateway, "for nobody", pool="wakes", runner_labels={"gpu": "no"})
        wanted = await created(gateway, "for us", pool="wakes", runner_labels={"gpu": "yes"})
        async with asyncio.timeout(20):
            wake = await anext(WakeQueue(runner_log.link).consume("wakes", runner.host))
        assert wake.session_id == session_id(wanted.session.name)
        await wake.ack()


async def test_a_session_waits_for_a_runner_that_appears_later(gateway: Gateway, runner_log: EventLog) -> None:
    waiting = await created(gateway, "hello", pool="later")
    assert waiting.session.waiting_on == s.WAITING_ON_RUNNER
    async with living(runner_log, "later") as runner, asyncio.timeout(20):
        wake = await anext(WakeQueue(runner_log.link).consume("later", runner.host))
        assert wake.session_id == session_id(waiting.session.name)
        await wake.ack()


async def test_a_running_turn_whose_runner_is_missing_waits_for_a_runner(
    gateway: Gateway, runner_log: EventLog
) -> None:
    async with living(runner_log, "missing") as runner:
        await until(gateway, lambda ids: runner.id in ids)
        answer = await created(gateway, "hello", pool="missing")
        async with await Owner(runner_log).attach(answer.session.name) as writer:
            await writer.write([Draft(e.TurnStarted(), turn_id=answer.turn_id)])
            await writer.flush()
        seen = await gateway.sessions.GetSession(api.GetSessionRequest(name=answer.session.name))
        assert seen.session.status == s.SESSION_STATUS_RUNNING
        assert seen.session.waiting_on == s.WAITING_ON_RUNNER


async def test_models_that_are_told_after_the_runner_appeared_are_known(gateway: Gateway, runner_log: EventLog) -> None:
    late = provider_pb2.Model(value="late", provider="later", vendor="anthropic")
    runner = runner_pb2.Runner(
        id=f"r-{fresh()[:8]}",
        host="h-late",
        pool="late",
        providers=[provider_pb2.Provider(name="later", installed=True)],
        started_at=to_timestamp(CLOCK.now_ns()),
    )
    directory = RunnerDirectory(runner_log.link, CLOCK, ttl_s=HEARTBEAT_TTL_S)
    beating = asyncio.create_task(directory.keep(lambda: runner))
    try:
        await until(gateway, lambda ids: runner.id in ids)
        await directory.put_catalog(runner.id, runner_pb2.ModelCatalog(provider="later", models=[late]))
        async with asyncio.timeout(20):
            while not (await gateway.sessions.ListModels(api.ListModelsRequest(provider="later"))).models:
                await asyncio.sleep(0.02)
    finally:
        beating.cancel()
        await directory.leave()
