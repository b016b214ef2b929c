"""Waiting for a position."""

import asyncio

import pytest

from indexer.progress import Progress
from podium.errors import Unavailable


async def test_a_position_that_is_there_is_not_waited_for() -> None:
    progress = Progress(7)
    await progress.reach(7, timeout_s=0)
    assert not progress.wanted.is_set()


async def test_who_waits_says_so_and_goes_on_when_it_is_there() -> None:
    progress = Progress(0)
    waiting = asyncio.ensure_future(progress.reach(5, timeout_s=60))
    await progress.wanted.wait()
    progress.advance(4)
    await asyncio.sleep(0)
    assert not waiting.done()
    progress.advance(5)
    await waiting


async def test_a_position_that_does_not_come_in_time_is_a_typed_error() -> None:
    progress = Progress(3)
    progress.trouble("the disk is full")
    with pytest.raises(Unavailable, match="the disk is full") as error:
        await progress.reach(5, timeout_s=0.01)
    assert error.value.reason == "PROJECTION_BEHIND"
    assert error.value.metadata == {"position": "3", "at_least_position": "5"}


async def test_a_projection_that_has_stopped_is_not_waited_for() -> None:
    progress = Progress(3)
    waiting = asyncio.ensure_future(progress.reach(5, timeout_s=60))
    await progress.wanted.wait()
    progress.trouble("a gap", stopped=True)
    with pytest.raises(Unavailable, match="stands still at position 3, before 5: a gap") as error:
        await waiting
    assert error.value.reason == "PROJECTION_UNAVAILABLE"


async def test_a_stopped_projection_still_has_what_it_has() -> None:
    progress = Progress(3)
    progress.trouble("a gap", stopped=True)
    await progress.reach(3, timeout_s=0)


async def test_getting_on_ends_the_trouble() -> None:
    progress = Progress(3)
    progress.trouble("the log is away")
    progress.advance(4)
    assert progress.problem == ""
