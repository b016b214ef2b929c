"""One Claude Code session: runs one turn after another on its client.

The client's process starts with the first turn and stays between turns. What it says reaches the outbox in the
reader's own task, line by line; a turn waits only for how that reading ends.
"""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from podium.clock import Clock, SystemClock
from podium.drafts import Draft
from podium.v1 import event_pb2, session_pb2
from runner.providers import problems
from runner.providers.child import Line
from runner.providers.claude import approvals, asking, deferral, notices, transcript
from runner.providers.claude.capabilities import native_mode
from runner.providers.claude.checks import prompt_content, require_allowed
from runner.providers.claude.client import Client, Hearing
from runner.providers.claude.errors import ClientError, Gone
from runner.providers.claude.normalise import Fed, Normaliser
from runner.providers.claude.outcome import outcome, totals_of
from runner.providers.claude.records import JsonObject, text
from runner.providers.claude.turn import Ending, Limits, RunningTurn
from runner.providers.port import Outbox, ProviderFailed, SessionSpec, TurnOutcome, TurnSpec
from runner.providers.unreadable import unreadable

if TYPE_CHECKING:
    from runner.providers.claude.connection import Asked

_INTERRUPTED: Final = TurnOutcome(status=session_pb2.TURN_STATUS_INTERRUPTED, reason="interrupted")
_POLL_S: Final = 0.01
_LAST_WORDS_S: Final = 2.0


