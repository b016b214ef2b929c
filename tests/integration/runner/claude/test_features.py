"""What the capabilities promise, on the real client: modes, models, efforts, schemas, questions, sub-agents, size."""

import asyncio
import json

import pytest

from podium.scripted_model import Conversation, Pace, Reply, Script, ScriptedModel, Stall, ToolCall, Turns, Usage
from podium.v1 import content_pb2, event_pb2, session_pb2
from runner.providers import problems
from runner.providers.port import Answer, ProviderFailed
from tests.integration.runner.claude.claude_rig import ALLOW, RecordingOutbox, Rig, code, turn

pytestmark = pytest.mark.claude

COMPLETED = session_pb2.TURN_STATUS_COMPLETED
ALLOWED = session_pb2.APPROVAL_OUTCOME_ALLOWED
TOUCH = ToolCall("Bash", {"command": "echo hi > made.txt"})
LIST = ToolCall("Bash", {"command": "ls"})

# mode: (asked about Bash that writes, it ran when allowed; asked about Write, it ran)
MODES = {
    session_pb2.PERMISSION_MODE_DEFAULT: {"Bash": (True, True), "Write": (True, True)},
    session_pb2.PERMISSION_MODE_ACCEPT_EDITS: {"Bash": (False, True), "Write": (False, True)},
    session_pb2.PERMISSION_MODE_PLAN: {"Bash": (True, True), "Write": (True, True)},
    session_pb2.PERMISSION_MODE_BYPASS: {"Bash": (False, True), "Write": (False, True)},
    session_pb2.PERMISSION_MODE_DENY: {"Bash": (False, False), "Write": (False, False)},
}


@pytest.mark.parametrize("mode", MODES, ids=session_pb2.PermissionMode.Name)
async def test_a_permission_mode_asks_and_acts_as_documented(
    rig: Rig, mode: session_pb2.PermissionMode.ValueType
) -> None:
    outbox = RecordingOutbox(lambda _: ALLOW)
    write = ToolCall("Write", {"file_path": str(rig.workspace / "written.txt"), "content": "hi"})
    touch = ToolCall("Bash", {"command": "touch made.txt"})
    script = Script([Reply(tool=LIST), Reply(tool=touch), Reply(tool=write), Reply(text="done")])
    async with ScriptedModel(script) as model, rig.driver(model, outbox, permission_mode=mode) as driver:
        await driver.run_turn(turn())
    asked = {question.tool_name for question in outbox.questions}
    found = {
        "Bash": ("Bash" in asked, (rig.workspace / "made.txt").exists()),
        "Write": ("Write" in asked, (rig.workspace / "written.txt").exists()),
    }
    assert found == MODES[mode]
    assert outbox.results[0].is_error is False  # looking is allowed in every mode
    denied = [notice for notice in outbox.all(event_pb2.Notice) if notice.code == "permission_denied"]
    assert bool(denied) is (mode == session_pb2.PERMISSION_MODE_DENY)


async def test_a_mode_changes_between_turns_without_a_restart(rig: Rig) -> None:
    outbox = RecordingOutbox(lambda _: ALLOW)
    script = Script([Reply(tool=TOUCH), Reply(text="done")])
    async with ScriptedModel(script) as model, rig.driver(model, outbox) as driver:
        await driver.run_turn(turn())
        await driver.set_permission_mode(session_pb2.PERMISSION_MODE_BYPASS)
        await driver.run_turn(turn())
        await driver.set_permission_mode(session_pb2.PERMISSION_MODE_DENY)
        await driver.run_turn(turn())
    assert len(outbox.questions) == 1
    assert [result.is_error for result in outbox.results] == [False, False, True]
    assert len({request.headers["x-claude-code-session-id"] for request in model.requests}) == 1


async def test_bypass_needs_the_runners_leave(rig: Rig) -> None:
    bypass = session_pb2.PERMISSION_MODE_BYPASS
    with pytest.raises(ProviderFailed) as refused:
        async with rig.driver(None, RecordingOutbox(), permission_mode=bypass, allow_bypass=False):
            pass
    assert refused.value.problem.code == problems.NOT_ALLOWED
    async with rig.driver(None, RecordingOutbox(), allow_bypass=False) as driver:
        with pytest.raises(ProviderFailed):
            await driver.set_permission_mode(bypass)


