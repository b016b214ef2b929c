"""What is too long for the log is moved beside it: pure, from an event's body to a shorter body and what to upload.

    block           its blob holds                         media type
    text, thinking  the text                               text/plain
    tool_use        input_json                             application/json
    tool_result     the text                               text/plain
                    or, when structured_json is long too,  application/vnd.podium.tool-result+json
                    {"text": …, "structured_json": …}

A shortened text is a prefix of the whole; a shortened `input_json` is an empty object, as a cut one is no JSON.

Two bodies have a long field of their own, with a blob beside it: the input of an ApprovalRequested, the structured
answer of a TurnEnded. Their shortened form is an empty object, or nothing.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import orjson
from google.protobuf.message import Message as ProtoMessage

from podium.errors import ResourceExhausted
from podium.v1 import event_pb2 as e
from podium.v1.content_pb2 import Blob, ContentBlock

BLOCK_BYTES_MAX = 64 * 1024
"""A block above this is moved."""
BODY_BYTES_MAX = 256 * 1024
"""Above this, smaller blocks are moved too, the largest first."""
PREVIEW_BYTES = 2 * 1024
EXCERPT_BYTES = 2 * 1024
_WORTH_MOVING_BYTES = 512
"""A reference takes about 150 bytes itself."""
TEXT, JSON = "text/plain", "application/json"
TOOL_RESULT = "application/vnd.podium.tool-result+json"
RECORD = "application/octet-stream"

_LONG_FIELDS: Mapping[type[ProtoMessage], tuple[str, str, str]] = {
    e.ApprovalRequested: ("input_json", "full_input", "{}"),
    e.TurnEnded: ("structured_output_json", "full_output", ""),
}
"""Body -> its long field, the field of its blob, and what stands in the log instead."""

B = TypeVar("B", bound=ProtoMessage)
NewObject = Callable[[], str]
"""Returns a fresh name for an upload."""


class RestoreFailed(Exception):
    """A blob does not hold what its block says."""


@dataclass(frozen=True, slots=True)
class Upload:
    """Content to store under the blob's name before the body that refers to it is appended."""

    blob: Blob
    content: bytes


@dataclass(frozen=True, slots=True)
class Split(Generic[B]):
    """A body that fits the log, and what was taken out of it."""

    body: B
    uploads: tuple[Upload, ...] = ()


def split(body: B, new_object: NewObject) -> Split[B]:
    """Return a body of at most BODY_BYTES_MAX, and the uploads it refers to; a short body comes back as it is.

    `body` stays as it is. Raises ResourceExhausted when it is too long in a way that no moving helps, e.g. a
    message of thousands of small blocks.
    """
    if body.ByteSize() <= BLOCK_BYTES_MAX:
        return Split(body)
    shorter = type(body)()
    shorter.CopyFrom(body)
    uploads = _shorten(shorter, new_object)
    if shorter.ByteSize() > BODY_BYTES_MAX:
        raise ResourceExhausted(
            "PROMPT_TOO_LARGE",
            f"{body.DESCRIPTOR.name}: {body.ByteSize()} bytes, {shorter.ByteSize()} after moving what can be moved; "
            f"the log takes {BODY_BYTES_MAX}",
            size=body.ByteSize(),
            limit=BODY_BYTES_MAX,
        )
    return Split(shorter, tuple(uploads))


def unreadable(reason: str, record: bytes, new_object: NewObject) -> Split[e.UnreadableRecord]:
    """Return the fact that a provider's record could not be understood; the record itself is never dropped."""
    body = e.UnreadableRecord(
        reason=_prefix(reason, EXCERPT_BYTES),
        # A replaced byte takes three: what is decoded may be longer than it was.
        excerpt=_prefix(record[:EXCERPT_BYTES].decode("utf-8", errors="replace"), EXCERPT_BYTES),
        size_bytes=len(record),
        sha256=hashlib.sha256(record).digest(),
    )
    if body.excerpt.encode() == record:
        return Split(body)
    upload = _upload(record, RECORD, new_object)
    body.record.CopyFrom(upload.blob)
    return Split(body, (upload,))


def references(body: ProtoMessage) -> list[Blob]:
    """Return every blob that a body needs: moved texts, attachments, records."""
    found: list[Blob] = []
    for descriptor, value in body.ListFields():
        if descriptor.message_type is None:
            continue
        values: Sequence[ProtoMessage] = value if descriptor.is_repeated else (value,)
        if descriptor.message_type.GetOptions().map_entry:
            continue
        for message in values:
            if isinstance(message, Blob):
                found.append(message)
            else:
                found.extend(references(message))
    return found


def moved(body: ProtoMessage) -> list[Blob]:
    """Return the blobs that `restore` needs: those of shortened blocks and fields, not attachments."""
    blobs = [block.full for block in _blocks(body) if block.HasField("full")]
    if (long := _LONG_FIELDS.get(type(body))) is not None and body.HasField(long[1]):
        blobs.append(getattr(body, long[1]))
    return blobs


