"""The files a launcher and a runner share in a session's launch folder: spec, process record, lock.

Spec and record are `name=value` fields, each ended by a NUL, as in /proc/<pid>/environ: any value fits, no
parser has to be imported (`json` would cost a fifth of the launcher's start), and a closing `end=` field
tells a whole file from a torn one.
"""

# Not pathlib: it alone would cost a third of the launcher's start.
# ruff: noqa: PTH105, PTH108, PTH123
from __future__ import annotations

import fcntl
import os

SPEC_NAME = "spec"
RECORD_NAME = "process"
LOCK_NAME = "lock"
START_NAME = "start"

MARK_VARIABLE = "PODIUM_SESSION_MARK"

# A lock file holds one epoch in this many bytes, so that rewriting it in place is one write.
_EPOCH_WIDTH = 20

Fields = dict[str, list[str]]
Process = tuple[int, int]  # pid, start time: see runner.launcher.processtree


class UnreadableFileError(Exception):
    """A spec or a record that is torn or was not written by Podium."""


class LockHeldError(Exception):
    """Another living launcher holds the session."""


class FencedError(Exception):
    """The session belongs to a later epoch than ours."""


class Spec:
    """What one start of a CLI needs; good for one start, because it holds secrets and is removed when read.

    Attributes:
        owner: the runner, by pid and start time; when it ends, so does everything below the launcher.
        command: the CLI and the arguments that precede those the SDK adds.
        environment: the child's whole environment, but for `pass_through` and the session mark.
        pass_through: names the SDK may set itself, taken from the launcher's own environment when there.
        cwd: where to start the CLI; "" leaves it where the SDK put the launcher.
        term_s: how long a process has between SIGTERM and SIGKILL.
    """

    __slots__ = ("command", "cwd", "environment", "epoch", "owner", "pass_through", "session", "term_s")

    def __init__(
        self,
        *,
        session: str,
        epoch: int,
        owner: Process,
        command: list[str],
        environment: dict[str, str],
        pass_through: list[str],
        cwd: str,
        term_s: float,
    ) -> None:
        self.session = session
        self.epoch = epoch
        self.owner = owner
        self.command = command
        self.environment = environment
        self.pass_through = pass_through
        self.cwd = cwd
        self.term_s = term_s

    def mark(self) -> str:
        """Return what every process of this start carries in MARK_VARIABLE."""
        return f"{self.session}:{self.epoch}"

    def to_bytes(self) -> bytes:
        """Return the file's content."""
        return _join(
            [
                ("session", self.session),
                ("epoch", str(self.epoch)),
                ("owner", _process_text(self.owner)),
                *(("command", part) for part in self.command),
                *(("environment", f"{name}={value}") for name, value in self.environment.items()),
                *(("pass_through", name) for name in self.pass_through),
                ("cwd", self.cwd),
                ("term_s", str(self.term_s)),
            ]
        )

    @classmethod
    def from_bytes(cls, content: bytes) -> Spec:
        """Return the spec, or raise UnreadableFileError."""
        fields = _split(content)
        try:
            return cls(
                session=fields["session"][0],
                epoch=int(fields["epoch"][0]),
                owner=_process_from(fields["owner"][0]),
                command=fields["command"],
                environment=dict(_pair(text) for text in fields.get("environment", [])),
                pass_through=fields.get("pass_through", []),
                cwd=fields["cwd"][0],
                term_s=float(fields["term_s"][0]),
            )
        except (KeyError, ValueError) as wrong:
            raise UnreadableFileError(f"launch spec: {wrong!r}") from wrong


class Record:
    """Who runs a session just now: written by the launcher, read by whoever takes the session over."""

    __slots__ = ("boot", "cli", "epoch", "launcher", "session")

    def __init__(self, *, session: str, epoch: int, boot: str, launcher: Process, cli: Process) -> None:
        self.session = session
        self.epoch = epoch
        self.boot = boot
        self.launcher = launcher
        self.cli = cli

    def to_bytes(self) -> bytes:
        """Return the file's content."""
        return _join(
            [
                ("session", self.session),
                ("epoch", str(self.epoch)),
                ("boot", self.boot),
                ("launcher", _process_text(self.launcher)),
                ("cli", _process_text(self.cli)),
            ]
        )

    @classmethod
    def from_bytes(cls, content: bytes) -> Record:
        """Return the record, or raise UnreadableFileError."""
        fields = _split(content)
        try:
            return cls(
                session=fields["session"][0],
                epoch=int(fields["epoch"][0]),
                boot=fields["boot"][0],
                launcher=_process_from(fields["launcher"][0]),
                cli=_process_from(fields["cli"][0]),
            )
        except (KeyError, ValueError) as wrong:
            raise UnreadableFileError(f"process record: {wrong!r}") from wrong


def take_lock(path: str, epoch: int) -> int:
    """Return the descriptor that holds the session's lock and note `epoch` as the highest that held it.

    The descriptor is closed on exec, so only the launcher holds the lock: a tool's daemon that lingers does
    not keep the next owner out. Raises LockHeldError, or FencedError when a later epoch held it before: that
    is what stops a runner that was suspended, lost its session and woke up again.
    """
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _raise_epoch(lock, epoch)
    except BlockingIOError as held:
        os.close(lock)
        raise LockHeldError(path) from held
    except BaseException:
        os.close(lock)
        raise
    return lock


def _raise_epoch(lock: int, epoch: int) -> None:
    highest = int(os.pread(lock, _EPOCH_WIDTH, 0) or b"0")
    if highest > epoch:
        raise FencedError(f"epoch {highest} has held this session; epoch {epoch} may not")
    os.pwrite(lock, str(epoch).zfill(_EPOCH_WIDTH).encode(), 0)


def write_whole(path: str, content: bytes) -> None:
    """Put `content` at `path`, readable by us alone, whole or not at all for any reader and after any kill."""
    draft = f"{path}.{os.getpid()}"
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            view = memoryview(content)
            while view:
                view = view[os.write(descriptor, view) :]
        finally:
            os.close(descriptor)
        os.replace(draft, path)
    except OSError:
        remove(draft)
        raise


def remove(path: str) -> None:
    """Remove a file; one that is not there, or cannot go, harms nobody who reads it."""
    try:
        os.unlink(path)
    except OSError:
        return


def read_whole(path: str) -> bytes:
    """Return the content of a small file."""
    with open(path, "rb") as file:
        return file.read()


def _join(fields: list[tuple[str, str]]) -> bytes:
    for name, value in fields:
        if "\0" in value:
            raise ValueError(f"{name} holds a NUL, which no argument or environment can carry")
    return b"".join(os.fsencode(f"{name}={value}") + b"\0" for name, value in [*fields, ("end", "")])


def _split(content: bytes) -> Fields:
    if not content.endswith(b"\0end=\0"):
        raise UnreadableFileError("the file is torn: its closing field is missing")
    fields: Fields = {}
    for field in content.split(b"\0")[:-1]:
        name, value = _pair(os.fsdecode(field))
        fields.setdefault(name, []).append(value)
    return fields


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UnreadableFileError(f"a field without a name: {text[:40]!r}")
    return name, value


def _process_text(process: Process) -> str:
    return f"{process[0]} {process[1]}"


def _process_from(text: str) -> Process:
    pid, start = text.split(" ")
    return int(pid), int(start)
