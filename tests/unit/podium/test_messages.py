"""The JSON of docs/messages.md: the seed's shapes exactly, and what is added to them when there is more to say."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podium.messages import message_json, result_json
from podium.v1 import content_pb2 as c
from podium.v1 import event_pb2 as e
from podium.v1.session_pb2 import TokenTotals

SESSION = "019bb8ca-471d-76a2-ba3c-3c9ce69b5fca"


def shown(role: "e.Role.ValueType", *blocks: c.ContentBlock, **other: object) -> dict[str, object]:
    message = e.Message(role=role, content=blocks, partial=bool(other.pop("partial", False)))
    event = e.Event(session_id=SESSION, message=message, **other)  # type: ignore[arg-type]  # fields of Event
    value: dict[str, object] = json.loads(message_json(event))
    return value


def only_block(block: c.ContentBlock) -> dict[str, object]:
    message = shown(e.ROLE_ASSISTANT, block)["message"]
    assert isinstance(message, dict)
    (value,) = message["content"]
    assert isinstance(value, dict)
    return value


def text(said: str) -> c.ContentBlock:
    return c.ContentBlock(text=c.TextBlock(text=said))


def test_a_prompt_looks_as_in_the_seed() -> None:
    assert shown(e.ROLE_USER, text("Please implement the smart contract...")) == {
        "type": "user",
        "session_id": SESSION,
        "message": {
            "role": "user",
            "content": [{"type": "text", "text": "Please implement the smart contract..."}],
        },
    }


def test_a_tool_use_looks_as_in_the_seed() -> None:
    use = c.ToolUseBlock(id="item_189", name="Bash", native_name="Bash", input_json='{"command": "git diff --stat"}')
    assert shown(e.ROLE_ASSISTANT, c.ContentBlock(tool_use=use)) == {
        "type": "assistant",
        "session_id": SESSION,
        "message": {
            "role": "assistant",
            "content": [
                {"type": "tool_use", "id": "item_189", "name": "Bash", "input": {"command": "git diff --stat"}}
            ],
        },
    }


def test_thinking_looks_as_in_the_seed() -> None:
    thought = c.ThinkingBlock(thinking="**Analyzing the request**\n\nThe user wants...")
    assert only_block(c.ContentBlock(thinking=thought)) == {
        "type": "thinking",
        "thinking": "**Analyzing the request**\n\nThe user wants...",
    }


def test_the_keys_stand_in_the_order_of_the_seed() -> None:
    event = e.Event(session_id=SESSION, message=e.Message(role=e.ROLE_USER, content=[text("hi")]))
    assert message_json(event).startswith(b'{"type":"user","session_id":"' + SESSION.encode() + b'","message":{"role":')


def test_a_result_has_what_the_seed_has_and_what_was_written_to_the_cache() -> None:
    tokens = TokenTotals(
        input_tokens=99_319,
        output_tokens=113,
        cache_read_input_tokens=4_352,
        cache_creation_input_tokens=67,
        uncached_input_tokens=94_900,
    )
    assert json.loads(result_json(SESSION, tokens)) == {
        "type": "result",
        "session_id": SESSION,
        "usage": {
            "input_tokens": 99_319,
            "output_tokens": 113,
            "cache_read_input_tokens": 4_352,
            "cache_creation_input_tokens": 67,
        },
    }


def test_usage_that_nobody_told_is_null_and_not_zero() -> None:
    assert json.loads(result_json(SESSION, TokenTotals()))["usage"] is None


def test_a_tool_result_says_whether_the_tool_failed() -> None:
    result = c.ToolResultBlock(tool_use_id="item_189", text="no such file", is_error=True)
    assert only_block(c.ContentBlock(tool_result=result)) == {
        "type": "tool_result",
        "tool_use_id": "item_189",
        "content": "no such file",
        "is_error": True,
    }


def test_a_picture_in_a_tool_result_is_there_by_reference() -> None:
    picture = c.Blob(object="o1", sha256=b"\x01\xff", size_bytes=9, media_type="image/png")
    block = only_block(
        c.ContentBlock(tool_result=c.ToolResultBlock(tool_use_id="i", text="seen", attachments=[picture]))
    )
    assert block["content"] == [
        {"type": "text", "text": "seen"},
        {
            "type": "image",
            "source": {
                "type": "blob",
                "object": "o1",
                "media_type": "image/png",
                "size_bytes": 9,
                "sha256": "01ff",
            },
        },
    ]


def test_an_attachment_that_is_no_picture_is_a_document_with_its_title() -> None:
    paper = c.AttachmentBlock(title="plan.pdf", blob=c.Blob(object="o2", media_type="application/pdf"))
    block = only_block(c.ContentBlock(attachment=paper))
    assert (block["type"], block["title"]) == ("document", "plan.pdf")


def test_a_shortened_block_says_how_long_the_whole_is() -> None:
    block = c.ContentBlock(
        text=c.TextBlock(text="the beginning"), full=c.Blob(object="o", size_bytes=70_000, sha256=b"\xab")
    )
    assert only_block(block) == {
        "type": "text",
        "text": "the beginning",
        "truncated": {"size_bytes": 70_000, "sha256": "ab"},
    }


def test_the_native_name_of_a_tool_stands_beside_the_canonical_one_when_they_differ() -> None:
    use = c.ToolUseBlock(id="i", name="Bash", native_name="shell", input_json="{}")
    assert only_block(c.ContentBlock(tool_use=use))["native_name"] == "shell"


def test_hidden_thinking_and_unknown_kinds_have_no_text_and_are_no_error() -> None:
    assert only_block(c.ContentBlock(thinking=c.ThinkingBlock(redacted=True))) == {"type": "redacted_thinking"}
    assert only_block(c.ContentBlock()) == {"type": "unknown"}


def test_a_sub_agents_message_names_the_call_that_spawned_it() -> None:
    assert shown(e.ROLE_ASSISTANT, text("x"), parent_tool_use_id="call-0")["parent_tool_use_id"] == "call-0"


def test_a_message_that_was_cut_short_says_so() -> None:
    assert shown(e.ROLE_ASSISTANT, text("x"), partial=True)["partial"] is True


def test_what_the_client_itself_says_is_of_the_system() -> None:
    assert shown(e.ROLE_SYSTEM, text("x"))["type"] == "system"


@pytest.mark.parametrize("broken", ['{"command": ', "not json", '{"a": NaN}', "\x00", '"\\ud800"'])
def test_arguments_that_are_no_json_are_kept_as_text(broken: str) -> None:
    use = c.ToolUseBlock(id="i", name="Bash", input_json=broken)
    assert only_block(c.ContentBlock(tool_use=use))["input"] == broken


def test_numbers_in_arguments_keep_every_digit() -> None:
    use = c.ToolUseBlock(id="i", name="X", input_json='{"n": 123456789012345678901234567890}')
    event = e.Event(message=e.Message(content=[c.ContentBlock(tool_use=use)]))
    assert b"123456789012345678901234567890" in message_json(event)


@settings(deadline=None)
@given(st.text(), st.text(), st.text())
def test_any_text_comes_back_as_it_was(said: str, output: str, arguments: str) -> None:
    try:
        blocks = [
            text(said),
            c.ContentBlock(tool_result=c.ToolResultBlock(tool_use_id="i", text=output)),
            c.ContentBlock(tool_use=c.ToolUseBlock(id="i", name="X", input_json=arguments)),
        ]
    except UnicodeEncodeError:
        return  # Lone surrogates cannot be in a protobuf string at all.
    message = shown(e.ROLE_USER, *blocks)["message"]
    assert isinstance(message, dict)
    first, second, third = message["content"]
    assert (first["text"], second["content"]) == (said, output)
    assert third["input"] == _as_json(arguments)


def _as_json(arguments: str) -> object:
    if not arguments:
        return {}
    try:
        return json.loads(arguments, parse_constant=lambda _: pytest.fail("NaN is no JSON"))
    except (ValueError, pytest.fail.Exception):
        return arguments