async def test_model_and_effort_change_from_turn_to_turn(rig: Rig) -> None:
    outbox = RecordingOutbox()
    async with ScriptedModel(Script([Reply(text="a")])) as model, rig.driver(model, outbox) as driver:
        await driver.run_turn(turn(model="claude-opus-4-6", effort="low"))
        await driver.run_turn(turn(effort="high"))
        await driver.run_turn(turn(model="claude-sonnet-5", effort="medium"))
        await driver.run_turn(turn(model="sonnet"))
    asked = [(r.body["model"], (r.body.get("output_config") or {}).get("effort")) for r in model.requests]
    assert asked == [
        ("claude-opus-4-6", "low"),
        ("claude-opus-4-6", "high"),
        ("claude-sonnet-5", "medium"),
        ("claude-sonnet-5-5", "medium"),
    ]
    resolved = [bound.resolved_model for bound in outbox.all(event_pb2.ProviderBound)]
    assert resolved == ["claude-opus-4-6", "claude-sonnet-5", "claude-sonnet-5-5"]
    assert outbox.said == ["a"] * 4
    assert not [m for m in outbox.messages() if m.role != event_pb2.ROLE_ASSISTANT]


async def test_an_answer_follows_a_schema_and_the_next_turn_need_not(rig: Rig) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}

    def answer(said: Conversation) -> Reply:
        return Reply(tool=ToolCall("StructuredOutput", {"a": 1})) if said.turn == 0 else Reply(text=said.prompts[0])

    outbox = RecordingOutbox()
    async with ScriptedModel(Script([answer, Reply(text="x")])) as model, rig.driver(model, outbox) as driver:
        first = await driver.run_turn(turn("one", output_schema_json=json.dumps(schema)))
        second = await driver.run_turn(turn("two"))
    assert (first.status, json.loads(first.structured_output_json)) == (COMPLETED, {"a": 1})
    assert (second.status, second.structured_output_json) == (COMPLETED, "")
    assert outbox.said[-1] == "one"


async def test_an_answer_that_ignores_the_schema_fails_the_turn(rig: Rig) -> None:
    schema = '{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}'
    async with ScriptedModel(Script([Reply(text="no")] * 12)) as model, rig.driver(model, RecordingOutbox()) as driver:
        ended = await driver.run_turn(turn(output_schema_json=schema))
    assert code(ended) == problems.OUTPUT_NOT_STRUCTURED


async def test_the_agents_question_is_answered_by_a_person(rig: Rig) -> None:
    asked = {
        "questions": [
            {
                "question": "Which?",
                "header": "Pick",
                "options": [{"label": "A", "description": "a"}, {"label": "B", "description": "b"}],
                "multiSelect": False,
            }
        ]
    }
    chosen = Answer(ALLOWED, updated_input_json=json.dumps({**asked, "answers": {"Which?": "B"}}))
    outbox = RecordingOutbox(lambda _: chosen if len(outbox.questions) == 1 else Answer(ALLOWED, message="free"))
    script = Script(
        [
            Reply(tool=ToolCall("AskUserQuestion", asked)),
            Reply(tool=ToolCall("AskUserQuestion", asked)),
            lambda said: Reply(text=" ".join(result.text for result in said.tool_results)),
        ]
    )
    async with ScriptedModel(script) as model, rig.driver(model, outbox) as driver:
        await driver.run_turn(turn())
    assert [question.kind for question in outbox.questions] == [session_pb2.APPROVAL_KIND_QUESTION] * 2
    assert outbox.questions[0].summary == "Which?"
    assert '"Which?"="B"' in outbox.said[-1]
    assert '"Which?"="free"' in outbox.said[-1]


async def test_nobody_is_asked_in_the_mode_that_never_asks(rig: Rig) -> None:
    """Not even the questions of the agent: the client refuses them itself, and the driver would."""
    asked = {"questions": [{"question": "Which?", "header": "Pick", "options": [], "multiSelect": False}]}
    asked["questions"][0]["options"] = [{"label": name, "description": name} for name in "AB"]
    outbox = RecordingOutbox(lambda _: ALLOW)
    script = Script([Reply(tool=ToolCall("AskUserQuestion", asked)), Reply(text="done")])
    deny = session_pb2.PERMISSION_MODE_DENY
    async with ScriptedModel(script) as model, rig.driver(model, outbox, permission_mode=deny) as driver:
        ended = await driver.run_turn(turn())
    assert ended.status == COMPLETED
    assert not outbox.questions
    assert outbox.results[0].is_error


