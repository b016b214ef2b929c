"""The broker is away for a minute under load: nothing is lost or doubled, and no process grows without bound."""

import asyncio
from pathlib import Path

import pytest

from podium.eventlog import Role
from podium.eventlog.budget import UNACKNOWLEDGED_BYTES_MAX
from tests.integration.eventlog.rig import broken_promises
from tests.support.orders import Noted, Orders
from tests.support.proof import wrong_numbers, wrong_rows
from tests.support.stage import Stage, stage, until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

OUTAGE_S = 60
SESSIONS, EVENTS_PER_S, EVENT_BYTES = 20, 1_500, 4_096
"""6 MB/s: the budget of 64 MB is used up after ten seconds, and for fifty the owners must wait."""
PYTHON_OVERHEAD = 2.5
"""What an unacknowledged event takes in memory for each byte of the budget, at most."""
OTHERS_GROW_BYTES_MAX = 64 * 1024 * 1024


async def test_a_minute_without_the_broker_loses_nothing_and_fills_no_memory(tmp_path: Path) -> None:
    async with stage(tmp_path) as whole:
        gateway, indexer = await whole.gateway(), await whole.indexer()
        async with whole.client() as client:
            sessions = await client.make_sessions(SESSIONS)
        noted = Noted(tmp_path / "ledger")
        orders = Orders(sessions, events_per_s=EVENTS_PER_S, batch=3, event_bytes=EVENT_BYTES, ledger=str(noted.path))
        load = await whole.load(orders)
        await until(lambda: written(noted, EVENTS_PER_S))
        before = {part: part.memory_bytes() for part in (gateway, indexer, load)}
        await whole.servers[0].kill()
        most = dict(before)
        for _ in range(OUTAGE_S):
            await asyncio.sleep(1)
            most = {part: max(most[part], part.memory_bytes()) for part in most}
        in_flight = noted.read().in_flight
        await whole.servers[0].start()
        acknowledged = noted.events_acknowledged
        await until(lambda: is_acknowledged(noted, acknowledged + in_flight))
        await load.stop()
        grown = {part.module: most[part] - before[part] for part in most}
        # The owners were held up: the budget was full, and nothing was taken above it.
        assert in_flight * EVENT_BYTES <= UNACKNOWLEDGED_BYTES_MAX * 1.1
        assert in_flight * EVENT_BYTES >= UNACKNOWLEDGED_BYTES_MAX * 0.8
        assert grown[load.module] <= UNACKNOWLEDGED_BYTES_MAX * PYTHON_OVERHEAD, grown
        assert grown["gateway"] <= OTHERS_GROW_BYTES_MAX, grown
        assert grown["indexer"] <= OTHERS_GROW_BYTES_MAX, grown
        assert await whole_story(whole, sessions, noted.read()) == []


async def written(noted: Noted, events: int) -> bool:
    return noted.read().events_written >= events


async def is_acknowledged(noted: Noted, events: int) -> bool:
    return noted.read().events_acknowledged >= events


async def whole_story(whole: Stage, sessions: list[str], noted: Noted) -> list[str]:
    """Return what is wrong on the log and in DuckDB."""
    async with whole.connect(Role.GATEWAY) as log:
        histories = {session: [stored async for stored in log.history(session)] for session in sessions}
    newest = max(appends[-1].position for appends in histories.values())
    async with whole.client() as client:
        await client.projected(newest)
    await whole.parts["indexer"].stop()
    problems = [problem for appends in histories.values() for problem in broken_promises(appends)]
    for session, appends in histories.items():
        problems += wrong_numbers(session, appends, noted)
    return problems + wrong_rows(whole.store_file, histories)
