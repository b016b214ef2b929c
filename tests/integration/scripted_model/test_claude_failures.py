"""The real Claude Code CLI meets what can go wrong at the model: errors, broken streams, interrupts."""

import time
from pathlib import Path
from typing import Any

import pytest
from claude_agent_sdk import AssistantMessage, Message, RateLimitEvent, ResultMessage, StreamEvent, SystemMessage

from podium.scripted_model import (
    DUMMY_KEY,
    Attempts,
    Drop,
    HttpError,
    Pace,
    Reply,
    Script,
    ScriptedModel,
    Stall,
    StreamError,
    Turns,
    claude_environment,
    rate_limit_headers,
)

pytestmark = pytest.mark.claude

LONG = Reply(text="abcd" * 100, pace=Pace(piece_chars=4, delay_s=0.001))


def failure(messages: list[Message]) -> tuple[bool, int | None]:
    result = messages[-1]
    assert isinstance(result, ResultMessage)
    return result.is_error, result.api_error_status


def retries(messages: list[Message]) -> list[Any]:
    return [m.data["error_status"] for m in messages if isinstance(m, SystemMessage) and m.subtype == "api_retry"]


@pytest.mark.parametrize("status", [401, 429, 500, 529])
async def test_an_error_status_is_retried_and_then_reported(connect: Any, ask: Any, status: int) -> None:
    error = HttpError(status=status, retry_after_s=0)
    async with ScriptedModel(Script([error])) as model, connect(model) as client:
        messages = await ask(client, "try")
    assert failure(messages) == (True, status)
    assert retries(messages) == [status]
    assert [(request.status, request.attempt) for request in model.requests] == [(status, 0), (status, 1)]


async def test_the_client_is_usable_after_a_failed_turn(connect: Any, ask: Any) -> None:
    """Only a one-shot `query()` ends the CLI with an error; a client with its input open stays."""
    script = Script(Turns([HttpError(status=401)], [Reply(text="works again")]))
    async with ScriptedModel(script) as model, connect(model) as client:
        assert failure(await ask(client, "first")) == (True, 401)
        assert (await ask(client, "second"))[-1].result == "works again"


async def test_a_bad_request_is_reported_without_a_retry_notice(connect: Any, ask: Any) -> None:
    async with (
        ScriptedModel(Script([HttpError(status=400, message="no such thing")])) as model,
        connect(model) as client,
    ):
        messages = await ask(client, "try")
    assert failure(messages) == (True, 400)
    assert retries(messages) == []


@pytest.mark.parametrize("status", ["allowed_warning", "rejected"])
async def test_a_subscription_is_told_its_rate_limit(connect: Any, ask: Any, home: Path, status: Any) -> None:
    resets_at = int(time.time()) + 3600
    headers = rate_limit_headers(status=status, utilization=0.91, resets_at_unix_s=resets_at)
    answer = Reply(text="hi", headers=headers) if status != "rejected" else HttpError(status=429, headers=headers)
    async with ScriptedModel(Script([answer])) as model:
        environment = claude_environment(home, model.url, subscription=True)
        async with connect(model, env=environment) as client:
            messages = await ask(client, "how much is left?")
    (limit,) = [message.rate_limit_info for message in messages if isinstance(message, RateLimitEvent)]
    assert (limit.status, limit.rate_limit_type, limit.resets_at) == (status, "five_hour", resets_at)
    assert len(model.requests) == 1
    assert model.requests[0].headers["authorization"] == f"Bearer {DUMMY_KEY}"


async def test_what_came_before_a_drop_is_shown_and_then_begun_anew(connect: Any, ask: Any) -> None:
    drop = Reply(text=LONG.text, pace=Pace(piece_chars=4, delay_s=0.05), ends=Drop(after_pieces=3))
    script = Script([Attempts(drop, Reply(text="whole"))])
    async with ScriptedModel(script) as model, connect(model, include_partial_messages=True) as client:
        messages = await ask(client, "try")
    kinds = [message.event["type"] for message in messages if isinstance(message, StreamEvent)]
    # The CLI closes the broken message by itself, without the message_delta that carries usage.
    assert kinds.count("message_start") == kinds.count("message_stop") == 2
    assert kinds.count("message_delta") == 1
    assert [m.message_id for m in messages if isinstance(m, AssistantMessage)] == [
        message.event["message"]["id"]
        for message in messages
        if isinstance(message, StreamEvent) and message.event["type"] == "message_start"
    ][1:]


