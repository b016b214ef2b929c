"""Turns on the real client: text, tools, approvals, resume, interrupt, tokens."""

import asyncio
from pathlib import Path

import pytest

from podium.scripted_model import Pace, Reply, Script, ScriptedModel, Stall, ToolCall, Turns, Usage
from podium.v1 import event_pb2, runner_pb2, session_pb2
from runner.providers.port import Answer
from tests.integration.runner.claude.claude_rig import ALLOW, DENY, RecordingOutbox, Rig, resumed, turn

pytestmark = pytest.mark.claude

COMPLETED = session_pb2.TURN_STATUS_COMPLETED
WRITE = ToolCall("Bash", {"command": "echo hi > f.txt; cat f.txt"})


async def test_a_prompt_is_answered_and_the_native_session_is_bound(rig: Rig) -> None:
    outbox = RecordingOutbox()
    async with (
        ScriptedModel(Script([Reply(thinking="hmm", text="hello")])) as model,
        rig.driver(model, outbox) as driver,
    ):
        ended = await driver.run_turn(turn("hi"))
    assert ended.status == COMPLETED
    assert outbox.said == ["hello"]
    (bound,) = outbox.all(event_pb2.ProviderBound)
    assert bound.provider_session_id == rig.session_id
    assert bound.client_version == "2.1.330"
    assert bound.resolved_model == "claude-sonnet-4-5"
    assert rig.session_id in bound.jsonl_path
    assert '"hello"' in Path(bound.jsonl_path).read_text()
    spoken = {delta.kind: delta.text for delta in outbox.deltas}
    assert spoken == {runner_pb2.DELTA_KIND_THINKING: "hmm", runner_pb2.DELTA_KIND_TEXT: "hello"}
    assert not outbox.all(event_pb2.UnreadableRecord)


async def test_tokens_are_counted_once_for_each_call(rig: Rig) -> None:
    first = Usage(uncached_input_tokens=1200, cache_write_5m_tokens=800, cache_write_1h_tokens=70, output_tokens=96)
    second = Usage(uncached_input_tokens=150, cache_read_tokens=2000, output_tokens=64)
    script = Script([Reply(thinking="t", text="a", tool=WRITE, usage=first), Reply(text="done", usage=second)])
    outbox = RecordingOutbox()
    async with ScriptedModel(script) as model, rig.driver(model, outbox) as driver:
        ended = await driver.run_turn(turn())
    assert outbox.tokens == (1350, 2000, 800, 70, 160)
    assert [usage.accuracy for usage in outbox.all(event_pb2.Usage)] == [event_pb2.USAGE_ACCURACY_EXACT] * 2
    assert [usage.api_request_id[:4] for usage in outbox.all(event_pb2.Usage)] == ["req_", "req_"]
    context = outbox.all(event_pb2.Context)[-1]
    assert (context.used_tokens, context.window_tokens, context.window_source) == (2214, 200_000, "client")
    assert ended.provider_cost_microusd
    assert ended.api_duration_ms > 0


async def test_a_tool_runs_when_a_person_allows_it(rig: Rig) -> None:
    outbox = RecordingOutbox(lambda _: ALLOW)
    async with (
        ScriptedModel(Script([Reply(tool=WRITE), Reply(text="done")])) as model,
        rig.driver(model, outbox) as driver,
    ):
        await driver.run_turn(turn())
    (asked,) = outbox.questions
    assert (asked.kind, asked.tool_name) == (session_pb2.APPROVAL_KIND_PERMISSION, "Bash")
    assert "echo hi > f.txt" in asked.summary
    assert (rig.workspace / "f.txt").read_text() == "hi\n"
    assert [(result.tool_use_id, result.text, result.is_error) for result in outbox.results] == [
        (asked.tool_use_id, "hi", False)
    ]


async def test_a_refusal_reaches_the_model(rig: Rig) -> None:
    outbox = RecordingOutbox(lambda _: DENY)
    script = Script([Reply(tool=WRITE), lambda said: Reply(text=said.tool_results[-1].text)])
    async with ScriptedModel(script) as model, rig.driver(model, outbox) as driver:
        ended = await driver.run_turn(turn())
    assert ended.status == COMPLETED
    assert "no way" in outbox.said[-1]
    assert not (rig.workspace / "f.txt").exists()


