"""What the launcher and the runner write for each other: whole or refused, and cheap to start from."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.launcher.files import (
    FencedError,
    LockHeldError,
    Record,
    Spec,
    UnreadableFileError,
    read_whole,
    take_lock,
    write_whole,
)
from runner.launcher.processtree import read_ps
from runner.processes import LaunchRefusal, refusal

RECORD = Record(session="s", epoch=3, boot="b", launcher=(10, 100), cli=(11, 101))

text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
names = text.filter(lambda name: name != "" and "=" not in name)


def spec(*, command: list[str], environment: dict[str, str]) -> Spec:
    return Spec(
        session="s",
        epoch=1,
        owner=(1, 2),
        command=command,
        environment=environment,
        pass_through=["PWD"],
        cwd="/a b",
        term_s=2.0,
    )


@given(command=st.lists(text, min_size=1), environment=st.dictionaries(names, text))
def test_a_spec_is_read_as_it_was_written(command: list[str], environment: dict[str, str]) -> None:
    written = spec(command=command, environment=environment)
    read = Spec.from_bytes(written.to_bytes())
    assert {name: getattr(read, name) for name in Spec.__slots__} == {
        name: getattr(written, name) for name in Spec.__slots__
    }


def test_bytes_that_are_no_text_survive_in_an_environment() -> None:
    odd = os.fsdecode(b"\xff\xfe=\n")
    assert Spec.from_bytes(spec(command=["a"], environment={"ODD": odd}).to_bytes()).environment == {"ODD": odd}


def test_a_nul_is_refused_because_no_process_could_be_given_it() -> None:
    with pytest.raises(ValueError, match="NUL"):
        spec(command=["a\0b"], environment={}).to_bytes()


def test_a_record_torn_anywhere_is_refused() -> None:
    whole = RECORD.to_bytes()
    assert Record.from_bytes(whole).launcher == (10, 100)
    for length in range(len(whole)):
        with pytest.raises(UnreadableFileError):
            Record.from_bytes(whole[:length])


@given(st.binary())
def test_any_bytes_are_a_record_or_a_typed_error(content: bytes) -> None:
    try:
        Record.from_bytes(content + b"\0end=\0")
    except UnreadableFileError:
        return


def test_a_file_is_replaced_whole_and_is_ours_alone(tmp_path: Path) -> None:
    path = tmp_path / "process"
    write_whole(str(path), b"old")
    with path.open("rb") as reader:
        write_whole(str(path), b"newer")
        assert reader.read() == b"old"
    assert read_whole(str(path)) == b"newer"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["process"]


def test_a_lock_is_held_once_and_remembers_the_highest_epoch(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    first = take_lock(path, 2)
    with pytest.raises(LockHeldError):
        take_lock(path, 3)
    os.close(first)
    os.close(take_lock(path, 2))
    os.close(take_lock(path, 10))
    with pytest.raises(FencedError, match="epoch 10"):
        take_lock(path, 9)
    os.close(take_lock(path, 10))


def test_ps_output_gives_parents_and_start_times_without_zombies() -> None:
    table = read_ps(
        "    1     0 Ss   Sun Nov  1 08:38:00 2026\n"
        "  812     1 S+   Sun Nov 22 08:38:01 2026\n"
        "  813   812 Z    Sun Nov 22 08:38:02 2026\n"
    )
    assert set(table) == {1, 812}
    assert table[812][0] == 1
    assert table[812][1] - table[1][1] == 21 * 86_400 + 1


def test_the_launchers_own_exit_codes_are_told_from_the_clis() -> None:
    assert refusal(241) is LaunchRefusal.LOCKED
    assert refusal(127) is LaunchRefusal.CLI_NOT_FOUND
    assert [refusal(code) for code in (0, 1, 143, -9, None)] == [None] * 5


def test_the_launcher_imports_nothing_that_makes_every_start_slower() -> None:
    program = "import sys; sys.path.append(sys.argv[1]); import runner.launcher.supervise; print(*sys.modules)"
    root = str(Path(__file__).parents[3])
    listed = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program, root], capture_output=True, text=True, check=True
    ).stdout.split()
    ours = {name for name in listed if name.startswith("runner")}
    assert ours == {f"runner{tail}" for tail in ("", ".launcher", *OURS)}
    assert set(listed).isdisjoint(SLOW)


OURS = (".launcher.csignal", ".launcher.files", ".launcher.processtree", ".launcher.starting", ".launcher.supervise")
SLOW = {"collections", "dataclasses", "enum", "functools", "json", "pathlib", "re", "subprocess", "typing"}
