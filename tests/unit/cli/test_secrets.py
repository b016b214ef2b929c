"""Secrets are made once, are for their owner only, and each service gets its own and no other."""

import json
from pathlib import Path

from podium import auth
from podium.cli.home import DataFolder
from podium.cli.stack import secrets
from podium.eventlog import Role
from podium.eventlog.credentials import generated


def test_a_second_start_keeps_the_tokens(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "data")
    made = secrets.prepare(folder, "ana")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert secrets.prepare(folder, "ana") == made
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_the_users_token_is_admin_under_their_name(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "data")
    made = secrets.prepare(folder, "ana")
    who = auth.Tokens.read(made.gateway_tokens).authenticate(folder.token_file.read_text())
    assert who.name == "ana"
    who.require(auth.Role.ADMIN)


def test_the_gateways_token_opens_the_indexer_and_not_the_gateway(tmp_path: Path) -> None:
    made = secrets.prepare(DataFolder(tmp_path / "data"), "ana")
    token = made.indexer_token.read_text()
    assert auth.Tokens.read(made.indexer_tokens).authenticate(token).name == "gateway"
    assert made.gateway_tokens.read_bytes() != made.indexer_tokens.read_bytes()
    assert token not in made.gateway_tokens.read_text()


def test_tokens_that_were_added_by_hand_stay(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "data")
    made = secrets.prepare(folder, "ana")
    own = auth.entry("ci", [auth.Role.RUN], "the ci's token")
    auth.write_tokens(made.gateway_tokens, [*json.loads(made.gateway_tokens.read_text())["tokens"], own])
    folder.token_file.unlink()
    secrets.prepare(folder, "ana")
    known = auth.Tokens.read(made.gateway_tokens)
    assert known.authenticate("the ci's token").name == "ci"
    assert known.authenticate(folder.token_file.read_text()).name == "ana"


def test_each_service_knows_its_own_password_only(tmp_path: Path) -> None:
    made = secrets.prepare(DataFolder(tmp_path / "data"), "ana")
    secrets.share_passwords(made, generated())
    for role in Role:
        assert list(json.loads(made.nats(role).read_text())) == [role.value]


def test_all_files_are_for_their_owner_only(tmp_path: Path) -> None:
    made = secrets.prepare(DataFolder(tmp_path / "data"), "ana")
    secrets.share_passwords(made, generated())
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 4 + len(Role)
    assert {path.stat().st_mode & 0o077 for path in files} == {0}
    assert (tmp_path / "data" / "secrets").stat().st_mode & 0o077 == 0
