"""The real Claude CLI behind the launcher, as the SDK's `cli_path`: its environment, its end, its tools' daemons."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import claude_agent_sdk
import pytest
from claude_agent_sdk import (
    ClaudeAgentOptions,
    ClaudeSDKClient,
    CLIConnectionError,
    Message,
    ProcessError,
    ToolResultBlock,
    UserMessage,
)

from podium.scripted_model import Reply, Script, ScriptedModel, Stall, ToolCall, claude_environment
from runner.launcher.processtree import identify, is_alive
from runner.processes import Launch, LaunchRefusal, end_previous_process, prepare_launch, refusal
from tests.integration.runner.launcher_rig import PATIENCE_S

pytestmark = pytest.mark.claude

CLI = Path(claude_agent_sdk.__file__).parent / "_bundled" / "claude"
SDK_VARIABLES = ("CLAUDE_CODE_ENTRYPOINT", "CLAUDE_AGENT_SDK_VERSION", "CLAUDE_CODE_SDK_READS_SESSION_STATE", "PWD")
# The CLI's Bash tool runs in a session of its own; this daemon leaves even that.
DAEMON = (
    "setsid sh -c 'echo $$ > daemon.pid; exec sleep 600' </dev/null >/dev/null 2>&1 &"
    " while [ ! -s daemon.pid ]; do :; done"
)


class Place:
    """Folders of one session, and the launcher between the SDK and the CLI."""

    def __init__(self, root: Path, *, cli: Path = CLI) -> None:
        self.session = str(uuid4())
        self.cli = cli
        self.launch = root / "launch"
        self.home = root / "home"
        self.workspace = root / "workspace"
        self.home.mkdir()
        self.workspace.mkdir()

    @asynccontextmanager
    async def connect(self, model: ScriptedModel) -> AsyncIterator[ClaudeSDKClient]:
        what = Launch(
            session=self.session,
            epoch=1,
            command=[str(self.cli)],
            environment=claude_environment(self.home, model.url),
            pass_through=SDK_VARIABLES,
        )
        options = ClaudeAgentOptions(
            cli_path=prepare_launch(self.launch, what),
            cwd=self.workspace,
            model="claude-sonnet-4-5",
            setting_sources=[],
            permission_mode="bypassPermissions",
            stderr=lambda _: None,
        )
        async with ClaudeSDKClient(options) as client:
            yield client

    def end(self) -> bool:
        return end_previous_process(self.launch, self.session, epoch=10**9).is_clear


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    one = Place(tmp_path)
    yield one
    one.end()


async def ask(client: ClaudeSDKClient, prompt: str) -> list[Message]:
    async with asyncio.timeout(3 * PATIENCE_S):
        await client.query(prompt)
        return [message async for message in client.receive_response()]


def bash(command: str) -> Script:
    return Script([Reply(tool=ToolCall("Bash", {"command": command})), Reply(text="done")])


async def test_a_tool_sees_nothing_of_the_runners_environment_but_the_mark(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the-runners-own")
    async with ScriptedModel(bash("env")) as model, place.connect(model) as client:
        messages = await ask(client, "look around")
    (output,) = (
        str(block.content)
        for message in messages
        if isinstance(message, UserMessage) and not isinstance(message.content, str)
        for block in message.content
        if isinstance(block, ToolResultBlock)
    )
    assert f"PODIUM_SESSION_MARK={place.session}:1" in output
    assert "CLAUDE_AGENT_SDK_VERSION=" in output
    assert "the-runners-own" not in output


async def test_a_daemon_started_by_a_tool_ends_with_the_client(place: Place) -> None:
    async with ScriptedModel(bash(DAEMON)) as model:
        async with place.connect(model) as client:
            await ask(client, "start it")
            daemon = identify(int((place.workspace / "daemon.pid").read_text()))
            assert daemon is not None
        assert not is_alive(daemon)


async def test_the_cli_ends_at_once_in_mid_turn_and_says_so(place: Place) -> None:
    stalled = Script([Reply(text="x" * 100, ends=Stall(1))])
    async with ScriptedModel(stalled) as model, place.connect(model) as client:
        turn = asyncio.create_task(ask(client, "say something long"))
        await model.wait_for(lambda request: request.pieces_sent > 0, PATIENCE_S)
        assert await asyncio.to_thread(place.end)
        with pytest.raises(ProcessError) as ended:
            await turn
        assert ended.value.exit_code == 143


async def test_a_missing_cli_is_told_from_one_that_failed(tmp_path: Path) -> None:
    place = Place(tmp_path, cli=Path("/nowhere/claude"))
    async with ScriptedModel(Script([])) as model:
        with pytest.raises((ProcessError, CLIConnectionError)) as failed:
            async with place.connect(model):
                pass
    assert isinstance(failed.value, ProcessError)
    assert refusal(failed.value.exit_code) is LaunchRefusal.CLI_NOT_FOUND
