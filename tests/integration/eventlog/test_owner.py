"""The owner's writer: everything queued is stored once and in order, beside gateways, until another owner comes."""

import asyncio
import time

import pytest

from podium.errors import Fenced, Unavailable
from podium.eventlog import EventLog, SessionWriter, UnacknowledgedBudget, command
from podium.v1.session_pb2 import SessionState
from tests.integration.eventlog.rig import (
    CLOCK,
    asks,
    broken_promises,
    create,
    noted,
    owned,
    read_all,
    said,
    take,
    texts,
    writer,
)


async def write_and_flush(own: SessionWriter, text: str) -> None:
    await own.write([said(text)])
    await own.flush()


async def test_what_is_written_is_stored_in_order(gateway: EventLog, runner: EventLog, session_id: str) -> None:
    async with owned(gateway, runner, session_id) as own:
        await own.write([said(str(number)) for number in range(1000)])
        tail = await own.flush()
    assert tail == await gateway.tail(session_id)
    assert tail.revision == 1002
    stored = await read_all(gateway, session_id)
    assert await texts(gateway, session_id) == [str(number) for number in range(1000)]
    assert broken_promises(stored) == []


async def test_what_comes_while_an_append_is_on_its_way_goes_together(
    gateway: EventLog, runner: EventLog, session_id: str
) -> None:
    async with owned(gateway, runner, session_id) as own:
        for number in range(1000):
            await own.write([said(str(number))])
        await own.flush()
    sizes = [len(append.events) for append in await read_all(gateway, session_id)]
    assert sum(sizes) == 1002
    assert max(sizes) <= 200
    assert len(sizes) < 60


async def test_a_batch_ends_at_its_size_and_a_large_event_goes_alone(
    gateway: EventLog, runner: EventLog, session_id: str
) -> None:
    async with owned(gateway, runner, session_id) as own:
        await own.write([said(str(number), size=60_000) for number in range(20)])
        await own.write([said("large", size=900_000), said("after")])
        await own.flush()
    stored = await read_all(gateway, session_id)
    assert all(len(append.events_bytes) <= 256 * 1024 for append in stored if len(append.events) > 1)
    assert await texts(gateway, session_id) == [*map(str, range(20)), "large", "after"]


async def test_facts_keep_the_time_they_happened(gateway: EventLog, runner: EventLog, session_id: str) -> None:
    async with owned(gateway, runner, session_id) as own:
        before = time.time_ns() // 1000 * 1000
        await own.write([said("now")])
        after = time.time_ns()
        await own.flush()
    event = (await read_all(gateway, session_id))[-1].events[-1]
    assert before <= event.created_at.ToNanoseconds() <= after


async def test_an_idle_owner_is_told_of_a_command(gateway: EventLog, runner: EventLog, session_id: str) -> None:
    seen: asyncio.Queue[SessionState] = asyncio.Queue()
    async with owned(gateway, runner, session_id, on_change=seen.put_nowait) as own:
        result = await command(gateway, session_id, asks("r1"), clock=CLOCK)
        async with asyncio.timeout(5):
            while (state := await seen.get()).session.turn_count == 0:
                pass
        assert state == result.tail.state == own.state
        assert own.position == result.position


async def test_what_was_appended_before_the_owner_listened_is_seen(
    gateway: EventLog, runner: EventLog, session_id: str
) -> None:
    await create(gateway, session_id)
    tail = await take(runner, session_id)
    result = await command(gateway, session_id, asks("r1"), clock=CLOCK)
    async with writer(runner, tail) as own, asyncio.timeout(5):
        while own.position != result.position:  # nothing else happens that could be waited for
            await asyncio.sleep(0.005)
        assert own.state.session.turn_count == 1


async def test_a_busy_owner_and_many_commands_both_get_on(gateway: EventLog, runner: EventLog, session_id: str) -> None:
    async with owned(gateway, runner, session_id) as own:
        written = 0
        stop = asyncio.Event()

        async def chatter() -> None:
            nonlocal written
            while not stop.is_set():
                await own.write([said(str(written))])
                written += 1
                if own.unacknowledged > 300:
                    await own.flush()

        task = asyncio.create_task(chatter())
        took: list[float] = []
        for number in range(40):
            begun = time.monotonic()
            await command(gateway, session_id, asks(f"r{number}"), clock=CLOCK)
            took.append(time.monotonic() - begun)
        stop.set()
        await task
        await own.flush()
        assert own.state.session.turn_count == 40
    stored = await read_all(gateway, session_id)
    assert broken_promises(stored) == []
    assert await texts(gateway, session_id) == [str(number) for number in range(written)]
    # Bounded by the owner's pause; generous, because the machine may be busy.
    assert sorted(took)[-2] < 2.0


async def test_a_pause_without_a_command_ends_by_itself(gateway: EventLog, runner: EventLog, session_id: str) -> None:
    async with owned(gateway, runner, session_id) as own:
        for _ in range(3):
            await gateway.ask_to_yield(session_id)
            await gateway.link.settle()
            begun = time.monotonic()
            await own.write([said("x")])
            await own.flush()
            assert time.monotonic() - begun < 1.5


async def test_a_taken_over_owner_is_fenced_and_writes_nothing_more(
    gateway: EventLog, runner: EventLog, session_id: str
) -> None:
    async with owned(gateway, runner, session_id) as old:
        await old.write([said("before")])
        await old.flush()
        tail = await take(runner, session_id, runner="r2")
        async with writer(runner, tail, runner="r2") as new:
            await new.write([said("new")])
            await new.flush()
            with pytest.raises(Fenced):
                await write_and_flush(old, "stale")
            with pytest.raises(Fenced):
                await old.write([said("stale")])
            with pytest.raises(Fenced) as fenced:
                await asyncio.wait_for(old.ended(), 5)
            assert fenced.value.epoch == 2
            await new.write([said("newer")])
            await new.flush()
    assert await texts(gateway, session_id) == ["before", "new", "newer"]
    assert broken_promises(await read_all(gateway, session_id)) == []


async def test_an_idle_owner_hears_that_it_was_fenced(gateway: EventLog, runner: EventLog, session_id: str) -> None:
    async with owned(gateway, runner, session_id) as old:
        await take(runner, session_id, runner="r2")
        with pytest.raises(Fenced):
            await asyncio.wait_for(old.ended(), 5)


async def test_writing_waits_while_the_budget_is_used_up(gateway: EventLog, runner: EventLog, session_id: str) -> None:
    budget = UnacknowledgedBudget(100_000)
    async with owned(gateway, runner, session_id, budget=budget) as own:
        peak = 0
        for number in range(200):
            await own.write([said(str(number), size=5_000)])
            peak = max(peak, budget.used)
        await own.flush()
        assert budget.used == 0
    assert 50_000 < peak <= 100_000
    assert await texts(gateway, session_id) == [str(number) for number in range(200)]


async def test_a_closed_writer_gives_its_budget_back(gateway: EventLog, runner: EventLog, session_id: str) -> None:
    budget = UnacknowledgedBudget(1_000_000)
    async with owned(gateway, runner, session_id, budget=budget) as own:
        await own.write([noted("unsent") for _ in range(50)])
    assert budget.used == 0
    with pytest.raises(Unavailable):
        await own.write([noted("late")])
