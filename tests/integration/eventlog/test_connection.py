"""The connection: refused clearly, told at once what is denied, closed in bounded time, bounded in memory."""

import asyncio
import signal
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from podium.errors import Unavailable
from podium.eventlog import EventLog, LogSettings, Role
from podium.eventlog.client import within
from podium.eventlog.link import Denied, NoAnswer, NoResponders, NotConnected
from tests.integration.eventlog.proxy import Proxy
from tests.integration.eventlog.rig import Broker, new_session_id, single


@pytest_asyncio.fixture
async def own_broker(tmp_path: Path) -> AsyncIterator[Broker]:
    async with single(tmp_path) as broker:
        yield broker


async def test_nobody_there_is_said_in_time() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        settings = LogSettings((f"nats://127.0.0.1:{taken.getsockname()[1]}",), "x" * 32, connect_timeout_s=0.5)
        begun = time.monotonic()
        with pytest.raises(Unavailable, match="connecting"):
            await _enter(settings)
        assert time.monotonic() - begun < 5


async def test_a_wrong_password_is_refused_and_not_tried_for_ever(own_broker: Broker) -> None:
    settings = LogSettings((own_broker.servers[0].url,), "wrong" * 8, connect_timeout_s=1.0)
    with pytest.raises(Unavailable, match=r"(?i)authorization"):
        await _enter(settings)


async def _enter(settings: LogSettings) -> None:
    async with EventLog.connect(settings, Role.GATEWAY):
        pass


async def test_work_that_swallows_a_cancellation_is_ended_all_the_same() -> None:
    swallowed = 0

    async def stubborn() -> None:
        nonlocal swallowed
        while swallowed < 3:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                swallowed += 1

    with pytest.raises(TimeoutError):
        await within(0.01, stubborn())
    assert swallowed == 3


async def test_what_is_denied_fails_at_once_with_the_reason(own_broker: Broker) -> None:
    async with own_broker.connect(Role.INDEXER) as indexer:
        begun = time.monotonic()
        with pytest.raises(Denied, match=r"events\.1\.x"):
            await indexer.link.request("events.1.x", b"")
        with pytest.raises(Denied, match=r"live\.>"):
            async with indexer.link.subscribe("live.>", lambda _: None):
                pass
        assert time.monotonic() - begun < 2
        assert indexer.link.denials == ["publish to events.1.x", "subscription to live.>"]


async def test_an_answer_that_does_not_come_is_waited_for_so_long(own_broker: Broker) -> None:
    async with Proxy.before(own_broker.servers[0].port) as proxy:
        settings = LogSettings((proxy.url,), own_broker.settings(Role.GATEWAY).password, request_timeout_s=0.3)
        async with EventLog.connect(settings, Role.GATEWAY) as gateway:
            proxy.deaf = True
            with pytest.raises(NoAnswer, match=r"within 0\.3 s"):
                await gateway.link.api("INFO")
            proxy.cut()


async def test_who_waits_is_told_when_the_connection_breaks_and_later_it_is_back(own_broker: Broker) -> None:
    async with Proxy.before(own_broker.servers[0].port) as proxy:
        settings = LogSettings((proxy.url,), own_broker.settings(Role.GATEWAY).password, request_timeout_s=60)
        async with EventLog.connect(settings, Role.GATEWAY) as gateway:
            proxy.deaf = True
            asking = asyncio.create_task(gateway.link.api("INFO"))
            await asyncio.sleep(0.05)
            proxy.cut()
            with pytest.raises(NoAnswer, match="broke"):
                await asyncio.wait_for(asking, 5)
            if not gateway.link.connected:
                with pytest.raises(NotConnected):
                    await gateway.link.publish("yield.x")
            assert await gateway.link.wait_connected(10)
            assert gateway.link.generation == 1
            assert "memory" in await gateway.link.api("INFO")


async def test_a_subject_nobody_listens_on_is_said_at_once(own_broker: Broker) -> None:
    async with own_broker.connect(Role.GATEWAY) as gateway:
        with pytest.raises(NoResponders):
            await gateway.link.request("yield.nobody")


