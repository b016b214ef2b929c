"""Drives the real Claude Code CLI through the driver: own home, own workspace, the scripted endpoint as its model."""

import asyncio
import os
import re
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from google.protobuf.message import Message as ProtoMessage

from podium.clock import Clock
from podium.drafts import Draft
from podium.scripted_model import ScriptedModel, claude_environment
from podium.v1 import content_pb2, event_pb2, runner_pb2, session_pb2
from runner.launcher.processtree import identify
from runner.processes import read_record
from runner.providers.claude.provider import ClaudeProvider
from runner.providers.claude.turn import Limits
from runner.providers.port import Answer, AnswerDeferred, Driver, ProviderSettings, SessionSpec, TurnOutcome, TurnSpec

PATIENCE_S = 60.0  # for facts that come in milliseconds on an idle machine
ALLOW = Answer(session_pb2.APPROVAL_OUTCOME_ALLOWED)
DENY = Answer(session_pb2.APPROVAL_OUTCOME_DENIED, message="no way")

_B = TypeVar("_B", bound=ProtoMessage)
Answers = Callable[[event_pb2.ApprovalRequested], Answer | None]
"""What a person says to a question; None = nobody says anything until `RecordingOutbox.answer`."""


class RecordingOutbox:
    """Keeps all it is told, in order, and answers questions as the test wants."""

    def __init__(self, answers: Answers = lambda _: ALLOW) -> None:
        self.drafts: list[Draft] = []
        self.deltas: list[runner_pb2.Delta] = []
        self.records: list[bytes] = []
        self.questions: list[event_pb2.ApprovalRequested] = []
        self.cancelled: list[str] = []
        self.answers = answers
        self._changed = asyncio.Event()
        self.defers = False
        self.given: Answer | None = None

    async def emit(self, drafts: Sequence[Draft]) -> None:
        self.drafts += drafts
        self.changed()

    def delta(self, delta: runner_pb2.Delta) -> None:
        self.deltas.append(delta)
        self.changed()

    def native(self, record: bytes) -> None:
        self.records.append(record)

    async def ask(self, question: event_pb2.ApprovalRequested) -> Answer:
        self.questions.append(question)
        self.changed()
        if self.defers:
            raise AnswerDeferred
        answer = self.answers(question)
        if answer is not None:
            return answer
        try:
            await self.until(lambda: self.defers or self.given)
        except asyncio.CancelledError:
            self.cancelled.append(question.tool_use_id)
            self.changed()
            raise
        if self.given is None:
            raise AnswerDeferred
        return self.given

    def answer(self, answer: Answer) -> None:
        """A person answers the open question."""
        self.given = answer
        self.changed()

    def defer(self) -> None:
        """Nobody will answer before the process is ended."""
        self.defers = True
        self.changed()

    def changed(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def until(self, fact: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not fact():
                await self._changed.wait()

    def all(self, kind: type[_B]) -> list[_B]:
        """All facts of one kind, oldest first."""
        return [draft.body for draft in self.drafts if isinstance(draft.body, kind)]

    def messages(self, role: event_pb2.Role.ValueType | None = None) -> list[event_pb2.Message]:
        return [message for message in self.all(event_pb2.Message) if role is None or message.role == role]

    @property
    def said(self) -> list[str]:
        """What the model said as text."""
        return [
            block.text.text
            for message in self.messages()
            if message.role == event_pb2.ROLE_ASSISTANT
            for block in message.content
            if block.HasField("text")
        ]

    @property
    def results(self) -> list[content_pb2.ToolResultBlock]:
        return [b.tool_result for m in self.messages() for b in m.content if b.HasField("tool_result")]

    @property
    def tokens(self) -> tuple[int, int, int, int, int]:
        """Sums over all usage facts: uncached, cache read, 5 minute and 1 hour writes, output."""
        usages = self.all(event_pb2.Usage)
        return (
            sum(u.uncached_input_tokens for u in usages),
            sum(u.cache_read_tokens for u in usages),
            sum(u.cache_write_5m_tokens for u in usages),
            sum(u.cache_write_1h_tokens for u in usages),
            sum(u.output_tokens for u in usages),
        )


class Rig:
    """One machine's folder for one test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.workspace = folder / "workspace"
        self.state = folder / "state"
        self.session_id = str(uuid4())
        self.epoch = 0
        for made in (self.home, self.workspace):
            made.mkdir()

    def spec(self, model: ScriptedModel | None, **changes: Any) -> SessionSpec:
        environment: dict[str, str | None] = {
            **claude_environment(self.home, model.url if model else "http://127.0.0.1:9"),
            **changes.pop("environment", {}),
        }
        self.epoch += 1
        chosen: dict[str, Any] = {
            "session_id": self.session_id,
            "epoch": self.epoch,
            "workspace": self.workspace,
            "state_dir": self.state,
            "environment": {name: value for name, value in environment.items() if value is not None},
            "model": "claude-sonnet-4-5",
            **changes,
        }
        return SessionSpec(**chosen)

    @asynccontextmanager
    async def driver(
        self,
        model: ScriptedModel | None,
        outbox: RecordingOutbox,
        *,
        limits: Limits | None = None,
        clock: Clock | None = None,
        allow_bypass: bool = True,
        executable: Path | None = None,
        **changes: Any,
    ) -> AsyncIterator[Driver]:
        """A driver that is closed afterwards; keyword arguments change the SessionSpec."""
        spec = self.spec(model, **changes)
        settings = ProviderSettings(environment=spec.environment, executable=executable, allow_bypass=allow_bypass)
        driver = await ClaudeProvider(settings, limits, clock).open(spec, outbox)
        try:
            yield driver
        finally:
            await driver.close()

    @property
    def transcript(self) -> Path:
        folder = self.home / ".claude" / "projects" / re.sub("[^a-zA-Z0-9]", "-", str(self.workspace))
        return folder / f"{self.session_id}.jsonl"

    def kill_client(self, number: signal.Signals) -> None:
        """Send a signal to the CLI itself, which runs below the launcher."""
        os.kill(self.client_pid(), number)

    def client_pid(self) -> int:
        record = read_record(self.state)
        assert record is not None
        return record.cli[0]

    async def until_exists(self, path: Path) -> None:
        await eventually(lambda: path.exists() and path.stat().st_size > 0, str(path))

    async def until_written(self, words: str) -> None:
        """Wait until the transcript holds `words`."""
        path = self.transcript
        await eventually(lambda: path.exists() and words in path.read_text(), f"{words} in {path}")

    async def until_gone(self, pid: int) -> None:
        await eventually(lambda: identify(pid) is None, f"the end of {pid}")


async def eventually(fact: Callable[[], bool], what: str) -> None:
    """Wait for a fact of the file system or the process table, which tell nobody."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not fact():
        assert time.monotonic() < deadline_s, f"waited for {what}"
        await asyncio.sleep(0.01)


def turn(prompt: str = "go", **changes: Any) -> TurnSpec:
    block = content_pb2.ContentBlock(text=content_pb2.TextBlock(text=prompt))
    blocks = changes.pop("prompt_blocks", [block])
    return TurnSpec(**{"turn_id": str(uuid4()), "prompt": blocks, **changes})


def resumed(of: TurnSpec) -> TurnSpec:
    """The same turn, after its question was deferred."""
    return TurnSpec(turn_id=of.turn_id, prompt=(), resumes_deferred=True)


def code(outcome: TurnOutcome) -> str:
    return outcome.problem.code if outcome.problem is not None else ""


__all__ = ["ALLOW", "DENY", "Limits", "RecordingOutbox", "Rig", "code", "resumed", "turn"]
