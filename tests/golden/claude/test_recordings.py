"""Recordings of the real client mean what they meant when somebody looked at them."""

import json

import pytest

from tests.golden.claude.recordings import CASES, FOLDER, meaning, read


@pytest.mark.parametrize("name", CASES)
def test_a_recording_means_what_it_meant(name: str) -> None:
    expected = json.loads((FOLDER / name / "expected.json").read_text())
    assert meaning(read(name)) == expected


@pytest.mark.parametrize("name", CASES)
def test_nothing_of_a_recording_is_unreadable(name: str) -> None:
    assert not [fact for fact in meaning(read(name)) if "unreadable_record" in fact]


def test_every_folder_is_a_case_that_says_where_it_comes_from() -> None:
    folders = {path.name for path in FOLDER.iterdir() if (path / "input.jsonl").exists()}
    assert folders == set(CASES)
    assert all("Claude Code 2." in (FOLDER / name / "ABOUT.md").read_text() for name in folders)