async def test_a_plan_is_shown_and_approved(rig: Rig) -> None:
    outbox = RecordingOutbox(lambda _: ALLOW)
    script = Script([Reply(tool=ToolCall("ExitPlanMode", {"plan": "# do it"})), Reply(text="done")])
    plan = session_pb2.PERMISSION_MODE_PLAN
    async with ScriptedModel(script) as model, rig.driver(model, outbox, permission_mode=plan) as driver:
        ended = await driver.run_turn(turn())
    assert ended.status == COMPLETED
    assert [question.kind for question in outbox.questions] == [session_pb2.APPROVAL_KIND_PLAN]
    assert "approved" in outbox.results[0].text


async def test_arguments_a_person_changed_are_the_ones_that_run(rig: Rig) -> None:
    changed = Answer(ALLOWED, updated_input_json='{"command": "echo changed > made.txt"}')
    outbox = RecordingOutbox(lambda _: changed)
    async with (
        ScriptedModel(Script([Reply(tool=TOUCH), Reply(text="done")])) as model,
        rig.driver(model, outbox) as driver,
    ):
        await driver.run_turn(turn())
    assert (rig.workspace / "made.txt").read_text() == "changed\n"


async def test_a_rule_to_remember_is_not_asked_for_again(rig: Rig) -> None:
    def remember(question: event_pb2.ApprovalRequested) -> Answer:
        mode = next(option for option in json.loads(question.options_json) if option["type"] == "setMode")
        return Answer(ALLOWED, remember_json=json.dumps(mode))

    outbox = RecordingOutbox(remember)
    edits = [ToolCall("Write", {"file_path": str(rig.workspace / name), "content": "x"}) for name in ("a", "b")]
    script = Script([Reply(tool=edits[0]), Reply(tool=edits[1]), Reply(text="done")])
    async with ScriptedModel(script) as model, rig.driver(model, outbox) as driver:
        await driver.run_turn(turn())
    assert len(outbox.questions) == 1
    assert (rig.workspace / "b").exists()


@pytest.mark.parametrize("background", [False, True, None], ids=["foreground", "background", "unset"])
async def test_a_sub_agent_is_linked_to_its_call_and_its_tokens_count_once(
    rig: Rig, *, background: bool | None
) -> None:
    arguments = {"description": "look", "prompt": "[[scenario:child]] look", "subagent_type": "general-purpose"}
    how = {} if background is None else {"run_in_background": background}
    child = [
        Reply(
            thinking="child thinks",
            text="child says",
            tool=ToolCall("Bash", {"command": "echo child"}),
            usage=Usage(uncached_input_tokens=101, cache_read_tokens=7, cache_write_1h_tokens=3, output_tokens=51),
        ),
        Reply(text="child done", usage=Usage(uncached_input_tokens=102, output_tokens=52)),
    ]
    outbox = RecordingOutbox()
    agent = [Reply(tool=ToolCall("Agent", {**arguments, **how})), Reply(text="told")]
    script = Script(Turns(agent, [Reply(text="more")]), scenarios={"child": child})
    async with ScriptedModel(script) as model, rig.driver(model, outbox) as driver:
        ended = await driver.run_turn(turn())
        await driver.run_turn(turn("again"))
    assert ended.status == COMPLETED
    (call,) = [b.tool_use for m in outbox.messages() for b in m.content if b.tool_use.name == "Task"][:1]
    assert call.native_name == "Agent"
    of_child = [draft for draft in outbox.drafts if draft.parent_tool_use_id]
    assert {draft.parent_tool_use_id for draft in of_child} == {call.id}
    spoken = [draft.body for draft in of_child if isinstance(draft.body, event_pb2.Message)]
    said = [b.text.text for m in spoken if m.role == event_pb2.ROLE_ASSISTANT for b in m.content if b.HasField("text")]
    assert said == ["child says", "child done"]
    assert "child" in [b.tool_result.text for m in spoken for b in m.content if b.HasField("tool_result")]
    # Two calls of the agent and two of the child in the first turn, one call in the second.
    second = model.requests[-1]
    assert second.turn == 1
    assert outbox.tokens == (11 + 11 + 101 + 102 + 11, 7, 0, 3, 27 + 27 + 51 + 52 + 27)


