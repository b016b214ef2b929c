"""The real Claude Code CLI takes what the script says: text, thinking, tools, sub-agents, resume, exact usage."""

import re
from pathlib import Path
from typing import Any

import pytest
from claude_agent_sdk import (
    AssistantMessage,
    Message,
    PermissionResultAllow,
    ResultMessage,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
    UserMessage,
)
from claude_agent_sdk._cli_version import __cli_version__ as pinned_cli_version

from podium.scripted_model import DUMMY_KEY, Pace, Reply, Script, ScriptedModel, ToolCall, Turns, Usage
from podium.scripted_model.scenarios import DEMO_FILE, demo

pytestmark = pytest.mark.claude


def blocks(messages: list[Message], kind: type) -> list[Any]:
    """The content blocks of one kind, in the order of their arrival."""
    return [
        block
        for message in messages
        if isinstance(message, AssistantMessage | UserMessage) and not isinstance(message.content, str)
        for block in message.content
        if isinstance(block, kind)
    ]


def result(messages: list[Message]) -> ResultMessage:
    last = messages[-1]
    assert isinstance(last, ResultMessage)
    return last


async def test_text_arrives_whole_whatever_the_pieces(connect: Any, ask: Any) -> None:
    text = 'Grüße 👩‍👩‍👧 \N{ZERO WIDTH JOINER} 漢字 \\ "quoted" \u2028 end'
    async with ScriptedModel(Script([Reply(text=text, pace=Pace(piece_chars=1))])) as model, connect(model) as client:
        messages = await ask(client, "say it")
    assert [block.text for block in blocks(messages, TextBlock)] == [text]
    assert model.requests[0].pieces_sent == len(text)


async def test_a_megabyte_of_text_arrives_whole(connect: Any, ask: Any) -> None:
    text = "0123456789abcdef" * 65_536
    reply = Reply(text=text, pace=Pace(piece_chars=4096))
    async with ScriptedModel(Script([reply])) as model, connect(model, max_buffer_size=8 << 20) as client:
        messages = await ask(client, "say much")
    assert blocks(messages, TextBlock)[0].text == text


async def test_the_caller_is_the_pinned_cli_with_the_dummy_key(connect: Any, ask: Any) -> None:
    async with ScriptedModel(Script([Reply(text="hi")])) as model, connect(model) as client:
        messages = await ask(client, "who are you")
    (request,) = model.requests
    assert request.user_agent.startswith(f"claude-cli/{pinned_cli_version} ")
    assert request.headers["x-api-key"] == DUMMY_KEY
    assert request.session == result(messages).session_id
    assert request.prompt == "who are you"


async def test_thinking_comes_with_its_signature(connect: Any, ask: Any) -> None:
    reply = Reply(thinking="first this, then that", signature="c2lnbmVk", text="done")
    async with ScriptedModel(Script([reply])) as model, connect(model) as client:
        messages = await ask(client, "think")
    assert blocks(messages, ThinkingBlock) == [ThinkingBlock(thinking="first this, then that", signature="c2lnbmVk")]


async def test_the_real_tool_runs_and_its_result_comes_back_to_the_script(
    connect: Any, ask: Any, workspace: Path
) -> None:
    seen: list[str] = []

    def report(conversation: Any) -> Reply:
        seen.extend(result.text for result in conversation.tool_results)
        return Reply(text="done")

    script = Script([Reply(tool=ToolCall("Bash", {"command": "echo written > file && cat file"})), report])
    async with ScriptedModel(script) as model, connect(model) as client:
        await ask(client, "write")
    assert seen == ["written"]
    assert (workspace / "file").read_text() == "written\n"


async def test_parallel_tool_calls_are_one_model_step(connect: Any, ask: Any) -> None:
    both = (ToolCall("Bash", {"command": "echo a"}, "toolu_a"), ToolCall("Bash", {"command": "echo b"}, "toolu_b"))
    async with ScriptedModel(Script([Reply(tools=both), Reply(text="both")])) as model, connect(model) as client:
        messages = await ask(client, "both")
    assert [block.id for block in blocks(messages, ToolUseBlock)] == ["toolu_a", "toolu_b"]
    assert {block.tool_use_id: block.content for block in blocks(messages, ToolResultBlock)} == {
        "toolu_a": "a",
        "toolu_b": "b",
    }
    assert [request.step for request in model.requests] == [0, 1]


async def test_usage_is_what_the_script_says(connect: Any, ask: Any) -> None:
    usage = Usage(
        uncached_input_tokens=101,
        cache_read_tokens=203,
        cache_write_5m_tokens=307,
        cache_write_1h_tokens=401,
        output_tokens=503,
    )
    async with ScriptedModel(Script([Reply(text="counted", usage=usage)])) as model, connect(model) as client:
        counted = result(await ask(client, "count")).usage
    assert counted is not None
    assert (counted["input_tokens"], counted["cache_read_input_tokens"], counted["output_tokens"]) == (101, 203, 503)
    assert counted["cache_creation_input_tokens"] == 708
    assert counted["cache_creation"] == {"ephemeral_5m_input_tokens": 307, "ephemeral_1h_input_tokens": 401}


