"""The checker itself: take a safeguard away, and what the other tests assert fails."""

import asyncio
from collections.abc import Sequence

import pytest

from podium.drafts import Author, stamp
from podium.eventlog import EventLog, appends, command
from podium.eventlog.outbox import Outbox
from podium.names import new_id
from tests.integration.eventlog.rig import (
    CLOCK,
    asks,
    broken_promises,
    create,
    owned,
    read_all,
    said,
    take,
    text_of,
)


async def test_without_the_guard_commands_at_once_break_the_order(
    gateway: EventLog, session_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await create(gateway, session_id)
    monkeypatch.setattr(appends, "EXPECTED_POSITION", "No-Guard")
    await asyncio.gather(*(command(gateway, session_id, asks(f"r{n}"), clock=CLOCK) for n in range(10)))
    assert broken_promises(await read_all(gateway, session_id))


async def test_without_the_guard_a_sleeping_owner_writes_beside_the_new_one(
    gateway: EventLog, runner: EventLog, session_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with owned(gateway, runner, session_id) as old:
        await old.flush()
        stale = (await gateway.tail(session_id)).state
        assert stale is not None
        position = old.position
        events, state = stamp(
            stale, [said("stale")], Author(session_id, new_id, "r1", 1), now_ns=CLOCK.now_ns(), after_position=position
        )
        await take(runner, session_id, "r2")
        monkeypatch.setattr(appends, "EXPECTED_POSITION", "No-Guard")
        await runner.append(session_id, events, state, expected=position)
    wrong = broken_promises(await read_all(gateway, session_id))
    assert any("epoch 1 wrote under epoch 2" in each for each in wrong)


async def test_a_stolen_answer_without_recognition_doubles_facts(
    gateway: EventLog, runner: EventLog, session_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An owner that takes its own batch for a foreign one stores it a second time, and the checker sees it."""
    monkeypatch.setattr(Outbox, "is_mine", lambda *_: False)
    async with owned(gateway, runner, session_id) as own:
        await own.write([said("ready")])
        await own.flush()
        append, lost = runner.append, False

        async def losing(*args: object, **guard: int) -> int:
            nonlocal lost
            position = await append(*args, **guard)  # type: ignore[arg-type]
            if not lost:
                lost = True
                raise appends.InDoubt(TimeoutError())
            return position

        monkeypatch.setattr(runner, "append", losing)
        await own.write([said("once")])
        await own.flush()
    stored = await read_all(gateway, session_id)
    assert [text_of(event) for append in stored for event in append.events].count("once") == 2
    assert any("there twice" in wrong for wrong in broken_promises(stored))


async def test_the_checker_sees_gaps_repeats_and_wrong_states(gateway: EventLog, session_id: str) -> None:
    await create(gateway, session_id)
    for number in range(4):
        await command(gateway, session_id, asks(f"r{number}"), clock=CLOCK)
    stored = await read_all(gateway, session_id)
    assert broken_promises(stored) == []

    def broken(*which: int) -> Sequence[str]:
        return broken_promises([stored[number] for number in which])

    assert broken(0, 1, 3, 4)
    assert broken(0, 1, 1, 2)
    assert broken(0, 2, 1, 3)
    assert broken(1, 2, 3)
