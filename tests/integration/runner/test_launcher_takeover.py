"""What is left of a session's processes when runner or launcher are killed or stopped, and what a takeover does."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from runner.launcher.files import LOCK_NAME, Process, Record, take_lock
from runner.launcher.processtree import boot, identify
from runner.processes import LaunchRefusal, SessionLock, end_previous_process, prepare_launch, read_record, refusal
from tests.integration.runner.launcher_rig import (
    PATIENCE_S,
    ROOT,
    FakeRunner,
    Started,
    agent,
    alive,
    eventually,
    launch,
    named,
)

Begin = Callable[..., FakeRunner]


@pytest.fixture
def session() -> str:
    return str(uuid4())


@pytest.fixture
def folder(tmp_path: Path, session: str) -> Iterator[Path]:
    yield tmp_path / session
    end_previous_process(tmp_path / session, session, epoch=10**9)  # whatever a failed test left


@pytest.fixture
def runner() -> Iterator[FakeRunner]:
    one = FakeRunner()
    yield one
    one.clean_up()


def run_agent(runner: FakeRunner, folder: Path, session: str, *kinds: str) -> tuple[Process, list[Process]]:
    """Return the launcher, and the agent with its descendants."""
    answer = runner.start(folder, session, agent(*kinds))
    launcher = identify(answer["launcher"])
    assert launcher is not None
    return launcher, named(answer["said"])


# --- the runner is killed ----------------------------------------------------------------------------------


def test_nothing_outlives_a_killed_runner(runner: FakeRunner, folder: Path, session: str) -> None:
    launcher, family = run_agent(
        runner, folder, session, "setsid", "daemon", "stubborn", "stopped", "quiet", "unending"
    )
    runner.send(signal.SIGKILL)
    assert eventually(lambda: alive([launcher, *family]) == [])
    assert eventually(lambda: read_record(folder) is None)


def test_nothing_outlives_a_killed_runner_where_the_kernel_has_no_pidfd(folder: Path, session: str) -> None:
    old_kernel = f"import os, sys; del os.pidfd_open; sys.path.append({str(ROOT)!r})\n"
    old_kernel += "from runner.launcher.supervise import main; main(sys.argv[1:])"
    runner = subprocess.Popen(
        [
            sys.executable,
            "-c",
            RUNNER_WITHOUT_PIDFD,
            str(folder),
            session,
            old_kernel,
            *agent("setsid", "daemon", "unending"),
        ],
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": str(ROOT)},
    )
    assert runner.stdout is not None
    family = named(runner.stdout.readline().decode())
    runner.kill()
    runner.communicate(timeout=PATIENCE_S)
    assert eventually(lambda: alive(family) == [])


# --- the launcher is killed --------------------------------------------------------------------------------


def test_the_cli_ends_with_a_killed_launcher(runner: FakeRunner, folder: Path, session: str) -> None:
    launcher, (cli,) = run_agent(runner, folder, session)
    os.kill(launcher[0], signal.SIGKILL)
    assert eventually(lambda: alive([cli]) == [])


def test_a_takeover_finds_what_a_killed_launcher_lost(runner: FakeRunner, folder: Path, session: str) -> None:
    launcher, (cli, *lost) = run_agent(runner, folder, session, "setsid", "daemon", "stubborn", "stopped", "quiet")
    os.kill(launcher[0], signal.SIGKILL)
    assert eventually(lambda: alive([launcher, cli]) == [])
    assert alive(lost) == lost
    ended = end_previous_process(folder, session, epoch=2)
    assert alive(lost) == []
    assert set(lost) <= ended.processes
    assert ended.is_clear


def test_the_next_start_ends_what_a_killed_launcher_lost(runner: FakeRunner, folder: Path, session: str) -> None:
    launcher, (cli, lost) = run_agent(runner, folder, session, "setsid")
    os.kill(launcher[0], signal.SIGKILL)
    assert eventually(lambda: alive([launcher, cli]) == [])
    assert Started(folder, launch(session, ["/bin/echo", "alone"])).finish()[:2] == (0, b"alone\n")
    assert alive([lost]) == []


def test_all_killed_at_once_leaves_nothing_after_a_takeover(runner: FakeRunner, folder: Path, session: str) -> None:
    launcher, family = run_agent(runner, folder, session, "setsid", "daemon")
    runner.send(signal.SIGKILL)
    os.kill(launcher[0], signal.SIGKILL)
    assert end_previous_process(folder, session, epoch=2).is_clear
    assert alive([launcher, *family]) == []


# --- the runner or the launcher is stopped -----------------------------------------------------------------


def test_a_stopped_runner_is_taken_over_and_cannot_start_again(runner: FakeRunner, folder: Path, session: str) -> None:
    launcher, family = run_agent(runner, folder, session, "setsid", "daemon")
    runner.send(signal.SIGSTOP)
    assert alive([launcher, *family]) == [launcher, *family]
    ended = end_previous_process(folder, session, epoch=2)
    assert ended.is_clear
    assert ended.processes >= {launcher, *family}
    assert alive([launcher, *family]) == []
    runner.send(signal.SIGCONT)
    again = runner.start(folder, session, ["/bin/echo", "second agent"], epoch=1)
    assert again["said"] == ""
    assert refusal(again["code"]) is LaunchRefusal.FENCED


def test_a_stopped_launcher_is_taken_over(runner: FakeRunner, folder: Path, session: str) -> None:
    launcher, family = run_agent(runner, folder, session, "setsid")
    os.kill(launcher[0], signal.SIGSTOP)
    assert end_previous_process(folder, session, epoch=2).is_clear
    assert alive([launcher, *family]) == []


def test_a_living_runners_session_can_be_ended_quickly(runner: FakeRunner, folder: Path, session: str) -> None:
    launcher, family = run_agent(runner, folder, session, "quiet")
    assert end_previous_process(folder, session, epoch=1).is_clear
    assert alive([launcher, *family]) == []


# --- what must not be hit ----------------------------------------------------------------------------------


@pytest.fixture
def bystander() -> Iterator[Process]:
    innocent = subprocess.Popen(["/bin/sleep", "600"])
    process = identify(innocent.pid)
    assert process is not None
    yield process
    innocent.kill()
    innocent.wait()


def record(folder: Path, session: str, process: Process, *, of_boot: str) -> None:
    folder.mkdir()
    written = Record(session=session, epoch=1, boot=of_boot, launcher=process, cli=process)
    (folder / "process").write_bytes(written.to_bytes())


def test_a_pid_that_was_used_again_is_left_alone(folder: Path, session: str, bystander: Process) -> None:
    record(folder, session, (bystander[0], bystander[1] - 1), of_boot=boot())
    ended = end_previous_process(folder, session, epoch=2)
    assert (ended.processes, ended.is_clear) == (frozenset(), True)
    assert alive([bystander]) == [bystander]


def test_a_record_of_an_earlier_boot_is_left_alone(folder: Path, session: str, bystander: Process) -> None:
    record(folder, session, bystander, of_boot="another boot")
    assert end_previous_process(folder, session, epoch=2).processes == frozenset()
    assert alive([bystander]) == [bystander]


def test_what_a_matching_record_names_is_ended(folder: Path, session: str, bystander: Process) -> None:
    """The two tests above would notice: only start time and boot stood between the bystander and its end."""
    record(folder, session, bystander, of_boot=boot())
    assert end_previous_process(folder, session, epoch=2).processes == {bystander}
    assert alive([bystander]) == []


def test_another_sessions_processes_are_left_alone(runner: FakeRunner, folder: Path, session: str) -> None:
    _, family = run_agent(runner, folder, session, "setsid")
    other = str(uuid4())
    assert end_previous_process(folder.with_name(other), other, epoch=9).processes == frozenset()
    assert alive(family) == family


def test_an_earlier_owner_cannot_take_a_session_back(runner: FakeRunner, folder: Path, session: str) -> None:
    answer = runner.start(folder, session, agent("setsid"), epoch=5)
    family = named(answer["said"])
    assert end_previous_process(folder, session, epoch=4).lock is SessionLock.FENCED
    assert alive(family) == family


# --- what may be broken ------------------------------------------------------------------------------------


def test_a_torn_record_does_not_hide_anything(runner: FakeRunner, folder: Path, session: str) -> None:
    launcher, family = run_agent(runner, folder, session, "setsid", "quiet")
    whole = (folder / "process").read_bytes()
    (folder / "process").write_bytes(whole[: len(whole) // 2])
    assert end_previous_process(folder, session, epoch=2).is_clear
    assert alive(family) == []
    assert eventually(lambda: alive([launcher]) == [])


def test_a_session_that_never_ran_here_is_clear_at_once_and_fenced(folder: Path, session: str) -> None:
    ended = end_previous_process(folder, session, epoch=3)
    assert (ended.processes, ended.lock) == (frozenset(), SessionLock.FREE)
    assert end_previous_process(folder, session, epoch=2).lock is SessionLock.FENCED


def test_a_lock_that_stays_held_is_reported_not_waited_for(folder: Path, session: str) -> None:
    folder.mkdir()
    held = take_lock(str(folder / LOCK_NAME), 1)
    ended = end_previous_process(folder, session, epoch=2)
    os.close(held)
    assert ended.lock is SessionLock.HELD
    assert not ended.is_clear


def test_a_cli_that_no_takeover_could_find_is_ended(folder: Path, session: str) -> None:
    executable = prepare_launch(folder, launch(session, ["/bin/sleep", "600"]))
    (folder / "process").mkdir()  # what a full disk does too: the record cannot be put in place
    done = subprocess.run([executable], capture_output=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == -signal.SIGTERM
    assert b"cannot write the process record" in done.stderr
    assert sorted(entry.name for entry in folder.iterdir()) == ["lock", "process", "start"]
    (folder / "process").rmdir()


RUNNER_WITHOUT_PIDFD = """
import subprocess, sys
from pathlib import Path
from runner.processes import Launch, prepare_launch
folder, session, launcher, *command = sys.argv[1:]
prepare_launch(Path(folder), Launch(session=session, epoch=1, command=command, environment={}))
child = subprocess.Popen(
    [sys.executable, "-I", "-S", "-c", launcher, folder + "/spec"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
)
print(child.stdout.readline().decode(), end="", flush=True)
child.wait()
"""
