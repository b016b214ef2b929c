import hashlib
import itertools
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podium.errors import ResourceExhausted
from podium.eventlog.offload import (
    BLOCK_BYTES_MAX,
    BODY_BYTES_MAX,
    PREVIEW_BYTES,
    RestoreFailed,
    Split,
    moved,
    references,
    restore,
    split,
    unreadable,
)
from podium.v1 import event_pb2 as e
from podium.v1.content_pb2 import (
    AttachmentBlock,
    Blob,
    ContentBlock,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
)

LONG = "ä" * BLOCK_BYTES_MAX


def names() -> Callable[[], str]:
    numbers = itertools.count(1)
    return lambda: f"object-{next(numbers)}"


def contents(parted: Split[Any]) -> dict[str, bytes]:
    return {upload.blob.object: upload.content for upload in parted.uploads}


BLOCKS = {
    "text": ContentBlock(text=TextBlock(text=LONG)),
    "thinking": ContentBlock(thinking=ThinkingBlock(thinking=LONG)),
    "tool_use": ContentBlock(
        tool_use=ToolUseBlock(id="t1", name="Write", input_json=orjson.dumps({"x": LONG}).decode())
    ),
    "tool_result": ContentBlock(tool_result=ToolResultBlock(tool_use_id="t1", text=LONG, structured_json="[1]")),
    "structured": ContentBlock(tool_result=ToolResultBlock(tool_use_id="t1", text="ok", structured_json=f'"{LONG}"')),
    "both": ContentBlock(tool_result=ToolResultBlock(tool_use_id="t1", text=LONG, structured_json=f'"{LONG}"')),
}


@pytest.mark.parametrize("kind", BLOCKS)
def test_a_long_block_leaves_its_beginning_and_comes_back_whole(kind: str) -> None:
    short = ContentBlock(text=TextBlock(text="short"))
    message = e.Message(role=e.ROLE_ASSISTANT, content=[short, BLOCKS[kind]])
    parted = split(message, names())
    assert len(parted.uploads) == 1
    assert parted.body.content[0] == short
    assert parted.body.content[1].ByteSize() < 2 * PREVIEW_BYTES + 512
    assert parted.body.content[1].full == parted.uploads[0].blob
    assert restore(parted.body, contents(parted)) == message


