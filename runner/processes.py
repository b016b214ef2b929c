"""Start a session's CLI through the launcher, and end what an earlier owner left: the runner's process side.

Owns the launch folder of each session (`spec`, `start`, `process`, `lock`; 0700). All runners of one machine
and user must share the folders' root: the lock inside is what keeps two agents out of one workspace.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from runner.launcher import starting
from runner.launcher.files import (
    LOCK_NAME,
    RECORD_NAME,
    SPEC_NAME,
    START_NAME,
    FencedError,
    LockHeldError,
    Process,
    Record,
    Spec,
    UnreadableFileError,
    read_whole,
    take_lock,
    write_whole,
)
from runner.launcher.processtree import boot, descendants, end_all, identify, is_alive, marked, send

# A process has this long between SIGTERM and SIGKILL: enough for a CLI to flush its transcript.
TERM_S = 2.0
# After SIGKILL a process is gone within milliseconds, or hangs in the kernel.
KILL_S = 3.0
# A launcher that was told to end needs one TERM and one KILL round for its tree, and a little to notice.
_LAUNCHER_MARGIN_S = 1.0
_POLL_S = 0.01
# How long a launcher may take from its lock to its record.
LOCK_WAIT_S = 1.0


class LaunchRefusal(Enum):
    """Why a launcher did not run its CLI, or could not clean up: its exit codes."""

    BAD_FOLDER = starting.EXIT_BAD_FOLDER
    LOCKED = starting.EXIT_LOCKED
    FENCED = starting.EXIT_FENCED
    OWNER_GONE = starting.EXIT_OWNER_GONE
    STRAGGLERS = starting.EXIT_STRAGGLERS
    SURVIVORS = starting.EXIT_SURVIVORS
    CLI_NOT_EXECUTABLE = starting.EXIT_NOT_EXECUTABLE
    CLI_NOT_FOUND = starting.EXIT_NOT_FOUND


class SessionLock(Enum):
    """What a takeover found at the session's lock."""

    FREE = "free"
    HELD = "held"
    FENCED = "fenced"


@dataclass(frozen=True, slots=True)
class Launch:
    """One start of a session's CLI.

    Attributes:
        session: the session's id, without NUL, colon or newline.
        epoch: of the owner; a folder that a higher epoch used refuses to start.
        command: the CLI's absolute path, and arguments before those the SDK adds.
        environment: all the child sees, but for `pass_through` and PODIUM_SESSION_MARK.
        pass_through: names the SDK sets itself and the CLI needs; `environment` wins where both have one.
        cwd: where the CLI starts; None leaves it to the SDK.
    """

    session: str
    epoch: int
    command: Sequence[str]
    environment: Mapping[str, str]
    pass_through: Sequence[str] = ()
    cwd: Path | None = None
    term_s: float = TERM_S


@dataclass(frozen=True, slots=True)
class Ended:
    """What `end_previous_process` did: who was told to end, who is left, and how the lock was found."""

    processes: frozenset[Process]
    survivors: frozenset[Process]
    lock: SessionLock

    @property
    def is_clear(self) -> bool:
        """Whether the next owner may start an agent."""
        return self.lock is SessionLock.FREE and not self.survivors


