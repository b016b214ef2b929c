"""The budget of unacknowledged bytes: never more than the limit, first come first served, nothing lost on the way."""

import asyncio

import pytest

from podium.eventlog import UnacknowledgedBudget


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_what_fits_is_given_at_once() -> None:
    budget = UnacknowledgedBudget(10)
    await budget.acquire(4)
    await budget.acquire(6)
    assert budget.used == 10


async def test_who_asks_for_more_than_is_free_waits_for_it() -> None:
    budget = UnacknowledgedBudget(10)
    await budget.acquire(8)
    waiting = asyncio.create_task(budget.acquire(5))
    await settle()
    assert not waiting.done()
    budget.release(8)
    await waiting
    assert budget.used == 5


async def test_a_small_wish_does_not_overtake_a_large_one() -> None:
    budget = UnacknowledgedBudget(10)
    await budget.acquire(8)
    large = asyncio.create_task(budget.acquire(9))
    await settle()
    small = asyncio.create_task(budget.acquire(1))
    await settle()
    assert not small.done()
    budget.release(8)
    await asyncio.gather(large, small)
    assert budget.used == 10


async def test_more_than_the_whole_limit_is_given_when_nothing_else_is_used() -> None:
    budget = UnacknowledgedBudget(10)
    await budget.acquire(1)
    huge = asyncio.create_task(budget.acquire(100))
    await settle()
    assert not huge.done()
    budget.release(1)
    await huge
    assert budget.used == 100


@pytest.mark.parametrize("given", [False, True])
async def test_who_gives_up_waiting_leaves_nothing_behind(*, given: bool) -> None:
    budget = UnacknowledgedBudget(10)
    await budget.acquire(10)
    impatient = asyncio.create_task(budget.acquire(7))
    patient = asyncio.create_task(budget.acquire(5))
    await settle()
    if given:
        budget.release(10)
    impatient.cancel()
    if not given:
        await settle()
        budget.release(10)
    await patient
    with pytest.raises(asyncio.CancelledError):
        await impatient
    assert budget.used == 5


async def test_a_cancellation_that_meets_a_release_comes_out_as_a_cancellation() -> None:
    budget = UnacknowledgedBudget(10)
    await budget.acquire(10)
    first, second = asyncio.create_task(budget.acquire(5)), asyncio.create_task(budget.acquire(5))
    await settle()
    first.cancel()
    budget.release(10)
    await asyncio.wait({first, second})
    assert first.cancelled()
    assert budget.used == 5