async def test_a_second_turn_uses_the_same_process_and_history(rig: Rig) -> None:
    script = Script(Turns([Reply(text="one")], [lambda said: Reply(text=f"before: {said.prompts[0]}")]))
    outbox = RecordingOutbox()
    async with ScriptedModel(script) as model, rig.driver(model, outbox) as driver:
        await driver.run_turn(turn("first"))
        await driver.run_turn(turn("second"))
    assert outbox.said == ["one", "before: first"]
    assert len(outbox.all(event_pb2.ProviderBound)) == 1


async def test_another_driver_resumes_the_session(rig: Rig) -> None:
    script = Script(Turns([Reply(text="one")], [lambda said: Reply(text=f"before: {said.prompts[0]}")]))
    outbox = RecordingOutbox()
    async with ScriptedModel(script) as model:
        async with rig.driver(model, outbox) as driver:
            first = await driver.run_turn(turn("first"))
        async with rig.driver(model, outbox, provider_session_id=rig.session_id) as driver:
            second = await driver.run_turn(turn("second"))
    assert outbox.said == ["one", "before: first"]
    assert {bound.provider_session_id for bound in outbox.all(event_pb2.ProviderBound)} == {rig.session_id}
    # The client's total goes on over both processes; each turn has its own part.
    assert first.provider_cost_microusd == second.provider_cost_microusd == 438


async def test_an_interrupt_keeps_what_was_said_and_the_client(rig: Rig) -> None:
    stalled = Reply(text="abcd" * 100, pace=Pace(piece_chars=4), ends=Stall(after_pieces=5))
    script = Script([Reply(text="again")], scenarios={"stall": [stalled]})
    outbox = RecordingOutbox()
    async with ScriptedModel(script) as model, rig.driver(model, outbox) as driver:
        running = asyncio.create_task(driver.run_turn(turn("[[scenario:stall]]")))
        await outbox.until(lambda: len(outbox.deltas) == 5)
        await driver.interrupt()
        ended = await running
        closed = await model.wait_for(lambda request: request.closed_early)
        after = await driver.run_turn(turn("more"))
    assert ended.status == session_pb2.TURN_STATUS_INTERRUPTED
    assert closed.finished_s is None
    assert [
        (message.content[0].text.text, message.partial) for message in outbox.messages(event_pb2.ROLE_ASSISTANT)
    ] == [
        ("abcd" * 5, True),
        ("again", False),
    ]
    assert [usage.accuracy for usage in outbox.all(event_pb2.Usage)] == [
        event_pb2.USAGE_ACCURACY_LOWER_BOUND,
        event_pb2.USAGE_ACCURACY_EXACT,
    ]
    assert after.status == COMPLETED


@pytest.mark.parametrize("answer", [ALLOW, DENY], ids=["allowed", "denied"])
async def test_a_deferred_question_is_asked_again_by_the_next_process(rig: Rig, answer: Answer) -> None:
    script = Script(Turns([Reply(tool=WRITE)], [lambda said: Reply(text=said.tool_results[-1].text)]))
    first, second = RecordingOutbox(lambda _: None), RecordingOutbox(lambda _: answer)
    what = turn()
    async with ScriptedModel(script) as model:
        async with rig.driver(model, first) as driver:
            running = asyncio.create_task(driver.run_turn(what))
            await first.until(lambda: first.questions)
            first.defer()
            deferred = await running
        async with rig.driver(model, second, provider_session_id=rig.session_id) as driver:
            ended = await driver.run_turn(resumed(what))
    assert deferred.deferred
    assert [asked.tool_use_id for asked in second.questions] == [asked.tool_use_id for asked in first.questions]
    assert ended.status == COMPLETED
    assert second.said == ["hi" if answer is ALLOW else "no way"]
    assert (rig.workspace / "f.txt").exists() is (answer is ALLOW)
    assert len(model.requests) == 2
    assert tuple(map(sum, zip(first.tokens, second.tokens, strict=True))) == (22, 0, 0, 0, 54)
    assert ended.provider_cost_microusd == 876
