"""Run one CLI so that nothing it starts outlives it, its runner, or its session's owner.

The launcher owns: the session's lock, the process record, and every process below it. Standard input,
output and error are the CLI's; the launcher copies nothing and keeps only standard error for its own words.
"""

# Not pathlib: it alone would cost a third of the launcher's start.
# ruff: noqa: PTH108, PTH118, PTH120
from __future__ import annotations

import ctypes
import os
import select
import sys

from runner.launcher.csignal import signal
from runner.launcher.files import (
    LOCK_NAME,
    MARK_VARIABLE,
    RECORD_NAME,
    FencedError,
    LockHeldError,
    Process,
    Record,
    Spec,
    UnreadableFileError,
    read_whole,
    remove,
    take_lock,
    write_whole,
)
from runner.launcher.processtree import boot, descendants, end_all, identify, is_alive, marked

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
_KILL_S = 3.0
# Only where the kernel has no pidfd does the launcher have to look whether its runner still lives.
_OWNER_POLL_S = 0.5

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

_ENDING = (signal.SIGTERM, signal.SIGHUP)
_FORWARDED = (signal.SIGINT, signal.SIGQUIT)


class _RefusedError(Exception):
    """Why the CLI was not started, with the exit code that says so."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def main(arguments: list[str]) -> None:
    """Start the CLI named in the spec `arguments[0]`, with the other arguments, and end as it ended."""
    try:
        spec_path = arguments[0]
        folder = os.path.dirname(spec_path)
        spec = _read_spec(spec_path)
        _leave_terminal()
        _set_process_option(_PR_SET_CHILD_SUBREAPER, 1)
        owner = _watch(spec.owner)
        lock = _take_session(spec, folder)
        wakeup = _catch_signals()
        cli = _start(spec, arguments[1:])
    except _RefusedError as refused:
        _say(str(refused))
        sys.exit(refused.code)
    _let_go_of_standard_streams()
    family = _Family(cli)
    record = os.path.join(folder, RECORD_NAME)
    if _write_record(record, spec, cli):
        _wait(family, owner, wakeup, spec)
    _, survivors = end_all(family.look, term_s=spec.term_s, kill_s=_KILL_S)
    if survivors or family.status is None:
        _say(f"cannot end {sorted(survivors)} of session {spec.session}")
        os._exit(EXIT_SURVIVORS)
    remove(record)
    os.close(lock)
    _end_like(family.status)


class _Family:
    """The processes below the launcher: its children, and through the sub-reaper all that lost their parent."""

    def __init__(self, cli: int) -> None:
        self._cli = cli
        self.status: int | None = None

    def look(self) -> list[Process]:
        """Reap who ended, note how the CLI did, and return who still lives."""
        while self.reap():
            alive = descendants(os.getpid())
            if alive:
                return alive
        return []  # and not before the last zombie is reaped: it may be the CLI, whose status we owe

    def reap(self) -> bool:
        """Reap every ended child, adopted ones too; return whether any child is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self._cli:
                self.status = status

    def forward(self, signum: int) -> None:
        """Pass a signal on to the CLI; its pid is ours until it is reaped."""
        if self.status is None:
            os.kill(self._cli, signum)


def _wait(family: _Family, owner: int | None, wakeup: int, spec: Spec) -> None:
    """Return when the CLI has ended, when we are told to end, or when the runner is gone."""
    poll = select.poll()
    poll.register(wakeup, select.POLLIN)
    if owner is not None:
        poll.register(owner, select.POLLIN)
    timeout_ms = None if owner is not None else _OWNER_POLL_S * 1000
    while True:
        family.reap()
        if family.status is not None:
            return
        ready = [descriptor for descriptor, _ in poll.poll(timeout_ms)]
        if owner in ready or (owner is None and os.getppid() != spec.owner[0]):
            return
        for signum in os.read(wakeup, 512) if wakeup in ready else b"":
            if signum in _ENDING:
                return
            if signum in _FORWARDED:
                family.forward(signum)


def _read_spec(path: str) -> Spec:
    try:
        content = read_whole(path)
        os.unlink(path)  # it holds secrets and is good for one start
        return Spec.from_bytes(content)
    except (OSError, UnreadableFileError) as wrong:
        raise _RefusedError(EXIT_BAD_FOLDER, f"cannot use the launch spec {path}: {wrong}") from wrong


