"""Native records on a real server: in order, bounded, and never in anybody's way."""

import asyncio
import os
import signal
import time
import uuid

import pytest

from podium.clock import SystemClock
from podium.eventlog import native as native_module
from podium.eventlog.blobs import BlobStore
from podium.eventlog.link import Link
from podium.eventlog.native import Direction, NativeLog, NativeRecord
from podium.eventlog.server import EmbeddedServer

SESSION = str(uuid.UUID(int=9))


@pytest.fixture
def native(runner_link: Link) -> NativeLog:
    return NativeLog(runner_link, BlobStore(runner_link, SystemClock()))


async def stored(operator: Link, epoch: int = 1) -> list[NativeRecord]:
    reader = NativeLog(operator, BlobStore(operator, SystemClock()))
    return [record async for record in reader.records(SESSION, epoch)]


async def test_records_are_stored_in_order_with_who_said_them(native: NativeLog, operator_link: Link) -> None:
    async with native:
        for number in range(1000):
            direction = Direction.TO_CLIENT if number % 2 else Direction.FROM_CLIENT
            assert native.publish(SESSION, 1, b"%d" % number, provider="claude", direction=direction)
        assert await native.flush(20)
    records = await stored(operator_link)
    assert [record.record for record in records] == [b"%d" % number for number in range(1000)]
    assert [record.number for record in records] == list(range(1, 1001))
    assert [record.direction for record in records[:2]] == [Direction.FROM_CLIENT, Direction.TO_CLIENT]
    assert {record.provider for record in records} == {"claude"}
    assert (native.written, native.dropped, native.failed) == (1000, 0, 0)


async def test_leaving_the_context_writes_what_waits(native: NativeLog, operator_link: Link) -> None:
    async with native:
        native.publish(SESSION, 1, b"last words", provider="claude")
    assert [record.record for record in await stored(operator_link)] == [b"last words"]


async def test_owners_are_kept_apart(native: NativeLog, operator_link: Link) -> None:
    async with native:
        native.publish(SESSION, 1, b"one", provider="claude")
        native.publish(SESSION, 2, b"two", provider="claude")
    assert [record.record for record in await stored(operator_link, epoch=2)] == [b"two"]


async def test_a_long_record_goes_to_the_object_store(native: NativeLog, operator_link: Link) -> None:
    record = os.urandom(native_module.RECORD_BYTES_MAX + 1)
    async with native:
        native.publish(SESSION, 1, record, provider="claude")
        assert await native.flush(20)
    (found,) = await stored(operator_link)
    assert (found.record, found.blob is None) == (b"", False)
    assert found.blob is not None
    assert await BlobStore(operator_link, SystemClock()).get(found.blob) == record


async def test_nothing_waits_for_a_server_that_hangs_and_memory_stays_bounded(
    server: EmbeddedServer, native: NativeLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native_module, "CLOSE_S_MAX", 0.1)
    record = b"x" * 100_000
    async with native:
        server.signal(signal.SIGSTOP)
        try:
            begun = time.monotonic()
            taken = peak_bytes = 0
            for _ in range(1000):
                taken += native.publish(SESSION, 1, record, provider="claude")
                peak_bytes = max(peak_bytes, native._waiting_bytes)
                await asyncio.sleep(0)
            assert time.monotonic() - begun < 5
        finally:
            server.signal(signal.SIGCONT)
    # Not `taken`: the server may still store a few before the signal stops it.
    assert 0 < peak_bytes <= native_module.WAITING_BYTES_MAX
    assert taken < 1000
    assert native.written + native.failed + native.dropped == 1000
    assert native.dropped >= 1000 - taken


async def test_a_short_outage_loses_nothing(server: EmbeddedServer, native: NativeLog, operator_link: Link) -> None:
    async with native:
        native.publish(SESSION, 1, b"before", provider="claude")
        assert await native.flush(10)
        await server.kill()
        while native._link.connected:
            await asyncio.sleep(0.01)
        for number in range(100):
            assert native.publish(SESSION, 1, b"%d" % number, provider="claude")
        await server.start()
        assert await native.flush(20)
    assert (native.written, native.failed, native.dropped) == (101, 0, 0)
    assert await operator_link.wait_connected(10)
    assert len(await stored(operator_link)) == 101


async def test_a_refused_record_is_counted(runner_link: Link, native: NativeLog, operator_link: Link) -> None:
    await operator_link.api("STREAM.DELETE.NATIVE")
    async with native:
        native.publish(SESSION, 1, b"x", provider="claude")
        assert await native.flush(10)
    assert (native.written, native.failed, native.dropped) == (0, 1, 0)
