"""compose.yaml without an engine: its schema, its references, and its commands run as processes."""

import asyncio
import json
import os
import re
import shlex
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from pydantic_settings import BaseSettings

from gateway.settings import GatewaySettings
from podium.eventlog import EventLog, Role
from podium.eventlog.access import log_settings
from podium.settings import ServiceSettings, load
from runner.settings import RunnerSettings

ROOT = Path(__file__).resolve().parents[2]
COMMAND_S_MAX = 60
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def test_it_follows_the_compose_specification() -> None:
    schema = resources.files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    jsonschema.validate(COMPOSE, json.loads(schema.read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_runs_confined(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["read_only"] is True
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.get("privileged")
    assert "user" not in service, "the image's user is not root; nothing overrides it"


def test_the_image_does_not_run_as_root() -> None:
    users = re.findall(r"^USER (\S+)", (ROOT / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert users == ["podium"]


def test_every_copied_path_exists_and_is_sent_to_the_engine() -> None:
    sent = set(re.findall(r"^!(\S+)", (ROOT / ".dockerignore").read_text(encoding="utf-8"), flags=re.MULTILINE))
    copied = re.findall(
        r"^COPY (?!--from)(\S+) ", (ROOT / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    assert set(copied) == sent
    assert [path for path in copied if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("name", SERVICES)
def test_no_secret_stands_in_an_environment_variable(name: str) -> None:
    given = SERVICES[name].get("environment", {})
    secret = {key: value for key, value in given.items() if re.search(r"PASSWORD|TOKEN|SECRET|KEY", key)}
    assert {key for key, value in secret.items() if value and not value.startswith("/run/podium/")} == set()


def test_a_service_sees_its_own_secrets_only() -> None:
    for name, service in SERVICES.items():
        mounted = {volume.split(":")[0] for volume in service.get("volumes", []) if volume.startswith("secrets-")}
        if name == "secrets":
            assert mounted == {volume for volume in COMPOSE["volumes"] if volume.startswith("secrets-")}
        else:
            assert mounted == {f"secrets-{'operator' if name == 'streams' else name}"}


@pytest.mark.parametrize("name", ["nats", "gateway", "indexer", "runner"])
def test_each_of_the_four_services_has_a_health_check_and_starts_after_what_it_needs(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"][:3] == ["CMD", "python", "deploy/check_health.py"]
    needed = SERVICES[name]["depends_on"]
    assert needed == {("secrets" if name == "nats" else "streams"): {"condition": "service_completed_successfully"}}


@pytest.mark.parametrize(("name", "settings"), [("gateway", GatewaySettings), ("runner", RunnerSettings)])
def test_every_setting_is_one_that_the_service_knows(name: str, settings: type[BaseSettings]) -> None:
    known = {f"PODIUM_{field.upper()}" for field in settings.model_fields}
    given = {key for key in SERVICES[name]["environment"] if key.startswith("PODIUM_")}
    assert given <= known


@pytest.fixture
def machine(tmp_path: Path) -> "Machine":
    return Machine(tmp_path)


class Machine:
    """Runs compose's commands as processes: its folders lie under one folder, its hosts are loopback."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.nats_port = probe.getsockname()[1]

    def here(self, value: str) -> str:
        value = re.sub(r"/(run|var/lib)/podium", lambda match: str(self.folder / match.group(1)), value)
        value = value.replace("${PODIUM_PUBLIC_NAMES:-}", "podium.example.org").replace("4222", str(self.nats_port))
        return value.replace("//nats:", "//127.0.0.1:").replace("0.0.0.0", "127.0.0.1")

    def environment(self, name: str) -> dict[str, str]:
        given = SERVICES[name].get("environment", {})
        return {
            **{key: self.here(value) for key, value in given.items() if value},
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "PYTHONPATH": str(ROOT),
            "PYTHONSAFEPATH": "1",
            "HOME": str(self.folder),
        }

    def command(self, words: list[str]) -> list[str]:
        return [sys.executable if word == "python" else self.here(word) for word in words]

    def run(self, name: str, words: list[str] | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(words or SERVICES[name]["command"]),
            cwd=ROOT,
            env=self.environment(name),
            capture_output=True,
            text=True,
            timeout=COMMAND_S_MAX,
            check=False,
        )

    def is_healthy(self, name: str) -> bool:
        return self.run(name, SERVICES[name]["healthcheck"]["test"][1:]).returncode == 0

    def start(self, name: str) -> "subprocess.Popen[bytes]":
        log = (self.folder / f"{name}.log").open("wb")
        with log:
            return subprocess.Popen(
                self.command(SERVICES[name]["command"]), cwd=ROOT, env=self.environment(name), stdout=log, stderr=log
            )


def test_the_secrets_are_made_once_and_private(machine: Machine) -> None:
    made = machine.run("secrets")
    assert made.returncode == 0, made.stderr
    files = {path: path.read_bytes() for path in (machine.folder / "run").rglob("*") if path.is_file()}
    assert len(files) > 20
    assert {oct(stat.S_IMODE(path.stat().st_mode)) for path in files if path.name != "complete"} == {"0o600"}

    assert machine.run("secrets").returncode == 0

    assert {path: path.read_bytes() for path in files} == files


@pytest.fixture
def nats(machine: Machine) -> Iterator[Machine]:
    made = machine.run("secrets")
    assert made.returncode == 0, made.stderr
    server = machine.start("nats")
    try:
        yield machine
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=COMMAND_S_MAX)


async def test_nats_runs_with_its_accounts_and_the_streams_are_made(
    nats: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert nats.run("nats", ["python", "deploy/check_health.py", "nats", "127.0.0.1", "1"]).returncode == 1
    async with asyncio.timeout(COMMAND_S_MAX):
        while not await asyncio.to_thread(nats.is_healthy, "nats"):
            await asyncio.sleep(0.1)
    made = await asyncio.to_thread(nats.run, "streams")
    assert made.returncode == 0, made.stderr

    for key, value in nats.environment("gateway").items():
        if key.startswith("PODIUM_NATS_"):
            monkeypatch.setenv(key, value)
    settings = log_settings(load(ServiceSettings), Role.GATEWAY)
    async with EventLog.connect(settings, Role.GATEWAY) as log:
        await log.check_streams()


@pytest.mark.parametrize("name", SERVICES)
def test_the_programs_of_a_service_exist(name: str) -> None:
    service = SERVICES[name]
    for words in [service["command"], service.get("healthcheck", {}).get("test", ["CMD"])[1:]]:
        match words:
            case ["python", "-m", module, *_]:
                path = ROOT / module.replace(".", os.sep)
                assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), shlex.join(words)
            case ["python", script, *_]:
                assert (ROOT / script).is_file()
            case ["podium", *_] | []:
                pass
            case _:
                pytest.fail(f"{name} runs something that was not expected: {shlex.join(words)}")
