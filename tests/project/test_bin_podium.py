"""bin/podium: finds its checkout, builds what the command uses, and survives being killed."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

COMMAND_S_MAX = 60


def test_it_runs_from_any_folder_and_through_links(checkout: Any, tmp_path: Path) -> None:
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    first_link, second_link = tmp_path / "first", elsewhere / "second"
    first_link.symlink_to(checkout.root / "bin" / "podium")
    second_link.symlink_to(Path("..") / "first")

    seen = checkout.report("run", "two words", "--json", script=second_link, cwd=elsewhere)

    assert seen["arguments"] == ["run", "two words", "--json"]
    assert seen["cwd"] == str(elsewhere)
    assert seen["file"] == str(checkout.root / "podium" / "cli" / "__main__.py")


def test_a_ready_environment_is_used_in_silence(checkout: Any, shelf: Any) -> None:
    assert "building" in checkout.run("ls").stderr
    shelf.fetched.clear()

    again = checkout.run("ls")

    assert again.stderr == ""
    assert shelf.fetched == []


def test_folders_of_the_user_are_not_imported(checkout: Any, tmp_path: Path) -> None:
    for name in ("podium", "json"):
        (tmp_path / "work" / name).mkdir(parents=True)
        (tmp_path / "work" / name / "__init__.py").write_text("raise SystemExit('imported from the working folder')")

    assert checkout.report("ls", cwd=tmp_path / "work")["cwd"] == str(tmp_path / "work")


@pytest.mark.parametrize(
    ("arguments", "installed"),
    [
        (["sql", "select 1"], ["fake_run"]),
        (["run", "demo"], ["fake_run"]),
        (["demo", "--help"], ["fake_run"]),
        ([], ["fake_run"]),
        (["demo"], ["fake_run", "fake_claude"]),
        (["--json", "doctor"], ["fake_run", "fake_claude"]),
        (["--address", "127.0.0.1:1", "up"], ["fake_run", "fake_claude"]),
    ],
)
def test_only_what_the_command_uses_is_installed(checkout: Any, arguments: list[str], installed: list[str]) -> None:
    assert checkout.report(*arguments)["installed"] == installed


def test_an_environment_grows_without_being_replaced(checkout: Any, shelf: Any) -> None:
    before = checkout.report("ls")
    shelf.fetched.clear()

    grown = checkout.report("demo")

    assert grown["installed"] == ["fake_run", "fake_claude"]
    assert grown["prefix"] == before["prefix"]
    assert shelf.fetched == ["/fake_claude-1.0-py3-none-any.whl"]
    assert checkout.run("ls").stderr == ""


def test_changed_pins_make_a_new_environment_and_keep_one_old(checkout: Any, shelf: Any) -> None:
    first = checkout.report("ls")["prefix"]
    checkout.pin("2.0")
    second = checkout.report("ls")["prefix"]
    assert second != first
    assert "/fake_run-2.0-py3-none-any.whl" in shelf.fetched
    assert Path(first).is_dir(), "a command may still run from the one before"

    checkout.pin("3.0")
    third = checkout.report("ls")["prefix"]

    assert checkout.generations == {Path(second).name, Path(third).name}


def test_a_moved_checkout_builds_anew(checkout: Any, tmp_path: Path) -> None:
    checkout.report("ls")
    checkout.root = checkout.root.rename(tmp_path / "moved")

    seen = checkout.report("ls")

    assert seen["file"] == str(tmp_path / "moved" / "podium" / "cli" / "__main__.py")
    assert Path(seen["prefix"]).is_relative_to(tmp_path / "moved")


def test_a_removed_interpreter_builds_anew(checkout: Any) -> None:
    old = checkout.report("ls")["prefix"]
    (Path(old) / "bin" / "python").unlink()

    assert checkout.report("ls")["prefix"] != old


@pytest.mark.parametrize("before", [[], ["ls"]], ids=["first build", "growth"])
def test_a_killed_build_is_done_again(checkout: Any, shelf: Any, before: list[str]) -> None:
    for command in before:
        checkout.report(command)
    shelf.asked.clear()
    shelf.open.clear()
    killed = checkout.start("demo")
    assert shelf.asked.wait(COMMAND_S_MAX), "pip never asked for the wheel"
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate(timeout=COMMAND_S_MAX)
    shelf.open.set()

    assert checkout.report("demo")["installed"] == ["fake_run", "fake_claude"]
    assert checkout.run("demo").stderr == ""


def test_two_first_runs_at_once_build_once(checkout: Any, shelf: Any) -> None:
    shelf.open.clear()
    builds = checkout.start("ls")
    assert shelf.asked.wait(COMMAND_S_MAX)
    waits = checkout.start("ls")
    assert waits.stderr is not None
    assert "waiting" in waits.stderr.readline()
    shelf.open.set()

    assert [(process.communicate(timeout=COMMAND_S_MAX), process.returncode)[1] for process in (builds, waits)] == [
        0,
        0,
    ]
    assert shelf.fetched == ["/fake_run-1.0-py3-none-any.whl"]
    assert len(checkout.generations) == 1


def test_a_wheel_with_another_hash_is_refused(checkout: Any, shelf: Any) -> None:
    shelf.wheels["/fake_run-1.0-py3-none-any.whl"] += b"tampered"

    refused = checkout.run("ls")

    assert refused.returncode == 69
    assert "THESE PACKAGES DO NOT MATCH THE HASHES" in refused.stderr
    assert str(checkout.root / ".venvs" / "pip.log") in refused.stderr
    assert refused.stdout == ""
    assert checkout.generations == set()


def test_a_foreign_venv_is_left_alone(checkout: Any) -> None:
    (checkout.root / ".venv").mkdir()
    (checkout.root / ".venv" / "mine").touch()

    refused = checkout.run("ls")

    assert refused.returncode == 69
    assert "was not made by Podium" in refused.stderr
    assert (checkout.root / ".venv" / "mine").exists()


def test_without_a_python_it_says_what_to_install(checkout: Any, tmp_path: Path) -> None:
    python = tmp_path / "programs" / "python3"
    python.unlink()
    python.write_text("#!/bin/sh\nexit 1\n")  # an old Python, or a pyenv shim with nothing behind it
    python.chmod(0o755)

    refused = checkout.run("ls")

    assert refused.returncode == 69
    assert "no Python 3.11 or newer was found" in refused.stderr
    assert "python3.12" in refused.stderr


def test_podium_python_names_the_interpreter(checkout: Any, tmp_path: Path) -> None:
    python = tmp_path / "programs" / "python3"
    hidden = tmp_path / "hidden python"
    python.rename(hidden)
    checkout.environment["PODIUM_PYTHON"] = str(hidden)

    assert checkout.report("ls")["installed"] == ["fake_run"]