async def test_a_prompt_of_half_a_megabyte_arrives_whole(rig: Rig) -> None:
    prompt = "0123456789" * 50_000
    outbox = RecordingOutbox()
    script = Script([lambda said: Reply(text=str(len(said.last_prompt)))])
    async with ScriptedModel(script) as model, rig.driver(model, outbox) as driver:
        await driver.run_turn(turn(prompt))
    assert outbox.said == ["500000"]


async def test_a_line_of_ten_megabytes_arrives_whole(rig: Rig) -> None:
    text = "0123456789" * 1_000_000
    outbox = RecordingOutbox()
    reply = Reply(text=text, pace=Pace(piece_chars=500_000))
    async with ScriptedModel(Script([reply])) as model, rig.driver(model, outbox) as driver:
        ended = await driver.run_turn(turn())
    assert ended.status == COMPLETED
    assert outbox.said == [text]
    assert "".join(delta.text for delta in outbox.deltas) == text
    assert max(map(len, outbox.records)) > 10_000_000


async def test_what_is_no_text_is_refused_before_the_client_sees_it(rig: Rig) -> None:
    picture = content_pb2.ContentBlock(attachment=content_pb2.AttachmentBlock(title="a.png"))
    async with rig.driver(None, RecordingOutbox()) as driver:
        ended = await driver.run_turn(turn(prompt_blocks=[picture]))
    assert code(ended) == problems.PROMPT_NOT_SUPPORTED


async def test_the_client_sees_exactly_the_environment_it_was_given(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_RUNNER", "1")
    outbox = RecordingOutbox()
    script = Script([Reply(tool=ToolCall("Bash", {"command": "env | sort"})), Reply(text="done")])
    bypass = session_pb2.PERMISSION_MODE_BYPASS
    async with ScriptedModel(script) as model, rig.driver(model, outbox, permission_mode=bypass) as driver:
        await driver.run_turn(turn())
    assert "SECRET_OF_THE_RUNNER" not in outbox.results[0].text
    assert f"HOME={rig.home}" in outbox.results[0].text


async def test_the_system_prompt_addition_reaches_the_model_whatever_its_length(rig: Rig) -> None:
    addition = "- begin with a dash. " + "x" * 200_000 + " THE END"
    async with ScriptedModel(Script([Reply(text="a")])) as model:
        async with rig.driver(model, RecordingOutbox(), system_prompt_addition=addition) as driver:
            await driver.run_turn(turn())
        system = json.dumps(model.requests[0].body["system"])
    assert "THE END" in system
    assert "Claude" in system  # it is added to the client's own prompt


async def test_a_session_folder_from_a_start_nobody_heard_of_is_resumed(rig: Rig) -> None:
    script = Script([lambda said: Reply(text=f"{len(said.prompts)} prompts")])
    outbox = RecordingOutbox()
    async with ScriptedModel(script) as model:
        async with rig.driver(model, RecordingOutbox()) as driver:
            await driver.run_turn(turn())
        async with rig.driver(model, outbox) as driver:  # the log never heard of the native session
            await driver.run_turn(turn())
    assert outbox.said == ["2 prompts"]


async def test_closing_during_a_turn_is_quick_and_leaves_no_process(rig: Rig) -> None:
    outbox = RecordingOutbox()
    script = Script([Reply(text="abcd" * 100, ends=Stall(after_pieces=5))])
    async with ScriptedModel(script) as model, rig.driver(model, outbox) as driver:
        running = asyncio.create_task(driver.run_turn(turn()))
        await outbox.until(lambda: len(outbox.deltas) >= 5)
        pid = rig.client_pid()
        running.cancel()
        async with asyncio.timeout(8.0):
            await driver.close()
        await driver.close()
        await rig.until_gone(pid)
