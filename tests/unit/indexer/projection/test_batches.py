"""When a transaction is given out, and what is in it."""

import asyncio

import pytest

from indexer import batches
from indexer.batches import Batches
from podium.drafts import Draft
from podium.eventlog import StoredAppend
from podium.v1 import event_pb2 as e
from tests.support import stories
from tests.support.stories import Log


class Source:
    """A feed that gives what the test puts into it."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[list[StoredAppend] | Exception] = asyncio.Queue()
        self.asked = asyncio.Semaphore(0)
        self.questions = 0

    async def __anext__(self) -> list[StoredAppend]:
        self.questions += 1
        self.asked.release()
        item = await self.queue.get()
        if isinstance(item, Exception):
            raise item
        return item


def appends(count: int, events_each: int = 1, size: int = 1) -> list[StoredAppend]:
    log = Log()
    log.asked(stories.created())
    for _ in range(count):
        log.append(*[Draft(e.Notice(message="x" * size))] * events_each)
    return log.appends[1:]


async def lingering(source: Source) -> None:
    """Wait until the first answer was taken and more was asked for."""
    for _ in range(2):
        await source.asked.acquire()


@pytest.fixture
def source() -> Source:
    return Source()


async def test_enough_events_wait_for_nothing(source: Source) -> None:
    """With an hour to linger, only being enough can end the wait."""
    cut = Batches(source, asyncio.Event(), linger_s=3600)
    source.queue.put_nowait(appends(3, events_each=200))
    assert [append.last_revision for append in await anext(cut)] == [201, 401, 601]
    await cut.close()


async def test_few_events_wait_for_more(source: Source) -> None:
    cut = Batches(source, asyncio.Event(), linger_s=3600)
    every = appends(3, events_each=200)
    for append in every:
        source.queue.put_nowait([append])
    assert await anext(cut) == every
    await cut.close()


async def test_few_events_do_not_wait_for_ever(source: Source) -> None:
    cut = Batches(source, asyncio.Event(), linger_s=0.01)
    every = appends(1)
    source.queue.put_nowait(every)
    assert await anext(cut) == every
    await cut.close()


async def test_somebody_who_waits_is_not_kept_waiting(source: Source) -> None:
    wanted = asyncio.Event()
    cut = Batches(source, wanted, linger_s=3600)
    every = appends(1)
    source.queue.put_nowait(every)
    given = asyncio.ensure_future(anext(cut))
    await lingering(source)
    wanted.set()
    assert await given == every
    assert not wanted.is_set()
    await cut.close()


async def test_what_the_feed_gives_while_nobody_asks_is_not_lost(source: Source) -> None:
    cut = Batches(source, asyncio.Event(), linger_s=0.01)
    first, second = appends(2)
    source.queue.put_nowait([first])
    assert await anext(cut) == [first]
    source.queue.put_nowait([second])
    assert await anext(cut) == [second]
    assert source.questions == 3  # One question stays open between two batches, no answer is thrown away.
    await cut.close()


async def test_a_batch_ends_at_its_number_of_events_and_the_rest_comes_next(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "EVENTS_MAX", 1_000)
    cut = Batches(source, asyncio.Event(), linger_s=0.01)
    source.queue.put_nowait(appends(7, events_each=200))
    assert [len(await anext(cut)), len(await anext(cut))] == [5, 2]
    await cut.close()


async def test_a_batch_ends_at_its_size_and_has_at_least_one(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "BYTES_MAX", 5_000)
    cut = Batches(source, asyncio.Event(), linger_s=0.01)
    source.queue.put_nowait([*appends(4, size=2_000), *appends(1, size=20_000)])
    sizes = [len(await anext(cut)) for _ in range(3)]
    assert sizes == [2, 2, 1]
    await cut.close()


async def test_what_the_feed_raises_comes_through(source: Source) -> None:
    cut = Batches(source, asyncio.Event())
    source.queue.put_nowait(ConnectionError("gone"))
    with pytest.raises(ConnectionError, match="gone"):
        await anext(cut)
    await cut.close()


async def test_closing_ends_the_open_question(source: Source) -> None:
    cut = Batches(source, asyncio.Event(), linger_s=0.01)
    source.queue.put_nowait(appends(1))
    await anext(cut)
    await cut.close()
    await cut.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_it_tells_since_when_the_oldest_append_waits(source: Source) -> None:
    cut = Batches(source, asyncio.Event(), linger_s=3600)
    nothing_waits = cut.oldest_ns
    assert nothing_waits is None
    source.queue.put_nowait(appends(1))
    given = asyncio.ensure_future(anext(cut))
    await lingering(source)
    waits_since = cut.oldest_ns
    assert waits_since == stories.BEGIN_NS + 2 * 10**9
    given.cancel()
    await asyncio.wait({given})
    await cut.close()
