"""Heartbeats as they are stored and heard, and what one observer makes of them over time."""

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from google.protobuf.message import DecodeError
from nats.aio.msg import Msg

from podium.eventlog.jetstream import Stored
from podium.eventlog.layout import RUNNERS
from podium.eventlog.presence import Look, Presence
from podium.eventlog.subjects import name_of, part
from podium.v1.runner_pb2 import Runner

LEAVING = {"KV-Operation": "DEL"}
"""Headers of a heartbeat that takes itself away."""
_OPERATION, _DELETED = "KV-Operation", ("DEL", "PURGE")
_MARKER = "Nats-Marker-Reason"


@dataclass(frozen=True, slots=True)
class Appeared:
    """A runner is there that was not."""

    runner: Runner


@dataclass(frozen=True, slots=True)
class Changed:
    """A runner says something new about itself, its load included."""

    runner: Runner


@dataclass(frozen=True, slots=True)
class Gone:
    """A runner left, or was absent for a full time to live; `runner` is the last it said."""

    runner: Runner


Change: TypeAlias = Appeared | Changed | Gone


class Watch:
    """The living runners as one observer sees them, and what changed since it asked last.

    Iterating gives changes one by one and waits for more. It compares what was told with what is: a runner that
    goes and comes back between two steps has Changed, and a slow reader costs no memory.
    """

    def __init__(self, presence: Presence) -> None:
        """Made by RunnerDirectory.watch."""
        self.soon = asyncio.Event()
        self._presence = presence
        self._told: dict[str, Runner] = {}
        self._news = asyncio.Event()
        self._first_look = asyncio.Event()
        self._failure: BaseException | None = None

    @property
    def living(self) -> Mapping[str, Runner]:
        """Return the last value of every runner that is not gone, by id."""
        return self._presence.living

    async def wait_for_first_look(self) -> None:
        """Return once `living` was read; the caller bounds the wait."""
        await self._first_look.wait()

    def is_gone(self, runner: str) -> bool:
        """Tell whether a takeover of this runner's sessions may be tried; also for one never seen."""
        return self._presence.is_gone(runner)

    def __aiter__(self) -> "Watch":
        return self

    async def __anext__(self) -> Change:
        while (change := self._difference()) is None:
            if self._failure is not None:
                raise self._failure
            self._news.clear()
            await self._news.wait()
        return change

    def look_soon(self) -> None:
        """Look now instead of at the next interval."""
        self.soon.set()

    def heard(self, message: Msg) -> None:
        """Take what a runner publishes, before the next look shows it."""
        if message.headers and message.headers.get(_OPERATION) in _DELETED:
            # Published is not stored: the look says whether it was taken.
            self.look_soon()
            return
        with contextlib.suppress(DecodeError):
            runner = Runner.FromString(message.data)
            if runner.id and heartbeat_subject(runner.id) == message.subject:
                self._presence.heard(runner)
                self._news.set()

    def saw(self, look: Look) -> None:
        """Take a look's result."""
        self._presence.saw(look)
        self._first_look.set()
        self._news.set()

    def lost_sight(self) -> None:
        """Take it that a look failed."""
        self._presence.lost_sight()

    def fail(self, error: BaseException) -> None:
        """Take it that nobody looks any more; whoever iterates gets the error."""
        self._failure = error
        self._news.set()

    def _difference(self) -> Change | None:
        living = self._presence.living
        for runner_id, told in self._told.items():
            if runner_id not in living:
                del self._told[runner_id]
                return Gone(told)
        for runner_id, runner in living.items():
            before = self._told.get(runner_id)
            self._told[runner_id] = runner
            if before is None:
                return Appeared(runner)
            if not _same(before, runner):
                return Changed(runner)
        return None


def heartbeat_subject(runner: str) -> str:
    """Return where a runner's heartbeat is."""
    return f"$KV.{RUNNERS}.{part(runner)}"


def look_from(found: Iterable[Stored], *, asked_s: float, answered_s: float) -> Look:
    """Return what the newest message of every runner's subject says."""
    messages = list(found)
    living = [runner for message in messages if (runner := runner_in(message)) is not None]
    left = [_runner_id(message.subject) for message in messages if _says_left(message.headers)]
    return Look(asked_s, answered_s, {runner.id: runner for runner in living}, frozenset(left))


def _runner_id(subject: str) -> str:
    return name_of(subject.rpartition(".")[2])


def runner_in(message: Stored) -> Runner | None:
    """Return the heartbeat, None for a marker and for what is none."""
    if _says_left(message.headers) or _MARKER in message.headers:
        return None
    try:
        runner = Runner.FromString(message.payload)
    except DecodeError:
        return None
    return runner if heartbeat_subject(runner.id) == message.subject else None


def _says_left(headers: Mapping[str, str]) -> bool:
    """Tell whether the runner took its heartbeat away; a marker of the server's only says that it ran out."""
    return headers.get(_OPERATION) in _DELETED and _MARKER not in headers


def _same(one: Runner, other: Runner) -> bool:
    """Tell whether two heartbeats say the same at different times."""
    left, right = Runner(), Runner()
    left.CopyFrom(one)
    right.CopyFrom(other)
    left.ClearField("seen_at")
    right.ClearField("seen_at")
    return left == right
