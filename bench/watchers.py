"""Figure 3: how many events per second a gateway hands to 100 watchers of one session.

An owner writes at a rate that rises step by step. A step counts when every watcher got every byte that the log has of
the session, no watch was ended, and the last byte came within a second of the last acknowledgement. The clients are
another process and do not parse what they get: the gateway is measured, not they.
"""

import asyncio
import signal
from dataclasses import dataclass
from typing import Any

from bench import bare_server
from bench.figures import Line, Run, against
from bench.watching import WatchOrders
from podium.eventlog import Role
from tests.support.orders import Orders
from tests.support.stage import TOKEN, Part, Stage, quiet_port, stage

WATCHERS, EVENT_BYTES = 100, 512
AIM_PER_S = 150_000
RATES = (1_000, 1_600, 2_000, 2_500, 3_000, 4_000, 5_000)
BEHIND_S_MAX = 1.0


@dataclass(frozen=True, slots=True)
class Step:
    """What came of one rate."""

    rate: float
    """Events per second that the owner wrote."""
    delivered: float
    """Events per second to all watchers."""
    kept_up: bool
    gateway_cpu_s: float
    """Per second."""
    events: int
    responses: int
    note: str


async def measure(run: Run) -> list[Line]:
    """Raise the rate until the gateway cannot keep up; the highest at which it did is the figure."""
    seconds = run.seconds(6, 2)
    best: Step | None = None
    tried: list[Step] = []
    async with stage(run.folder) as whole:
        await whole.gateway()
        for rate in RATES[:2] if run.quick else RATES:
            step = await at_rate(whole, rate, seconds)
            tried.append(step)
            if not step.kept_up:
                break
            best = step
        shown = best or tried[-1]
        piece_bytes = EVENT_BYTES * shown.events * WATCHERS // max(1, shown.responses)
        bare = await bare_sending(whole, piece_bytes, seconds)
    return [bare, *lines_of(shown, tried, bare)]


def lines_of(shown: Step, tried: list[Step], bare: Line) -> list[Line]:
    size = shown.events * WATCHERS / max(1, shown.responses)
    note = f"gateway {shown.gateway_cpu_s:.2f} cores, {size:.1f} events a response; {shown.note}"
    capacity = max(step.delivered / step.gateway_cpu_s for step in tried if step.kept_up or step is shown)
    return [
        Line(
            f"{WATCHERS} watchers of a session with {shown.rate:,.0f} events/s",
            shown.delivered,
            "events/s",
            *against(shown.delivered, bare),
            f">= {AIM_PER_S:,}/s",
            shown.kept_up and shown.delivered >= AIM_PER_S,
            note,
        ),
        Line("delivered per second of the gateway's CPU time", capacity, "events"),
        *(Line(f"tried: {step.rate:,.0f} events/s", step.delivered, "events/s", note=step.note) for step in tried),
    ]


async def at_rate(whole: Stage, rate: float, seconds: float) -> Step:
    async with whole.client() as client:
        sessions = await client.make_sessions(1, prefix=f"busy at {rate}")
    orders = Orders(sessions, events_per_s=rate, event_bytes=EVENT_BYTES, seconds=seconds, waits=True)
    load = await whole.load(orders, name=f"load-{rate:.0f}")
    watching = await watch(whole, f"watching-{rate:.0f}", sessions, whole.gateway_port)
    gateway_cpu_s = whole.parts["gateway"].cpu_s()
    assert load.service is not None
    async with whole.connect(Role.GATEWAY) as log:
        before = (await log.tail(sessions[0])).position
        load.service.send(signal.SIGUSR1)
        done = await load.service.said("done", seconds + 60)
        appended = [stored async for stored in log.history(sessions[0], after_position=before)]
    await asyncio.sleep(BEHIND_S_MAX)
    used_s = whole.parts["gateway"].cpu_s() - gateway_cpu_s
    counted = await finish(watching)
    await load.stop()
    size = sum(len(stored.events_bytes) for stored in appended)
    events = appended[-1].last_revision - appended[0].first_revision + 1
    took_s = float(counted["seconds"])
    kept_up = counted["least"] == size and counted["bytes"] == size * WATCHERS and not counted["ended"]
    note = f"{counted['bytes'] / took_s / 1e6:.0f} MB/s in {counted['responses']:,} responses"
    if not kept_up:
        note += f"; the slowest watcher got {counted['least'] / size:.0%}, {len(counted['ended'])} were ended"
    return Step(
        rate=events / float(str(done["seconds"])),
        delivered=counted["bytes"] / size * events / took_s,
        kept_up=kept_up,
        gateway_cpu_s=used_s / took_s,
        events=events,
        responses=counted["responses"],
        note=note,
    )


async def watch(whole: Stage, name: str, sessions: list[str], port: int) -> Part:
    orders = WatchOrders(f"127.0.0.1:{port}", TOKEN, sessions, each=WATCHERS)
    watching = await whole.part(name, "bench.watching", "watching", **orders.environment())
    assert watching.service is not None
    watching.service.send(signal.SIGUSR1)
    await watching.service.said("counting")
    return watching


async def finish(watching: Part) -> dict[str, Any]:
    assert watching.service is not None
    watching.service.send(signal.SIGTERM)
    counted = await watching.service.said("counted")
    await watching.stop()
    return counted


async def bare_sending(whole: Stage, piece_bytes: int, seconds: float) -> Line:
    """Let a server without a log behind it send pieces of the same size to as many clients of the same kind."""
    port = quiet_port()
    told = {
        bare_server.PIECE_BYTES: str(piece_bytes),
        bare_server.SECONDS: str(seconds),
        bare_server.PORT: str(port),
    }
    bare = await whole.part("bare", "bench.bare_server", "serving", **told)
    watching = await watch(whole, "watching-bare", ["bare"], port)
    assert bare.service is not None
    cpu_s = bare.cpu_s()
    bare.service.send(signal.SIGUSR1)
    await asyncio.sleep(seconds + 0.5)
    used_s = bare.cpu_s() - cpu_s
    counted = await finish(watching)
    await bare.stop()
    rate = counted["bytes"] / EVENT_BYTES / float(counted["seconds"])
    note = f"server {used_s / seconds:.2f} cores, {rate / used_s * seconds:,.0f} for each second of its CPU time"
    return Line("reference: bare grpc.aio server, pieces of the same size", rate, "events/s", note=note)
