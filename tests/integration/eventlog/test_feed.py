"""The feed: every message of the log once and in order, from any position, whatever happens to its consumer."""

import asyncio

import pytest
from nats.aio.msg import Msg

from podium import names
from podium.eventlog import EventLog, Feed, StoredAppend
from tests.integration.eventlog.rig import Broker, create, new_session_id, owned, said


async def take_until(feed: Feed, position: int) -> list[StoredAppend]:
    taken: list[StoredAppend] = []
    async with asyncio.timeout(30):
        while not taken or taken[-1].position < position:
            taken += await anext(feed)
    return taken


async def fill(gateway: EventLog, sessions: int) -> list[int]:
    results = await asyncio.gather(*(create(gateway, new_session_id()) for _ in range(sessions)))
    return sorted(result.position for result in results)


async def test_everything_after_a_position_comes_once_in_order(gateway: EventLog, indexer: EventLog) -> None:
    start = await indexer.last_position()
    positions = await fill(gateway, 300)
    async with indexer.feed(after_position=start) as feed:
        taken = await take_until(feed, positions[-1])
        assert [stored.position for stored in taken] == positions
        assert feed.position == positions[-1]
        assert (taken[0].provider, taken[0].first_revision) == ("claude", 1)
        assert names.session_name(taken[0].session_id) == taken[0].state.session.name

        later = await fill(gateway, 3)
        assert [stored.position for stored in await take_until(feed, later[-1])] == later


async def test_a_feed_from_a_taken_position_goes_on_behind_it(gateway: EventLog, indexer: EventLog) -> None:
    positions = await fill(gateway, 50)
    async with indexer.feed(after_position=positions[19]) as feed:
        assert [stored.position for stored in await take_until(feed, positions[-1])] == positions[20:]


async def test_batches_are_bounded(gateway: EventLog, indexer: EventLog) -> None:
    start = await indexer.last_position()
    positions = await fill(gateway, 120)
    async with indexer.feed(after_position=start, messages_max=25) as feed:
        sizes: list[int] = []
        while sum(sizes) < len(positions):
            async with asyncio.timeout(10):
                sizes.append(len(await anext(feed)))
        assert max(sizes) <= 25


async def test_large_messages_end_a_pull_by_size_and_all_come(
    gateway: EventLog, runner: EventLog, indexer: EventLog, session_id: str
) -> None:
    start = await indexer.last_position()
    async with owned(gateway, runner, session_id) as own:
        await own.write([said(str(number), size=300_000) for number in range(40)])
        tail = await own.flush()
    async with indexer.feed(after_position=start, bytes_max=2 * 1024 * 1024) as feed:
        taken = await take_until(feed, tail.position)
        assert len(taken) == 42
        assert feed.restarts == 0


async def test_only_the_asked_partitions_come(gateway: EventLog, indexer: EventLog) -> None:
    start = await indexer.last_position()
    sessions = [new_session_id() for _ in range(40)]
    await asyncio.gather(*(create(gateway, session_id) for session_id in sessions))
    wanted = {names.partition(session_id) for session_id in sessions[:20]}
    mine = {session_id for session_id in sessions if names.partition(session_id) in wanted}
    async with indexer.feed(after_position=start, partitions=wanted) as feed:
        taken: set[str] = set()
        async with asyncio.timeout(10):
            while not taken >= mine:
                taken |= {stored.session_id for stored in await anext(feed)}
    assert taken == mine


async def test_a_vanished_consumer_is_made_anew_behind_what_was_taken(
    broker: Broker, gateway: EventLog, indexer: EventLog
) -> None:
    start = await indexer.last_position()
    positions = await fill(gateway, 100)
    async with indexer.feed(after_position=start, messages_max=10) as feed:
        taken = list(await anext(feed))
        assert feed._consumer is not None
        await indexer.link.api(f"CONSUMER.DELETE.EVENTS.{feed._consumer.name}")
        positions += await fill(gateway, 30)
        taken += await take_until(feed, positions[-1])
    assert [stored.position for stored in taken] == positions


async def test_a_hole_in_the_deliveries_is_noticed_and_filled(
    gateway: EventLog, indexer: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = await indexer.last_position()
    positions = await fill(gateway, 100)
    arrived, count = Feed._arrived, 0

    def lossy(feed: Feed, message: Msg) -> None:
        nonlocal count
        count += 1
        if count != 33:
            arrived(feed, message)

    monkeypatch.setattr(Feed, "_arrived", lossy)
    async with indexer.feed(after_position=start, messages_max=20) as feed:
        taken = await take_until(feed, positions[-1])
        assert feed.restarts == 1
    assert [stored.position for stored in taken] == positions


async def test_a_feed_leaves_no_consumer_behind(gateway: EventLog, indexer: EventLog) -> None:
    positions = await fill(gateway, 2)
    before = (await indexer.link.api("STREAM.INFO.EVENTS"))["state"]["consumer_count"]
    async with indexer.feed(after_position=positions[0] - 1) as feed:
        await anext(feed)
    assert (await indexer.link.api("STREAM.INFO.EVENTS"))["state"]["consumer_count"] == before
