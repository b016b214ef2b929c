"""Addresses, locks and settings of a stack."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from podium.cli.failures import CliError
from podium.cli.home import DataFolder
from podium.cli.stack import settings
from podium.cli.stack.addresses import require_free, split
from podium.cli.stack.lock import FolderLock
from podium.cli.stack.secrets import Secrets
from podium.errors import InvalidArgument


@pytest.mark.parametrize("listen", ["127.0.0.1:7460", "localhost:0", "[::1]:80"])
def test_a_loopback_address_is_taken(listen: str) -> None:
    host, port = split(listen)
    assert f"{host}:{port}" == listen


@pytest.mark.parametrize("listen", ["", "7460", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000", "0.0.0.0:7460", "::1"])
def test_any_other_address_is_refused(listen: str) -> None:
    with pytest.raises(InvalidArgument, match="--listen"):
        split(listen)


def test_a_port_that_is_in_use_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(CliError, match=f"127.0.0.1:{port} cannot be listened on: Address already in use") as raised:
            require_free("127.0.0.1", port)
    assert raised.value.reason == "PORT_IN_USE"
    assert "--listen" in raised.value.advice
    require_free("127.0.0.1", port)


def test_a_data_folder_has_one_user_at_a_time(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    folder.endpoint_file.write_text(json.dumps({"address": "127.0.0.1:7460"}))
    first = FolderLock(folder).take()
    with pytest.raises(CliError, match=rf"pid {os.getpid()}\); it answers at 127.0.0.1:7460") as raised:
        FolderLock(folder).take()
    assert raised.value.reason == "DATA_FOLDER_IN_USE"
    first.release()
    first.release()
    FolderLock(folder).take().release()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CliError, match="cannot be used as data folder: Not a directory"):
        FolderLock(DataFolder(tmp_path / "file" / "data")).take()


def test_children_do_not_inherit_the_lock(tmp_path: Path) -> None:
    lock = FolderLock(DataFolder(tmp_path)).take()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False) as child:
        lock.release()
        FolderLock(DataFolder(tmp_path)).take().release()
        child.communicate(b"\n")


def test_sessions_keep_their_host_when_the_machine_changes_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "Anas-MacBook.local")
    assert settings.host(DataFolder(tmp_path)) == "anas-macbook"
    monkeypatch.setattr(socket, "gethostname", lambda: "dhcp-17.example.net")
    assert settings.host(DataFolder(tmp_path)) == "anas-macbook"


def test_options_become_the_runners_settings() -> None:
    options = settings.runner_options(slots=2, roots=[Path("/srv/a"), Path("/srv/b")], allow_bypass=True)
    assert options == {
        "PODIUM_SLOTS": "2",
        "PODIUM_ROOTS": '["/srv/a", "/srv/b"]',
        "PODIUM_ALLOW_BYPASS": "true",
    }
    assert settings.runner_options(slots=None, roots=[], allow_bypass=False) == {}


def test_each_service_is_pointed_to_its_own_secrets_only(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    places = settings.Places(folder, Secrets(folder.secrets), "nats://127.0.0.1:4222", "127.0.0.1:1", "127.0.0.1:2")
    runner = settings.runner(places, drain_s=3, further={"PODIUM_SLOTS": "1"})
    assert [value for value in runner.values() if value.startswith(str(folder.secrets))] == [
        str(folder.secrets / "nats.runner.json")
    ]
    assert (runner["PODIUM_DRAIN_S"], runner["PODIUM_SLOTS"]) == ("3", "1")
    assert settings.gateway(places)["PODIUM_INDEXER_ADDRESS"] == settings.indexer(places)["PODIUM_LISTEN"]
