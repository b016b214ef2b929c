"""How fast the log becomes rows: one process, this machine; ratios to a bare Arrow insert loop of the same run.

    python -m bench.projection [--json] [--events 100000]

200 sessions say 1 KB a time, 50 events an append. `project` is parsing and folding into rows, `store` is Arrow, INSERT
and COMMIT of all tables; the loop does both from a real log. CPU time of this process is what stays the same on a busy
machine.
"""

import argparse
import asyncio
import itertools
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import duckdb
import pyarrow as pa

from indexer.batches import EVENTS_MAX
from indexer.projection.carry import Carry
from indexer.projection.project import project
from indexer.store import open_store
from podium import names
from podium.drafts import Author, Draft, stamp
from podium.eventlog import StoredAppend
from podium.eventlog.stored import encode
from podium.v1 import content_pb2 as c
from podium.v1 import event_pb2 as e
from podium.v1.session_pb2 import SessionState
from tests.integration.indexer.rig import following, pen
from tests.support import gateways

SESSIONS, EVENTS_PER_APPEND, EVENT_BYTES = 200, 50, 1024
BEGIN_NS = 1_763_800_000 * 10**9


@dataclass
class Figure:
    what: str
    per_s: float
    cpu_us: float
    ratio: float | None = None


def said(size: int) -> Draft:
    """Return a message with the text of a program: letters, quotes and line ends."""
    text = ('    "key": value,  # comment\n' * (size // 28 + 1))[:size]
    block = c.ContentBlock(text=c.TextBlock(text=text))
    return Draft(e.Message(role=e.ROLE_ASSISTANT, content=[block], model="claude-opus-4-5"), source=e.SOURCE_PROVIDER)


def appends(events: int) -> Iterator[StoredAppend]:
    """Yield what lies on a log of SESSIONS sessions that take turns."""
    states: dict[str, SessionState] = {}
    ids = [names.new_id(BEGIN_NS) for _ in range(SESSIONS)]
    for position, session_id in enumerate(itertools.chain(ids, itertools.cycle(ids)), 1):
        created = [Draft(e.SessionCreated(provider="claude", workspace="bench"))]
        drafts = [said(EVENT_BYTES)] * EVENTS_PER_APPEND if session_id in states else created
        author = Author(session_id, names.new_id, "runner-1", 1)
        stamped, states[session_id] = stamp(
            states.get(session_id), drafts, author, now_ns=BEGIN_NS + position * 10**6, after_position=0
        )
        yield StoredAppend(position, session_id, *encode(stamped, states[session_id]), BEGIN_NS)
        if position >= SESSIONS + events // EVENTS_PER_APPEND:
            return


class Stopwatch:
    """Wall and CPU time of all its blocks together; the threads of this process included."""

    def __init__(self) -> None:
        self.wall_s = self.cpu_s = 0.0

    def __enter__(self) -> Self:
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall_s += time.perf_counter() - self._wall
        self.cpu_s += time.process_time() - self._cpu

    def figure(self, what: str, events: int, bare: "Figure | None" = None) -> Figure:
        per_s = events / self.wall_s
        return Figure(what, per_s, self.cpu_s / events * 1e6, per_s / bare.per_s if bare else None)


def bare_insert(folder: Path, events: int) -> Figure:
    """Insert 1 KB messages from Arrow, a transaction for each EVENTS_MAX, and nothing else."""
    content = said(EVENT_BYTES).body.SerializeToString()[-EVENT_BYTES:].decode(errors="replace")
    with duckdb.connect(str(folder / "bare.duckdb"), config={"checkpoint_threshold": "256MB"}) as connection:
        connection.execute(
            "CREATE TABLE messages (session_id VARCHAR, revision BIGINT, created_at TIMESTAMPTZ, "
            "content VARCHAR USING COMPRESSION zstd)"
        )
        with Stopwatch() as watch:
            for first in range(0, events, EVENTS_MAX):
                numbers = range(first, first + EVENTS_MAX)
                batch = pa.table(
                    {
                        "session_id": [f"session-{number % SESSIONS}" for number in numbers],
                        "revision": list(numbers),
                        "created_at": pa.array([BEGIN_NS // 1000] * EVENTS_MAX, pa.timestamp("us", "UTC")),
                        "content": [content] * EVENTS_MAX,
                    }
                )
                connection.register("batch", batch)
                connection.execute("INSERT INTO messages SELECT * FROM batch")
                connection.unregister("batch")
    return watch.figure("bare Arrow insert of 1 KB rows", events)


async def apart(folder: Path, stored: Sequence[StoredAppend]) -> tuple[Stopwatch, Stopwatch]:
    """Project and store batch after batch, each with a watch of its own."""
    step = EVENTS_MAX // EVENTS_PER_APPEND
    carries: dict[str, Carry] = {}
    projecting, storing = Stopwatch(), Stopwatch()
    async with open_store(folder / "store.duckdb") as store:
        for first in range(0, len(stored), step):
            # As they come from the log: not parsed yet.
            fresh = [
                StoredAppend(a.position, a.session_id, a.headers, a.payload, 0) for a in stored[first : first + step]
            ]
            with projecting:
                projected = project(fresh, carries, after=store.position)
            carries |= projected.carries
            with storing:
                await store.commit(projected)
    return projecting, storing


async def from_the_log(folder: Path, stored: Sequence[StoredAppend]) -> Stopwatch:
    """Fill a real log, then read all of it into an empty store."""
    async with gateways.log_server(folder) as settings, pen(settings) as writer:
        positions: dict[str, int] = {}
        for append in stored:
            expected = positions.get(append.session_id, 0)
            positions[append.session_id] = await writer.log.append(
                append.session_id, append.events, append.state, expected=expected
            )
        last = await writer.log.last_position()
        with Stopwatch() as watch:
            async with following(settings, folder / "log.duckdb") as indexer:
                await indexer.progress.reach(last, timeout_s=600)
    return watch


async def measure(events: int) -> list[Figure]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stored = list(appends(events))
        bare = bare_insert(folder, events)
        projecting, storing = await apart(folder, stored)
        reading = await from_the_log(folder, stored)
    return [
        bare,
        projecting.figure("project, without the log", events, bare),
        storing.figure("store: all tables, COMMIT", events, bare),
        reading.figure("from the log to committed rows", events, bare),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--events", type=int, default=100_000)
    options = parser.parse_args()
    figures = asyncio.run(measure(options.events))
    if options.json:
        print(json.dumps([vars(figure) for figure in figures], indent=2))
        return
    for figure in figures:
        ratio = f"{figure.ratio:6.2f} x bare" if figure.ratio is not None else " " * 13
        print(f"{figure.what:34} {figure.per_s:10,.0f} events/s {ratio} {figure.cpu_us:8.1f} µs CPU each")


if __name__ == "__main__":
    main()
