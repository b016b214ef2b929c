"""The live subscription: what is stored arrives, with its position; what may be missing is said."""

import asyncio

from podium.eventlog import EventLog, LiveSubscription, StoredAppend
from podium.v1.runner_pb2 import DELTA_KIND_TEXT, Delta
from tests.integration.eventlog.rig import create, new_session_id, owned, read_all, said


async def hear(live: LiveSubscription, count: int) -> list[StoredAppend]:
    heard: list[StoredAppend] = []
    async with asyncio.timeout(10):
        while len(heard) < count:
            heard += await anext(live)
    return heard


async def test_what_is_stored_arrives_as_it_lies_on_the_log(
    gateway: EventLog, runner: EventLog, session_id: str
) -> None:
    async with gateway.live(session_id) as live:
        async with owned(gateway, runner, session_id) as own:
            for number in range(10):
                await own.write([said(str(number))])
                await own.flush()
        heard = await hear(live, 12)
        assert live.missed == 0
    stored = await read_all(gateway, session_id)
    assert [(append.position, append.payload, append.session_id) for append in heard] == [
        (append.position, append.payload, append.session_id) for append in stored
    ]
    assert heard[3].last_revision == stored[3].last_revision
    assert abs(heard[3].stored_at_ns - stored[3].stored_at_ns) < 10**9


async def test_one_subscription_hears_all_sessions(gateway: EventLog) -> None:
    async with gateway.live(None) as live:
        sessions = {new_session_id() for _ in range(20)}
        await asyncio.gather(*(create(gateway, session_id) for session_id in sessions))
        assert {append.session_id for append in await hear(live, 20)} >= sessions


async def test_a_reader_that_is_too_slow_is_told_and_holds_nothing_old(gateway: EventLog, session_id: str) -> None:
    async with LiveSubscription(messages_max=10).open(gateway.link, None) as live:
        await asyncio.gather(*(create(gateway, new_session_id()) for _ in range(35)))
        await create(gateway, session_id)
        async with asyncio.timeout(10):
            batch = await anext(live)
            while session_id not in {append.session_id for append in batch}:
                batch = await anext(live)
        assert live.missed >= 1
        assert len(batch) <= 10


async def test_deltas_reach_who_watches_the_session(gateway: EventLog, runner: EventLog, session_id: str) -> None:
    async with gateway.deltas(session_id) as deltas:
        for number in range(3):
            delta = Delta(session_id=session_id, item_id="m1", kind=DELTA_KIND_TEXT, offset=number, text="x")
            assert await runner.publish_delta(delta)
        async with asyncio.timeout(5):
            assert [(await anext(deltas)).offset for _ in range(3)] == [0, 1, 2]
