"""What the log promises while brokers die, hang and networks tear: nothing acknowledged is lost, nothing is doubled."""

import asyncio
import contextlib
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from podium.errors import Fenced, Unavailable
from podium.eventlog import EventLog, Role, StoredAppend, UnacknowledgedBudget, command
from tests.integration.eventlog.proxy import Proxy
from tests.integration.eventlog.rig import (
    CLOCK,
    Broker,
    asks,
    broken_promises,
    chatter,
    create,
    new_session_id,
    noted,
    owned,
    read_all,
    said,
    single,
    take,
    texts,
    until,
    writer,
)


@pytest_asyncio.fixture
async def own_broker(tmp_path: Path) -> AsyncIterator[Broker]:
    """A server that a test may kill."""
    async with single(tmp_path) as broker:
        yield broker


@contextlib.asynccontextmanager
async def through(proxy: Proxy, broker: Broker, role: Role, **other: float) -> AsyncIterator[EventLog]:
    async with EventLog.connect(replace(broker.settings(role, **other), servers=(proxy.url,)), role) as log:
        yield log


async def test_a_broker_killed_and_started_again_under_load_loses_and_doubles_nothing(own_broker: Broker) -> None:
    server = own_broker.servers[0]
    async with own_broker.connect(Role.GATEWAY) as gateway, own_broker.connect(Role.RUNNER) as runner:
        async with contextlib.AsyncExitStack() as around:
            sessions = [new_session_id() for _ in range(10)]
            owners = [await around.enter_async_context(owned(gateway, runner, one)) for one in sessions]
            stop = asyncio.Event()
            talking = [asyncio.create_task(chatter(own, stop)) for own in owners]
            asked = 0
            for _ in range(4):
                for _ in range(5):
                    await command(gateway, sessions[0], asks(f"r{asked}"), clock=CLOCK, deadline_s=30)
                    asked += 1
                await server.kill()
                await server.start()
            stop.set()
            counts = await asyncio.gather(*talking)
        assert min(counts) > 0
        for session_id, count in zip(sessions, counts, strict=True):
            assert await texts(gateway, session_id) == [str(number) for number in range(count)]
        state = (await gateway.tail(sessions[0])).state
        assert state is not None
        assert state.session.turn_count == asked


async def test_a_broker_that_hangs_is_survived(own_broker: Broker, session_id: str) -> None:
    server = own_broker.servers[0]
    quick = {"request_timeout_s": 0.3, "ping_interval_s": 0.3}
    async with own_broker.connect(Role.GATEWAY) as gateway, own_broker.connect(Role.RUNNER, **quick) as runner:
        async with owned(gateway, runner, session_id) as own:
            for round_ in range(3):
                await own.write([said(str(round_ * 10 + number)) for number in range(5)])
                server.signal(signal.SIGSTOP)
                await own.write([said(str(round_ * 10 + number)) for number in range(5, 10)])
                await asyncio.sleep(0.5 * (round_ + 1))
                server.signal(signal.SIGCONT)
                await asyncio.wait_for(own.flush(), 20)
        assert await texts(gateway, session_id) == [str(number) for number in range(30)]


async def test_an_append_whose_answer_was_lost_is_recognised(own_broker: Broker, session_id: str) -> None:
    async with Proxy.before(own_broker.servers[0].port) as proxy, own_broker.connect(Role.GATEWAY) as gateway:
        async with through(proxy, own_broker, Role.RUNNER) as runner, owned(gateway, runner, session_id) as own:
            for number in range(10):
                await own.write([noted("the owner has looked and is idle")])
                stored = (await own.flush()).position
                proxy.deaf = True
                await own.write([said(str(number))])

                async def arrived(stored: int = stored) -> bool:
                    return (await gateway.tail(session_id)).position > stored

                await until(arrived)
                if number % 2:
                    # A command comes behind it, so that it is not the newest message any more.
                    await command(gateway, session_id, asks(f"r{number}"), clock=CLOCK)
                proxy.cut()
                await asyncio.wait_for(own.flush(), 10)

                async def knows_all() -> bool:
                    return own.position == (await gateway.tail(session_id)).position

                await until(knows_all)
        assert await texts(gateway, session_id) == [str(number) for number in range(10)]