def prepare_launch(folder: Path, launch: Launch) -> Path:
    """Return the executable that starts this launch once: give it to the SDK as its CLI.

    Good for one start, by the calling process only: the spec names it as the owner, holds the secrets of the
    environment and is removed when read. An SDK that hands over its own arguments has them appended. Raises
    OSError when the folder cannot be written, ValueError when a value cannot be passed to a process.
    """
    if not launch.session or any(wrong in launch.session for wrong in ":\0\n"):
        raise ValueError(f"session {launch.session!r}: expected an id without colon, NUL or newline")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    owner = identify(os.getpid())
    if owner is None:  # pragma: no cover - we are alive
        raise OSError("cannot read our own start time")
    spec = Spec(
        session=launch.session,
        epoch=launch.epoch,
        owner=owner,
        command=list(launch.command),
        environment=dict(launch.environment),
        pass_through=list(launch.pass_through),
        cwd="" if launch.cwd is None else str(launch.cwd),
        term_s=launch.term_s,
    )
    write_whole(str(folder / SPEC_NAME), spec.to_bytes())
    start = folder / START_NAME
    # A script per session, not one entry for all: an SDK's cli_path takes no argument, an environment variable
    # would leak to where the SDK is used without us, and wheels do not keep executable bits.
    entry = Path(starting.__file__).with_name("__main__.py")
    words = [sys.executable, "-I", "-S", str(entry), str(folder / SPEC_NAME)]
    write_whole(str(start), f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n'.encode())
    start.chmod(0o700)
    return start


def refusal(exit_code: int | None) -> LaunchRefusal | None:
    """Return what the launcher meant by its exit code; None when the code is the CLI's own."""
    try:
        return LaunchRefusal(exit_code)
    except ValueError:
        return None


def read_record(folder: Path) -> Record | None:
    """Return who runs the session; None when nobody does, or the record is torn or of an earlier boot."""
    try:
        record = Record.from_bytes(read_whole(str(folder / RECORD_NAME)))
    except (FileNotFoundError, UnreadableFileError):
        return None
    return record if record.boot == boot() else None


def end_previous_process(folder: Path, session: str, *, epoch: int) -> Ended:
    """End whatever an owner up to `epoch` left running for the session, and fence its folder at `epoch`.

    Blocks, milliseconds when all obey, about 16 s when nothing does: call it in a thread. May be repeated.
    Works whether the old runner is dead, suspended or alive, and whether its launcher still lives: pid and
    start time are checked before every signal, what the launcher lost is found by its mark.
    """
    told: set[Process] = set()
    deadline = time.monotonic() + LOCK_WAIT_S
    while True:
        record = read_record(folder)
        if record is not None and record.epoch > epoch:
            return Ended(frozenset(told), frozenset(), SessionLock.FENCED)
        ended, survivors = _end_recorded(record) if record is not None else (set(), set())
        swept, left = end_all(lambda: _owned(session, epoch), term_s=TERM_S, kill_s=KILL_S)
        told |= ended | swept
        lock = _fence(folder, epoch)
        # Held without a record is a launcher between its two first steps: its record is a moment away.
        if lock is not SessionLock.HELD or time.monotonic() >= deadline:
            return Ended(frozenset(told), frozenset(survivors | left), lock)
        time.sleep(_POLL_S)


def _end_recorded(record: Record) -> tuple[set[Process], set[Process]]:
    """End the launcher and all below it; by its own hand first, since it alone sees every descendant."""
    launcher = record.launcher
    family = {one for one in (launcher, record.cli) if is_alive(one)}
    if launcher in family:
        family.update(descendants(launcher[0]))
    send(launcher, signal.SIGTERM)
    send(launcher, signal.SIGCONT)
    deadline = time.monotonic() + TERM_S + KILL_S + _LAUNCHER_MARGIN_S
    while is_alive(launcher) and time.monotonic() < deadline:
        family.update(descendants(launcher[0]))
        time.sleep(_POLL_S)
    _, survivors = end_all(lambda: {one for one in family if is_alive(one)}, term_s=0, kill_s=KILL_S)
    return family, survivors


def _owned(session: str, epoch: int) -> list[Process]:
    return [process for process, of in marked(session).items() if of <= epoch]


def _fence(folder: Path, epoch: int) -> SessionLock:
    """Hold the lock for a moment and leave our epoch in it."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        os.close(take_lock(str(folder / LOCK_NAME), epoch))
    except LockHeldError:
        return SessionLock.HELD
    except FencedError:
        return SessionLock.FENCED
    return SessionLock.FREE
