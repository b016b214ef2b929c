"""Long content on its way to the log and back: taken out of a draft before the append, put back for who needs it."""

from dataclasses import replace
from typing import TypeVar

from google.protobuf.message import Message as ProtoMessage

from podium.drafts import Draft, kind_of
from podium.errors import ResourceExhausted
from podium.eventlog.blobs import BlobStore
from podium.eventlog.offload import moved, restore, split, unreadable

B = TypeVar("B", bound=ProtoMessage)


class LongContent:
    """Moves long content between bodies and the object store."""

    def __init__(self, blobs: BlobStore) -> None:
        """Take where the content lies."""
        self._blobs = blobs

    async def out(self, draft: Draft) -> Draft:
        """Return a draft that fits the log, after storing what was too long; most come back as they are.

        Raises Unavailable, and ResourceExhausted for a body that no moving makes short enough.
        """
        divided = split(draft.body, self._blobs.new_name)
        for upload in divided.uploads:
            await self._blobs.store(upload.blob, upload.content)
        return replace(draft, body=divided.body) if divided.uploads else draft

    async def out_or_unreadable(self, draft: Draft) -> Draft:
        """As `out`, but a body that cannot be made short becomes an UnreadableRecord that refers to all of it.

        For what a provider said: it has happened, and nobody can be told to say it shorter.
        """
        try:
            return await self.out(draft)
        except ResourceExhausted as error:
            record = draft.body.SerializeToString()
            divided = unreadable(f"{kind_of(draft.body)}: {error.message}", record, self._blobs.new_name)
            for upload in divided.uploads:
                await self._blobs.store(upload.blob, upload.content)
            return replace(draft, body=divided.body)

    async def back(self, body: B) -> B:
        """Return the body with all its text. Raises BlobError, Unavailable."""
        blobs = moved(body)
        if not blobs:
            return body
        return restore(body, {blob.object: await self._blobs.get(blob) for blob in blobs})
