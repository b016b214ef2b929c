"""`podium demo` keeps its promises, and says so when it does not."""

import signal
from pathlib import Path

import psutil
import pytest
from claude_agent_sdk._cli_version import __cli_version__ as pinned

from tests.support.commands import Home, children

pytestmark = [pytest.mark.claude, pytest.mark.timeout(300), pytest.mark.xdist_group("cli-demo")]

DEMO_S_MAX = 60.0


def test_the_demo_shows_everything_with_the_pinned_cli_and_leaves_nothing(tmp_path: Path) -> None:
    home = Home(tmp_path)
    outside = _outside()
    with home.start("demo") as command:
        command.until("Podium is ready")
        folder = Path(command.said.split("everything it writes is in ")[1].split()[0])
        started = {process.pid for process in psutil.Process(command.process.pid).children(recursive=True)}
        assert command.ends() == 0, command.said
    said = command.said
    assert f"all by claude-cli/{pinned} (" in said
    assert "scripted model endpoint, not a real model" in said
    parts = [
        "The user asks:",
        "● Bash",
        "→ allowed by demo",
        "⎿ ",
        "the provider resumes its session",
        "I remember. Your first prompt was 'Write hello-podium.txt",
        "podium ls",
        "podium usage",
        "podium sql",
        "✔ everything held",
    ]
    places = [said.index(part) for part in parts]
    assert places == sorted(places)
    assert not folder.exists()
    assert not [process for process in started if psutil.pid_exists(process)]
    assert not _processes_of(folder)
    assert _outside() == outside
    assert {path.name for path in home.folder.iterdir()} == {"work", command.output.name}


def test_a_demo_that_fails_says_which_service_said_what(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with home.start("demo") as command:
        command.until("Podium is ready")
        children(command.process.pid)["gateway"].kill()
        assert command.ends() not in (0, None)
    # The call meets a closed port, or the gateway is back too late for the demo: either way it says so and fails.
    assert "NOT_RUNNING" in command.said or "DEMO_FAILED" in command.said
    assert "gateway said last:" in command.said
    assert '"serving"' in command.said
    assert {path.name for path in home.folder.iterdir()} == {"work", command.output.name}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_demo_that_is_stopped_cleans_up(tmp_path: Path, number: signal.Signals) -> None:
    home = Home(tmp_path)
    with home.start("demo") as command:
        command.until("The first turn")
        command.send(number)
        assert command.ends() != 0
    assert {path.name for path in home.folder.iterdir()} == {"work", command.output.name}
    assert "Traceback" not in command.said


def test_the_folder_is_kept_when_that_is_asked_for(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with home.start("demo", "--keep") as command:
        assert command.ends() == 0, command.said
    folder = Path(command.said.split("everything it writes is in ")[1].split()[0])
    assert (folder / "data" / "nats").is_dir()
    assert (folder / "workspace" / "hello-podium.txt").is_file()
    assert list((folder / "home" / ".claude" / "projects").rglob("*.jsonl"))


def _outside() -> set[str]:
    """What a Claude Code CLI leaves in /tmp when nobody tells it otherwise."""
    return {path.name for path in Path("/tmp").glob("c*-*") if path.name.startswith(("claude-", "cc-"))}


def _processes_of(folder: Path) -> list[psutil.Process]:
    return [
        process
        for process in psutil.process_iter(["cmdline", "cwd"])
        if str(folder) in " ".join(process.info["cmdline"] or ()) + str(process.info["cwd"])
    ]
