"""Commands: decided on the newest state, stored once per request id."""

import asyncio

import pytest

from podium.errors import NotFound, session_not_found
from podium.eventlog import EventLog, command
from podium.v1.session_pb2 import SessionState
from tests.integration.eventlog.rig import CLOCK, asks, broken_promises, create, created, read_all, take


async def test_a_command_answers_with_what_it_made(gateway: EventLog, session_id: str) -> None:
    result = await create(gateway, session_id)
    assert result.tail == await gateway.tail(session_id)
    assert result.position == result.tail.position
    assert [event.WhichOneof("body") for event in result.events] == ["session_created"]


async def test_a_command_that_changes_nothing_appends_nothing(gateway: EventLog, session_id: str) -> None:
    first = await create(gateway, session_id)
    again = await create(gateway, session_id)
    assert (again.tail, again.position, list(again.events)) == (first.tail, 0, [])


async def test_a_refused_command_appends_nothing(gateway: EventLog, session_id: str) -> None:
    def refuse(state: SessionState | None) -> list[object]:
        raise session_not_found(session_id)

    with pytest.raises(NotFound):
        await command(gateway, session_id, refuse, clock=CLOCK)  # type: ignore[arg-type]
    assert (await gateway.tail(session_id)).position == 0


async def test_the_same_request_a_hundred_times_is_one_fact(gateway: EventLog, session_id: str) -> None:
    await create(gateway, session_id)
    results = await asyncio.gather(
        *(command(gateway, session_id, asks("r1"), clock=CLOCK, deadline_s=30) for _ in range(100))
    )
    assert sum(1 for result in results if result.events) == 1
    stored = await read_all(gateway, session_id)
    assert [event.WhichOneof("body") for append in stored for event in append.events] == [
        "session_created",
        "turn_requested",
    ]


async def test_commands_at_once_all_take_effect(gateway: EventLog, session_id: str) -> None:
    await create(gateway, session_id)
    results = await asyncio.gather(
        *(command(gateway, session_id, asks(f"r{number}"), clock=CLOCK, deadline_s=30) for number in range(30))
    )
    assert len({result.position for result in results}) == 30
    stored = await read_all(gateway, session_id)
    assert stored[-1].state.session.turn_count == 30
    assert broken_promises(stored) == []


async def test_of_two_creations_one_makes_the_session(gateway: EventLog, session_id: str) -> None:
    results = await asyncio.gather(
        *(
            command(gateway, session_id, lambda state: [created()] if state is None else [], clock=CLOCK)
            for _ in range(10)
        )
    )
    assert sorted(len(result.events) for result in results) == [0] * 9 + [1]
    assert len(await read_all(gateway, session_id)) == 1


async def test_an_attach_writes_under_its_own_epoch(gateway: EventLog, runner: EventLog, session_id: str) -> None:
    await create(gateway, session_id)
    tail = await take(runner, session_id)
    assert tail.state is not None
    assert (tail.state.owner.runner, tail.state.epoch) == ("r1", 1)
    event = (await read_all(gateway, session_id))[-1].events[0]
    assert (event.runner, event.epoch) == ("r1", 1)


async def test_of_two_runners_that_claim_at_once_each_gets_its_own_epoch(
    gateway: EventLog, runner: EventLog, session_id: str
) -> None:
    await create(gateway, session_id)
    tails = await asyncio.gather(*(take(runner, session_id, runner=f"r{number}") for number in range(8)))
    assert sorted(tail.state.epoch for tail in tails if tail.state) == list(range(1, 9))
    assert broken_promises(await read_all(gateway, session_id)) == []