def _leave_terminal() -> None:
    """Get a session of our own: Ctrl-C in the terminal of `podium up` is the runner's to handle, not the CLI's."""
    if os.getsid(0) != os.getpid():
        os.setsid()


def _watch(owner: Process) -> int | None:
    """Return a descriptor that becomes readable when the runner ends, None where the kernel has none.

    Not PR_SET_PDEATHSIG: that fires when the *thread* that started us ends, and says nothing when the parent
    was dead already. A pidfd is opened first and asked afterwards whom it holds, so there is no such gap.
    """
    try:
        descriptor = os.pidfd_open(owner[0]) if hasattr(os, "pidfd_open") else None
    except OSError:
        descriptor = None
    if not is_alive(owner) or (descriptor is None and os.getppid() != owner[0]):
        raise _RefusedError(EXIT_OWNER_GONE, f"the runner (pid {owner[0]}) is gone")
    return descriptor


def _take_session(spec: Spec, folder: str) -> int:
    """Return the descriptor of the session's lock once no process of an earlier start is left."""
    try:
        lock = take_lock(os.path.join(folder, LOCK_NAME), spec.epoch)
    except LockHeldError as held:
        raise _RefusedError(EXIT_LOCKED, f"session {spec.session} already runs: its lock {held} is held") from held
    except FencedError as fenced:
        raise _RefusedError(EXIT_FENCED, f"session {spec.session} was taken over: {fenced}") from fenced
    except (OSError, ValueError) as wrong:
        raise _RefusedError(EXIT_BAD_FOLDER, f"cannot take the lock of session {spec.session}: {wrong}") from wrong
    stragglers = marked(spec.session)
    if any(epoch > spec.epoch for epoch in stragglers.values()):
        raise _RefusedError(EXIT_FENCED, f"session {spec.session} runs under a later epoch")
    if stragglers:
        _, survivors = end_all(lambda: marked(spec.session), term_s=spec.term_s, kill_s=_KILL_S)
        if survivors:
            raise _RefusedError(EXIT_STRAGGLERS, f"cannot end {sorted(survivors)}, left from an earlier start")
    return lock


def _catch_signals() -> int:
    """Return the descriptor from which arriving signals can be read, one byte each."""
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC) if hasattr(os, "pipe2") else os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for signum in (*_ENDING, *_FORWARDED, signal.SIGCHLD):
        signal.signal(signum, lambda *_: None)
    return reader


def _start(spec: Spec, arguments: list[str]) -> int:
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
        _say(f"cannot start: {missing}")
        os._exit(EXIT_NOT_FOUND)
    except (OSError, ValueError) as wrong:
        _say(f"cannot start {spec.command[0]}: {wrong}")
        os._exit(EXIT_NOT_EXECUTABLE)


def _write_record(path: str, spec: Spec, cli: int) -> bool:
    """Return whether a takeover will find us; a CLI that nobody could find must not go on."""
    me = identify(os.getpid()) or (os.getpid(), 0)
    # A CLI that ended already is a zombie here and has no start time that matters.
    child = identify(cli) or (cli, 0)
    record = Record(session=spec.session, epoch=spec.epoch, boot=boot(), launcher=me, cli=child)
    try:
        write_whole(path, record.to_bytes())
    except OSError as wrong:
        _say(f"cannot write the process record, ending the CLI: {wrong}")
        return False
    return True


def _let_go_of_standard_streams() -> None:
    """Let the pipes be the CLI's alone: the reader must see their end when the CLI ends, not when we do."""
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    os.close(nothing)


def _set_process_option(option: int, value: int) -> None:
    """Call prctl(2) on Linux; elsewhere there is nothing like it."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option})")


def _end_like(status: int) -> None:
    """End with the CLI's exit code, or by the signal that ended it."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        os._exit(code)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if -code not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(-code, signal.SIG_DFL)
    _forbid_core_dump()  # the CLI's own is enough
    os.kill(os.getpid(), -code)
    os._exit(128 - code)  # only a signal whose default is to do nothing gets here


def _forbid_core_dump() -> None:
    import resource  # noqa: PLC0415 - hardly any CLI ends this way

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _say(text: str) -> None:
    os.write(2, f"podium launcher: {text}\n".encode())
