"""The object store on a real server: what comes out is what went in, or an error that says why not."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator

import nats
import pytest

from podium.clock import NS, ManualClock, SystemClock
from podium.errors import Unavailable
from podium.eventlog.blobs import CHUNK_BYTES, BlobDamaged, BlobMissing, BlobStore, BlobTooLarge
from podium.eventlog.jetstream import store
from podium.eventlog.link import Link
from podium.eventlog.roles import Role
from podium.eventlog.server import EmbeddedServer
from podium.v1.content_pb2 import Blob


@pytest.fixture
def blobs(runner_link: Link) -> BlobStore:
    return BlobStore(runner_link, SystemClock())


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 5_000_000])
async def test_what_was_put_comes_back(blobs: BlobStore, size: int) -> None:
    content = os.urandom(size)
    blob = await blobs.put(content, "image/png")
    assert (blob.size_bytes, blob.sha256, blob.media_type) == (size, hashlib.sha256(content).digest(), "image/png")
    assert await blobs.get(blob) == content


async def test_the_same_content_gets_another_name_each_time(blobs: BlobStore) -> None:
    one, other = await blobs.put(b"x", "text/plain"), await blobs.put(b"x", "text/plain")
    assert one.object != other.object
    assert one.sha256 == other.sha256


async def test_a_stream_is_stored_as_it_comes(blobs: BlobStore) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for number in range(300):
            yield bytes([number % 256]) * 1000

    blob = await blobs.put_stream(pieces(), "application/octet-stream")
    parts = [part async for part in blobs.read(blob)]
    assert b"".join(parts) == b"".join([piece async for piece in pieces()])
    assert max(map(len, parts)) == CHUNK_BYTES


async def test_storing_under_a_chosen_name_may_be_repeated(blobs: BlobStore) -> None:
    content = b"y" * 300_000
    blob = Blob(object="chosen", sha256=hashlib.sha256(content).digest(), size_bytes=len(content))
    await blobs.store(blob, content)
    await blobs.store(blob, content)
    assert await blobs.get(blob) == content


async def test_a_name_is_never_given_other_content(blobs: BlobStore) -> None:
    content = b"first"
    blob = Blob(object="chosen", sha256=hashlib.sha256(content).digest(), size_bytes=len(content))
    await blobs.store(blob, content)
    await blobs.store(blob, b"second")
    assert await blobs.get(blob) == content


async def test_a_blob_that_is_not_there_is_missing(blobs: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("podium.eventlog.blobs._REPLICA_LAG_S_MAX", 0.05)
    with pytest.raises(BlobMissing, match="nothing-here"):
        await blobs.get(Blob(object="nothing-here", size_bytes=1))


@pytest.mark.parametrize("wrong", [Blob(sha256=b"\0" * 32), Blob(size_bytes=99), Blob(size_bytes=101)])
async def test_content_that_is_not_what_was_written_is_refused(blobs: BlobStore, wrong: Blob) -> None:
    blob = await blobs.put(b"z" * 100, "text/plain")
    blob.MergeFrom(wrong)
    with pytest.raises(BlobDamaged):
        await blobs.get(blob)


async def test_a_lost_chunk_is_found_out(blobs: BlobStore, operator_link: Link) -> None:
    blob = await blobs.put(os.urandom(3 * CHUNK_BYTES), "text/plain")
    await operator_link.api("STREAM.MSG.DELETE.OBJ_blobs", {"seq": 2})
    with pytest.raises(BlobDamaged):
        await blobs.get(blob)


async def test_more_than_the_reader_takes_is_not_even_read(blobs: BlobStore) -> None:
    blob = await blobs.put(b"x" * 1000, "text/plain")
    with pytest.raises(BlobTooLarge, match="1000 bytes"):
        await blobs.get(blob, size_max=999)


async def test_the_layout_is_that_of_nats_object_store(server: EmbeddedServer, blobs: BlobStore) -> None:
    content = os.urandom(400_000)
    blob = await blobs.put(content, "text/plain")
    client = await nats.connect(
        server.url,
        user="operator",
        password=server.credentials.password(Role.OPERATOR),
        inbox_prefix=Role.OPERATOR.inbox_prefix.encode(),
    )
    try:
        found = await (await client.jetstream().object_store("blobs")).get(blob.object)
    finally:
        await client.close()
    assert found.data == content
    assert (found.info.size, found.info.chunks) == (400_000, 4)


async def test_collecting_takes_what_is_old_and_unreferenced_and_nothing_else(
    blobs: BlobStore, operator_link: Link
) -> None:
    referenced, forgotten = await blobs.put(b"r" * 200_000, "text/plain"), await blobs.put(b"f" * 1000, "text/plain")
    # An upload that broke off: chunks that no description names.
    await store(operator_writer(blobs), "$O.blobs.C.brokenoff", b"half")

    async def is_referenced(name: str) -> bool:
        return name == referenced.object

    day = 24 * 3600
    now = ManualClock(SystemClock().now_ns())
    collector = BlobStore(operator_link, now)
    early = await collector.collect(is_referenced, older_than_s=day)
    assert early.objects == 0
    assert await blobs.get(forgotten) == b"f" * 1000

    now.advance(day + 60)
    fresh_after = now.now_ns() - day * NS
    assert fresh_after > 0
    collected = await collector.collect(is_referenced, older_than_s=day)
    assert (collected.objects, collected.size_bytes) == (1, 1000)
    assert await blobs.get(referenced) == b"r" * 200_000
    with pytest.raises(BlobMissing):
        await blobs.get(forgotten)
    subjects = (await operator_link.api("STREAM.INFO.OBJ_blobs", {"subjects_filter": ">"}))["state"]["subjects"]
    # The referenced one's chunks and description are all that is left.
    assert sorted(subjects.values()) == [1, 2]


def operator_writer(blobs: BlobStore) -> Link:
    return blobs._link


async def test_putting_without_a_server_says_so_and_may_be_repeated(server: EmbeddedServer, blobs: BlobStore) -> None:
    content = b"again" * 50_000
    blob = Blob(object="chosen", sha256=hashlib.sha256(content).digest(), size_bytes=len(content))
    await server.kill()
    with pytest.raises(Unavailable, match="storing a blob"):
        await blobs.store(blob, content)
    await server.start()
    async with asyncio.timeout(20):
        while True:
            try:
                await blobs.store(blob, content)
            except Unavailable:
                await asyncio.sleep(0.05)
            else:
                break
    assert await blobs.get(blob) == content
