"""The wake queue on a real server: nothing is forgotten, and no session waits twice."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

import pytest

from podium.errors import Unavailable
from podium.eventlog import wakes as wakes_module
from podium.eventlog.link import Denied, Link
from podium.eventlog.roles import Role
from podium.eventlog.server import EmbeddedServer
from podium.eventlog.wakes import Wake, WakeQueue

Connect = Callable[[Role], AbstractAsyncContextManager[Link]]
POOL, HOST = "default", "host.example.org"


@contextlib.asynccontextmanager
async def consuming(
    link: Link, *, host: str = HOST, ack_wait_s: float = 30.0
) -> AsyncIterator[AsyncGenerator[Wake, None]]:
    async with contextlib.aclosing(WakeQueue(link, ack_wait_s=ack_wait_s).consume(POOL, host)) as wakes:
        yield wakes


async def taken(wakes: AsyncGenerator[Wake, None], within_s: float = 15) -> Wake:
    async with asyncio.timeout(within_s):
        return await anext(wakes)


async def waiting(operator: Link) -> int:
    return int((await operator.api("STREAM.INFO.WAKES"))["state"]["messages"])


async def until_waiting(operator: Link, count: int) -> None:
    async with asyncio.timeout(10):
        while await waiting(operator) != count:
            await asyncio.sleep(0.01)


async def test_a_wake_is_taken_once_and_then_forgotten(
    gateway_link: Link, runner_link: Link, operator_link: Link
) -> None:
    queue = WakeQueue(gateway_link)
    await queue.publish(POOL, HOST, "s1")
    await queue.publish(POOL, HOST, "s2")
    async with consuming(runner_link) as wakes:
        for session in ("s1", "s2"):
            wake = await taken(wakes)
            assert (wake.session_id, wake.deliveries) == (session, 1)
            await wake.ack()
        await until_waiting(operator_link, 0)


async def test_a_session_waits_only_once(gateway_link: Link, runner_link: Link, operator_link: Link) -> None:
    queue = WakeQueue(gateway_link)
    for _ in range(20):
        await queue.publish(POOL, HOST, "s1")
    assert await waiting(operator_link) == 1
    async with consuming(runner_link) as wakes:
        await (await taken(wakes)).ack()
        await queue.publish(POOL, HOST, "s2")
        assert (await taken(wakes)).session_id == "s2"


async def test_a_wake_published_while_one_is_handled_is_not_forgotten(gateway_link: Link, runner_link: Link) -> None:
    """The handler has read the session already when something new is appended; its ack must not swallow the news."""
    queue = WakeQueue(gateway_link)
    await queue.publish(POOL, HOST, "s1")
    async with consuming(runner_link) as wakes:
        first = await taken(wakes)
        await queue.publish(POOL, HOST, "s1")
        await first.ack()
        again = await taken(wakes)
        assert (again.session_id, again.deliveries) == ("s1", 1)


async def test_a_wake_whose_runner_died_comes_again(gateway_link: Link, connect: Connect) -> None:
    await WakeQueue(gateway_link).publish(POOL, HOST, "s1")
    async with connect(Role.RUNNER) as dying, consuming(dying, ack_wait_s=0.5) as wakes:
        assert (await taken(wakes)).deliveries == 1
    async with connect(Role.RUNNER) as link, consuming(link, ack_wait_s=0.5) as wakes:
        again = await taken(wakes)
        assert (again.session_id, again.deliveries) == ("s1", 2)


async def test_working_holds_a_wake_longer(gateway_link: Link, runner_link: Link) -> None:
    await WakeQueue(gateway_link).publish(POOL, HOST, "s1")
    async with consuming(runner_link, ack_wait_s=1.0) as wakes:
        wake = await taken(wakes)
        for _ in range(4):
            await asyncio.sleep(0.5)
            await wake.working()
        with pytest.raises(TimeoutError):
            await taken(wakes, within_s=0.2)


async def test_a_wake_given_back_comes_again_after_the_delay(gateway_link: Link, runner_link: Link) -> None:
    await WakeQueue(gateway_link).publish(POOL, HOST, "s1")
    loop = asyncio.get_running_loop()
    async with consuming(runner_link) as wakes:
        wake = await taken(wakes)
        given_back_at = loop.time()
        await wake.nak(0.4)
        again = await taken(wakes)
        assert (again.session_id, again.deliveries) == ("s1", 2)
        assert loop.time() - given_back_at >= 0.4


async def test_nothing_is_fetched_before_it_is_asked_for(
    gateway_link: Link, runner_link: Link, connect: Connect
) -> None:
    """A runner without a free slot must not sit on wakes that another runner of the host could take."""
    queue = WakeQueue(gateway_link)
    await queue.publish(POOL, HOST, "s1")
    await queue.publish(POOL, HOST, "s2")
    async with connect(Role.RUNNER) as other, consuming(runner_link) as full, consuming(other) as free:
        assert (await taken(full)).session_id == "s1"
        assert (await taken(free)).session_id == "s2"


async def test_a_runner_that_stops_taking_keeps_no_wake_from_the_others(
    gateway_link: Link, runner_link: Link, connect: Connect
) -> None:
    async with connect(Role.RUNNER) as other:
        async with consuming(runner_link) as wakes:
            asking = asyncio.create_task(taken(wakes))
            await until_asked(gateway_link, other)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
        await runner_link.settle()
        await WakeQueue(gateway_link).publish(POOL, HOST, "s1")
        async with consuming(other) as wakes:
            assert (await taken(wakes, within_s=5)).deliveries == 1


async def until_asked(gateway: Link, runner: Link) -> None:
    """Return once a question waits at the server: it is seen in the consumer's figures."""
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(Exception):
                info = await runner.api("CONSUMER.INFO.WAKES.default+host~example~org")
                if info["num_waiting"]:
                    return
            await asyncio.sleep(0.01)


