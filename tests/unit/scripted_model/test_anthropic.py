"""The Anthropic wire format: what is read from a request, what is written for a reply."""

import json
from collections.abc import Mapping
from typing import Any

import orjson
import pytest

from podium.scripted_model.anthropic import AnthropicMessages
from podium.scripted_model.anthropic_history import HistoryError, read_messages
from podium.scripted_model.script import Conversation, HttpError, Pace, Reply, ToolCall, Usage
from podium.scripted_model.wire import Call, Frame, Plain

WIRE = AnthropicMessages()
CALL = Call(conversation=Conversation(model="claude-x", messages=()), streamed=True)
HEADERS = {"x-api-key": "k", "x-claude-code-session-id": "s", "x-claude-code-agent-id": "a"}


def user(*blocks: Mapping[str, Any] | str) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "text", "text": b} if isinstance(b, str) else b for b in blocks]}


def assistant(*blocks: Mapping[str, Any] | str) -> dict[str, Any]:
    return {**user(*blocks), "role": "assistant"}


def use(identifier: str) -> dict[str, Any]:
    return {"type": "tool_use", "id": identifier, "name": "Bash", "input": {"command": "ls"}}


def result(identifier: str, content: Any = "out", *, is_error: bool = False) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": identifier, "content": content, "is_error": is_error}


def events(frames: list[Frame]) -> list[dict[str, Any]]:
    read = []
    for frame in frames:
        name, data, *rest = frame.data.decode().split("\n")
        assert rest == ["", ""]
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        read.append(event)
    return read


def assemble(streamed: list[dict[str, Any]]) -> dict[str, Any]:
    """The message that the events build, as a client builds it."""
    message: dict[str, Any] = {}
    for event in streamed:
        match event:
            case {"type": "message_start"}:
                message = {**event["message"], "content": []}
            case {"type": "content_block_start", "index": index, "content_block": block}:
                assert index == len(message["content"])
                message["content"].append({**block, "input": ""} if block["type"] == "tool_use" else dict(block))
            case {"type": "content_block_delta", "delta": {"type": kind, **rest}}:
                block = message["content"][-1]
                name = "input" if kind == "input_json_delta" else next(iter(rest))
                block[name] += next(iter(rest.values()))
            case {"type": "content_block_stop"} if message["content"][-1]["type"] == "tool_use":
                message["content"][-1]["input"] = json.loads(message["content"][-1]["input"])
            case {"type": "message_delta"}:
                message |= event["delta"]
                message["usage"] |= event["usage"]
            case _:
                assert event["type"] in ("ping", "content_block_stop", "message_stop")
    return message


FULL = Reply(
    thinking="ich überlege",
    text="two words 漢字",
    tools=(ToolCall("Bash", {"command": "echo 'ä'"}, "toolu_given"), ToolCall("Read", {"file_path": "/x"})),
    usage=Usage(
        uncached_input_tokens=1,
        cache_read_tokens=2,
        cache_write_5m_tokens=3,
        cache_write_1h_tokens=4,
        output_tokens=5,
    ),
    pace=Pace(piece_chars=3),
)


def test_a_stream_builds_the_same_message_as_the_whole_answer() -> None:
    whole = orjson.loads(WIRE.whole(FULL, CALL, "r1").body)
    assert assemble(events(WIRE.stream(FULL, CALL, "r1"))) == whole
    assert [block["type"] for block in whole["content"]] == ["thinking", "text", "tool_use", "tool_use"]
    assert [block["id"] for block in whole["content"][2:]] == ["toolu_given", "toolu_r1_1"]
    assert whole["stop_reason"] == "tool_use"


def test_the_final_usage_comes_at_the_end_and_not_before() -> None:
    streamed = events(WIRE.stream(FULL, CALL, "r1"))
    assert streamed[0]["message"]["usage"]["output_tokens"] == 1
    assert streamed[-2]["usage"] == {
        "input_tokens": 1,
        "cache_read_input_tokens": 2,
        "cache_creation_input_tokens": 7,
        "cache_creation": {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 4},
        "output_tokens": 5,
        "service_tier": "standard",
    }


