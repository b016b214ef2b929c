"""Figure 2: from a provider's line, through normaliser, writer, log and gateway, to a client in another process."""

import asyncio
import signal
import time

from bench.figures import Line, Run, percentile
from bench.watching import WatchOrders
from podium.eventlog import EventLog, Role
from tests.support.orders import Orders
from tests.support.stage import TOKEN, Stage, stage

EVENTS_PER_S = 1_000
AIMS_MS = {50: 5.0, 99: 30.0}
EVENT_BYTES = 600


async def measure(run: Run) -> list[Line]:
    """Watch 20 sessions that share the rate, then one that has all of it."""
    seconds = run.seconds(15, 3)
    async with stage(run.folder) as whole:
        async with whole.connect(Role.RUNNER) as publisher, whole.connect(Role.GATEWAY) as subscriber:
            reference = await plain_delivery(publisher, subscriber, seconds / 3)
        await whole.gateway()
        several = await watched(whole, "20 sessions, a watcher each", 20, seconds, reference)
        one = await watched(whole, "one session", 1, seconds, reference)
    return [reference, *several, *one]


async def watched(whole: Stage, what: str, sessions: int, seconds: float, reference: Line) -> list[Line]:
    async with whole.client() as client:
        ids = await client.make_sessions(sessions, prefix=what)
    watching = await whole.part(
        f"watching-{sessions}",
        "bench.watching",
        "watching",
        **WatchOrders(f"127.0.0.1:{whole.gateway_port}", TOKEN, ids, delays=True).environment(),
    )
    orders = Orders(ids, events_per_s=EVENTS_PER_S, event_bytes=EVENT_BYTES, seconds=seconds + 1, spoken=True)
    load = await whole.load(orders, name=f"load-{sessions}")
    assert watching.service is not None
    assert load.service is not None
    # The first second warms everything up.
    await asyncio.sleep(1)
    watching.service.send(signal.SIGUSR1)
    gateway_cpu_s, nats_cpu_s = whole.parts["gateway"].cpu_s(), whole.nats_cpu_s()
    done = await load.service.said("done", seconds + 60)
    gateway_cpu_s, nats_cpu_s = whole.parts["gateway"].cpu_s() - gateway_cpu_s, whole.nats_cpu_s() - nats_cpu_s
    watching.service.send(signal.SIGTERM)
    counted = await watching.service.said("counted")
    found = counted["delays_ms"]
    assert isinstance(found, dict)
    rate = float(str(done["events"])) / float(str(done["seconds"]))
    cpu = f"cores: writers {float(str(done['cpu_s'])) / float(str(done['seconds'])):.2f}, "
    cpu += f"log {nats_cpu_s / seconds:.2f}, gateway {gateway_cpu_s / seconds:.2f}"
    seen = f"{int(found['number']):,} events at {rate:.0f}/s, worst {found['worst']:.0f} ms"
    lines = []
    for percent, aim in AIMS_MS.items():
        value = float(found[f"p{percent}"])
        ratio = value / reference.value if percent == 50 else None
        lines.append(
            Line(
                f"{what}, p{percent}",
                value,
                "ms",
                reference.what if ratio else "",
                ratio,
                f"<= {aim:g} ms",
                value <= aim,
                seen if percent == 99 else cpu,
            )
        )
    await watching.stop()
    await load.stop()
    return lines


async def plain_delivery(publisher: EventLog, subscriber: EventLog, seconds: float) -> Line:
    """Publish over core NATS at the same rate and size, subscribe in the same process."""
    delays: list[float] = []
    subject = "delta.bench"

    def arrived(message: object) -> None:
        delays.append((time.perf_counter_ns() - int(message.data.rstrip(b"."))) / 1e6)  # type: ignore[attr-defined]

    async with subscriber.link.subscribe(subject, arrived):
        begun, sent = time.monotonic(), 0
        while time.monotonic() < begun + seconds:
            await publisher.link.publish(subject, b"%d" % time.perf_counter_ns() + b"." * EVENT_BYTES)
            sent += 1
            await asyncio.sleep(max(0.0, begun + sent / EVENTS_PER_S - time.monotonic()))
        await publisher.link.settle()
    return Line("reference: core NATS publish to subscriber, p50", percentile(delays, 50), "ms")
