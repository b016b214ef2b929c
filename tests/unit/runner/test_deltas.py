"""Text while it is being said: joined, paced, bounded, forgotten when the message is there."""

import asyncio

import pytest

from podium.v1.runner_pb2 import DELTA_KIND_TEXT, DELTA_KIND_THINKING, Delta
from runner import deltas
from runner.deltas import DeltaStream


def piece(text: str, offset: int, block: int = 0, kind: int = DELTA_KIND_TEXT) -> Delta:
    return Delta(item_id="m1", block=block, kind=kind, offset=offset, text=text)  # type: ignore[arg-type]


class Sent(list[Delta]):
    async def publish(self, delta: Delta) -> bool:
        self.append(delta)
        return True


async def settled(sent: Sent, how_many: int) -> None:
    async with asyncio.timeout(5):
        while len(sent) < how_many:
            await asyncio.sleep(0.005)


async def test_pieces_of_one_block_become_one_with_the_offset_of_the_first() -> None:
    sent = Sent()
    async with DeltaStream("s1", sent.publish) as stream:
        stream.add(piece("né", 0), "t1")
        stream.add(piece("e ", 2), "t1")
        stream.add(piece("hm", 0, block=1, kind=DELTA_KIND_THINKING), "t1")
        stream.add(piece("x", 9, block=1, kind=DELTA_KIND_THINKING), "t1")
        await settled(sent, 3)
    assert [(one.block, one.offset, one.text) for one in sent] == [(0, 0, "née "), (1, 0, "hm"), (1, 9, "x")]
    assert {(one.session_id, one.turn_id) for one in sent} == {("s1", "t1")}


async def test_a_block_is_sent_at_most_twenty_times_a_second_and_loses_nothing() -> None:
    sent, text = Sent(), ""
    loop = asyncio.get_running_loop()
    async with DeltaStream("s1", sent.publish) as stream:
        started_s = loop.time()
        while loop.time() - started_s < 0.5:
            stream.add(piece("word ", len(text)), "t1")
            text += "word "
            await asyncio.sleep(0.001)
        took_s = loop.time() - started_s
        async with asyncio.timeout(5):
            while "".join(one.text for one in sent) != text:
                await asyncio.sleep(0.005)
    assert len(sent) <= (took_s + 0.1) / deltas.INTERVAL_S + 2
    assert [one.offset for one in sent] == [
        len("".join(before.text for before in sent[:at])) for at in range(len(sent))
    ]


async def test_what_was_not_sent_is_dropped_when_the_message_is_there() -> None:
    sent = Sent()
    async with DeltaStream("s1", sent.publish) as stream:
        stream.add(piece("first", 0), "t1")
        await settled(sent, 1)
        stream.add(piece("late", 5), "t1")
        stream.forget()
        stream.add(Delta(item_id="m2", text="next"), "t1")
        await settled(sent, 2)
    assert [one.text for one in sent] == ["first", "next"]


async def test_a_stream_that_is_not_read_holds_a_bounded_amount(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deltas, "PENDING_BYTES_MAX", 1000)
    going, sent = asyncio.Event(), Sent()

    async def slow(delta: Delta) -> bool:
        await going.wait()
        return await sent.publish(delta)

    async with DeltaStream("s1", slow) as stream:
        stream.add(piece("a" * 10, 0), "t1")
        await asyncio.sleep(0)
        for number in range(500):
            stream.add(piece("b" * 10, 10 + 10 * number), "t1")
        going.set()
        await settled(sent, 2)
    assert sum(len(one.text) for one in sent) <= 1010


async def test_leaving_passes_a_cancellation_on() -> None:
    async def serve() -> None:
        async with DeltaStream("s1", Sent().publish):
            await asyncio.Event().wait()

    serving = asyncio.create_task(serve())
    await asyncio.sleep(0)
    serving.cancel()
    await asyncio.wait({serving})
    assert serving.cancelled()
