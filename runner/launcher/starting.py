"""What must be so before a CLI runs, and the start itself: owner alive, session ours alone, nobody left over.

Each step refuses with an exit code of its own, so that the runner can tell a refusal from the CLI's own failure.
"""

# Not pathlib: it alone would cost a third of the launcher's start.
# ruff: noqa: PTH108, PTH118
from __future__ import annotations

import ctypes
import os
import sys

from runner.launcher.csignal import signal
from runner.launcher.files import (
    LOCK_NAME,
    MARK_VARIABLE,
    FencedError,
    LockHeldError,
    Process,
    Spec,
    UnreadableFileError,
    read_whole,
    take_lock,
)
from runner.launcher.processtree import end_all, is_alive, marked

# The launcher's own exit codes: above any a CLI uses, below 255. 126 and 127 mean what they mean in a shell.
EXIT_BAD_FOLDER = 240
EXIT_LOCKED = 241
EXIT_FENCED = 242
EXIT_OWNER_GONE = 243
EXIT_STRAGGLERS = 244
EXIT_SURVIVORS = 245
EXIT_NOT_EXECUTABLE = 126
EXIT_NOT_FOUND = 127

# After SIGKILL a process is gone within milliseconds, or it hangs in the kernel and waiting longer is no use.
KILL_S = 3.0

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

ENDING = (signal.SIGTERM, signal.SIGHUP)
FORWARDED = (signal.SIGINT, signal.SIGQUIT)


class RefusedError(Exception):
    """Why the CLI was not started, with the exit code that says so."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def read_spec(path: str) -> Spec:
    """Return the spec and remove it: it holds secrets and is good for one start."""
    try:
        content = read_whole(path)
        os.unlink(path)
        return Spec.from_bytes(content)
    except (OSError, UnreadableFileError) as wrong:
        raise RefusedError(EXIT_BAD_FOLDER, f"cannot use the launch spec {path}: {wrong}") from wrong


def leave_terminal() -> None:
    """Get a session of our own: Ctrl-C in the terminal of `podium up` is the runner's to handle, not the CLI's."""
    if os.getsid(0) != os.getpid():
        os.setsid()


def become_reaper() -> None:
    """Let every descendant that loses its parent become our child, however it detached itself."""
    _set_process_option(_PR_SET_CHILD_SUBREAPER, 1)


def watch(owner: Process) -> int | None:
    """Return a descriptor that becomes readable when the runner ends, None where the kernel has none.

    Not PR_SET_PDEATHSIG: that fires when the *thread* that started us ends, and says nothing when the parent
    was dead already. A pidfd is opened first and asked afterwards whom it holds, so there is no such gap.
    """
    try:
        descriptor = os.pidfd_open(owner[0]) if hasattr(os, "pidfd_open") else None
    except OSError:
        descriptor = None
    if not is_alive(owner) or (descriptor is None and os.getppid() != owner[0]):
        raise RefusedError(EXIT_OWNER_GONE, f"the runner (pid {owner[0]}) is gone")
    return descriptor


def take_session(spec: Spec, folder: str) -> int:
    """Return the descriptor of the session's lock once no process of an earlier start is left."""
    try:
        lock = take_lock(os.path.join(folder, LOCK_NAME), spec.epoch)
    except LockHeldError as held:
        raise RefusedError(EXIT_LOCKED, f"session {spec.session} already runs: its lock {held} is held") from held
    except FencedError as fenced:
        raise RefusedError(EXIT_FENCED, f"session {spec.session} was taken over: {fenced}") from fenced
    except (OSError, ValueError) as wrong:
        raise RefusedError(EXIT_BAD_FOLDER, f"cannot take the lock of session {spec.session}: {wrong}") from wrong
    stragglers = marked(spec.session)
    if any(epoch > spec.epoch for epoch in stragglers.values()):
        raise RefusedError(EXIT_FENCED, f"session {spec.session} runs under a later epoch")
    if stragglers:
        _, survivors = end_all(lambda: marked(spec.session), term_s=spec.term_s, kill_s=KILL_S)
        if survivors:
            raise RefusedError(EXIT_STRAGGLERS, f"cannot end {sorted(survivors)}, left from an earlier start")
    return lock


def catch_signals() -> int:
    """Return the descriptor from which arriving signals can be read, one byte each."""
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC) if hasattr(os, "pipe2") else os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for signum in (*ENDING, *FORWARDED, signal.SIGCHLD):
        signal.signal(signum, lambda *_: None)
    return reader


def start(spec: Spec, arguments: list[str]) -> int:
    """Return the pid of the CLI, which the kernel kills should the launcher be killed."""
    environment = {name: os.environ[name] for name in spec.pass_through if name in os.environ}
    environment |= spec.environment
    environment[MARK_VARIABLE] = spec.mark()
    launcher = os.getpid()
    pid = os.fork()
    if pid != 0:
        return pid
    try:
        signal.set_wakeup_fd(-1)
        for signum in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores these two, and ignoring is inherited
            signal.signal(signum, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        _set_process_option(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != launcher:
            os._exit(EXIT_OWNER_GONE)
        if spec.cwd:
            os.chdir(spec.cwd)
            environment["PWD"] = spec.cwd
        os.execve(spec.command[0], [*spec.command, *arguments], environment)  # noqa: S606 - it is what we are for
    except FileNotFoundError as missing:
        say(f"cannot start: {missing}")
        os._exit(EXIT_NOT_FOUND)
    except (OSError, ValueError) as wrong:
        say(f"cannot start {spec.command[0]}: {wrong}")
        os._exit(EXIT_NOT_EXECUTABLE)


def _set_process_option(option: int, value: int) -> None:
    """Call prctl(2) on Linux; elsewhere there is nothing like it."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option})")


def say(text: str) -> None:
    """Tell the runner, on the standard error that it shares with the CLI."""
    os.write(2, f"podium launcher: {text}\n".encode())