async def test_a_subscription_hears_everything_from_its_first_moment(own_broker: Broker) -> None:
    async with own_broker.connect(Role.GATEWAY) as gateway, own_broker.connect(Role.RUNNER) as runner:
        for _ in range(50):
            heard: list[bytes] = []
            subject = f"delta.{new_session_id()}"
            async with gateway.link.subscribe(subject, lambda message, heard=heard: heard.append(message.data)):  # type: ignore[misc]
                await runner.link.publish(subject, b"x")
                await runner.link.settle()
                await gateway.link.settle()
                assert heard == [b"x"]


async def test_who_gives_up_subscribing_harms_nobody(own_broker: Broker) -> None:
    async with Proxy.before(own_broker.servers[0].port) as proxy:
        settings = replace(own_broker.settings(Role.GATEWAY), servers=(proxy.url,))
        async with EventLog.connect(settings, Role.GATEWAY) as gateway:
            for _ in range(5):
                proxy.hanging = True
                subscribing = asyncio.create_task(gateway.link.subscribe("live.>", lambda _: None).__aenter__())
                await asyncio.sleep(0.02)
                subscribing.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await subscribing
                proxy.hanging = False
                assert (await gateway.tail(new_session_id())).position == 0
            assert gateway.link.generation == 0


async def test_a_failing_handler_ends_nothing_else(own_broker: Broker, caplog: pytest.LogCaptureFixture) -> None:
    async with (
        own_broker.connect(Role.GATEWAY) as gateway,
        own_broker.connect(Role.RUNNER) as runner,
        gateway.link.subscribe("delta.x", lambda message: message.nonsense),  # type: ignore[attr-defined]
    ):
        await runner.link.publish("delta.x", b"x")
        await runner.link.settle()
        await gateway.link.settle()
        assert "the handler of" in caplog.text
        assert (await gateway.tail(new_session_id())).position == 0


async def test_many_requests_at_once_get_their_own_answers(own_broker: Broker) -> None:
    async with own_broker.connect(Role.GATEWAY) as gateway:
        answers = await asyncio.gather(*(gateway.tail(new_session_id()) for _ in range(2_000)))
        assert {tail.position for tail in answers} == {0}
        assert not gateway.link._exchanges._open


async def test_closing_is_bounded_while_the_server_hangs(own_broker: Broker) -> None:
    server = own_broker.servers[0]
    async with own_broker.connect(Role.RUNNER, request_timeout_s=0.3) as runner:
        server.signal(signal.SIGSTOP)
        for _ in range(40):
            await runner.link.publish_losable("delta.x", b"x" * 500_000)
        begun = time.monotonic()
    took = time.monotonic() - begun
    server.signal(signal.SIGCONT)
    assert took < 11


async def test_a_server_that_hangs_is_left_for_another(own_broker: Broker) -> None:
    port = own_broker.servers[0].port
    async with Proxy.before(port) as one, Proxy.before(port) as other:
        password = own_broker.settings(Role.RUNNER).password
        settings = LogSettings((one.url, other.url), password, ping_interval_s=0.2)
        async with EventLog.connect(settings, Role.RUNNER) as runner:
            url = runner.link._client.connected_url
            assert url is not None
            hanging = one if url.port == one.port else other
            hanging.hanging = True
            # More than fits into the sockets: a client that waits until it is sent would wait for ever.
            for _ in range(40):
                await runner.link.publish_losable("delta.x", b"x" * 500_000)
            async with asyncio.timeout(15):
                while runner.link.generation == 0:
                    await asyncio.sleep(0.01)
            assert (await runner.tail(new_session_id())).position == 0
            hanging.hanging = False


async def test_what_may_be_lost_is_dropped_when_too_much_waits(own_broker: Broker) -> None:
    server = own_broker.servers[0]
    async with own_broker.connect(Role.RUNNER) as runner:
        server.signal(signal.SIGSTOP)
        sent = [await runner.link.publish_losable("delta.x", b"x" * 500_000) for _ in range(60)]
        server.signal(signal.SIGCONT)
        assert sent[0]
        assert not sent[-1]
        assert runner.link._client.pending_data_size < 10_000_000
