"""The normaliser never raises, loses nothing, and counts what the client says only once."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podium.v1 import event_pb2
from runner.providers.claude.normalise import Normaliser
from runner.providers.unreadable import EXCERPT_BYTES_MAX

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)
KINDS = ("assistant", "user", "result", "stream_event", "system", "rate_limit_event", "auth_status", "control_request")
KEYS = (
    "message",
    "event",
    "content",
    "usage",
    "delta",
    "subtype",
    "uuid",
    "parent_tool_use_id",
    "rate_limit_info",
    "timestamp",
)


def normaliser() -> Normaliser:
    made = Normaliser(lambda native_id: f"/t/{native_id}.jsonl")
    made.begin("turn")
    return made


def line(**record: Any) -> bytes:
    return json.dumps(record).encode()


@given(st.binary(max_size=200))
def test_any_bytes_are_kept_or_understood(data: bytes) -> None:
    fed = normaliser().feed(data, 0)
    assert fed.kind or [draft.body.DESCRIPTOR.name for draft in fed.drafts] == ["UnreadableRecord"]


@settings(max_examples=300)
@given(st.sampled_from(KINDS), st.dictionaries(st.sampled_from(KEYS), JSON, max_size=5))
def test_any_record_of_a_known_kind_never_raises(kind: str, fields: dict[str, Any]) -> None:
    made = normaliser()
    made.feed(json.dumps({**fields, "type": kind}).encode(), 0)
    made.cut_short()


@given(
    st.lists(st.sampled_from(["start", "delta", "assistant", "message_delta", "stop", "result", "init"]), max_size=20)
)
def test_records_in_any_order_never_raise(order: list[str]) -> None:
    message = {"id": "m", "model": "x", "content": [{"type": "text", "text": "a"}], "usage": {"input_tokens": 1}}
    made, records = (
        normaliser(),
        {
            "start": line(type="stream_event", event={"type": "message_start", "message": message}),
            "delta": line(
                type="stream_event",
                event={"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "a"}},
            ),
            "assistant": line(type="assistant", message=message),
            "message_delta": line(
                type="stream_event",
                event={"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
            ),
            "stop": line(type="stream_event", event={"type": "message_stop"}),
            "result": line(type="result", subtype="success"),
            "init": line(type="system", subtype="init", session_id="s", model="x"),
        },
    )
    drafts = [draft for name in order for draft in made.feed(records[name], 0).drafts] + made.cut_short()
    assert not [draft for draft in drafts if isinstance(draft.body, event_pb2.UnreadableRecord)]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (b"nonsense", "not JSON"),
        (b"[1]", "expected a JSON object"),
        (b'{"type": "brand_new"}', "unknown record 'brand_new'"),
        (b'{"type": "system", "subtype": "brand_new"}', "unknown record 'system/brand_new'"),
        (b'{"type": "assistant", "message": {"content": [{"type": "hologram"}]}}', "unknown content block 'hologram'"),
        (b"[" * 100_000, "not JSON"),
        (b'{"type": "rate_limit_event", "rate_limit_info": {"resetsAt": 1e300}}', "unexpected shape"),
        (
            b'{"type": "assistant", "message": {"id": "m", "content": [], "usage": {"input_tokens": 1e30}}}',
            "unexpected shape",
        ),
    ],
)
def test_what_is_not_understood_is_kept_with_its_reason(record: bytes, reason: str) -> None:
    draft = normaliser().feed(record, 0).drafts[-1]
    assert isinstance(draft.body, event_pb2.UnreadableRecord)
    assert reason in draft.body.reason
    assert draft.body.excerpt == record[:EXCERPT_BYTES_MAX].decode()
    assert draft.body.size_bytes == len(record)
    assert draft.turn_id == "turn"


def test_half_of_a_surrogate_pair_does_not_cost_the_message() -> None:
    record = b'{"type": "assistant", "message": {"id": "m", "content": [{"type": "text", "text": "a \\ud83d b"}]}}'
    (message, _) = normaliser().feed(record, 0).drafts
    assert isinstance(message.body, event_pb2.Message)
    assert message.body.content[0].text.text == "a ? b"


def test_blocks_of_one_call_repeat_its_usage_and_count_once() -> None:
    made = normaliser()
    usage = {"input_tokens": 5, "output_tokens": 1}
    drafts = []
    for number in range(3):
        message = {"id": "m", "model": "x", "content": [{"type": "text", "text": str(number)}], "usage": usage}
        drafts += made.feed(line(type="assistant", message=message), 0).drafts
    usages = [draft.body for draft in drafts if isinstance(draft.body, event_pb2.Usage)]
    assert [(one.uncached_input_tokens, one.output_tokens) for one in usages] == [(5, 1)]


def test_a_prompt_told_back_is_not_said_twice() -> None:
    record = line(type="user", isReplay=True, message={"role": "user", "content": "<local-command-stdout>…"})
    assert not normaliser().feed(record, 0).drafts


def test_pictures_and_searches_in_a_tool_result_are_named() -> None:
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
    found = {
        "type": "web_search_tool_result",
        "tool_use_id": "s",
        "content": [{"type": "web_search_result", "url": "u"}],
    }
    told = {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "see"}, picture]}
    (draft,) = normaliser().feed(line(type="user", message={"content": [told, found]}), 0).drafts
    assert isinstance(draft.body, event_pb2.Message)
    first, second = (block.tool_result for block in draft.body.content)
    assert first.text == "see\n[image image/png, 3 bytes]"
    assert json.loads(second.structured_json) == [{"type": "web_search_result", "url": "u"}]


def test_a_refused_allowance_is_remembered_for_the_turns_outcome() -> None:
    made = normaliser()
    info = {"status": "rejected", "resetsAt": 1_795_400_000, "rateLimitType": "five_hour"}
    (draft,) = made.feed(line(type="rate_limit_event", rate_limit_info=info), 0).drafts
    assert isinstance(draft.body, event_pb2.Notice)
    assert draft.body.severity == event_pb2.SEVERITY_ERROR
    assert draft.body.retry_at.seconds == 1_795_400_000
    assert made.quota_is_used_up
    made.begin("next")
    assert not made.quota_is_used_up
