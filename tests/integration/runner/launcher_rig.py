"""Real processes for the launcher's tests: an agent with badly behaved children, and a runner that can be killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from runner.launcher.files import Process
from runner.launcher.processtree import identify, is_alive
from runner.processes import Launch, prepare_launch

PATIENCE_S = 20.0  # for facts that come in milliseconds on an idle machine
ROOT = Path(__file__).parents[3]

# Starts one descendant of each kind named, prints their pids as one line of JSON.
AGENT = """
import os, signal, sys, time

def forever():
    while True:
        time.sleep(60)

def descend(kind, told):
    if kind == "daemon":
        os.setsid()
        if os.fork():
            os._exit(0)
    elif kind == "setsid":
        os.setsid()
    elif kind == "stubborn":
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    elif kind == "respawning":
        def respawn(*_):
            if os.fork():
                os._exit(0)
        signal.signal(signal.SIGTERM, respawn)
    elif kind == "quiet":  # lets go of the pipes, as a good daemon does
        os.setsid()
        for descriptor in (0, 1, 2):
            os.close(descriptor)
    os.write(told, b"%d\\n" % os.getpid())
    os.close(told)
    if kind == "stopped":
        os.kill(os.getpid(), signal.SIGSTOP)
    forever()

kinds = sys.argv[1:]
unending = "unending" in kinds and not kinds.remove("unending")  # else the agent ends with its standard input
pids = [os.getpid()]
for kind in kinds:
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.close(reader)
        descend(kind, writer)
    os.close(writer)
    with os.fdopen(reader) as told:
        pids.append(int(told.readline()))
os.write(1, (str(pids) + "\\n").encode())
if unending:
    forever()
while os.read(0, 65536):
    pass
"""

# A runner that starts one launch per line of standard input and says what it started.
RUNNER = """
import json, subprocess, sys
from pathlib import Path
from runner.processes import Launch, prepare_launch
started = []
for line in sys.stdin:
    order = json.loads(line)
    launch = Launch(session=order["session"], epoch=order["epoch"], command=order["command"], environment={})
    start = prepare_launch(Path(order["folder"]), launch)
    child = subprocess.Popen([start], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    started.append(child)
    first = child.stdout.readline().decode()
    answer = {"launcher": child.pid, "said": first}
    if not first:
        answer |= {"stderr": child.communicate()[1].decode(), "code": child.returncode}
    print(json.dumps(answer), flush=True)
"""


def agent(*kinds: str) -> list[str]:
    """Return the command of an agent with one descendant of each kind."""
    return [sys.executable, "-I", "-S", "-c", AGENT, *kinds]


def launch(session: str, command: Iterable[str], *, epoch: int = 1) -> Launch:
    """Return a launch with an empty environment."""
    return Launch(session=session, epoch=epoch, command=list(command), environment={})


class Started:
    """A launcher started by this test process, with its standard streams as pipes."""

    def __init__(self, folder: Path, what: Launch, *arguments: str) -> None:
        self.start = prepare_launch(folder, what)
        self.process = subprocess.Popen(
            [self.start, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def line(self) -> str:
        """Return the CLI's next line."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().decode().rstrip("\n")

    def family(self) -> list[Process]:
        """Return the agent and its descendants as they introduced themselves."""
        return named(self.line())

    def close_input(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.stdin = None  # or communicate() would flush it

    def finish(self) -> tuple[int, bytes, bytes]:
        """Return exit code, output and errors once the launcher has ended by itself."""
        out, err = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, out, err

    def clean_up(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        self.process.communicate(timeout=PATIENCE_S)


class FakeRunner:
    """A runner process apart from the test's, so that it can be killed or stopped."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", RUNNER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={"PYTHONPATH": str(ROOT), "PATH": os.defpath},
        )

    def start(self, folder: Path, session: str, command: list[str], *, epoch: int = 1) -> dict[str, Any]:
        """Start one launch and return what the runner saw of it: launcher, said, and code and stderr if refused."""
        order = {"folder": str(folder), "session": session, "epoch": epoch, "command": command}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(order).encode() + b"\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def send(self, signum: signal.Signals) -> None:
        self.process.send_signal(signum)

    def clean_up(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=PATIENCE_S)


def named(line: str) -> list[Process]:
    """Return who a list of pids means, all of them alive."""
    found = [identify(pid) for pid in json.loads(line)]
    assert None not in found
    return [process for process in found if process is not None]


def alive(processes: Iterable[Process]) -> list[Process]:
    """Return who still lives."""
    return [process for process in processes if is_alive(process)]


def eventually(fact: Callable[[], bool], *, within_s: float = PATIENCE_S) -> bool:
    """Return whether the fact came true in time."""
    deadline = time.monotonic() + within_s
    while not fact():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
