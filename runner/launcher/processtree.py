"""Name, find and end processes so that a reused pid is never hit; the launcher and takeover share this.

On Linux all of it comes from /proc. Elsewhere `ps` stands in: start times to the second, no marks, and a
daemon that left its parent is lost from view (docs/decisions/0003-launcher.md says what follows from that).
"""

# Not pathlib: it alone would cost a third of the launcher's start.
# ruff: noqa: PTH123, PTH208
from __future__ import annotations

import os
import sys
import time

from runner.launcher.csignal import signal
from runner.launcher.files import MARK_VARIABLE, Process

_FIRST_PAUSE_S = 0.005
_LONGEST_PAUSE_S = 0.05
# Fields of /proc/<pid>/stat counted from the one after the command's closing parenthesis.
_STATE, _PARENT, _THREADS, _START = 0, 1, 17, 19

TYPE_CHECKING = False
if TYPE_CHECKING:  # `collections.abc` is only for the reader: it would be one import more at start
    from collections.abc import Callable, Collection


def boot() -> str:
    """Return what tells this boot of the machine from others: start times count from it. "" where unknown."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def identify(pid: int) -> Process | None:
    """Return the living process that has this pid now; None when there is none, or only its zombie."""
    if sys.platform != "linux":
        row = _table_from_ps().get(pid)
        return None if row is None else (pid, row[1])
    row = _row(pid)
    return None if row is None else (pid, row[1])


def is_alive(process: Process) -> bool:
    """Return whether exactly this process lives; a zombie does not."""
    return identify(process[0]) == process


def descendants(root: int) -> list[Process]:
    """Return the living processes below `root`, parents before children."""
    children: dict[int, list[Process]] = {}
    for pid, (parent, start) in _table().items():
        children.setdefault(parent, []).append((pid, start))
    found = list(children.get(root, []))
    for process in found:  # grows while it is walked
        found.extend(children.get(process[0], []))
    return found


def marked(session: str) -> dict[Process, int]:
    """Return the living processes that carry the session's mark in their environment, with their epoch.

    This finds a tool's daemon whose launcher was SIGKILLed and which nothing links to the session any more.
    It does not see a process that was started with a wiped environment, nor another user's.
    """
    if sys.platform != "linux":
        return {}
    needle = f"{MARK_VARIABLE}={session}:".encode()
    found: dict[Process, int] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/environ", "rb", buffering=0) as file:
                environment = file.read()
        except OSError:
            continue  # it ended meanwhile, or is not ours to look at
        for variable in environment.split(b"\0") if needle in environment else ():
            process = identify(int(name)) if variable.startswith(needle) else None
            if process is not None and variable[len(needle) :].isdigit():
                found[process] = int(variable[len(needle) :])
    return found


def send(process: Process, signum: int) -> None:
    """Send a signal to exactly this process; nothing happens when it is gone or not ours."""
    try:
        if not hasattr(os, "pidfd_open"):
            if is_alive(process):
                os.kill(process[0], signum)
            return
        descriptor = os.pidfd_open(process[0])
        try:
            # The descriptor pins whoever has the pid now; only then is it asked whether that is the one meant.
            if is_alive(process):
                signal.pidfd_send_signal(descriptor, signum)
        finally:
            os.close(descriptor)
    except OSError:
        return  # gone, or not ours to end: whoever looks next sees which


def end_all(
    find: Callable[[], Collection[Process]], *, term_s: float, kill_s: float
) -> tuple[set[Process], set[Process]]:
    """End what `find` returns until it returns nothing: SIGTERM, after `term_s` SIGKILL, after `kill_s` give up.

    `find` is asked again in every round, so children that are born meanwhile are met too. Returns who was
    told to end, and who survived it all (uninterruptible, or another user's).
    """
    told: set[Process] = set()
    kill_at = time.monotonic() + term_s
    stop_at = kill_at + kill_s
    pause_s = _FIRST_PAUSE_S
    while True:
        alive = set(find())
        now = time.monotonic()
        if not alive or now >= stop_at:
            return told, alive
        for process in alive:
            if now >= kill_at:
                send(process, signal.SIGKILL)
            elif process not in told:
                send(process, signal.SIGTERM)
                send(process, signal.SIGCONT)  # a stopped process meets its SIGTERM only when it continues
        told |= alive
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def _table() -> dict[int, tuple[int, int]]:
    """Return parent and start time of every living process by pid."""
    if sys.platform != "linux":
        return _table_from_ps()
    table: dict[int, tuple[int, int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            row = _row(int(name))
            if row is not None:
                table[int(name)] = row
    return table


def _row(pid: int) -> tuple[int, int] | None:
    """Return parent and start time; None for a zombie, which no signal can end. Source: proc_pid_stat(5).

    A process whose first thread has ended looks like a zombie too, but has other threads and lives.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            text = file.read()
    except OSError:
        return None
    fields = text[text.rindex(b")") + 2 :].split()
    ended = fields[_STATE] == b"X" or (fields[_STATE] == b"Z" and int(fields[_THREADS]) <= 1)
    return None if ended else (int(fields[_PARENT]), int(fields[_START]))


def _table_from_ps() -> dict[int, tuple[int, int]]:
    import subprocess  # noqa: PLC0415 - it would double the launcher's start on Linux

    command = ["/bin/ps", "-axo", "pid=,ppid=,stat=,lstart="]
    listing = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10, check=True, env={"LC_ALL": "C"}
    )
    return read_ps(listing.stdout)


def read_ps(listing: str) -> dict[int, tuple[int, int]]:
    """Return parent and start time by pid from `ps -axo pid=,ppid=,stat=,lstart=`; zombies are left out."""
    table: dict[int, tuple[int, int]] = {}
    for line in listing.splitlines():
        pid, parent, state, started = line.split(maxsplit=3)
        if not state.startswith("Z"):
            table[int(pid)] = int(parent), int(time.mktime(time.strptime(started, "%a %b %d %H:%M:%S %Y")))
    return table
