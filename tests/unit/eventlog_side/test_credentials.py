import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from podium.eventlog.credentials import CredentialsError, load, load_or_create
from podium.eventlog.roles import Role


def test_passwords_are_made_once_and_are_private(tmp_path: Path) -> None:
    path = tmp_path / "nats" / "credentials.json"
    first = load_or_create(path)
    assert load_or_create(path).passwords == first.passwords == load(path).passwords
    assert path.stat().st_mode & 0o777 == 0o600
    assert {len(password) for password in first.passwords.values()} == {43}
    assert [entry.name for entry in path.parent.iterdir()] == ["credentials.json"]


def test_processes_that_start_at_once_agree_on_the_passwords(tmp_path: Path) -> None:
    path = tmp_path / "credentials.json"
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(load_or_create, [path] * 32))
    assert all(credentials.passwords == made[0].passwords for credentials in made)


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "credentials.json"
    load_or_create(path)
    path.chmod(0o640)
    with pytest.raises(CredentialsError, match="chmod 600"):
        load(path)


def test_a_service_may_be_given_its_own_password_alone(tmp_path: Path) -> None:
    path = tmp_path / "runner.json"
    path.touch(mode=0o600)
    path.write_text(json.dumps({"runner": "x" * 32}))
    assert load(path).password(Role.RUNNER) == "x" * 32
    with pytest.raises(CredentialsError, match="no password for the role gateway"):
        load(path).password(Role.GATEWAY)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"gateway": 7}', '{"gateway": "short"}', '{"somebody": "x"}'])
def test_what_is_no_credentials_file_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "credentials.json"
    path.touch(mode=0o600)
    path.write_text(content)
    with pytest.raises(CredentialsError, match=r"credentials\.json"):
        load(path)


def test_a_missing_file_says_who_makes_it(tmp_path: Path) -> None:
    with pytest.raises(CredentialsError, match="podium up"):
        load(tmp_path / "none.json")