def test_a_tuple_of_text_gives_the_exact_pieces() -> None:
    frames = WIRE.stream(Reply(text=("a", "bc", "")), CALL, "r1")
    pieces = [event["delta"]["text"] for event in events([frame for frame in frames if frame.is_piece])]
    assert pieces == ["a", "bc", ""]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (HttpError(status=401), "authentication_error"),
        (HttpError(status=429), "rate_limit_error"),
        (HttpError(status=529), "overloaded_error"),
        (HttpError(status=418), "api_error"),
        (HttpError(status=400, kind="special"), "special"),
    ],
)
def test_an_error_names_its_kind(error: HttpError, kind: str) -> None:
    assert orjson.loads(WIRE.error(error, "r1").body)["error"]["type"] == kind


def test_a_rate_limit_says_when_to_come_back() -> None:
    error = HttpError(status=429, retry_after_s=7, headers={"anthropic-ratelimit-requests-remaining": "0"})
    headers = WIRE.error(error, "r1").headers
    assert headers["retry-after"] == "7"
    assert headers["anthropic-ratelimit-requests-remaining"] == "0"
    assert headers["request-id"] == "req_r1"


def test_a_request_is_read_into_a_conversation() -> None:
    body = {
        "model": "claude-x",
        "stream": True,
        "output_config": {"effort": "high"},
        "messages": [
            user("<system-reminder>\nenvironment\n</system-reminder>", "do it", " and more"),
            assistant("I will", use("t1")),
            user(result("t1", "out\n\n<system-reminder>\n5 tokens left\n</system-reminder>", is_error=True)),
        ],
    }
    asked = WIRE.read("POST", "/v1/messages", HEADERS, orjson.dumps(body))
    assert isinstance(asked, Call)
    talk = asked.conversation
    assert (talk.model, talk.session, talk.agent, talk.effort) == ("claude-x", "s", "a", "high")
    assert talk.prompts == ("do it\n and more",)
    assert talk.messages[1].text == "I will"
    assert (talk.tool_results[0].text, talk.tool_results[0].is_error) == ("out", True)
    assert asked.streamed


def test_an_interrupt_between_two_prompts_keeps_them_apart() -> None:
    (message,) = read_messages([user("first", "[Request interrupted by user]", "second")])
    assert message.prompts == ("first", "second")


def test_a_background_notice_is_no_prompt() -> None:
    messages = read_messages([user("go"), assistant("started"), user("<system-reminder>\ntask done</system-reminder>")])
    assert [message.prompts for message in messages] == [("go",), (), ()]


@pytest.mark.parametrize(
    ("messages", "complaint"),
    [
        ([], "at least one message"),
        ([{"role": "robot", "content": "x"}], "role"),
        ([{"role": "user", "content": []}], "non-empty"),
        ([user({"type": "text"})], "lacks 'text'"),
        ([user("go"), assistant(use("t1")), user("no result")], "`tool_use` ids were found without `tool_result`"),
        ([user("go"), assistant(use("t1"), use("t2")), user(result("t1"))], "immediately after: t2"),
        ([user("go"), assistant("x"), user(result("t9"))], "unexpected `tool_use_id`"),
        ([user("go"), assistant(use("t1"))], "unanswered"),
    ],
)
def test_a_history_that_the_real_api_refuses_is_refused(messages: list[Any], complaint: str) -> None:
    with pytest.raises(HistoryError, match=complaint):
        read_messages(messages)
    body = orjson.dumps({"model": "m", "messages": messages})
    refused = WIRE.read("POST", "/v1/messages", HEADERS, body)
    assert isinstance(refused, Plain)
    assert refused.status == 400


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"messages": []}'])
def test_an_unreadable_request_is_refused(body: bytes) -> None:
    refused = WIRE.read("POST", "/v1/messages", HEADERS, body)
    assert isinstance(refused, Plain)
    assert refused.status == 400


def test_a_request_without_a_key_is_refused() -> None:
    refused = WIRE.read("POST", "/v1/messages", {}, b"{}")
    assert isinstance(refused, Plain)
    assert refused.status == 401


def test_tokens_are_counted_without_a_script() -> None:
    body = orjson.dumps({"model": "m", "messages": [user("x" * 400)]})
    counted = WIRE.read("POST", "/v1/messages/count_tokens", HEADERS, body)
    assert counted == Plain(status=200, payload={"input_tokens": len(body) // 4})


def test_other_paths_are_left_to_other_formats() -> None:
    assert WIRE.read("POST", "/v1/responses", HEADERS, b"{}") is None
    assert WIRE.read("GET", "/v1/messages", HEADERS, b"") is None
