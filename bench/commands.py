"""Figure 4: GetSession and StartTurn, and the time from InterruptTurn to the end of the agent's call to its model.

The interrupt goes through everything that is real: gateway, log, runner, launcher, the Claude Code CLI. Its end is when
the scripted model sees the client close the connection on which it was being answered.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from grpc_health.v1 import health_pb2, health_pb2_grpc

from bench.figures import Line, Run, percentile, spread
from podium.eventlog import Role
from podium.scripted_model import Pace, Reply, Script, ScriptedModel
from podium.scripted_model.script import Stall
from podium.v1 import content_pb2 as c
from podium.v1 import session_service_pb2 as api
from tests.support.orders import Orders
from tests.support.stage import Client, Stage, stage, until

INTERRUPT_P99_MS_MAX = 100.0
LOAD_EVENTS_PER_S = 1_000
TURNS_EACH = 8
"""Turns asked of one session: 16 may wait."""
BREATH_S_MAX = 0.2
"""How long a turn is left alone before it is interrupted, at random."""

SCRIPT = Script(
    scenarios={"stall": [Reply(text="I will never " + "end " * 40, pace=Pace(piece_chars=4), ends=Stall(3))]}
)


async def measure(run: Run) -> list[Line]:
    """Measure commands on one server; interrupts on one server and on three, idle and under load."""
    lines = []
    async with stage(run.folder / "single") as whole:
        await whole.gateway()
        lines += await interrupts(whole, run, "single")
        lines += await commands(whole, run, "single")
    async with stage(run.folder / "cluster", cluster=True) as whole:
        await whole.gateway()
        lines += await interrupts(whole, run, "R3")
        lines += await commands(whole, run, "R3")
    return lines


async def commands(whole: Stage, run: Run, where: str) -> list[Line]:
    times = run.times(800, 80)
    async with whole.client() as client, whole.connect(Role.GATEWAY) as log:
        health = health_pb2_grpc.HealthStub(client.channel)
        bare_ms = await timed(times, lambda _: health.Check(health_pb2.HealthCheckRequest()))  # type: ignore[attr-defined]  # missing in the stubs
        request_ms = await timed(times, lambda _: log.link.api("INFO"))
        sessions = await client.make_sessions(-(-times // TURNS_EACH), prefix="commands")

        async def get(number: int) -> None:
            await client.sessions.GetSession(api.GetSessionRequest(name=f"sessions/{sessions[number % len(sessions)]}"))

        async def start(number: int) -> None:
            await client.sessions.StartTurn(asking(sessions[number % len(sessions)], f"turn-{number}", "hello"))

        get_ms, start_ms = await timed(times, get), await timed(times, start)
    bare = Line(f"{where}: reference: gRPC health check, p50", percentile(bare_ms, 50), "ms")
    request = Line(f"{where}: reference: NATS request ($JS.API.INFO), p50", percentile(request_ms, 50), "ms")
    return [
        bare,
        request,
        *spread(f"{where}: GetSession", get_ms, reference=bare),
        *spread(f"{where}: StartTurn", start_ms, reference=bare),
    ]


async def timed(times: int, call: Callable[[int], Awaitable[object]]) -> list[float]:
    """Return how long each call took, one after the other, ms."""
    taken = []
    for number in range(times):
        begun = time.perf_counter()
        await call(number)
        taken.append((time.perf_counter() - begun) * 1000)
    return taken


def asking(session: str, request_id: str, text: str) -> api.StartTurnRequest:
    prompt = [c.ContentBlock(text=c.TextBlock(text=text))]
    return api.StartTurnRequest(request_id=request_id, session=f"sessions/{session}", turn=api.TurnInput(prompt=prompt))


async def interrupts(whole: Stage, run: Run, where: str) -> list[Line]:
    times = run.times(40, 4)
    async with ScriptedModel(SCRIPT) as model, whole.client() as client:
        await whole.runner("runner", model.url)
        idle_ms = await interrupted(client, model, f"{where}-idle", times)
        async with loaded(whole, client, f"{where}-load"):
            busy_ms = await interrupted(client, model, f"{where}-busy", times)
        await whole.parts["runner"].stop()
    aims = {99: INTERRUPT_P99_MS_MAX}
    return [
        *spread(f"{where}: interrupt to the model's connection", idle_ms, aims=aims),
        *spread(f"{where}: the same with {LOAD_EVENTS_PER_S:,} events/s", busy_ms, aims=aims),
    ]


@contextlib.asynccontextmanager
async def loaded(whole: Stage, client: Client, name: str) -> AsyncIterator[None]:
    """Have other sessions write while the block runs."""
    sessions = await client.make_sessions(20, prefix=name)
    load = await whole.load(Orders(sessions, events_per_s=LOAD_EVENTS_PER_S), name=name)
    try:
        yield
    finally:
        await load.stop()


async def interrupted(client: Client, model: ScriptedModel, name: str, times: int) -> list[float]:
    """Return how long each interrupt took, from the call to the end of the model's connection, ms."""
    random_ = random.Random(name)
    made = await client.sessions.CreateSession(api.CreateSessionRequest(request_id=name))
    session_id = made.session.name.removeprefix("sessions/")
    taken = []
    for number in range(times):
        seen = len(model.requests) and model.requests[-1].number
        await client.sessions.StartTurn(asking(session_id, f"{name}-{number}", "[[scenario:stall]] go"))
        answered = await model.wait_for(
            lambda request, seen=seen: request.number > seen and request.pieces_sent >= 3,  # type: ignore[misc]
            deadline_s=60,
        )
        await asyncio.sleep(random_.uniform(0.0, BREATH_S_MAX))
        begun = time.monotonic()
        await client.sessions.InterruptTurn(
            api.InterruptTurnRequest(request_id=f"{name}-stop-{number}", session=made.session.name)
        )
        closed = await model.wait_for(
            lambda request, number=answered.number: request.number == number and request.closed_s is not None,  # type: ignore[misc]
            deadline_s=30,
        )
        assert closed.closed_s is not None
        taken.append((closed.closed_s - begun) * 1000)
        await until(lambda: is_idle(client, made.session.name))
    return taken


async def is_idle(client: Client, name: str) -> bool:
    return not (await client.sessions.GetSession(api.GetSessionRequest(name=name))).running_turn_id
