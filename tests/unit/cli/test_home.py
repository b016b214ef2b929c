"""Commands find the Podium that runs, and say what to do when they do not."""

from pathlib import Path

import pytest

from podium.cli import home
from podium.cli.failures import CliError, Exit, exit_code
from podium.cli.home import DataFolder


@pytest.fixture(autouse=True)
def own_state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name in ("PODIUM_ADDRESS", "PODIUM_TOKEN", "PODIUM_TOKEN_FILE", "PODIUM_CA_FILE"):
        monkeypatch.delenv(name, raising=False)


def ready(path: Path, *, address: str = "127.0.0.1:7", token: str = "of this folder") -> DataFolder:
    path.mkdir(parents=True)
    folder = DataFolder(path)
    folder.token_file.write_text(token)
    home.announce(folder, address)
    return folder


def test_the_podium_that_was_started_last_is_found(tmp_path: Path) -> None:
    ready(tmp_path / "first", address="127.0.0.1:1")
    ready(tmp_path / "second", address="127.0.0.1:2")
    assert (home.discover(None).address, home.discover(None).token) == ("127.0.0.1:2", "of this folder")


def test_data_names_another_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ready(tmp_path / "first", address="127.0.0.1:1")
    ready(tmp_path / "second", address="127.0.0.1:2")
    monkeypatch.setenv("PODIUM_ADDRESS", "127.0.0.1:3")
    assert home.discover(tmp_path / "first").address == "127.0.0.1:1"


def test_the_environment_says_where_to_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ready(tmp_path / "first")
    token_file = tmp_path / "token of mine"
    token_file.write_text("from a file\n")
    monkeypatch.setenv("PODIUM_ADDRESS", "127.0.0.1:3")
    monkeypatch.setenv("PODIUM_TOKEN_FILE", str(token_file))
    assert (home.discover(None).address, home.discover(None).token) == ("127.0.0.1:3", "from a file")
    monkeypatch.setenv("PODIUM_TOKEN", "given")
    assert home.discover(None).token == "given"


def test_without_a_podium_it_says_how_to_start_one() -> None:
    with pytest.raises(CliError, match=r"podium\.json is not there") as raised:
        home.discover(None)
    assert raised.value.reason == "NOT_RUNNING"
    assert "podium up" in raised.value.advice
    assert exit_code(raised.value) is Exit.UNREACHABLE


def test_a_token_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    folder = ready(tmp_path / "first")
    folder.token_file.unlink()
    with pytest.raises(CliError, match="token cannot be read") as raised:
        home.discover(None)
    assert exit_code(raised.value) is Exit.NOT_ALLOWED


def test_a_broken_endpoint_file_is_no_traceback(tmp_path: Path) -> None:
    ready(tmp_path / "first").endpoint_file.write_text("{")
    with pytest.raises(CliError, match="cannot be read"):
        home.discover(None)


def test_withdrawing_leaves_what_another_has_announced(tmp_path: Path) -> None:
    first = ready(tmp_path / "first", address="127.0.0.1:1")
    ready(tmp_path / "second", address="127.0.0.1:2")
    home.withdraw(first)
    assert home.discover(None).address == "127.0.0.1:2"
    home.withdraw(DataFolder(tmp_path / "second"))
    with pytest.raises(CliError):
        home.discover(None)


def test_files_are_for_their_owner_only(tmp_path: Path) -> None:
    folder = ready(tmp_path / "first")
    for file in (folder.endpoint_file, home.state_home() / "current"):
        assert file.stat().st_mode & 0o777 == 0o600
