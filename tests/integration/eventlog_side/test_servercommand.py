"""`python -m podium.eventlog.server`, as a container runs it."""

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from podium.eventlog import server as server_module
from podium.eventlog.connection import EventLog, LogSettings
from podium.eventlog.roles import Role
from podium.eventlog.serverprocess import free_port, greeting

COMMAND = [sys.executable, "-m", "podium.eventlog.server"]
ROOT = Path(server_module.__file__).parents[2]


def environment(**values: str) -> dict[str, str]:
    return {"PYTHONPATH": str(ROOT)} | {f"PODIUM_NATS_{name}": value for name, value in values.items()}


def run(*arguments: str, **values: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], env=environment(**values), capture_output=True, text=True, timeout=30, check=False
    )


def test_the_configuration_is_shown_without_passwords(tmp_path: Path) -> None:
    passwords = {f"PASSWORD_{role.name}": role.value * 8 for role in Role}
    shown = run("--print-config", DATA=str(tmp_path), **passwords)
    config = json.loads(shown.stdout)
    assert config["jetstream"]["sync_interval"] == "always"
    assert config["accounts"]["PODIUM"]["users"][0]["password"] == "<password of gateway>"
    assert not any(password in shown.stdout for password in passwords.values())


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "PODIUM_NATS_DATA is not set"),
        ({"DATA": "/tmp/x", "SYNC": "1"}, "expected 20 to 100"),
        ({"DATA": "/tmp/x", "PORT": "http"}, "expected a whole number"),
        ({"DATA": "/tmp/x", "HOST": "0.0.0.0"}, "give a certificate"),
        ({"DATA": "/tmp/x", "PASSWORD_GATEWAY": "short"}, "at least 16 characters"),
        ({"DATA": "/tmp/x", "PASSWORD_GATEWAY_FILE": "/none"}, "/none cannot be read"),
        ({"DATA": "/tmp/x", "CLUSTER_ROUTES": "a:1"}, "CLUSTER_PASSWORD is not set"),
        ({"DATA": "/proc/none"}, "/proc/none"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(values: dict[str, str], said: str) -> None:
    result = run("--print-config", **values)
    assert result.returncode == 2
    assert said in result.stderr
    assert "Traceback" not in result.stderr


async def test_the_process_becomes_the_server(tmp_path: Path) -> None:
    secret = tmp_path / "operator"
    secret.write_text("o" * 40 + "\n")
    port = free_port()
    passwords = {f"PASSWORD_{role.name}": role.value * 8 for role in Role if role is not Role.OPERATOR}
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        "--run",
        env=environment(DATA=str(tmp_path / "nats"), PORT=str(port), PASSWORD_OPERATOR_FILE=str(secret), **passwords),
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(20):
            while await greeting("127.0.0.1", port) is None:
                assert process.returncode is None
                await asyncio.sleep(0.02)
        assert psutil.Process(process.pid).name() == "nats-server"
        settings = LogSettings(servers=(f"nats://127.0.0.1:{port}",), password="o" * 40)
        async with EventLog.connect(settings, Role.OPERATOR) as log:
            assert (await log.link.api("INFO"))["streams"] == 0
        # The lock went along.
        again = await asyncio.to_thread(
            run, "--run", DATA=str(tmp_path / "nats"), PORT=str(port), PASSWORD_OPERATOR="o" * 40, **passwords
        )
        assert again.returncode == 2
        assert "another NATS server uses this folder" in again.stderr
    finally:
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            await process.wait()
