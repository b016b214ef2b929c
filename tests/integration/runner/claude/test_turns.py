"""Turns on the real client: text, tools, approvals, resume, interrupt, tokens."""

import asyncio
import signal
from pathlib import Path

import pytest

from podium.clock import ManualClock
from podium.scripted_model import Conversation, Pace, Reply, Script, ScriptedModel, Stall, ToolCall, Turns, Usage
from podium.v1 import event_pb2, runner_pb2, session_pb2
from runner.providers.port import Answer, AnswerDeferred
from tests.integration.runner.claude.claude_rig import ALLOW, DENY, RecordingOutbox, Rig, code, resumed, turn

pytestmark = pytest.mark.claude

COMPLETED = session_pb2.TURN_STATUS_COMPLETED


def read(path: str) -> str:
    return Path(path).read_text()


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
    assert '"hello"' in read(bound.jsonl_path)
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


def asks_then_tells(said: Conversation) -> Reply:
    """Whether the client's "Continue from where you left off." counts as a prompt makes no difference here."""
    return Reply(text=said.tool_results[-1].text) if said.tool_results else Reply(tool=WRITE)


@pytest.mark.parametrize("answer", [ALLOW, DENY], ids=["allowed", "denied"])
async def test_a_deferred_question_is_asked_again_by_the_next_process(rig: Rig, answer: Answer) -> None:
    script = Script([asks_then_tells] * 2)
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


async def test_a_question_may_be_deferred_twice(rig: Rig) -> None:
    script, what = Script([asks_then_tells] * 2), turn()
    silent = [RecordingOutbox(lambda _: None), RecordingOutbox(lambda _: None)]
    last = RecordingOutbox(lambda _: ALLOW)
    async with ScriptedModel(script) as model:
        for number, outbox in enumerate(silent):
            async with rig.driver(model, outbox, provider_session_id=rig.session_id if number else "") as driver:
                outbox.defer()
                assert (await driver.run_turn(resumed(what) if number else what)).deferred
        async with rig.driver(model, last, provider_session_id=rig.session_id) as driver:
            ended = await driver.run_turn(resumed(what))
    assert last.said == ["hi"]
    assert ended.provider_cost_microusd == 876


async def test_the_same_driver_goes_on_after_a_deferral(rig: Rig) -> None:
    outbox, what = RecordingOutbox(lambda _: None), turn()
    async with ScriptedModel(Script([asks_then_tells] * 2)) as model, rig.driver(model, outbox) as driver:
        running = asyncio.create_task(driver.run_turn(what))
        await outbox.until(lambda: outbox.questions)
        outbox.defer()
        assert (await running).deferred
        outbox.defers, outbox.answers = False, lambda _: ALLOW
        ended = await driver.run_turn(resumed(what))
    assert ended.status == COMPLETED
    assert outbox.said == ["hi"]


async def test_of_parallel_calls_the_one_that_was_asked_about_is_asked_again(rig: Rig) -> None:
    def two(said: Conversation) -> Reply:
        if said.tool_results:
            return Reply(text=" ".join(result.text for result in said.tool_results))
        return Reply(tools=tuple(ToolCall("Bash", {"command": f"echo {n} > {n}.txt; cat {n}.txt"}) for n in "ab"))

    first = RecordingOutbox(lambda asked: ALLOW if "a.txt" in asked.input_json else None)
    second, what = RecordingOutbox(lambda _: ALLOW), turn()
    async with ScriptedModel(Script([two] * 2)) as model:
        async with rig.driver(model, first) as driver:
            running = asyncio.create_task(driver.run_turn(what))
            await first.until(lambda: len(first.questions) == 2)
            first.defer()
            assert (await running).deferred
        async with rig.driver(model, second, provider_session_id=rig.session_id) as driver:
            await driver.run_turn(resumed(what))
    assert [asked.tool_use_id for asked in second.questions] == [first.questions[1].tool_use_id]
    assert second.said == ["a b"]


async def test_a_new_turn_forgets_a_deferred_question(rig: Rig) -> None:
    first, second = RecordingOutbox(lambda _: None), RecordingOutbox()
    script = Script([lambda said: Reply(text="new") if said.last_prompt == "other" else Reply(tool=WRITE)])
    async with ScriptedModel(script) as model:
        async with rig.driver(model, first) as driver:
            running = asyncio.create_task(driver.run_turn(turn()))
            await first.until(lambda: first.questions)
            first.defer()
            assert (await running).deferred
        async with rig.driver(model, second, provider_session_id=rig.session_id) as driver:
            ended = await driver.run_turn(turn("other"))
    assert ended.status == COMPLETED
    assert not second.questions
    assert second.said == ["new"]
    assert not (rig.workspace / "f.txt").exists()


