"""`podium up` starts everything, watches it, stops it, and says clearly what is wrong."""

import json
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.commands import Home, Up, children, until, up

pytestmark = [pytest.mark.timeout(240), pytest.mark.xdist_group("cli-up")]

SERVICES = {"nats", "gateway", "indexer", "runner"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Home(tmp_path_factory.mktemp("up"))


@pytest.fixture(scope="module")
def podium(home: Home) -> Iterator[Up]:
    with up(home, "--verbose") as running:
        yield running


def test_it_says_where_everything_is(podium: Up) -> None:
    said = podium.command.said
    assert str(podium.home.data) in said
    assert str(podium.home.data / "token") in said
    assert 'podium run "explain this repo"' in said
    assert set(podium.processes) == SERVICES


def test_other_commands_find_it(podium: Up) -> None:
    (by_pointer,) = podium.home.json("runners")
    (by_data,) = podium.home.json("runners", "--data", str(podium.home.data))
    assert by_pointer["id"] == by_data["id"]
    assert by_pointer["host"] == (podium.home.data / "host").read_text()


def test_the_environment_says_where_to_go(podium: Up, tmp_path: Path) -> None:
    told = json.loads((podium.home.data / "podium.json").read_text())
    elsewhere = Home(tmp_path)
    token = (podium.home.data / "token").read_text()
    assert elsewhere.run("ls").returncode == 69
    assert elsewhere.ok("ls", PODIUM_ADDRESS=told["address"], PODIUM_TOKEN=token) == "no session\n"
    refused = elsewhere.run("ls", PODIUM_ADDRESS=told["address"], PODIUM_TOKEN="wrong")
    assert (refused.returncode, "TOKEN_UNKNOWN" in refused.stderr) == (77, True)


def test_all_it_writes_is_for_its_owner_only(podium: Up) -> None:
    secret = [podium.home.data / "token", *(podium.home.data / "secrets").iterdir()]
    assert {path.stat().st_mode & 0o077 for path in [podium.home.data, *secret]} == {0}


def test_no_service_sees_anothers_password(podium: Up) -> None:
    passwords = {
        role: json.loads((podium.home.data / "secrets" / f"nats.{role}.json").read_text())
        for role in SERVICES - {"nats"}
    }
    for role, told in passwords.items():
        assert list(told) == [role]
        assert told[role] not in " ".join(podium.processes[role].cmdline())


def test_a_second_one_on_the_folder_is_refused(podium: Up) -> None:
    refused = podium.home.run("up", "--data", str(podium.home.data), "--listen", "127.0.0.1:0")
    assert refused.returncode == 1
    assert f"used by another `podium up` (pid {podium.command.process.pid})" in refused.stderr
    assert "DATA_FOLDER_IN_USE" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("service", ["gateway", "indexer", "nats", "runner"])
def test_what_dies_is_started_again(podium: Up, service: str) -> None:
    before = children(podium.command.process.pid)[service]
    notices = podium.command.said.count(f"podium: {service} ended with status -9")
    before.kill()
    until(lambda: podium.command.said.count(f"podium: {service} ended with status -9") > notices, "the notice")
    until(
        lambda: (
            children(podium.command.process.pid).get(service, before) != before
            and podium.home.run("ls").returncode == 0
            and podium.home.run("runners", "--json").stdout.count('"id"') > 0
        ),
        f"{service} serves again",
    )


def test_its_logs_are_kept_apart(podium: Up) -> None:
    for service in ("gateway", "indexer", "runner"):
        first = json.loads((podium.home.data / "logs" / f"{service}.log").read_text().splitlines()[0])
        assert first["service"] == service
    assert "gateway │" in podium.command.said


def test_a_port_in_use_is_refused_at_once(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        refused = home.run("up", "--data", str(home.data), "--listen", address)
    assert refused.returncode == 1
    assert f"{address} cannot be listened on" in refused.stderr
    assert "PORT_IN_USE" in refused.stderr
    assert not (home.data / "nats").exists()


def test_a_service_that_cannot_start_ends_it_with_the_services_words(tmp_path: Path) -> None:
    home = Home(tmp_path)
    refused = home.run("up", "--data", str(home.data), "--listen", "127.0.0.1:0", PODIUM_SLOTS="0")
    assert refused.returncode == 1
    assert "runner ended with status 2; it never became ready" in refused.stderr
    assert "PODIUM_SLOTS: found '0'" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not _alive_below(home.data)


def test_a_service_that_keeps_ending_ends_it_with_a_clear_message(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with up(home) as running:
        killed = set()

        def is_over() -> bool:
            if running.command.process.poll() is not None:
                return True
            indexer = children(running.command.process.pid).get("indexer")
            if indexer is not None and indexer.pid not in killed:
                indexer.kill()
                killed.add(indexer.pid)
            return False

        until(is_over, "it gives up")
        assert running.command.ends() == 1
        assert "indexer ended with status -9; 5 restarts did not help" in running.command.said
        assert "SERVICE_FAILED" in running.command.said
        assert "Traceback" not in running.command.said.split("restarts did not help")[1]
        assert not any(process.is_running() for process in running.processes.values())


def test_being_told_to_stop_ends_everything_and_withdraws_the_address(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with up(home) as running:
        running.command.send(signal.SIGTERM)
        assert running.command.ends() == 0
        assert not any(process.is_running() for process in running.processes.values())
        assert not (home.data / "podium.json").exists()
        assert home.run("ls").returncode == 69


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent died")
def test_nothing_outlives_it_when_it_is_killed_and_it_can_be_started_again(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with up(home) as running:
        running.command.process.kill()
        _, alive = psutil.wait_procs(running.processes.values(), timeout=30)
        assert not alive
    stale = home.run("ls")
    assert stale.returncode == 69
    assert "does not answer" in stale.stderr
    with up(home):
        assert home.ok("ls") == "no session\n"


def _alive_below(folder: Path) -> list[psutil.Process]:
    return [
        process
        for process in psutil.process_iter(["cmdline", "cwd"])
        if str(folder) in " ".join(process.info["cmdline"] or ()) + str(process.info["cwd"])
    ]
