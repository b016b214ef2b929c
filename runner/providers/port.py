"""The port between a runner and a provider: what a session asks of a provider, and what a provider may tell it.

A provider is one folder beside this file: a driver (talks to the client), a pure normaliser (native records to
drafts), and its capabilities as data. `registry.py` has one line for each.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from podium.drafts import Draft
from podium.v1 import content_pb2, event_pb2, provider_pb2, runner_pb2, session_pb2


@dataclass(frozen=True, slots=True)
class SessionSpec:
    """What a provider needs to start or resume one session. It does not change while the driver lives."""

    session_id: str
    epoch: int
    workspace: Path
    """Absolute, resolved, under one of the runner's roots."""
    state_dir: Path
    """A folder for this session alone, 0700: launcher, lock and process record live there."""
    environment: Mapping[str, str]
    """All that the client's process will see."""
    provider_session_id: str = ""
    """The provider's own id when the session existed before; empty = a new one."""
    model: str = ""
    effort: str = ""
    permission_mode: session_pb2.PermissionMode.ValueType = session_pb2.PERMISSION_MODE_DEFAULT
    system_prompt_addition: str = ""


@dataclass(frozen=True, slots=True)
class TurnSpec:
    """One turn, as it shall run."""

    turn_id: str
    prompt: Sequence[content_pb2.ContentBlock]
    """Whole: long text has been fetched. Empty when `resumes_deferred`."""
    model: str = ""
    effort: str = ""
    output_schema_json: str = ""
    resumes_deferred: bool = False
    """The process that asked a question was ended; the client will ask it again under the same tool_use_id."""


@dataclass(frozen=True, slots=True)
class Answer:
    """How a question was settled."""

    outcome: session_pb2.ApprovalOutcome.ValueType
    updated_input_json: str = ""
    message: str = ""
    remember_json: str = ""


class AnswerDeferred(Exception):
    """Nobody answered for a while, or the runner drains: end the client so that the answer can resume it later."""


@dataclass(frozen=True, slots=True)
class TurnOutcome:
    """How a turn ended. `deferred` = it has not: a question waits, and the client's process is gone."""

    status: session_pb2.TurnStatus.ValueType
    reason: str = ""
    problem: session_pb2.Problem | None = None
    api_duration_ms: int = 0
    structured_output_json: str = ""
    provider_cost_microusd: int | None = None
    deferred: bool = False


class Outbox(Protocol):
    """What a driver can tell its session. One outbox per driver; safe to use until the driver is closed."""

    async def emit(self, drafts: Sequence[Draft]) -> None:
        """Put facts on the log, in order. Waits when the log is slower than the client: do not read on meanwhile."""
        ...

    def delta(self, delta: runner_pb2.Delta) -> None:
        """Show text while it is being said. Never waits, may be lost; session and turn are filled in."""
        ...

    def native(self, record: bytes) -> None:
        """Keep the client's own record beside the log. Never waits."""
        ...

    async def ask(self, question: event_pb2.ApprovalRequested) -> Answer:
        """Ask a person and return the answer, the deadline's included; approval_id and deadline are filled in.

        A question under a tool_use_id that was asked before (see TurnSpec.resumes_deferred) is not asked twice.
        Raises AnswerDeferred when the client shall be ended meanwhile.
        """
        ...


class Driver(Protocol):
    """One live client of one session. One turn at a time."""

    async def run_turn(self, turn: TurnSpec) -> TurnOutcome:
        """Run one turn to its end and return how it ended; everything said went to the outbox before.

        Failures of the client or the model are outcomes, not exceptions. May be cancelled: then close() follows.
        """
        ...

    async def interrupt(self) -> None:
        """Ask the running turn to stop: run_turn then returns INTERRUPTED within a bounded time. No turn: no effect."""
        ...

    async def set_permission_mode(self, mode: session_pb2.PermissionMode.ValueType) -> None:
        """Change what the agent may do unasked, now if the client can, else from the next turn on."""
        ...

    async def close(self) -> None:
        """End the client and every process it started. Bounded, may run twice."""
        ...


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """What the runner's settings say about one provider."""

    environment: Mapping[str, str] = field(default_factory=dict)
    """Environment of the client, already cut to the allow-list."""
    executable: Path | None = None
    """The client to use instead of the bundled or installed one."""
    allow_bypass: bool = False
    """Whether PERMISSION_MODE_BYPASS may be used on this runner."""


class Provider(Protocol):
    """A provider on this runner. Methods never raise for a client that is missing or not logged in: they say so."""

    name: str
    display_name: str
    vendor: str
    capabilities: provider_pb2.Capabilities

    async def probe(self) -> provider_pb2.Provider:
        """Return whether the client is there, its version, whether it is logged in, and what to do if not."""
        ...

    async def models(self) -> list[provider_pb2.Model]:
        """Return the models, by priority; leaves no session behind. Empty when the client is missing."""
        ...

    async def open(self, spec: SessionSpec, outbox: Outbox) -> Driver:
        """Start a client for the session. Raises ProviderFailed with a typed problem."""
        ...


@dataclass(frozen=True, slots=True)
class Registration:
    """What the registry knows of a provider: how to make it, and which environment its client may see."""

    make: Callable[[ProviderSettings], Provider]
    environment_names: frozenset[str] = frozenset()
    environment_prefixes: tuple[str, ...] = ()


class ProviderFailed(Exception):
    """The client could not be started."""

    def __init__(self, code: str, message: str, *, retryable: bool = False) -> None:
        """Take the problem's code (docs/errors.md) and what was found, what was expected, what to do."""
        super().__init__(message)
        self.problem = session_pb2.Problem(code=code, message=message, retryable=retryable)


CLOSE_DEADLINE_S = 8.0
"""TERM, 2 s, KILL, and room for a busy machine: no close() takes longer."""


async def close_bounded(driver: Driver) -> bool:
    """Close `driver` within CLOSE_DEADLINE_S; False when it did not end in time (the launcher then kills it)."""
    try:
        async with asyncio.timeout(CLOSE_DEADLINE_S):
            await driver.close()
    except TimeoutError:
        return False
    return True
