"""The guarded append, and reading one session back."""

import asyncio

import pytest

from podium.drafts import Author, Draft, stamp
from podium.eventlog import AppendTooLarge, Conflict, EventLog, Tail
from podium.names import new_id
from podium.v1.event_pb2 import Event
from podium.v1.session_pb2 import SessionState
from podium.v1.session_service_pb2 import WatchSessionResponse
from tests.integration.eventlog.rig import CLOCK, broken_promises, create, created, new_session_id, read_all, said


def stamped(session_id: str, tail: Tail, *drafts: Draft) -> tuple[list[Event], SessionState]:
    return stamp(tail.state, drafts, Author(session_id, new_id), now_ns=CLOCK.now_ns(), after_position=tail.position)


async def fill(log: EventLog, session_id: str, messages: int) -> Tail:
    tail = (await create(log, session_id)).tail
    for number in range(messages):
        events, state = stamped(session_id, tail, said(str(number)))
        tail = Tail(await log.append(session_id, events, state, expected=tail.position), state)
    return tail


async def test_a_session_that_is_not_there_has_an_empty_tail(gateway: EventLog, session_id: str) -> None:
    assert await gateway.tail(session_id) == Tail(0, None)
    assert await gateway.message_after(session_id, 0) is None
    assert await read_all(gateway, session_id) == []


async def test_an_append_is_the_tail_at_once(gateway: EventLog, session_id: str) -> None:
    events, state = stamped(session_id, Tail(0, None), created("first"), said("hello"))
    position = await gateway.append(session_id, events, state, expected=0)

    assert await gateway.tail(session_id) == Tail(position, state)
    stored = await gateway.message_after(session_id, 0)
    assert stored is not None
    assert (stored.position, list(stored.events), stored.state) == (position, events, state)
    assert (stored.first_revision, stored.last_revision) == (1, 2)
    assert (stored.provider, stored.workspace) == ("claude", "podium")
    assert stored.kinds == {"session_created", "message"}
    assert abs(stored.stored_at_ns - CLOCK.now_ns()) < 60 * 10**9
    assert await gateway.message_after(session_id, position) is None
    assert await gateway.last_position() >= position


async def test_an_append_behind_anything_but_the_newest_message_is_refused(gateway: EventLog, session_id: str) -> None:
    first = (await create(gateway, session_id)).tail
    events, state = stamped(session_id, first, said("mine"))
    await gateway.append(session_id, events, state, expected=first.position)

    for expected in (0, first.position, first.position + 1_000_000):
        late, after = stamped(session_id, first, said("late"))
        with pytest.raises(Conflict):
            await gateway.append(session_id, late, after, expected=expected)
    assert [len(stored.events) for stored in await read_all(gateway, session_id)] == [1, 1]


async def test_of_many_appends_at_once_one_is_taken(gateway: EventLog, session_id: str) -> None:
    tail = (await create(gateway, session_id)).tail

    async def attempt(number: int) -> int:
        events, state = stamped(session_id, tail, said(str(number)))
        try:
            return await gateway.append(session_id, events, state, expected=tail.position)
        except Conflict:
            return 0

    taken = [position for position in await asyncio.gather(*map(attempt, range(40))) if position]
    assert len(taken) == 1
    stored = await read_all(gateway, session_id)
    assert [len(append.events) for append in stored] == [1, 1]
    assert stored[-1].position == taken[0]


async def test_history_is_every_message_in_order(gateway: EventLog, session_id: str) -> None:
    tail = await fill(gateway, session_id, 60)
    stored = await read_all(gateway, session_id)
    assert broken_promises(stored) == []
    assert [append.last_revision for append in stored] == list(range(1, 62))
    assert stored[-1].position == tail.position


async def test_history_goes_on_after_a_revision_or_a_position_and_ends_at_one(
    gateway: EventLog, session_id: str
) -> None:
    await fill(gateway, session_id, 30)
    stored = await read_all(gateway, session_id)

    later = [append.position async for append in gateway.history(session_id, after_revision=20)]
    assert later == [append.position for append in stored[20:]]
    behind = [append.position async for append in gateway.history(session_id, after_position=stored[9].position)]
    assert behind == [append.position for append in stored[10:]]
    until = [append.position async for append in gateway.history(session_id, up_to_position=stored[9].position)]
    assert until == [append.position for append in stored[:10]]


async def test_history_larger_than_one_batch_is_whole(gateway: EventLog, session_id: str) -> None:
    tail = (await create(gateway, session_id)).tail
    for number in range(24):
        events, state = stamped(session_id, tail, said(str(number), size=400_000))
        tail = Tail(await gateway.append(session_id, events, state, expected=tail.position), state)
    stored = await read_all(gateway, session_id)
    assert [append.last_revision for append in stored] == list(range(1, 26))
    assert broken_promises(stored) == []


async def test_an_append_that_does_not_fit_into_a_message_is_refused_before_it_is_sent(
    gateway: EventLog, session_id: str
) -> None:
    tail = (await create(gateway, session_id)).tail
    events, state = stamped(session_id, tail, said("x", size=1_100_000))
    with pytest.raises(AppendTooLarge, match=session_id):
        await gateway.append(session_id, events, state, expected=tail.position)
    assert (await gateway.tail(session_id)).position == tail.position


async def test_sessions_do_not_disturb_one_another(gateway: EventLog) -> None:
    sessions = [new_session_id() for _ in range(20)]
    await asyncio.gather(*(fill(gateway, session_id, 10) for session_id in sessions))
    for session_id in sessions:
        stored = await read_all(gateway, session_id)
        assert len(stored) == 11
        assert broken_promises(stored) == []


async def test_the_events_of_a_message_are_the_bytes_of_a_watch_response(gateway: EventLog, session_id: str) -> None:
    await fill(gateway, session_id, 1)
    for stored in await read_all(gateway, session_id):
        assert list(WatchSessionResponse.FromString(stored.events_bytes).events) == list(stored.events)
