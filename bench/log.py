"""How fast the log is: one server, one process, this machine; ratios to a plain NATS publish of the same run.

    python bench/log.py [--json] [--cluster] [--uvloop] [--seconds 5]

Append, tail and history are what a command or a watcher waits for; owners' events/s is what a runner can say at most
(stamping, folding and serialising included); feed is what the indexer can be fed with.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import uvloop

from podium.drafts import Author, stamp
from podium.eventlog import EventLog, Role, Tail, UnacknowledgedBudget
from podium.names import new_id
from tests.integration.eventlog.rig import CLOCK, Broker, cluster, create, new_session_id, said, single, take, writer

HISTORY_MESSAGES = 3_106
SESSIONS, BATCH = 200, 50
EVENT_BYTES = 400


@dataclass
class Figure:
    what: str
    value: float
    unit: str
    against: str = ""
    ratio: float | None = None
    cpu_us: float | None = None
    """CPU time of this process for each, µs: what stays the same on a busy machine."""


async def main() -> None:
    options = arguments()
    with tempfile.TemporaryDirectory() as folder:
        start = cluster if options.cluster else single
        async with start(Path(folder)) as broker:
            figures = await measure(broker, options.seconds)
    if options.json:
        print(json.dumps([vars(figure) for figure in figures], indent=2))
        return
    for figure in figures:
        ratio = f"{figure.ratio:8.2f} x {figure.against}" if figure.ratio is not None else ""
        cpu = f"{figure.cpu_us:8.1f} µs CPU each" if figure.cpu_us is not None else ""
        print(f"{figure.what:48} {figure.value:12,.2f} {figure.unit:11}{ratio:20}{cpu}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--cluster", action="store_true", help="three servers that fsync before they acknowledge")
    parser.add_argument("--uvloop", action="store_true")
    parser.add_argument("--seconds", type=float, default=5.0, help="per throughput figure")
    return parser.parse_args()


async def measure(broker: Broker, seconds: float) -> list[Figure]:
    async with (
        broker.connect(Role.GATEWAY) as gateway,
        broker.connect(Role.RUNNER) as runner,
        broker.connect(Role.INDEXER) as indexer,
    ):
        plain = await rate("plain publish, 1 KB, nothing awaited", "messages/s", plain_publish(runner, seconds))
        ask_ms = await p50_ms(lambda: gateway.link.api("INFO"), 500)
        figures = [
            plain,
            Figure("plain request ($JS.API.INFO), p50", ask_ms, "ms"),
        ]
        session_id = new_session_id()
        tail = (await create(gateway, session_id)).tail
        times = []
        for _ in range(HISTORY_MESSAGES - 1):
            tail, took_ms = await append_one(gateway, session_id, tail)
            times.append(took_ms)
        append_ms = statistics.median(times)
        figures += [
            Figure("append of one event, p50", append_ms, "ms", "request", append_ms / ask_ms),
            Figure("append of one event, p99", statistics.quantiles(times, n=100)[98], "ms"),
        ]
        tail_ms = await p50_ms(lambda: gateway.tail(session_id), 500)
        figures.append(Figure("tail, p50", tail_ms, "ms", "request", tail_ms / ask_ms))
        history_ms = await p50_ms(lambda: count(gateway, session_id), 5)
        figures.append(Figure(f"history of {HISTORY_MESSAGES:,} messages", history_ms, "ms"))

        several, one = f"{SESSIONS} sessions, {BATCH} events a message", f"{SESSIONS} sessions, 1 event a message"
        figures.append(await rate(several, "events/s", raw_appends(runner, gateway, seconds, BATCH), plain))
        before = await gateway.last_position()
        figures.append(await rate(one, "events/s", raw_appends(runner, gateway, seconds, 1), plain))
        figures.append(await rate("feed of small messages", "messages/s", feed(indexer, before), plain))
        figures.append(await rate(f"said by {SESSIONS} owners", "events/s", owners(runner, gateway, seconds), plain))
        return figures


async def rate(what: str, unit: str, work: Awaitable[tuple[int, float]], plain: Figure | None = None) -> Figure:
    """Take how many and in how many seconds; CPU includes what the work did before its clock began."""
    cpu = time.process_time()
    number, took_s = await work
    cpu_us = (time.process_time() - cpu) / number * 1e6
    value = number / took_s
    return Figure(what, value, unit, "publish" if plain else "", value / plain.value if plain else None, cpu_us)


async def p50_ms(call: Callable[[], Awaitable[object]], times: int) -> float:
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        await call()
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken) * 1000


async def plain_publish(log: EventLog, seconds: float) -> tuple[int, float]:
    payload, sent, begun = b"x" * 1024, 0, time.perf_counter()
    while time.perf_counter() < begun + seconds / 2:
        for _ in range(500):
            await log.link.publish("delta.bench", payload)
        sent += 500
        await log.link.settle()
    return sent, time.perf_counter() - begun


async def append_one(log: EventLog, session_id: str, tail: Tail) -> tuple[Tail, float]:
    author = Author(session_id, new_id)
    drafts = [said("x", size=EVENT_BYTES)]
    events, state = stamp(tail.state, drafts, author, now_ns=CLOCK.now_ns(), after_position=tail.position)
    begun = time.perf_counter()
    position = await log.append(session_id, events, state, expected=tail.position)
    return Tail(position, state), (time.perf_counter() - begun) * 1000


async def count(log: EventLog, session_id: str) -> None:
    found = [stored async for stored in log.history(session_id)]
    assert len(found) == HISTORY_MESSAGES


async def raw_appends(runner: EventLog, gateway: EventLog, seconds: float, batch: int) -> tuple[int, float]:
    """Append stamped events again and again: the log alone, without the Python that makes events."""
    ready = []
    for _ in range(SESSIONS):
        session_id = new_session_id()
        tail = (await create(gateway, session_id)).tail
        drafts = [said("x", size=EVENT_BYTES) for _ in range(batch)]
        author = Author(session_id, new_id)
        events, state = stamp(tail.state, drafts, author, now_ns=CLOCK.now_ns(), after_position=tail.position)
        ready.append((session_id, events, state, tail.position))
    stored, begun = 0, time.perf_counter()

    async def one(session_id: str, events: list, state: object, position: int) -> None:  # type: ignore[type-arg]
        nonlocal stored
        while time.perf_counter() < begun + seconds:
            position = await runner.append(session_id, events, state, expected=position)  # type: ignore[arg-type]
            stored += len(events)

    await asyncio.gather(*(one(*each) for each in ready))
    return stored, time.perf_counter() - begun


async def owners(runner: EventLog, gateway: EventLog, seconds: float) -> tuple[int, float]:
    budget = UnacknowledgedBudget()
    acknowledged, end = 0, 0.0

    async def talk() -> None:
        nonlocal acknowledged
        session_id = new_session_id()
        await create(gateway, session_id)
        async with writer(runner, await take(runner, session_id), budget=budget) as own:
            await ready.wait()
            while time.perf_counter() < end:
                await own.write([said("x", size=EVENT_BYTES) for _ in range(BATCH)])
                await own.flush()
                acknowledged += BATCH

    ready = asyncio.Event()
    talking = [asyncio.create_task(talk()) for _ in range(SESSIONS)]
    await asyncio.sleep(2)
    begun = time.perf_counter()
    end = begun + seconds
    ready.set()
    await asyncio.gather(*talking)
    return acknowledged, time.perf_counter() - begun


async def feed(indexer: EventLog, after_position: int) -> tuple[int, float]:
    newest = await indexer.last_position()
    begun, messages = time.perf_counter(), 0
    async with indexer.feed(after_position=after_position) as batches:
        async for batch in batches:
            messages += len(batch)
            if batch[-1].position >= newest:
                break
    return messages, time.perf_counter() - begun


if __name__ == "__main__":
    if arguments().uvloop:
        uvloop.install()
    asyncio.run(main())