async def test_a_copy_that_arrives_late_takes_no_effect(own_broker: Broker, session_id: str) -> None:
    async with Proxy.before(own_broker.servers[0].port) as proxy, own_broker.connect(Role.GATEWAY) as gateway:
        async with through(proxy, own_broker, Role.RUNNER) as runner, owned(gateway, runner, session_id) as own:
            for number in range(6):
                await own.write([noted("the owner has looked and is idle")])
                await own.flush()
                proxy.holding = True
                await own.write([said(str(number))])
                await until(lambda: _holds(proxy))
                proxy.cut()
                proxy.holding = False
                if number % 2:
                    await command(gateway, session_id, asks(f"r{number}"), clock=CLOCK)
                    await own.flush()
                # Now the first copy: sometimes before the second, sometimes after it.
                assert await proxy.release() > 0
                await asyncio.wait_for(own.flush(), 10)
        assert await texts(gateway, session_id) == [str(number) for number in range(6)]


async def _holds(proxy: Proxy) -> bool:
    return any(len(connection.held) > 200 for connection in proxy._connections)


@pytest.mark.parametrize("seed", range(5))
async def test_connections_torn_in_the_middle_of_an_append(own_broker: Broker, session_id: str, seed: int) -> None:
    random_ = random.Random(seed)
    async with Proxy.before(own_broker.servers[0].port) as proxy, own_broker.connect(Role.GATEWAY) as gateway:
        async with through(proxy, own_broker, Role.RUNNER) as runner, owned(gateway, runner, session_id) as own:
            count = 0
            for _ in range(8):
                size = random_.choice([100, 3_000, 60_000])
                proxy.cut_after = random_.randrange(1, 6 * size)
                await own.write([said(str(count + number), size=size) for number in range(20)])
                count += 20
                await asyncio.wait_for(own.flush(), 20)
        assert await texts(gateway, session_id) == [str(number) for number in range(count)]


async def test_a_command_whose_answer_was_lost_is_made_once(own_broker: Broker, session_id: str) -> None:
    async with Proxy.before(own_broker.servers[0].port) as proxy, own_broker.connect(Role.GATEWAY) as direct:
        tail = (await create(direct, session_id)).tail
        async with through(proxy, own_broker, Role.GATEWAY) as gateway:
            for number in range(6):
                # The answer to the read comes, the one to the append does not.
                append = gateway.append

                async def deafly(*args: object, append: Callable[..., Awaitable[int]] = append, **guard: int) -> int:
                    proxy.deaf = True
                    return await append(*args, **guard)

                gateway.append = deafly  # type: ignore[method-assign, assignment]
                asking = asyncio.create_task(command(gateway, session_id, asks(f"r{number}"), clock=CLOCK))
                before = tail.position

                async def arrived(before: int = before) -> bool:
                    return (await direct.tail(session_id)).position > before

                await until(arrived)
                gateway.append = append  # type: ignore[method-assign]
                proxy.cut()
                result = await asking
                tail = await direct.tail(session_id)
                assert result.tail == tail
                assert len(result.events) == 1
        assert tail.state is not None
        assert tail.state.session.turn_count == 6


async def test_an_owner_that_slept_through_a_takeover_writes_nothing(own_broker: Broker, session_id: str) -> None:
    async with Proxy.before(own_broker.servers[0].port) as proxy, own_broker.connect(Role.GATEWAY) as gateway:
        async with (
            through(proxy, own_broker, Role.RUNNER) as sleeper,
            own_broker.connect(Role.RUNNER) as runner,
            owned(gateway, sleeper, session_id) as old,
        ):
            await old.write([said("before")])
            await old.flush()
            # Like SIGSTOP: what it wanted to say is on its way, and comes after the takeover.
            proxy.holding = True
            await old.write([said("stale 1")])
            await until(lambda: _holds(proxy))
            async with writer(runner, await take(runner, session_id, "r2"), runner="r2") as new:
                await new.write([said("new")])
                await new.flush()
                await proxy.release()
                with pytest.raises(Fenced):
                    await asyncio.wait_for(old.ended(), 10)
                with pytest.raises(Fenced):
                    await old.write([said("stale 2")])
                await new.write([said("newer")])
                await new.flush()
        assert await texts(gateway, session_id) == ["before", "new", "newer"]


