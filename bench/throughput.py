"""Figure 1: events per second from 200 sessions' writers in one process to rows that another commits to DuckDB."""

import asyncio
import signal
import time

import duckdb
import pyarrow as pa

from bench.figures import Line, Run, against
from podium.eventlog import EventLog, Role
from podium.v1 import analytics_service_pb2 as api
from tests.support.orders import Orders
from tests.support.stage import Client, Stage, stage

SESSIONS, EVENT_BYTES, BATCH = 200, 1024, 50
AIM_PER_S = 20_000
INSERT_ROWS = 5_000
"""Rows in a transaction of the reference: the most the indexer puts into one."""


async def measure(run: Run) -> list[Line]:
    """Run the load, wait until the projection has all of it, and count the rows in the file."""
    seconds = run.seconds(10, 2)
    async with stage(run.folder) as whole, whole.connect(Role.RUNNER) as log:
        plain = await plain_publish(log, seconds / 3)
        bare = await asyncio.to_thread(bare_insert, run, seconds / 3)
        return [plain, bare, *await end_to_end(whole, seconds, plain, bare)]


async def end_to_end(whole: Stage, seconds: float, plain: Line, bare: Line) -> list[Line]:
    await whole.gateway()
    indexer = await whole.indexer()
    async with whole.client() as client:
        sessions = await client.make_sessions(SESSIONS)
        load = await whole.load(
            Orders(sessions, batch=BATCH, event_bytes=EVENT_BYTES, seconds=seconds, prepared=True, waits=True)
        )
        service = load.service
        assert service is not None
        await projected(client, (await client.analytics.GetProjection(api.GetProjectionRequest())).log_position)
        cpu_s = {name: part.cpu_s() for name, part in whole.parts.items()}
        nats_cpu_s = whole.nats_cpu_s()
        begun = time.monotonic()
        service.send(signal.SIGUSR1)
        done = await service.said("done", seconds + 60)
        stored_s = time.monotonic() - begun
        await projected(client, int(str(done["position"])))
        committed_s = time.monotonic() - begun
    events = int(str(done["events"]))
    load_cpu_s = float(str(done["cpu_s"]))
    cpu = f"CPU per event: writers {each(load_cpu_s, events)}, log {each(whole.nats_cpu_s() - nats_cpu_s, events)}"
    cpu += f", indexer {each(indexer.cpu_s() - cpu_s['indexer'], events)} µs"
    await indexer.stop()
    rows = stored_rows(whole)
    if rows < events:
        raise AssertionError(f"{events} events were acknowledged, {rows} rows are there")
    rate = events / committed_s
    on_log = events / stored_s
    return [
        Line("written and acknowledged by the log, while projecting", on_log, "events/s", *against(on_log, plain)),
        Line(
            f"committed to DuckDB, {SESSIONS} sessions, 1 KB",
            rate,
            "events/s",
            *against(rate, bare),
            f">= {AIM_PER_S:,}/s",
            rate >= AIM_PER_S,
            cpu,
        ),
        Line("last row after the last acknowledgement", (committed_s - stored_s) * 1000, "ms"),
    ]


async def projected(client: Client, position: int) -> None:
    """Wait until the projection has everything up to a position."""
    while (await client.analytics.GetProjection(api.GetProjectionRequest())).position < position:  # noqa: ASYNC110
        await asyncio.sleep(0.02)


def each(cpu_s: float, events: int) -> str:
    return f"{cpu_s / events * 1e6:.0f}"


def stored_rows(whole: Stage) -> int:
    with duckdb.connect(str(whole.store_file), read_only=True) as store:
        return int(store.execute("SELECT count(*) FROM core.messages").fetchall()[0][0])


async def plain_publish(log: EventLog, seconds: float) -> Line:
    """Publish 1 KB over core NATS, nothing awaited but what the server takes."""
    payload, sent, begun = b"x" * EVENT_BYTES, 0, time.perf_counter()
    while time.perf_counter() < begun + seconds:
        for _ in range(500):
            await log.link.publish("delta.bench", payload)
        sent += 500
        await log.link.settle()
    return Line("reference: core NATS publish, 1 KB", sent / (time.perf_counter() - begun), "messages/s")


def bare_insert(run: Run, seconds: float) -> Line:
    """Insert rows of 1 KB from Arrow into a DuckDB file, one transaction for each 5,000."""
    connection = duckdb.connect(str(run.folder / "bare.duckdb"))
    connection.execute("CREATE TABLE messages (session VARCHAR, revision BIGINT, said_at TIMESTAMPTZ, content VARCHAR)")
    rows, number, begun = 0, 0, time.perf_counter()
    while time.perf_counter() < begun + seconds:
        batch = pa.table(
            {
                "session": [f"session-{(number + row) % SESSIONS}" for row in range(INSERT_ROWS)],
                "revision": list(range(number, number + INSERT_ROWS)),
                "said_at": pa.array([time.time_ns() // 1000] * INSERT_ROWS, pa.timestamp("us", "UTC")),
                "content": [f"{number + row}".ljust(EVENT_BYTES, ".") for row in range(INSERT_ROWS)],
            }
        )
        connection.register("batch", batch)
        connection.execute("INSERT INTO messages SELECT * FROM batch")
        connection.unregister("batch")
        rows, number = rows + INSERT_ROWS, number + INSERT_ROWS
    took_s = time.perf_counter() - begun
    connection.close()
    return Line("reference: Arrow to DuckDB, 1 KB rows, a commit per 5,000", rows / took_s, "rows/s")
