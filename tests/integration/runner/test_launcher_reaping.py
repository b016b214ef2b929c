"""What the launcher knows of children that end at the worst moment."""

import os
import signal
import subprocess
import sys
from contextlib import suppress

import pytest

from runner.launcher import supervise
from runner.launcher.files import Process
from runner.launcher.processtree import descendants, identify
from tests.integration.runner.launcher_rig import eventually


def test_a_cli_that_ends_between_two_looks_is_reaped_before_nobody_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else its exit status were unknown: seen with the real CLI, which takes a moment to obey SIGTERM."""
    cli = subprocess.Popen(["/bin/sleep", "600"])

    def end_it_first(root: int) -> list[Process]:
        # Looked for again when other tests' children are about: by then it has been reaped.
        with suppress(ChildProcessError):
            cli.send_signal(signal.SIGTERM)
            os.waitid(os.P_PID, cli.pid, os.WEXITED | os.WNOWAIT)  # a zombie from here on, not yet reaped
        return [process for process in descendants(root) if process[0] == cli.pid]

    monkeypatch.setattr(supervise, "descendants", end_it_first)
    family = supervise._Family(cli.pid)
    assert family.look() == []
    assert family.status == signal.SIGTERM
    cli.returncode = -signal.SIGTERM  # reaped behind its back


def test_a_process_whose_first_thread_has_ended_still_lives() -> None:
    program = "import ctypes, threading, time; threading.Thread(target=time.sleep, args=(600,)).start(); EXIT"
    program = program.replace("EXIT", "ctypes.CDLL(None).pthread_exit(None)")
    headless = subprocess.Popen([sys.executable, "-c", program])
    try:
        assert eventually(lambda: b"Z" in _state(headless.pid))
        assert identify(headless.pid) is not None
    finally:
        headless.kill()
        headless.wait()


def test_a_zombie_does_not_live() -> None:
    ended = subprocess.Popen(["/bin/true"])
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
    assert identify(ended.pid) is None
    ended.wait()


def _state(pid: int) -> bytes:
    with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
        return file.read().rpartition(b")")[2].split()[0]