async def test_the_question_of_a_killed_owner_can_still_be_answered(rig: Rig) -> None:
    outbox, second, what = RecordingOutbox(lambda _: None), RecordingOutbox(lambda _: ALLOW), turn()
    async with ScriptedModel(Script([asks_then_tells] * 2)) as model:
        async with rig.driver(model, outbox) as driver:
            running = asyncio.create_task(driver.run_turn(what))
            await outbox.until(lambda: outbox.questions)
            await rig.until_written(outbox.questions[0].tool_use_id)  # the client writes behind
            rig.kill_client(signal.SIGKILL)
            assert code(await running) == "PROVIDER_PROCESS_DIED"
        async with rig.driver(model, second, provider_session_id=rig.session_id) as driver:
            ended = await driver.run_turn(resumed(what))
    assert ended.status == COMPLETED
    assert second.said == ["hi"]


async def test_an_interrupt_takes_the_open_question_back(rig: Rig) -> None:
    outbox = RecordingOutbox(lambda _: None)
    async with ScriptedModel(Script([Reply(tool=WRITE)])) as model, rig.driver(model, outbox) as driver:
        running = asyncio.create_task(driver.run_turn(turn()))
        await outbox.until(lambda: outbox.questions)
        await driver.interrupt()
        ended = await running
        await outbox.until(lambda: outbox.cancelled)
    assert ended.status == session_pb2.TURN_STATUS_INTERRUPTED
    assert not (rig.workspace / "f.txt").exists()


async def test_an_interrupt_ends_a_running_tool_and_its_children(rig: Rig) -> None:
    call = ToolCall("Bash", {"command": "echo $$ > pid; exec sleep 300", "timeout": 400000})
    outbox = RecordingOutbox()
    async with ScriptedModel(Script([Reply(tool=call)])) as model, rig.driver(model, outbox) as driver:
        running = asyncio.create_task(driver.run_turn(turn()))
        await rig.until_exists(rig.workspace / "pid")
        await driver.interrupt()
        ended = await running
        await rig.until_gone(int((rig.workspace / "pid").read_text()))
    assert ended.status == session_pb2.TURN_STATUS_INTERRUPTED


async def test_an_interrupt_between_turns_has_no_effect(rig: Rig) -> None:
    outbox = RecordingOutbox()
    async with ScriptedModel(Script([Reply(text="a")])) as model, rig.driver(model, outbox) as driver:
        await driver.interrupt()
        await driver.run_turn(turn())
        await driver.interrupt()
        ended = await driver.run_turn(turn())
    assert ended.status == COMPLETED


async def test_an_interrupt_during_the_start_stops_the_turn_before_the_model_is_asked(rig: Rig) -> None:
    outbox = RecordingOutbox()
    async with ScriptedModel(Script([Reply(text="a")])) as model, rig.driver(model, outbox) as driver:
        running = asyncio.create_task(driver.run_turn(turn()))
        await asyncio.sleep(0)
        await driver.interrupt()
        ended = await running
        assert not model.requests
    assert ended.status == session_pb2.TURN_STATUS_INTERRUPTED


def child_asks() -> Script:
    call = ToolCall(
        "Agent", {"description": "look", "prompt": "[[scenario:child]] look", "subagent_type": "general-purpose"}
    )
    return Script([Reply(tool=call), Reply(text="done")], scenarios={"child": [Reply(tool=WRITE), Reply(text="wrote")]})


async def test_a_sub_agents_question_is_asked_and_answered(rig: Rig) -> None:
    outbox = RecordingOutbox(lambda _: ALLOW)
    async with ScriptedModel(child_asks()) as model, rig.driver(model, outbox) as driver:
        ended = await driver.run_turn(turn())
    assert ended.status == COMPLETED
    assert [asked.tool_name for asked in outbox.questions] == ["Bash"]
    assert (rig.workspace / "f.txt").exists()


async def test_a_sub_agents_question_is_lost_with_its_process_and_the_turn_says_so(rig: Rig) -> None:
    outbox = RecordingOutbox(lambda _: None)
    outbox.defer()
    async with ScriptedModel(child_asks()) as model, rig.driver(model, outbox) as driver:
        ended = await driver.run_turn(turn())
    assert code(ended) == "PROVIDER_DEFER_FAILED"
    assert ended.problem is not None
    assert "sub-agent" in ended.problem.message
    assert not (rig.workspace / "f.txt").exists()


async def test_a_sub_agents_question_is_asked_on_when_nobody_answers_for_long(rig: Rig) -> None:
    clock = ManualClock()

    class Slow(RecordingOutbox):
        async def ask(self, question: event_pb2.ApprovalRequested) -> Answer:
            self.questions.append(question)
            if len(self.questions) < 3:
                clock.advance(600)
                raise AnswerDeferred
            return ALLOW

    outbox = Slow()
    async with ScriptedModel(child_asks()) as model, rig.driver(model, outbox, clock=clock) as driver:
        ended = await driver.run_turn(turn())
    assert ended.status == COMPLETED
    assert len({asked.tool_use_id for asked in outbox.questions}) == 1
    assert (rig.workspace / "f.txt").exists()
