"""The launcher between an SDK and its CLI, with real processes: what the CLI gets, and that nothing outlives it."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from runner.launcher.files import Spec
from runner.processes import Launch, LaunchRefusal, prepare_launch, read_record, refusal
from tests.integration.runner.launcher_rig import PATIENCE_S, Started, agent, alive, eventually, launch

Start = Callable[..., Started]


@pytest.fixture
def session() -> str:
    return str(uuid4())


@pytest.fixture
def start(tmp_path: Path, session: str) -> Iterator[Start]:
    started: list[Started] = []

    def run(*command: str, what: Launch | None = None, arguments: tuple[str, ...] = ()) -> Started:
        started.append(Started(tmp_path / "session", what or launch(session, command), *arguments))
        return started[-1]

    yield run
    for one in started:
        one.clean_up()


# --- what the CLI gets -------------------------------------------------------------------------------------


def test_the_child_sees_exactly_the_environment_it_was_given(
    start: Start, session: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "ours")
    monkeypatch.setenv("CLAUDE_AGENT_SDK_VERSION", "0.2.187")
    monkeypatch.setenv("PWD", "/from/the/sdk")
    given = {"PATH": "/bin", "ODD": 'a\n"b" $c=d', "EMPTY": "", "PWD": "/given"}
    what = Launch(
        session=session,
        epoch=7,
        command=["/usr/bin/env", "-0"],
        environment=given,
        pass_through=["CLAUDE_AGENT_SDK_VERSION", "PWD", "NOT_SET"],
    )
    code, out, _ = start(what=what).finish()
    seen = dict(variable.split("=", 1) for variable in out.decode().split("\0")[:-1])
    assert code == 0
    assert seen == {**given, "CLAUDE_AGENT_SDK_VERSION": "0.2.187", "PODIUM_SESSION_MARK": f"{session}:7"}


def test_arguments_arrive_as_the_sdk_wrote_them_after_our_own(start: Start) -> None:
    odd = ("--system-prompt", "", "two words", "--x=$HOME'\"\n*")
    _, out, _ = start("/usr/bin/printf", "%s|", "ours", arguments=odd).finish()
    assert out.decode() == "ours|" + "|".join(odd) + "|"


def test_a_cli_can_be_started_in_a_folder_of_its_own(start: Start, session: str, tmp_path: Path) -> None:
    what = Launch(session=session, epoch=1, command=["/bin/sh", "-c", "pwd; echo $PWD"], environment={}, cwd=tmp_path)
    assert start(what=what).finish()[1].decode().split() == [str(tmp_path)] * 2


def test_standard_streams_are_the_pipes_themselves(start: Start) -> None:
    started = start("/bin/ls", "-l", "/proc/self/fd")
    pipes = (started.process.stdin, started.process.stdout, started.process.stderr)
    inodes = [os.fstat(pipe.fileno()).st_ino for pipe in pipes if pipe is not None]
    out = started.finish()[1].decode()
    assert [f"pipe:[{inode}]" in out for inode in inodes] == [True] * 3
    # 0, 1, 2 and the one that lists the folder: neither lock nor anything else of ours is handed down.
    assert len(out.splitlines()) == 1 + 4


def test_each_line_is_there_before_the_next_is_asked_for(start: Start) -> None:
    started = start("/bin/cat")
    assert started.process.stdin is not None
    for number in range(50):
        started.process.stdin.write(b"%d\n" % number)
        started.process.stdin.flush()
        assert started.line() == str(number)


def test_a_hundred_megabytes_pass_unchanged(start: Start) -> None:
    started = start("/bin/cat")
    block = os.urandom(1 << 20) * 100
    out, _ = started.process.communicate(block, timeout=60)
    assert hashlib.sha256(out).digest() == hashlib.sha256(block).digest()


def test_errors_are_the_clis_own_words(start: Start) -> None:
    assert start("/bin/sh", "-c", "echo careful >&2; exit 4").finish() == (4, b"", b"careful\n")


def test_the_child_starts_with_default_signals(start: Start) -> None:
    out = start("/bin/grep", "^Sig\\(Blk\\|Ign\\)", "/proc/self/status").finish()[1].decode()
    assert out.split() == ["SigBlk:", "0" * 16, "SigIgn:", "0" * 16]


def test_ctrl_c_in_the_runners_terminal_does_not_reach_the_cli(start: Start) -> None:
    started = start(*agent())
    ((cli, _),) = started.family()
    assert os.getsid(cli) == started.process.pid != os.getsid(0)


# --- how it ends -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [0, 1, 143, 255])
def test_the_exit_code_is_the_clis(start: Start, code: int) -> None:
    assert start("/bin/sh", "-c", f"exit {code}").finish()[0] == code


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGPIPE])
def test_a_cli_ended_by_a_signal_is_reported_as_such(start: Start, signum: signal.Signals) -> None:
    assert start("/bin/sh", "-c", f"kill -{signum.value} $$").finish()[0] == -signum


@pytest.mark.parametrize("kind", ["setsid", "daemon", "stubborn", "stopped", "respawning", "quiet"])
def test_no_descendant_outlives_the_cli(start: Start, kind: str) -> None:
    started = start(*agent(kind))
    family = started.family()
    started.close_input()
    assert started.finish()[0] == 0
    assert alive(family) == []


@pytest.mark.parametrize("then", ["", "kill -STOP $$;"])
def test_a_descendant_has_time_to_end_by_itself(start: Start, tmp_path: Path, then: str) -> None:
    """Also a stopped one: it meets its SIGTERM only when it is continued."""
    farewell = tmp_path / "farewell"
    orderly = f"trap 'sleep 0.1; echo done > {farewell}; exit' TERM; echo; {then} while :; do sleep 0.05; done"
    started = start("/bin/sh", "-c", f"/bin/sh -c '{orderly.replace(chr(39), QUOTE)}' & read line")
    started.line()
    started.close_input()
    started.finish()
    assert farewell.read_text() == "done\n"


def test_a_grandchild_has_time_too_when_its_parent_will_not_end(start: Start, tmp_path: Path) -> None:
    farewell = tmp_path / "farewell"
    orderly = f"trap 'echo done > {farewell}; exit' TERM; echo; while :; do sleep 0.05; done"
    started = start(sys.executable, "-I", "-S", "-c", STUBBORN_PARENT, orderly)
    started.line()
    started.process.terminate()
    assert started.finish()[0] == -signal.SIGKILL
    assert farewell.read_text() == "done\n"


def test_a_descendant_that_will_not_end_has_its_two_seconds_and_no_more(start: Start, session: str) -> None:
    what = Launch(session=session, epoch=1, command=agent("stubborn"), environment={}, term_s=0.5)
    started = start(what=what)
    family = started.family()
    began = time.monotonic()
    started.close_input()
    started.finish()
    assert time.monotonic() - began >= 0.5
    assert alive(family) == []


def test_children_born_while_the_rest_is_ended_are_ended_too(start: Start) -> None:
    breeder = "trap '' TERM; while :; do (trap '' TERM; sleep 60) & sleep 0.02; done"
    started = start("/bin/sh", "-c", f"({breeder}) & echo $!; read line")
    breeding = int(started.line())
    mark = f"PODIUM_SESSION_MARK={read_mark(breeding)}".encode()
    started.close_input()
    started.finish()
    assert [pid for pid in pids() if mark in environment(pid)] == []


def test_output_ends_with_the_cli_even_while_the_launcher_still_ends_others(start: Start, session: str) -> None:
    command = [sys.executable, "-I", "-S", "-c", QUIET_STUBBORN]
    started = start(what=Launch(session=session, epoch=1, command=command, environment={}, term_s=PATIENCE_S))
    assert started.process.stdout is not None
    child = int(started.line())
    assert started.process.stdout.read() == b""  # end of file
    assert started.process.poll() is None  # while the launcher waits for the child
    os.kill(child, signal.SIGKILL)
    assert started.finish()[0] == 0


def test_sigterm_ends_the_whole_tree(start: Start) -> None:
    started = start(*agent("setsid", "daemon", "unending"))
    family = started.family()
    started.process.terminate()
    assert started.finish()[0] == -signal.SIGTERM
    assert alive(family) == []


def test_sigterm_ends_even_a_cli_that_ignores_it(start: Start) -> None:
    started = start("/bin/sh", "-c", "trap '' TERM; echo; while :; do sleep 60; done")
    started.line()
    started.process.terminate()
    assert started.finish()[0] == -signal.SIGKILL


def test_sigint_is_passed_on_and_ends_nothing_by_itself(start: Start) -> None:
    started = start("/bin/sh", "-c", "trap 'echo interrupted; exit 9' INT; echo ready; while :; do sleep 0.05; done")
    assert started.line() == "ready"
    started.process.send_signal(signal.SIGINT)
    assert started.finish()[:2] == (9, b"interrupted\n")


def test_ended_descendants_do_not_pile_up(start: Start) -> None:
    orphans = "for i in 1 2 3 4 5 6 7 8 9 10; do (/bin/true & ) ; done; echo; read line"
    started = start("/bin/sh", "-c", orphans)
    started.line()
    assert eventually(lambda: len(children(started.process.pid)) == 1)


# --- who may start -----------------------------------------------------------------------------------------


def test_a_second_launcher_of_a_session_is_refused_at_once_and_the_first_goes_on(start: Start, session: str) -> None:
    first = start(*agent())
    family = first.family()
    code, out, err = start("/bin/echo", "never").finish()
    assert (refusal(code), out) == (LaunchRefusal.LOCKED, b"")
    assert f"session {session} already runs".encode() in err
    assert alive(family) == family
    first.close_input()
    assert first.finish()[0] == 0
    assert start("/bin/echo", "now").finish()[:2] == (0, b"now\n")


def test_an_owner_of_an_earlier_epoch_is_refused(start: Start, session: str) -> None:
    assert start(what=launch(session, ["/bin/true"], epoch=5)).finish()[0] == 0
    code, out, err = start(what=launch(session, ["/bin/echo", "never"], epoch=4)).finish()
    assert (refusal(code), out) == (LaunchRefusal.FENCED, b"")
    assert b"epoch 5" in err


def test_a_folder_elsewhere_does_not_help_an_earlier_owner(start: Start, session: str, tmp_path: Path) -> None:
    later = start(what=launch(session, agent(), epoch=2))
    family = later.family()
    zombie = Started(tmp_path / "elsewhere", launch(session, ["/bin/echo", "never"], epoch=1))
    code, out, _ = zombie.finish()
    assert (refusal(code), out) == (LaunchRefusal.FENCED, b"")
    assert alive(family) == family


@pytest.mark.parametrize("pid_lives", [False, True])
def test_nothing_starts_for_a_runner_that_is_gone(session: str, tmp_path: Path, *, pid_lives: bool) -> None:
    gone = subprocess.Popen(["/bin/true"])
    gone.wait()
    executable = prepare_launch(tmp_path, launch(session, ["/bin/echo", "never"]))
    spec = Spec.from_bytes((tmp_path / "spec").read_bytes())
    spec.owner = (os.getpid() if pid_lives else gone.pid, 1)
    (tmp_path / "spec").write_bytes(spec.to_bytes())
    done = subprocess.run([executable], capture_output=True, timeout=PATIENCE_S, check=False)
    assert (refusal(done.returncode), done.stdout) == (LaunchRefusal.OWNER_GONE, b"")


def test_a_spec_is_good_once_and_leaves_no_secret_behind(session: str, tmp_path: Path) -> None:
    folder = tmp_path / "session"
    environment = {"ANTHROPIC_API_KEY": "sk-very-secret"}
    executable = prepare_launch(
        folder, Launch(session=session, epoch=1, command=["/bin/true"], environment=environment)
    )
    assert b"sk-very-secret" in (folder / "spec").read_bytes()
    assert subprocess.run([executable], capture_output=True, check=False).returncode == 0
    assert subprocess.run([executable], capture_output=True, check=False).returncode == 240
    assert [entry.name for entry in folder.iterdir() if b"sk-very-secret" in entry.read_bytes()] == []
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_torn_spec_starts_nothing(session: str, tmp_path: Path) -> None:
    executable = prepare_launch(tmp_path, launch(session, ["/bin/echo", "never"]))
    whole = (tmp_path / "spec").read_bytes()
    (tmp_path / "spec").write_bytes(whole[:-3])
    done = subprocess.run([executable], capture_output=True, timeout=PATIENCE_S, check=False)
    assert (refusal(done.returncode), done.stdout) == (LaunchRefusal.BAD_FOLDER, b"")
    assert b"torn" in done.stderr


def test_a_missing_cli_and_one_that_cannot_run_are_told_apart(start: Start, tmp_path: Path) -> None:
    code, _, err = start("/nowhere/claude").finish()
    assert refusal(code) is LaunchRefusal.CLI_NOT_FOUND
    assert b"/nowhere/claude" in err
    (tmp_path / "claude").write_text("not a program")
    assert refusal(start(str(tmp_path / "claude")).finish()[0]) is LaunchRefusal.CLI_NOT_EXECUTABLE


def test_a_folder_with_odd_letters_works(session: str, tmp_path: Path) -> None:
    started = Started(tmp_path / 'it\'s a "$HOME" folder', launch(session, ["/bin/echo", "yes"]))
    assert started.finish()[:2] == (0, b"yes\n")


def test_the_record_says_who_runs_the_session_and_goes_with_it(start: Start, session: str, tmp_path: Path) -> None:
    started = start(what=launch(session, agent(), epoch=3))
    (cli,) = started.family()
    record = read_record(tmp_path / "session")
    assert record is not None
    assert (record.session, record.epoch, record.cli) == (session, 3, cli)
    assert record.launcher[0] == started.process.pid
    started.close_input()
    started.finish()
    assert read_record(tmp_path / "session") is None


QUOTE = "'\"'\"'"  # a single quote within single quotes, for sh

STUBBORN_PARENT = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.execv("/bin/sh", ["sh", "-c", sys.argv[1]])
while True:
    time.sleep(60)
"""

QUIET_STUBBORN = """
import os, signal, time
reader, writer = os.pipe()
pid = os.fork()
if pid == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for descriptor in (0, 1, 2):
        os.close(descriptor)
    os.close(writer)
    while True:
        time.sleep(60)
os.write(1, b"%d\\n" % pid)
"""


def pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def read_mark(pid: int) -> str:
    variables = dict(variable.partition(b"=")[::2] for variable in environment(pid).split(b"\0"))
    return variables[b"PODIUM_SESSION_MARK"].decode()


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_the_rig_sees_a_survivor() -> None:
    """The helpers above would notice: an agent started without the launcher leaves its daemon behind."""
    bare = subprocess.Popen(agent("daemon"), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert bare.stdout is not None
    assert bare.stdin is not None
    _, daemon = json.loads(bare.stdout.readline())
    bare.stdin.close()
    assert bare.wait(PATIENCE_S) == 0
    assert Path(f"/proc/{daemon}").exists()
    os.kill(daemon, signal.SIGKILL)
    bare.stdout.close()
