"""The `podium` command as its users have it: processes in a home of their own, at a terminal or not."""

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[2]
COMMAND_S_MAX = 90.0
POLL_S = 0.02
_COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def until(holds: Callable[[], bool], what: str, seconds: float = COMMAND_S_MAX) -> None:
    """Wait for a fact."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(POLL_S)


@dataclass
class Running:
    """A command that runs; `said` is all it has printed so far, standard error included."""

    process: "subprocess.Popen[bytes]"
    output: Path

    @property
    def said(self) -> str:
        return self.output.read_text(encoding="utf-8", errors="replace")

    def until(self, *words: str) -> str:
        """Wait until it has printed all of the words."""
        until(
            lambda: all(word in self.said for word in words) or self.process.poll() is not None,
            f"{words} in:\n{self.said}",
        )
        assert all(word in self.said for word in words), f"ended with {self.process.returncode}:\n{self.said}"
        return self.said

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ends(self, seconds: float = COMMAND_S_MAX) -> int:
        """Return its exit code."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it did not end:\n{self.said}") from None


class Terminal:
    """A command at a terminal of its own."""

    def __init__(self, process: "subprocess.Popen[bytes]", master: int) -> None:
        self._process = process
        self._master = master
        self._bytes = b""

    @property
    def said(self) -> str:
        """All that is on the screen, without colours."""
        while select.select([self._master], [], [], 0)[0]:
            try:
                piece = os.read(self._master, 65536)
            except OSError:  # the other end is closed
                break
            if not piece:
                break
            self._bytes += piece
        return _COLOURS.sub("", self._bytes.decode("utf-8", errors="replace"))

    def until(self, *words: str) -> str:
        until(lambda: all(word in self.said for word in words), f"{words} on the screen:\n{self.said}")
        return self.said

    def types(self, text: str) -> None:
        os.write(self._master, text.encode())

    def ends(self, seconds: float = COMMAND_S_MAX) -> int:
        deadline = time.monotonic() + seconds
        while self._process.poll() is None:
            assert time.monotonic() < deadline, f"it did not end:\n{self.said}"
            self.said  # noqa: B018 - what nobody reads would hold the command up
            time.sleep(POLL_S)
        self.said  # noqa: B018 - the last words
        return self._process.returncode


@dataclass
class Home:
    """A user's home: commands run here, with nothing of the machine's user."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.work = self.folder / "work"
        self.work.mkdir(parents=True, exist_ok=True)
        self.data = self.folder / "data"
        self.environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.folder),
            "XDG_STATE_HOME": str(self.folder / "state"),
            "TMPDIR": str(self.folder),
            "USER": "ana",
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(ROOT),
            **self.environment,
        }
        self._count = 0

    def run(self, *arguments: str, prompt: str = "", **environment: str) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end."""
        return subprocess.run(
            self._command(arguments),
            input=prompt,
            capture_output=True,
            text=True,
            cwd=self.work,
            env={**self.environment, **environment},
            timeout=COMMAND_S_MAX,
            check=False,
        )

    def ok(self, *arguments: str, **environment: str) -> str:
        """Run a command that shall succeed, and return what it printed."""
        done = self.run(*arguments, **environment)
        assert done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def bytes(self, *arguments: str, prompt: bytes) -> bytes:
        """Run a command that shall succeed, and return the bytes it printed."""
        done = subprocess.run(
            self._command(arguments),
            input=prompt,
            capture_output=True,
            cwd=self.work,
            env=self.environment,
            timeout=COMMAND_S_MAX,
            check=True,
        )
        return done.stdout

    def json(self, *arguments: str) -> Any:
        """Run a command that prints one JSON value."""
        return json.loads(self.ok(*arguments, "--json"))

    def lines(self, *arguments: str) -> list[Any]:
        """Run a command that prints JSON lines."""
        return [json.loads(line) for line in self.ok(*arguments).splitlines()]

    @contextmanager
    def start(self, *arguments: str, **environment: str) -> Iterator[Running]:
        """Start a command and kill it at the end if it still runs."""
        self._count += 1
        output = self.folder / f"output-{self._count}.txt"
        with output.open("wb") as file:
            process = subprocess.Popen(
                self._command(arguments),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=self.work,
                env={**self.environment, "PYTHONUNBUFFERED": "1", **environment},
                # A shell that starts us in the background makes its children ignore Ctrl-C.
                preexec_fn=_hear_interrupts,  # noqa: PLW1509 - these tests start no threads
            )
        try:
            yield Running(process, output)
        finally:
            process.kill()
            process.wait()

    @contextmanager
    def terminal(self, *arguments: str, **environment: str) -> Iterator[Terminal]:
        """Start a command at a terminal."""
        master, slave = pty.openpty()
        process = subprocess.Popen(
            self._command(arguments),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=self.work,
            env={**self.environment, "TERM": "xterm", "COLUMNS": "100", "LINES": "40", **environment},
            # The terminal's Ctrl-C reaches it as its foreground process group.
            start_new_session=True,
            preexec_fn=_take_terminal,  # noqa: PLW1509 - one thread, one call
        )
        os.close(slave)
        try:
            yield Terminal(process, master)
        finally:
            process.kill()
            process.wait()
            os.close(master)

    @staticmethod
    def _command(arguments: tuple[str, ...]) -> list[str]:
        return [sys.executable, "-P", "-m", "podium.cli", *arguments]


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@dataclass
class Up:
    """A `podium up` that is ready."""

    home: Home
    command: Running
    processes: Mapping[str, psutil.Process]

    def kill(self, service: str) -> None:
        self.processes[service].kill()


@contextmanager
def up(home: Home, *options: str, listen: str = "127.0.0.1:0", **environment: str) -> Iterator[Up]:
    """Run `podium up` until the end of the block; it is stopped as Ctrl-C would."""
    started = home.start("up", "--data", str(home.data), "--listen", listen, *options, **environment)
    with started as command:
        command.until("Podium is ready", "Ctrl-C here ends Podium")
        yield Up(home, command, children(command.process.pid))
        command.send(signal.SIGINT)
        command.ends()


def children(pid: int) -> dict[str, psutil.Process]:
    """Return the processes of a `podium up` by service."""
    found: dict[str, psutil.Process] = {}
    for child in psutil.Process(pid).children():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            words = child.cmdline()
            if words and words[0].endswith("nats-server"):
                found["nats"] = child
            elif words[1:3] == ["-P", "-m"]:
                found[words[3]] = child
    return found


@contextmanager
def scripted_model(folder: Path, scenario: str = "samples") -> Iterator[str]:
    """Run the scripted model as a process, and yield its URL."""
    ready = folder / "model.json"
    command = [sys.executable, "-P", "-m", "podium.scripted_model", "--scenario", scenario, "--ready-file", str(ready)]
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        try:
            until(ready.exists, "the scripted model is ready")
            yield json.loads(ready.read_text())["url"]
        finally:
            process.terminate()


def _hear_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
