"""Content beside the log, in the object store `blobs`: written once under a fresh name, read with its hash checked.

The layout is that of NATS Object Store (ADR-20), so that `nats object` shows it:

    $O.blobs.C.{upload}         the content in chunks of 128 KiB
    $O.blobs.M.{base64(name)}   what it is, as JSON, once all chunks are there

A name is never put again (its readers would meet two contents); an upload that broke off leaves chunks without a
description, which `collect` removes together with what no event refers to.
"""

import base64
import contextlib
import hashlib
import secrets
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from podium.clock import NS, Clock
from podium.eventlog.jetstream import NotTheNewest, Stored, all_messages, log_needed, newest, store
from podium.eventlog.layout import BLOBS
from podium.eventlog.link import Link
from podium.v1.content_pb2 import Blob

CHUNK_BYTES = 128 * 1024
READ_BYTES_MAX = 64 * 1024 * 1024
"""Most that `get` takes into memory at once; `read` streams more."""
COLLECT_AFTER_S = 24 * 3600
_STREAM = f"OBJ_{BLOBS}"
_CHUNKS, _DESCRIPTIONS = f"$O.{BLOBS}.C.", f"$O.{BLOBS}.M."
_NAME_BYTES = 16
_REPLICA_LAG_S_MAX = 2.0


class BlobError(Exception):
    """A blob cannot be read; carries its name in the message."""


class BlobMissing(BlobError):
    """There is none of that name: never uploaded, or collected."""


class BlobDamaged(BlobError):
    """What is stored is not what was written."""


class BlobTooLarge(BlobError):
    """Larger than the reader takes."""


@dataclass(frozen=True, slots=True)
class Collected:
    """What a collection removed."""

    objects: int
    size_bytes: int


