"""Run one CLI so that nothing it starts outlives it, its runner, or its session's owner.

The launcher owns: the session's lock, the process record, and every process below it. Standard input,
output and error are the CLI's; the launcher copies nothing and keeps only standard error for its own words.
"""

# Not pathlib: it alone would cost a third of the launcher's start.
# ruff: noqa: PTH118, PTH120
from __future__ import annotations

import os
import select
import sys

from runner.launcher.csignal import signal
from runner.launcher.files import RECORD_NAME, Process, Record, Spec, remove, write_whole
from runner.launcher.processtree import boot, descendants, end_all, identify
from runner.launcher.starting import (
    ENDING,
    EXIT_SURVIVORS,
    FORWARDED,
    KILL_S,
    RefusedError,
    become_reaper,
    catch_signals,
    leave_terminal,
    read_spec,
    say,
    start,
    take_session,
    watch,
)

# Only where the kernel has no pidfd does the launcher have to look whether its runner still lives.
_OWNER_POLL_S = 0.5


def main(arguments: list[str]) -> None:
    """Start the CLI named in the spec `arguments[0]`, with the other arguments, and end as it ended."""
    try:
        spec_path = arguments[0]
        folder = os.path.dirname(spec_path)
        spec = read_spec(spec_path)
        leave_terminal()
        become_reaper()
        owner = watch(spec.owner)
        lock = take_session(spec, folder)
        wakeup = catch_signals()
        cli = start(spec, arguments[1:])
    except RefusedError as refused:
        say(str(refused))
        sys.exit(refused.code)
    _let_go_of_standard_streams()
    family = _Family(cli)
    record = os.path.join(folder, RECORD_NAME)
    if _write_record(record, spec, cli):
        _wait(family, owner, wakeup, spec)
    _, survivors = end_all(family.look, term_s=spec.term_s, kill_s=KILL_S)
    if survivors or family.status is None:
        say(f"cannot end {sorted(survivors)} of session {spec.session}")
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
            if signum in ENDING:
                return
            if signum in FORWARDED:
                family.forward(signum)


def _write_record(path: str, spec: Spec, cli: int) -> bool:
    """Return whether a takeover will find us; a CLI that nobody could find must not go on."""
    me = identify(os.getpid()) or (os.getpid(), 0)
    # A CLI that ended already is a zombie here and has no start time that matters.
    child = identify(cli) or (cli, 0)
    record = Record(session=spec.session, epoch=spec.epoch, boot=boot(), launcher=me, cli=child)
    try:
        write_whole(path, record.to_bytes())
    except OSError as wrong:
        say(f"cannot write the process record, ending the CLI: {wrong}")
        return False
    return True


def _let_go_of_standard_streams() -> None:
    """Let the pipes be the CLI's alone: the reader must see their end when the CLI ends, not when we do."""
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    os.close(nothing)


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
