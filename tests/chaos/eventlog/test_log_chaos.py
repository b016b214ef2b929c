"""Brokers and owners die at random moments for a while, under load; the log keeps every promise."""

import asyncio
import contextlib
import random
import signal
import time
from pathlib import Path

import pytest

from podium.errors import Fenced
from podium.eventlog import EventLog, Role, StoredAppend, command
from tests.integration.eventlog.rig import (
    CLOCK,
    Broker,
    asks,
    broken_promises,
    chatter,
    cluster,
    gets_on,
    leader_of,
    new_session_id,
    owned,
    read_patiently,
    said,
    single,
    take,
    text_of,
    texts,
    until,
    writer,
)

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(400)]
SEEDS = (1, 2)


@pytest.mark.parametrize("seed", SEEDS)
async def test_nothing_acknowledged_is_lost_when_the_broker_is_killed_at_random_moments(
    tmp_path: Path, seed: int
) -> None:
    random_ = random.Random(seed)
    async with single(tmp_path) as broker:
        await _kill_under_load(broker, random_, seconds=30, sessions=20)


@pytest.mark.cluster
async def test_nothing_acknowledged_is_lost_when_members_of_a_cluster_are_killed(tmp_path: Path) -> None:
    async with cluster(tmp_path) as broker:
        await _kill_under_load(broker, random.Random(3), seconds=60, sessions=10)


async def _kill_under_load(broker: Broker, random_: random.Random, *, seconds: float, sessions: int) -> None:
    async with contextlib.AsyncExitStack() as around:
        gateway = await around.enter_async_context(broker.connect(Role.GATEWAY))
        runner = await around.enter_async_context(broker.connect(Role.RUNNER, ping_interval_s=1.0))
        indexer = await around.enter_async_context(broker.connect(Role.INDEXER))
        names = [new_session_id() for _ in range(sessions)]
        owners = [await around.enter_async_context(owned(gateway, runner, one)) for one in names]
        stop = asyncio.Event()
        talking = [asyncio.create_task(chatter(own, stop)) for own in owners]
        projection: list[StoredAppend] = []
        feeding = asyncio.create_task(_collect(indexer, projection))
        end = time.monotonic() + seconds
        asked = 0
        while time.monotonic() < end:
            await command(gateway, names[0], asks(f"r{asked}"), clock=CLOCK, deadline_s=60)
            asked += 1
            await asyncio.sleep(random_.uniform(0.0, 1.5))
            victim = random_.choice(broker.servers)
            await victim.kill()
            await asyncio.sleep(random_.uniform(0.0, 1.0))
            await victim.start()
            if len(broker.servers) > 1:
                await gets_on(owners[0], 90)
        stop.set()
        counts = await asyncio.gather(*talking)
        for session_id, count in zip(names, counts, strict=True):
            assert await texts(gateway, session_id) == [str(number) for number in range(count)]
        state = (await read_patiently(gateway, names[0]))[-1].state
        assert state.session.turn_count == asked
        newest = max(own.position for own in owners)

        async def fed() -> bool:
            return bool(projection) and projection[-1].position >= newest

        await until(fed, 60)
        feeding.cancel()
        for session_id in names:
            mine = [stored for stored in projection if stored.session_id == session_id]
            assert [stored.position for stored in mine] == [
                s.position for s in await read_patiently(gateway, session_id)
            ]
        assert sum(counts) / seconds > 100


async def _collect(indexer: EventLog, into: list[StoredAppend]) -> None:
    async with indexer.feed(after_position=0) as feed:
        async for batch in feed:
            into += batch


async def test_hundreds_of_takeovers_leave_one_owner_at_a_time(tmp_path: Path) -> None:
    """Every owner goes on writing when it is taken over, and finds out by itself."""
    random_ = random.Random(4)
    async with (
        single(tmp_path) as broker,
        broker.connect(Role.GATEWAY) as gateway,
        broker.connect(Role.RUNNER) as runner,
    ):
        session_id = new_session_id()
        acknowledged: list[str] = []
        fenced = 0
        async with owned(gateway, runner, session_id):
            pass

        async def own_until_fenced(number: int) -> None:
            nonlocal fenced
            async with writer(runner, await take(runner, session_id, f"r{number}"), runner=f"r{number}") as own:
                try:
                    for count in range(10_000):
                        text = f"{number}-{count}"
                        await own.write([said(text)])
                        await own.flush()
                        acknowledged.append(text)
                except Fenced:
                    fenced += 1

        owners: list[asyncio.Task[None]] = []
        for number in range(300):
            owners.append(asyncio.create_task(own_until_fenced(number)))
            await asyncio.sleep(random_.uniform(0.0, 0.04))
            if number % 100 == 50:
                await broker.servers[0].kill()
                await broker.servers[0].start()
        await take(runner, session_id, "last")
        async with asyncio.timeout(60):
            await asyncio.gather(*owners)
        stored = await read_patiently(gateway, session_id)
        assert broken_promises(stored) == []
        found = [text_of(event) for append in stored for event in append.events if text_of(event)]
        assert set(acknowledged) <= set(found)
        assert fenced == 300


@pytest.mark.cluster
async def test_a_cluster_goes_on_when_the_leader_is_killed_or_hangs(tmp_path: Path) -> None:
    session_id = new_session_id()
    async with (
        cluster(tmp_path) as broker,
        broker.connect(Role.GATEWAY) as gateway,
        broker.connect(Role.RUNNER, ping_interval_s=0.5) as runner,
        owned(gateway, runner, session_id) as own,
    ):
        stop = asyncio.Event()
        talking = asyncio.create_task(chatter(own, stop))
        leader = await leader_of(broker)
        await leader.kill()
        await gets_on(own)
        await leader.start()
        hanging = await leader_of(broker)
        hanging.signal(signal.SIGSTOP)
        # Much is under way to it: a client that waits until all of that is sent would wait for ever.
        for _ in range(40):
            await runner.link.publish_losable(f"delta.{session_id}", b"x" * 200_000)
        await gets_on(own)
        hanging.signal(signal.SIGCONT)
        stop.set()
        count = await talking
        assert await texts(gateway, session_id) == [str(number) for number in range(count)]