async def test_retry_after_holds_the_client_back(connect: Any, ask: Any) -> None:
    script = Script([Attempts(HttpError(status=429, retry_after_s=1), Reply(text="now"))])
    async with ScriptedModel(script) as model, connect(model) as client:
        messages = await ask(client, "try")
    refused, answered = model.requests
    assert answered.received_s - refused.received_s >= 1.0
    assert messages[-1].result == "now"


async def test_a_script_that_is_over_stops_the_client(connect: Any, ask: Any) -> None:
    async with ScriptedModel(Script([])) as model, connect(model) as client:
        messages = await ask(client, "try")
    assert failure(messages) == (True, 400)
    assert "the script is over" in str(messages[-1])


async def test_a_dropped_stream_is_reported_after_its_retries(connect: Any, ask: Any) -> None:
    drop = Reply(text=LONG.text, pace=LONG.pace, ends=Drop(after_pieces=5))
    async with ScriptedModel(Script([drop])) as model, connect(model) as client:
        messages = await ask(client, "try")
    assert failure(messages)[0]
    # Stream, stream again, then once without a stream.
    assert [request.body.get("stream", False) for request in model.requests] == [True, True, False]
    assert all(request.dropped and not request.closed_early for request in model.requests)


async def test_a_stream_dropped_once_is_answered_at_the_second_try(connect: Any, ask: Any) -> None:
    drop = Reply(text="never whole, " * 20, ends=Drop(after_pieces=5))
    async with ScriptedModel(Script([Attempts(drop, Reply(text="whole"))])) as model, connect(model) as client:
        messages = await ask(client, "try")
    assert messages[-1].result == "whole"
    assert [request.attempt for request in model.requests] == [0, 1]


async def test_an_error_inside_the_stream_is_reported(connect: Any, ask: Any) -> None:
    broken = Reply(text=LONG.text, pace=LONG.pace, ends=StreamError(after_pieces=5))
    async with ScriptedModel(Script([broken])) as model, connect(model) as client:
        messages = await ask(client, "try")
    assert failure(messages) == (True, 529)
    assert model.requests[0].pieces_sent == 5


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(Reply(text=LONG.text, pace=LONG.pace, ends=Stall(after_pieces=5)), id="stalled"),
        pytest.param(Reply(text="abcd" * 100_000, pace=LONG.pace), id="flowing"),
    ],
)
async def test_an_interrupt_closes_the_connection_quickly(connect: Any, reply: Reply) -> None:
    async with ScriptedModel(Script([reply])) as model, connect(model, include_partial_messages=True) as client:
        await client.query("talk")
        await model.wait_for(lambda request: request.pieces_sent >= 5)
        asked_s = time.monotonic()
        await client.interrupt()
        request = await model.wait_for(lambda request: request.closed_early)
    assert request.closed_s is not None
    # 17 ms when nothing else runs; the bound leaves room for a busy machine.
    assert 0 <= request.closed_s - asked_s < 2.0
    assert request.finished_s is None


async def test_the_client_is_usable_after_an_interrupt(connect: Any, ask: Any) -> None:
    stalled = Reply(text=LONG.text, ends=Stall(after_pieces=5))
    script = Script([Reply(text="second")], scenarios={"stall": [stalled]})
    async with ScriptedModel(script) as model, connect(model) as client:
        await client.query("[[scenario:stall]]")
        await model.wait_for(lambda request: request.pieces_sent == 5)
        await client.interrupt()
        assert [m async for m in client.receive_response()][-1].terminal_reason == "aborted_streaming"
        assert (await ask(client, "again"))[-1].result == "second"
    assert [(request.turn, request.step) for request in model.requests] == [(0, 0), (1, 0)]