async def test_max_tokens_makes_the_client_ask_on_in_the_same_turn(connect: Any, ask: Any) -> None:
    script = Script([Reply(text="cut", stop_reason="max_tokens"), Reply(text=" and whole")])
    async with ScriptedModel(script) as model, connect(model) as client:
        messages = await ask(client, "long")
    assert [(request.turn, request.step) for request in model.requests] == [(0, 0), (0, 1)]
    assert not result(messages).is_error


async def test_a_resumed_session_brings_its_history_to_a_new_process(connect: Any, ask: Any) -> None:
    script = Script(
        Turns(
            [Reply(text="one")],
            [lambda conversation: Reply(text=f"before: {conversation.prompts[0]}, {conversation.messages[1].text}")],
        )
    )
    async with ScriptedModel(script) as model:
        async with connect(model) as client:
            session = result(await ask(client, "first")).session_id
        async with connect(model, resume=session) as client:
            messages = await ask(client, "second")
    assert result(messages).result == "before: first, one"
    assert result(messages).session_id == session


@pytest.mark.parametrize("background", [True, False])
async def test_a_sub_agent_plays_its_own_scenario(connect: Any, ask: Any, *, background: bool) -> None:
    agent = ToolCall(
        "Agent",
        {
            "description": "look",
            "prompt": "[[scenario:child]] look around",
            "subagent_type": "general-purpose",
            "run_in_background": background,
        },
    )
    child = [Reply(tool=ToolCall("Bash", {"command": "echo child"})), Reply(text="child done")]
    script = Script([Reply(tool=agent), Reply(text="waiting"), Reply(text="told")], scenarios={"child": child})
    async with ScriptedModel(script) as model, connect(model) as client:
        messages = await ask(client, "delegate")
        last = await model.wait_for(lambda r: r.scenario == "child" and r.step == 1 and r.finished_s is not None)
        if background:  # the result comes first; the client then asks on by itself when the child is done
            await model.wait_for(lambda r: r.scenario == "default" and r.step == 2 and r.finished_s is not None)
    launched = blocks(messages, ToolUseBlock)[0]
    children = [request for request in model.requests if request.agent]
    assert [request.step for request in children] == [0, 1]
    assert last.session == model.requests[0].session
    if not background:
        assert [block.name for block in blocks(messages, ToolUseBlock)] == ["Agent", "Bash"]
        of_child = [m for m in messages if isinstance(m, AssistantMessage) and m.parent_tool_use_id]
        assert {message.parent_tool_use_id for message in of_child} == {launched.id}


async def test_sessions_side_by_side_keep_to_their_own_scenario(connect: Any, ask: Any) -> None:
    def steps(name: str) -> list[Any]:
        return [Reply(tool=ToolCall("Bash", {"command": f"echo {name}"})), Reply(text=f"this is {name}")]

    script = Script(scenarios={"left": steps("left"), "right": steps("right")})
    async with ScriptedModel(script) as model, connect(model) as left, connect(model) as right:
        await left.query("go [[scenario:left]]")
        await right.query("go [[scenario:right]]")
        answers = [result([m async for m in client.receive_response()]).result for client in (left, right)]
    assert answers == ["this is left", "this is right"]


async def test_the_demo_asks_for_approval_writes_a_file_and_remembers(connect: Any, ask: Any, workspace: Path) -> None:
    asked: list[str] = []

    async def approve(tool: str, arguments: dict[str, Any], context: Any) -> PermissionResultAllow:
        asked.append(tool)
        return PermissionResultAllow()

    async with ScriptedModel(demo()) as model:
        async with connect(model, permission_mode="default", can_use_tool=approve) as client:
            first = await ask(client, "write me a file")
        async with connect(model, permission_mode="default", resume=result(first).session_id) as client:
            second = await ask(client, "what did you do?")
    assert asked == ["Bash"]
    assert DEMO_FILE in blocks(first, ToolResultBlock)[0].content
    assert (workspace / DEMO_FILE).read_text() == "written by the real Bash tool\n"
    answer = result(second).result
    assert answer is not None
    assert "write me a file" in answer
    assert "written by the real Bash tool" in answer
    assert "scripted" in answer


def left_in_tmp(workspace: Path) -> list[Path]:
    """What a CLI that worked in `workspace` left where it keeps task output unless it is told otherwise."""
    slug = re.sub(r"[^A-Za-z0-9]", "-", str(workspace))
    return list(Path("/tmp").glob(f"claude-*/{slug}*"))


async def test_all_that_the_cli_writes_stays_below_its_home(
    connect: Any, ask: Any, home: Path, workspace: Path
) -> None:
    script = Script([Reply(tool=ToolCall("Bash", {"command": "sleep 0", "run_in_background": True})), Reply(text="ok")])
    async with ScriptedModel(script) as model, connect(model) as client:
        await ask(client, "work")
    assert list((home / ".claude" / "projects").glob("*/*.jsonl"))
    assert left_in_tmp(workspace) == []
