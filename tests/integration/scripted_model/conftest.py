"""A clean place to run the real Claude Code CLI in: own home, own workspace, nothing of this machine's settings."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from claude_agent_sdk import ClaudeAgentOptions, ClaudeSDKClient, Message

from podium.scripted_model import ScriptedModel, claude_environment

# A turn takes 0.1 s to 2 s; a busy machine may take much longer, a turn that hangs must still end.
TURN_DEADLINE_S = 60

Connect = Callable[..., AbstractAsyncContextManager[ClaudeSDKClient]]


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    folder = tmp_path / "workspace"
    folder.mkdir()
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch, home: Path, workspace: Path) -> Connect:
    """Opens a real client on an endpoint; keyword arguments go to ClaudeAgentOptions."""
    for name in os.environ:
        if not name.startswith("PYTEST_"):  # claude-agent-sdk gives the child os.environ as well
            monkeypatch.delenv(name)

    @asynccontextmanager
    async def open_client(endpoint: ScriptedModel, **options: Any) -> AsyncIterator[ClaudeSDKClient]:
        chosen = {
            "cwd": workspace,
            "model": "claude-sonnet-4-5",
            "setting_sources": [],
            "permission_mode": "bypassPermissions",
            "env": claude_environment(home, endpoint.url),
            **options,
        }
        async with ClaudeSDKClient(ClaudeAgentOptions(**chosen)) as client:
            yield client

    return open_client


@pytest.fixture
def ask() -> Callable[[ClaudeSDKClient, str], Any]:
    """Sends a prompt and returns all messages up to and with the result."""

    async def send(client: ClaudeSDKClient, prompt: str) -> list[Message]:
        async with asyncio.timeout(TURN_DEADLINE_S):
            await client.query(prompt)
            return [message async for message in client.receive_response()]

    return send