async def test_an_owner_notices_after_an_outage_that_it_was_taken_over(own_broker: Broker, session_id: str) -> None:
    async with (
        Proxy.before(own_broker.servers[0].port) as proxy,
        own_broker.connect(Role.GATEWAY) as gateway,
        through(proxy, own_broker, Role.RUNNER) as sleeper,
        own_broker.connect(Role.RUNNER) as runner,
        owned(gateway, sleeper, session_id) as old,
    ):
        proxy.deaf = True
        await take(runner, session_id, "r2")
        # It did not hear of it, and has nothing to write; the reconnect alone makes it look.
        proxy.cut()
        with pytest.raises(Fenced):
            await asyncio.wait_for(old.ended(), 10)


async def test_memory_is_bounded_and_writing_waits_while_the_broker_is_away(
    own_broker: Broker, session_id: str
) -> None:
    budget = UnacknowledgedBudget(200_000)
    server = own_broker.servers[0]
    async with own_broker.connect(Role.GATEWAY) as gateway, own_broker.connect(Role.RUNNER) as runner:
        async with owned(gateway, runner, session_id, budget=budget) as own:
            await server.kill()

            async def talk() -> None:
                for number in range(100):
                    await own.write([said(str(number), size=5_000)])

            talking = asyncio.create_task(talk())
            await until(lambda: _full(budget))
            done, _ = await asyncio.wait([talking], timeout=0.3)
            assert not done
            assert budget.used <= budget.limit
            await server.start()
            await talking
            await own.flush()
        assert await texts(gateway, session_id) == [str(number) for number in range(100)]


async def _full(budget: UnacknowledgedBudget) -> bool:
    return budget.used > budget.limit - 10_000


async def test_an_outage_longer_than_the_limit_ends_the_writer_and_says_so(own_broker: Broker, session_id: str) -> None:
    budget = UnacknowledgedBudget()
    async with (
        own_broker.connect(Role.GATEWAY) as gateway,
        own_broker.connect(Role.RUNNER) as runner,
        owned(gateway, runner, session_id, budget=budget, outage_s=0.5) as own,
    ):
        await own.flush()
        await own_broker.servers[0].kill()
        await own.write([said("lost")])
        with pytest.raises(Unavailable):
            await asyncio.wait_for(own.flush(), 10)
        with pytest.raises(Unavailable):
            await own.write([said("later")])
        assert budget.used == 0


async def test_a_feed_goes_on_after_the_broker_was_killed(own_broker: Broker, session_id: str) -> None:
    server = own_broker.servers[0]
    async with (
        own_broker.connect(Role.GATEWAY) as gateway,
        own_broker.connect(Role.RUNNER) as runner,
        own_broker.connect(Role.INDEXER) as indexer,
        owned(gateway, runner, session_id) as own,
        indexer.feed(after_position=0, messages_max=50) as feed,
    ):
        stop = asyncio.Event()
        talking = asyncio.create_task(chatter(own, stop))
        taken: list[StoredAppend] = []
        for _ in range(3):
            async with asyncio.timeout(20):
                taken += await anext(feed)
                await server.kill()
                await server.start()
                taken += await anext(feed)
        stop.set()
        await talking
        async with asyncio.timeout(20):
            while taken[-1].position < own.position:
                taken += await anext(feed)
        assert [append.position for append in taken] == [a.position for a in await read_all(gateway, session_id)]
        assert broken_promises(taken) == []
        assert feed.restarts >= 1


async def test_a_live_reader_is_told_that_it_may_have_missed_something(own_broker: Broker, session_id: str) -> None:
    async with (
        Proxy.before(own_broker.servers[0].port) as proxy,
        own_broker.connect(Role.GATEWAY) as direct,
        through(proxy, own_broker, Role.GATEWAY) as watching,
        watching.live(session_id) as live,
    ):
        tail = (await create(direct, session_id)).tail
        assert [append.position for append in await anext(live)] == [tail.position]
        proxy.cut()
        # Nothing is stored meanwhile: the reader is woken all the same.
        async with asyncio.timeout(10):
            while live.missed == 0:
                await anext(live)
        result = await command(direct, session_id, asks("r1"), clock=CLOCK)
        async with asyncio.timeout(10):
            assert [append.position for append in await anext(live)] == [result.position]