class BlobStore:
    """The object store `blobs` on one connection."""

    def __init__(self, link: Link, clock: Clock, *, new_name: Callable[[], str] | None = None) -> None:
        """`new_name` returns names that were never used before; random ones by default."""
        self._link = link
        self._clock = clock
        self.new_name = new_name or _random_name

    async def put(self, content: bytes, media_type: str) -> Blob:
        """Store content under a fresh name and return how to refer to it. Raises Unavailable."""
        blob = Blob(
            object=self.new_name(),
            sha256=hashlib.sha256(content).digest(),
            size_bytes=len(content),
            media_type=media_type,
        )
        await self.store(blob, content)
        return blob

    async def store(self, blob: Blob, content: bytes) -> None:
        """Store content under a name chosen before; doing it again after a failure is safe. Raises Unavailable."""
        await self._write(blob.object, _chunked(content), blob.media_type)

    async def put_stream(self, content: AsyncIterable[bytes], media_type: str) -> Blob:
        """Store content of any length as it comes, holding one chunk at a time. Raises Unavailable."""
        return await self._write(self.new_name(), _rechunked(content), media_type)

    async def get(self, blob: Blob, *, size_max: int = READ_BYTES_MAX) -> bytes:
        """Return the content. Raises BlobMissing, BlobDamaged, BlobTooLarge, Unavailable."""
        if blob.size_bytes > size_max:
            raise BlobTooLarge(f"{blob.object}: {blob.size_bytes} bytes, at most {size_max} are taken")
        return b"".join([chunk async for chunk in self.read(blob)])

    async def read(self, blob: Blob) -> AsyncIterator[bytes]:
        """Yield the content piece by piece; only an end without BlobDamaged says that it was whole.

        Raises BlobMissing, BlobDamaged, Unavailable.
        """
        with log_needed("reading a blob"):
            description = await self._description(blob.object)
        digest, size = hashlib.sha256(), 0
        async for chunk in self._chunks(description["nuid"]):
            digest.update(chunk)
            size += len(chunk)
            if size > blob.size_bytes:
                break
            yield chunk
        if size != blob.size_bytes or digest.digest() != blob.sha256:
            raise BlobDamaged(f"{blob.object}: found {size} bytes that are not the {blob.size_bytes} written")

    async def collect(
        self, is_referenced: Callable[[str], Awaitable[bool]], *, older_than_s: float = COLLECT_AFTER_S
    ) -> Collected:
        """Remove what was stored longer ago and no event refers to; needs the operator's role. Raises Unavailable.

        An upload precedes its event, and an owner may be cut off from the log for minutes in between: keep
        `older_than_s` far above that.
        """
        latest_ns = self._clock.now_ns() - int(older_than_s * NS)
        kept: set[str] = set()
        objects = size_bytes = 0
        with log_needed("collecting blobs"):
            async for message in all_messages(self._link, _STREAM, f"{_DESCRIPTIONS}*"):
                description = orjson.loads(message.payload)
                upload = description["nuid"]
                if _time_ns(message) > latest_ns or await is_referenced(description["name"]):
                    kept.add(upload)
                    continue
                # The description first: a reader then finds nothing rather than half of it.
                await self._purge(message.subject)
                await self._purge(_CHUNKS + upload)
                objects, size_bytes = objects + 1, size_bytes + description["size"]
            await self._collect_broken_off(kept, latest_ns)
        return Collected(objects, size_bytes)

    async def _write(self, name: str, chunks: AsyncIterator[bytes], media_type: str) -> Blob:
        upload = secrets.token_hex(_NAME_BYTES)
        digest, size, count = hashlib.sha256(), 0, 0
        with log_needed("storing a blob"):
            async for chunk in chunks:
                await store(self._link, _CHUNKS + upload, chunk)
                digest.update(chunk)
                size, count = size + len(chunk), count + 1
            description = {
                "name": name,
                "bucket": BLOBS,
                "nuid": upload,
                "size": size,
                "chunks": count,
                "digest": "SHA-256=" + base64.urlsafe_b64encode(digest.digest()).decode(),
                "mtime": datetime.fromtimestamp(self._clock.now_ns() / NS, UTC).isoformat(),
                "headers": {"Content-Type": [media_type]},
                "options": {"max_chunk_size": CHUNK_BYTES},
            }
            # NotTheNewest: an earlier try got through after all; the chunks of this one are collected later.
            with contextlib.suppress(NotTheNewest):
                await store(self._link, _description_subject(name), orjson.dumps(description), expected=0)
        return Blob(object=name, sha256=digest.digest(), size_bytes=size, media_type=media_type)

    async def _description(self, name: str) -> dict[str, Any]:
        """Return what is stored about a name; a replica that lags is given a moment."""
        patient = AsyncRetrying(
            retry=retry_if_exception_type(BlobMissing),
            stop=stop_after_delay(_REPLICA_LAG_S_MAX),
            wait=wait_random_exponential(multiplier=0.01, max=0.25),
            reraise=True,
        )
        return await patient(self._description_now, name)

    async def _description_now(self, name: str) -> dict[str, Any]:
        found = await newest(self._link, _STREAM, [_description_subject(name)])
        if not found:
            raise BlobMissing(f"{name}: there is no blob of this name")
        description: dict[str, Any] = orjson.loads(found[0].payload)
        return description

    async def _chunks(self, upload: str) -> AsyncIterator[bytes]:
        with log_needed("reading a blob"):
            async for message in all_messages(self._link, _STREAM, _CHUNKS + upload):
                yield message.payload

    async def _collect_broken_off(self, kept: set[str], latest_ns: int) -> None:
        """Remove chunks that no description names."""
        info = await self._link.api(f"STREAM.INFO.{_STREAM}", {"subjects_filter": f"{_CHUNKS}*"})
        for subject in (info["state"].get("subjects") or {}).keys() - {_CHUNKS + upload for upload in kept}:
            found = await newest(self._link, _STREAM, [subject])
            if found and _time_ns(found[0]) <= latest_ns:
                await self._purge(subject)

    async def _purge(self, subject: str) -> None:
        await self._link.api(f"STREAM.PURGE.{_STREAM}", {"filter": subject})


def _random_name() -> str:
    return secrets.token_hex(_NAME_BYTES)


def _description_subject(name: str) -> str:
    return _DESCRIPTIONS + base64.urlsafe_b64encode(name.encode()).decode()


def _time_ns(message: Stored) -> int:
    return int(datetime.fromisoformat(message.time).timestamp() * NS)


async def _chunked(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), CHUNK_BYTES):
        yield content[start : start + CHUNK_BYTES]


async def _rechunked(pieces: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """Yield the same bytes in pieces of CHUNK_BYTES."""
    waiting = bytearray()
    async for piece in pieces:
        waiting += piece
        while len(waiting) >= CHUNK_BYTES:
            yield bytes(waiting[:CHUNK_BYTES])
            del waiting[:CHUNK_BYTES]
    if waiting:
        yield bytes(waiting)