def test_what_stays_of_a_text_is_a_prefix_in_whole_characters() -> None:
    parted = split(e.Message(content=[ContentBlock(text=TextBlock(text="€" * BLOCK_BYTES_MAX))]), names())
    assert parted.body.content[0].text.text == "€" * (PREVIEW_BYTES // 3)


def test_what_stays_of_a_tool_use_is_an_empty_object_and_who_asked() -> None:
    tool_use = split(e.Message(content=[BLOCKS["tool_use"]]), names()).body.content[0].tool_use
    assert (tool_use.id, tool_use.name, tool_use.input_json) == ("t1", "Write", "{}")


def test_the_blob_says_what_its_content_is() -> None:
    upload = split(e.Message(content=[BLOCKS["text"]]), names()).uploads[0]
    assert upload.content == LONG.encode()
    assert upload.blob == Blob(
        object="object-1",
        sha256=hashlib.sha256(LONG.encode()).digest(),
        size_bytes=len(LONG.encode()),
        media_type="text/plain",
    )


def test_a_short_body_stays_as_it_is() -> None:
    message = e.Message(content=[ContentBlock(text=TextBlock(text="x" * 1000))] * 60)
    assert split(message, names()) == Split(message)


def test_a_block_at_the_limit_stays_and_one_byte_more_goes() -> None:
    def of_size(size: int) -> ContentBlock:
        block = ContentBlock(text=TextBlock(text="x" * size))
        return ContentBlock(text=TextBlock(text="x" * (size - (block.ByteSize() - size))))

    at, over = of_size(BLOCK_BYTES_MAX), of_size(BLOCK_BYTES_MAX + 1)
    assert (at.ByteSize(), over.ByteSize()) == (BLOCK_BYTES_MAX, BLOCK_BYTES_MAX + 1)
    other = ContentBlock(text=TextBlock(text="y"))
    assert not split(e.Message(content=[at, other]), names()).uploads
    assert len(split(e.Message(content=[over, other]), names()).uploads) == 1


def test_many_middling_blocks_are_moved_until_the_whole_fits() -> None:
    message = e.Message(content=[ContentBlock(text=TextBlock(text="x" * 60_000)) for _ in range(12)])
    parted = split(message, names())
    assert parted.body.ByteSize() <= BODY_BYTES_MAX
    assert 0 < len(parted.uploads) < 12
    assert restore(parted.body, contents(parted)) == message


def test_a_body_that_cannot_be_made_to_fit_is_refused() -> None:
    message = e.Message(content=[ContentBlock(text=TextBlock(text="x" * 400))] * 2000)
    with pytest.raises(ResourceExhausted) as refused:
        split(message, names())
    assert refused.value.metadata["limit"] == str(BODY_BYTES_MAX)


def test_a_long_prompt_is_moved_and_comes_back() -> None:
    asked = e.TurnRequested(prompt=[BLOCKS["text"]], model="m")
    parted = split(asked, names())
    assert parted.body.model == "m"
    assert restore(parted.body, contents(parted)) == asked


def test_a_long_tool_input_of_a_question_comes_back_whole() -> None:
    whole = orjson.dumps({"content": LONG}).decode()
    asked = e.ApprovalRequested(approval_id="a", tool_use_id="t1", input_json=whole)
    parted = split(asked, names())
    assert parted.body.input_json == "{}"
    assert parted.body.tool_use_id == "t1"
    assert moved(parted.body) == [parted.body.full_input] == references(parted.body)
    assert restore(parted.body, contents(parted)) == asked


def test_a_long_final_answer_comes_back_whole() -> None:
    ended = e.TurnEnded(structured_output_json=f'"{LONG}"')
    parted = split(ended, names())
    assert parted.body.structured_output_json == ""
    assert restore(parted.body, contents(parted)) == ended


def test_a_damaged_final_answer_is_not_put_back() -> None:
    parted = split(e.TurnEnded(structured_output_json=f'"{LONG}"'), names())
    with pytest.raises(RestoreFailed):
        restore(parted.body, {blob.object: b"other" for blob in moved(parted.body)})


def test_splitting_twice_moves_nothing_twice() -> None:
    once = split(e.Message(content=[BLOCKS["both"]]), names())
    assert split(once.body, names()) == Split(once.body)


def test_the_body_handed_in_is_left_alone() -> None:
    message = e.Message(content=[BLOCKS["text"]])
    before = message.SerializeToString()
    split(message, names())
    assert message.SerializeToString() == before


def test_an_unreadable_record_is_kept_whole() -> None:
    record = b"\xff\xfe" * 5000
    parted = unreadable("no JSON", record, names())
    assert parted.uploads[0].content == record
    assert parted.body.record == parted.uploads[0].blob
    assert len(parted.body.excerpt.encode()) <= 2048
    assert parted.body.sha256 == hashlib.sha256(record).digest()


def test_a_short_unreadable_record_needs_no_blob_unless_it_is_no_text() -> None:
    assert not unreadable("no JSON", b"{oops", names()).uploads
    assert len(unreadable("no JSON", b"\xff", names()).uploads) == 1


def test_every_blob_a_body_needs_is_found() -> None:
    attached = Blob(object="a"), Blob(object="b"), Blob(object="c")
    message = e.Message(
        content=[
            ContentBlock(attachment=AttachmentBlock(title="t", blob=attached[0])),
            ContentBlock(tool_result=ToolResultBlock(attachments=[attached[1]]), full=attached[2]),
        ]
    )
    assert {blob.object for blob in references(message)} == {"a", "b", "c"}
    assert {blob.object for blob in moved(message)} == {"c"}
    assert references(e.UnreadableRecord(record=attached[0])) == [attached[0]]
    assert references(e.SessionCreated(labels={"a": "b"})) == []


def test_content_that_is_not_the_blocks_is_never_put_back() -> None:
    parted = split(e.Message(content=[BLOCKS["text"]]), names())
    with pytest.raises(RestoreFailed):
        restore(parted.body, {"object-1": b"something else"})


def test_a_block_whose_content_is_not_at_hand_stays_short() -> None:
    parted = split(e.Message(content=[BLOCKS["text"]]), names())
    assert restore(parted.body, {}) == parted.body


sizes = st.one_of(st.integers(0, 2000), st.integers(60_000, 70_000), st.just(3 * BLOCK_BYTES_MAX))
blocks = st.one_of(
    sizes.map(lambda n: ContentBlock(text=TextBlock(text="x" * n))),
    sizes.map(lambda n: ContentBlock(thinking=ThinkingBlock(thinking="€" * (n // 3)))),
    sizes.map(lambda n: ContentBlock(tool_use=ToolUseBlock(id="t", input_json=f'{{"a":"{"x" * n}"}}'))),
    st.tuples(sizes, sizes).map(
        lambda n: ContentBlock(tool_result=ToolResultBlock(text="x" * n[0], structured_json=f'"{"x" * n[1]}"'))
    ),
)


@settings(max_examples=25, deadline=None)
@given(st.lists(blocks, max_size=12))
def test_whatever_is_split_fits_and_comes_back(content: list[ContentBlock]) -> None:
    message = e.Message(native_id="n", content=content)
    parted = split(message, names())
    assert parted.body.ByteSize() <= BODY_BYTES_MAX
    assert all(block.ByteSize() <= BLOCK_BYTES_MAX for block in parted.body.content)
    assert restore(parted.body, contents(parted)) == message