async def test_hosts_and_pools_take_only_their_own(gateway_link: Link, runner_link: Link) -> None:
    queue = WakeQueue(gateway_link)
    await queue.publish(POOL, "other", "s1")
    await queue.publish("gpu", HOST, "s2")
    await queue.publish(POOL, HOST, "s3")
    async with consuming(runner_link) as mine, consuming(runner_link, host="other") as others:
        assert (await taken(mine)).session_id == "s3"
        assert (await taken(others)).session_id == "s1"


async def test_wakes_wait_for_a_host_that_is_not_there_yet(gateway_link: Link, connect: Connect) -> None:
    await WakeQueue(gateway_link).publish(POOL, "late", "s1")
    async with connect(Role.RUNNER) as link, consuming(link, host="late") as wakes:
        assert (await taken(wakes)).session_id == "s1"


async def test_taking_goes_on_at_once_after_the_server_was_killed(
    server: EmbeddedServer, gateway_link: Link, runner_link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The question that was lost with the connection must not be waited for.
    monkeypatch.setattr(wakes_module, "PULL_S", 300.0)
    queue = WakeQueue(gateway_link)
    async with consuming(runner_link) as wakes:
        await queue.publish(POOL, HOST, "s1")
        await (await taken(wakes)).ack()
        asking = asyncio.create_task(taken(wakes, within_s=30))
        await server.kill()
        await server.start()
        assert await gateway_link.wait_connected(10)
        await queue.publish(POOL, HOST, "s2")
        assert (await asking).session_id == "s2"


async def test_taking_begins_while_the_server_is_away(
    server: EmbeddedServer, gateway_link: Link, runner_link: Link
) -> None:
    await WakeQueue(gateway_link).publish(POOL, HOST, "s1")
    await server.kill()
    async with consuming(runner_link) as wakes:
        asking = asyncio.create_task(taken(wakes, within_s=30))
        await server.start()
        assert (await asking).session_id == "s1"


async def test_a_deleted_consumer_is_made_again(gateway_link: Link, runner_link: Link, operator_link: Link) -> None:
    queue = WakeQueue(gateway_link)
    async with consuming(runner_link) as wakes:
        await queue.publish(POOL, HOST, "s1")
        await (await taken(wakes)).ack()
        asking = asyncio.create_task(taken(wakes))
        await until_asked(gateway_link, operator_link)
        await operator_link.api("CONSUMER.DELETE.WAKES.default+host~example~org")
        await queue.publish(POOL, HOST, "s2")
        assert (await asking).session_id == "s2"


async def test_a_role_that_may_not_take_wakes_is_told(gateway_link: Link, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    async with consuming(gateway_link) as wakes:
        with pytest.raises(Denied):
            await taken(wakes)


async def test_waking_without_a_server_says_so(server: EmbeddedServer, gateway_link: Link) -> None:
    await server.kill()
    with pytest.raises(Unavailable, match="waking a runner"):
        await WakeQueue(gateway_link).publish(POOL, HOST, "s1")