class ClaudeDriver:
    """The driver of one session; see runner.providers.port.Driver."""

    def __init__(
        self,
        spec: SessionSpec,
        outbox: Outbox,
        executable: Path,
        *,
        allow_bypass: bool = False,
        limits: Limits | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Take the session and where its facts go. Starts nothing."""
        self._spec: Final = spec
        self._outbox: Final = outbox
        self._limits: Final = limits or Limits()
        self._clock: Final = clock or SystemClock()
        self._allow_bypass: Final = allow_bypass
        self._running: RunningTurn | None = None
        hearing = Hearing(on_line=self._on_line, on_end=self._on_end, answer=self._answer)
        self._client: Final = Client(
            spec, executable, hearing, self._clock, allow_bypass=allow_bypass, start_s=self._limits.start_s
        )
        self._normaliser = Normaliser(self._jsonl_path)

    async def run_turn(self, turn: TurnSpec) -> TurnOutcome:
        """Run one turn to its end. See the port."""
        running = self._running = RunningTurn(turn, self._clock)
        self._normaliser.begin(turn.turn_id)
        try:
            return await self._run(running)
        except ProviderFailed as failed:
            running.raise_if_broken()
            return await self._failed(failed.problem)
        except (Gone, ClientError) as wrong:
            running.raise_if_broken()
            if running.interrupted:
                return _INTERRUPTED
            return await self._failed(problems.problem(problems.PROCESS_DIED, str(wrong)))
        finally:
            self._running = None
            self._normaliser.begin("")

    async def interrupt(self) -> None:
        """Ask the running turn to stop. See the port."""
        running = self._running
        if running is None or running.interrupted:
            return
        running.interrupted = True
        connection = self._client.connection
        if connection is not None:
            with contextlib.suppress(ClientError, Gone):
                # Whatever went wrong, the turn's own deadline ends the process.
                await connection.interrupt()

    async def set_permission_mode(self, mode: session_pb2.PermissionMode.ValueType) -> None:
        """Change what the agent may do unasked. Raises ProviderFailed when the runner forbids the mode."""
        require_allowed(mode, allow_bypass=self._allow_bypass)
        await self._client.set_mode(mode)

    async def close(self) -> None:
        """End the client and every process it started. See the port."""
        await self._client.end(busy=self._running is not None)

    # --- a turn

    async def _run(self, running: RunningTurn) -> TurnOutcome:
        turn = running.turn
        content = [] if turn.resumes_deferred else prompt_content(turn.prompt)
        # A client that resumes a question works on it as soon as it runs.
        running.is_open = turn.resumes_deferred
        connection = await self._client.ready(turn)
        before = deferral.recall(self._spec.state_dir) if turn.resumes_deferred else self._client.totals
        if running.interrupted and not turn.resumes_deferred:
            return _INTERRUPTED
        running.is_open = True
        running.heard_now()
        size_bytes = await asyncio.to_thread(transcript.size_bytes, self._client.transcript)
        if content:
            await connection.say(content)
        if running.interrupted:
            await connection.interrupt()
        match await running.ended(self._limits):
            case Ending.RESULT:
                await self._warn_unless_written(size_bytes)
                return self._concluded(running, before)
            case Ending.DEFERRED:
                return await self._defer(running, before)
            case Ending.STUCK:
                await self._client.end(busy=True)
                return _INTERRUPTED
            case Ending.SILENT:
                await self._client.end(busy=True)
                silence = f"the client said nothing for {self._limits.silence_s} s and was ended"
                return await self._failed(problems.problem(problems.SILENT, silence))
            case Ending.NOT_RESUMED:
                await self._client.end(busy=True)
                return await self._failed(problems.problem(problems.DEFER_FAILED, "the client did not ask again"))
            case Ending.GONE:
                return await self._gone(running)

    def _concluded(self, running: RunningTurn, before: transcript.Totals | None) -> TurnOutcome:
        assert running.result is not None
        self._client.totals = totals_of(running.result)
        return outcome(
            running.result,
            interrupted=running.interrupted,
            needs_structure=bool(running.turn.output_schema_json),
            word=self._normaliser.error,
            quota=self._normaliser.quota_is_used_up,
            before=before,
        )

    async def _warn_unless_written(self, size_bytes: int) -> None:
        path = self._client.transcript
        deadline_s = time.monotonic() + _LAST_WORDS_S
        while await asyncio.to_thread(transcript.size_bytes, path) <= size_bytes:
            if time.monotonic() > deadline_s:
                notice = notices.not_written(str(path))
                await self._emit([Draft(notice, turn_id=self._normaliser.turn_id)])
                return
            await asyncio.sleep(_POLL_S)  # the client writes behind

    async def _gone(self, running: RunningTurn) -> TurnOutcome:
        await self._client.end(busy=True)
        if running.interrupted:
            return _INTERRUPTED
        return await self._failed(self._client.exit_problem)

    async def _failed(self, problem: session_pb2.Problem) -> TurnOutcome:
        if problem.code == problems.SESSION_LOST:
            # The log must not send the next owner after a transcript that is not there.
            await self._emit([Draft(event_pb2.ProviderBound())])
            self._client.forget()
        return TurnOutcome(status=session_pb2.TURN_STATUS_FAILED, reason=problem.code, problem=problem)

    async def _defer(self, running: RunningTurn, before: transcript.Totals | None) -> TurnOutcome:
        """End the client in a state from which it asks again."""
        call = running.deferred
        assert call is not None
        # The call was asked about while the model was still speaking: its tokens come with its last words.
        deadline_s = time.monotonic() + _LAST_WORDS_S
        while self._normaliser.is_speaking and time.monotonic() < deadline_s:  # noqa: ASYNC110 - 2 s at most
            await asyncio.sleep(_POLL_S)
        await self._client.end(busy=True)
        try:
            await asyncio.to_thread(transcript.leave_open, self._client.transcript, call, self._clock.now_ns())
            await asyncio.to_thread(deferral.keep, self._spec.state_dir, before)
        except (transcript.NotDeferrable, OSError) as wrong:
            return await self._failed(problems.problem(problems.DEFER_FAILED, str(wrong)))
        return TurnOutcome(status=session_pb2.TURN_STATUS_RUNNING, reason="deferred", deferred=True)

    # --- what the client says; runs in the reader's task

    async def _on_line(self, line: Line) -> JsonObject | None:
        if line.size_bytes > len(line.data):
            fed = Fed(drafts=[unreadable(line.data, "the line is too long", self._normaliser.turn_id, line.size_bytes)])
        else:
            fed = self._normaliser.feed(line.data, self._clock.now_ns())
        if fed.kind.startswith("control_"):
            return fed.record
        self._outbox.native(line.data)
        if fed.kind == "system/init":
            self._client.was_bound(text(fed.record, "session_id"))
        for delta in fed.deltas:
            self._outbox.delta(delta)
        await self._emit(fed.drafts)
        if self._running is not None:
            self._running.hear(fed)
        return None

    async def _on_end(self) -> None:
        await self._emit(self._normaliser.cut_short())
        if self._running is not None and self._running.is_open:
            self._running.settle(Ending.GONE)

    async def _emit(self, drafts: Sequence[Draft]) -> None:
        if not drafts:
            return
        try:
            await self._outbox.emit(drafts)
        except Exception as wrong:
            # The reader's task belongs to the SDK, which would only log this: the turn raises it.
            if self._running is not None:
                self._running.fail(wrong)
            raise

    async def _answer(self, asked: "Asked") -> approvals.Reply:
        running = self._running
        # The client does not ask in this mode; one that could not be told of it yet still might.
        if running is None or self._client.mode == session_pb2.PERMISSION_MODE_DENY:
            return approvals.Reply(message="Nobody can be asked now, so this is not allowed.")
        return await asking.answer(running, self._outbox, asked, native_mode(self._client.mode))

    def _jsonl_path(self, native_id: str) -> str:
        return str(self._client.transcript_of(native_id))
