"""The client of one session over its starts: which native session it runs, and with what settings.

Owns the connection. A setting the running client cannot change makes it end and resume.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from podium import names
from podium.clock import Clock
from podium.v1 import session_pb2
from runner.processes import Launch
from runner.providers import problems
from runner.providers.child import Child, Line
from runner.providers.claude import probe, transcript
from runner.providers.claude.approvals import Reply
from runner.providers.claude.capabilities import native_mode
from runner.providers.claude.command import Start, arguments, configuration_folder, environment
from runner.providers.claude.errors import ClientError, Gone
from runner.providers.claude.models import names_of
from runner.providers.claude.outcome import ALREADY_EXISTS_WORDS, SESSION_LOST_WORDS, exit_problem
from runner.providers.claude.records import JsonObject
from runner.providers.port import ProviderFailed, SessionSpec, TurnSpec

if TYPE_CHECKING:
    from runner.providers.claude.connection import Asked, Connection

_ADDITION_NAME: Final = "system-prompt-addition.txt"


@dataclass(frozen=True, slots=True)
class Hearing:
    """Who hears the client."""

    on_line: Callable[[Line], Awaitable[JsonObject | None]]
    on_end: Callable[[], Awaitable[None]]
    answer: Callable[["Asked"], Awaitable[Reply]]


class Client:
    """Starts the client when it is needed and keeps it as the turns want it."""

    def __init__(
        self, spec: SessionSpec, executable: Path, hearing: Hearing, clock: Clock, *, allow_bypass: bool, start_s: float
    ) -> None:
        """Take the session, the client's executable and who hears it. Starts nothing."""
        self._spec: Final = spec
        self._executable: Final = executable
        self._hearing: Final = hearing
        self._clock: Final = clock
        self._start_s: Final = start_s
        self._connection: Connection | None = None
        self._is_known = bool(spec.provider_session_id)
        self._wanted = Start(
            native_id=spec.provider_session_id or spec.session_id,
            resumes=self._is_known,
            model=spec.model,
            effort=spec.effort,
            mode=spec.permission_mode,
            allow_bypass=allow_bypass,
        )
        self._needs_restart = False
        self._offered: frozenset[str] = frozenset()
        self.totals: transcript.Totals | None = None
        """The client's running totals, None when unknown."""
        self.exit_problem = problems.problem(problems.PROCESS_DIED, "the client never ran")
        """How the last process ended."""

    @property
    def native_id(self) -> str:
        """The id of the native session that runs, or will."""
        return self._wanted.native_id

    @property
    def mode(self) -> session_pb2.PermissionMode.ValueType:
        """The permission mode it runs with."""
        return self._wanted.mode

    @property
    def connection(self) -> "Connection | None":
        """The living connection, None before the first turn and after the process ended."""
        connection = self._connection
        return None if connection is None or connection.transport.has_ended.is_set() else connection

    @property
    def transcript(self) -> Path:
        """Where the native session's transcript is."""
        return self.transcript_of(self.native_id)

    def transcript_of(self, native_id: str) -> Path:
        """Where the transcript of a native session is, or will be."""
        configuration = configuration_folder(self._spec.environment)
        return transcript.path_of(configuration, self._spec.workspace, native_id)

    async def ready(self, turn: TurnSpec) -> "Connection":
        """Return a connection that runs as `turn` wants it. Raises ProviderFailed, Gone, ClientError."""
        model, effort = turn.model or self._wanted.model, turn.effort or self._wanted.effort
        connection = self.connection
        if connection is None or self._must_restart(turn, model):
            await self.end()
            self._wanted = replace(self._wanted, model=model, effort=effort, schema_json=turn.output_schema_json)
            return await self._start(resumes_deferred=turn.resumes_deferred)
        if model != self._wanted.model:
            await connection.set_model(model)
            self._wanted = replace(self._wanted, model=model)
        if effort != self._wanted.effort:
            await connection.set_effort(effort)
            self._wanted = replace(self._wanted, effort=effort)
        return connection

    def _must_restart(self, turn: TurnSpec, model: str) -> bool:
        """Whether the running client cannot change as the turn wants it."""
        # Told to use a model that it does not offer itself, a running client asks the model's service first,
        # with a call of one token that is billed and shown nowhere. Started with it, it does not.
        would_probe = model != self._wanted.model and model not in self._offered
        is_other = turn.output_schema_json != self._wanted.schema_json
        return turn.resumes_deferred or self._needs_restart or is_other or would_probe

    async def set_mode(self, mode: session_pb2.PermissionMode.ValueType) -> None:
        """Use `mode` now, or from the next start when the client will not."""
        self._wanted = replace(self._wanted, mode=mode)
        if self.connection is None:
            return
        try:
            await self.connection.set_permission_mode(native_mode(mode))
        except (ClientError, Gone):
            self._needs_restart = True

    def was_bound(self, native_id: str) -> None:
        """The client said which native session it runs: the next start resumes it."""
        self._is_known = True
        self._wanted = replace(self._wanted, native_id=native_id, resumes=True)

    async def end(self, *, busy: bool = False) -> None:
        """End the process; a busy one at once, an idle one by the end of its input. May run twice."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await self._close(connection, busy=busy)

    def forget(self) -> None:
        """The native session is lost: the next start makes a new one."""
        self._is_known = False
        self._wanted = replace(self._wanted, native_id=self._spec.session_id, resumes=False)

    async def _close(self, connection: "Connection", *, busy: bool) -> None:
        await connection.close(busy=busy)
        if (child := connection.transport.child) is not None:
            self.exit_problem = exit_problem(child.exit_code, child.said)

    async def _start(self, *, resumes_deferred: bool) -> "Connection":
        path = self.transcript
        has_transcript = await asyncio.to_thread(path.exists)
        if resumes_deferred:
            await asyncio.to_thread(self._require_open_call, path)
        elif has_transcript:
            # A question that was given up must not be asked again by itself.
            await asyncio.to_thread(transcript.take_back, path)
        # A transcript under our own id is an earlier start's that nobody could tell the log about.
        self._wanted = replace(self._wanted, resumes=self._is_known or has_transcript)
        self.totals = await asyncio.to_thread(transcript.totals, path) if has_transcript else transcript.Totals()
        try:
            return await self._connect()
        except ProviderFailed as failed:
            if self._is_known or not self._can_start_otherwise(failed):
                raise
        return await self._connect()

    def _require_open_call(self, path: Path) -> None:
        """Make sure that the client will ask again: a killed owner may not have come to it."""
        if transcript.is_left_open(path):
            return
        mode = native_mode(self._wanted.mode)
        call = transcript.open_call(path, mode)
        if call is None:
            raise ProviderFailed(problems.DEFER_FAILED, f"no call waits for an answer in {path}")
        try:
            transcript.leave_open(path, call, self._clock.now_ns())
        except (transcript.NotDeferrable, OSError) as wrong:
            raise ProviderFailed(problems.DEFER_FAILED, str(wrong)) from wrong

    def _can_start_otherwise(self, failed: ProviderFailed) -> bool:
        """Whether a start under our own id failed because of what an earlier one left; then prepare another."""
        if ALREADY_EXISTS_WORDS in failed.problem.message and not self._wanted.resumes:
            self._wanted = replace(self._wanted, resumes=True)
            return True
        if failed.problem.code == problems.SESSION_LOST:
            # Nothing was ever said in it, so nothing is lost: its name is taken, another one is not.
            other = names.derived_id("claude", self._spec.session_id, str(self._spec.epoch))
            self._wanted = replace(self._wanted, native_id=other, resumes=False)
            return True
        return False

    async def _connect(self) -> "Connection":
        await probe.import_sdk()
        from runner.providers.claude.connection import Connection  # noqa: PLC0415 - imports the SDK

        if not await asyncio.to_thread(self._spec.workspace.is_dir):
            raise ProviderFailed(problems.START_FAILED, f"the workspace {self._spec.workspace} is not there")
        connection = Connection(self._start_child, self._hearing.on_line, self._hearing.on_end, self._hearing.answer)
        try:
            self._offered = names_of(await connection.open(self._start_s))
        except Gone:
            await self._close(connection, busy=True)
            raise self._start_failed() from None
        except (ClientError, TimeoutError, OSError, ValueError) as wrong:
            await self._close(connection, busy=True)
            raise ProviderFailed(problems.START_FAILED, f"the client did not start: {wrong!r}") from wrong
        except BaseException:
            await self._close(connection, busy=True)
            raise
        self._connection = connection
        self._needs_restart = False
        return connection

    def _start_failed(self) -> ProviderFailed:
        code, message = self.exit_problem.code, self.exit_problem.message
        if SESSION_LOST_WORDS in message:
            code = problems.SESSION_LOST
        elif code == problems.PROCESS_DIED:
            code = problems.START_FAILED
        return ProviderFailed(code, message, retryable=code in problems.RETRYABLE)

    async def _start_child(self) -> Child:
        from claude_agent_sdk import __version__  # noqa: PLC0415 - only where a client is started

        spec = self._spec
        addition = None
        if spec.system_prompt_addition:
            addition = spec.state_dir / _ADDITION_NAME
            await asyncio.to_thread(_write_private, addition, spec.system_prompt_addition)
        words = arguments(replace(self._wanted, addition=addition))
        launch = Launch(
            session=spec.session_id,
            epoch=spec.epoch,
            command=[str(self._executable)],
            environment=environment(spec, __version__),
            cwd=spec.workspace,
        )
        return await Child.start(spec.state_dir, launch, words)


def _write_private(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.write_text(content, encoding="utf-8")