def restore(body: B, contents: Mapping[str, bytes]) -> B:
    """Return the body as it was before `split`; `contents` by object name, blocks without theirs stay short.

    Raises RestoreFailed when a content is not what its block says.
    """
    whole = type(body)()
    whole.CopyFrom(body)
    for block in _blocks(whole):
        if block.HasField("full") and (content := contents.get(block.full.object)) is not None:
            _put_back(block, content)
            block.ClearField("full")
    _put_back_field(whole, contents)
    return whole


def _shorten(body: ProtoMessage, new_object: NewObject) -> list[Upload]:
    return [*_move_field(body, new_object), *_move_blocks(body, new_object)]


def _move_field(body: ProtoMessage, new_object: NewObject) -> list[Upload]:
    """Move the body's own long field, if it has one that is too long."""
    if (long := _LONG_FIELDS.get(type(body))) is None:
        return []
    field, full, instead = long
    content = str(getattr(body, field)).encode()
    if len(content) <= BLOCK_BYTES_MAX:
        return []
    upload = _upload(content, JSON, new_object)
    setattr(body, field, instead)
    getattr(body, full).CopyFrom(upload.blob)
    return [upload]


def _put_back_field(body: ProtoMessage, contents: Mapping[str, bytes]) -> None:
    if (long := _LONG_FIELDS.get(type(body))) is None or not body.HasField(long[1]):
        return
    field, full, _ = long
    blob: Blob = getattr(body, full)
    if (content := contents.get(blob.object)) is None:
        return
    _check(blob, content)
    setattr(body, field, content.decode())
    body.ClearField(full)


def _move_blocks(body: ProtoMessage, new_object: NewObject) -> list[Upload]:
    uploads = []
    size = body.ByteSize()
    for block in sorted(_blocks(body), key=ContentBlock.ByteSize, reverse=True):
        before = block.ByteSize()
        if before <= BLOCK_BYTES_MAX and (size <= BODY_BYTES_MAX or before <= _WORTH_MOVING_BYTES):
            break
        if block.HasField("full"):
            continue
        # Many middling blocks: their previews together would be too long again.
        preview = PREVIEW_BYTES if before > BLOCK_BYTES_MAX else 0
        if (taken := _take_out(block, preview)) is not None:
            uploads.append(_upload(*taken, new_object))
            block.full.CopyFrom(uploads[-1].blob)
            size -= before - block.ByteSize()
    return uploads


def _blocks(body: ProtoMessage) -> Sequence[ContentBlock]:
    match body:
        case e.Message():
            return body.content
        case e.TurnRequested():
            return body.prompt
        case _:
            return ()


def _take_out(block: ContentBlock, preview_bytes: int) -> tuple[bytes, str] | None:
    """Shorten the block in place and return what it held, None when it holds nothing long."""
    match block.WhichOneof("block"):
        case "text":
            content, block.text.text = block.text.text, _prefix(block.text.text, preview_bytes)
            return content.encode(), TEXT
        case "thinking":
            content, block.thinking.thinking = block.thinking.thinking, _prefix(block.thinking.thinking, preview_bytes)
            return content.encode(), TEXT
        case "tool_use":
            content, block.tool_use.input_json = block.tool_use.input_json, "{}"
            return content.encode(), JSON
        case "tool_result":
            return _take_out_of_result(block, preview_bytes)
        case _:
            return None


def _take_out_of_result(block: ContentBlock, preview_bytes: int) -> tuple[bytes, str]:
    result = block.tool_result
    text, structured = result.text, result.structured_json
    result.text = _prefix(text, preview_bytes)
    if len(structured.encode()) <= preview_bytes:
        return text.encode(), TEXT
    result.structured_json = ""
    return orjson.dumps({"text": text, "structured_json": structured}), TOOL_RESULT


def _put_back(block: ContentBlock, content: bytes) -> None:
    _check(block.full, content)
    match block.WhichOneof("block"), block.full.media_type:
        case "text", "text/plain":
            block.text.text = content.decode()
        case "thinking", "text/plain":
            block.thinking.thinking = content.decode()
        case "tool_use", "application/json":
            block.tool_use.input_json = content.decode()
        case "tool_result", "text/plain":
            block.tool_result.text = content.decode()
        case "tool_result", "application/vnd.podium.tool-result+json":
            parts = orjson.loads(content)
            block.tool_result.text, block.tool_result.structured_json = parts["text"], parts["structured_json"]
        case kind, media_type:
            raise RestoreFailed(f"{block.full.object}: a {kind} block cannot be in {media_type}")


def _upload(content: bytes, media_type: str, new_object: NewObject) -> Upload:
    blob = Blob(
        object=new_object(), sha256=hashlib.sha256(content).digest(), size_bytes=len(content), media_type=media_type
    )
    return Upload(blob, content)


def _prefix(text: str, size_bytes: int) -> str:
    """Return the longest beginning of at most so many bytes that ends with a whole character."""
    return text.encode()[:size_bytes].decode("utf-8", errors="ignore")


def _check(blob: Blob, content: bytes) -> None:
    if hashlib.sha256(content).digest() != blob.sha256:
        raise RestoreFailed(f"{blob.object}: {len(content)} bytes that are not those that were moved")
