"""A service is a process that ends when it is told to, when its parent dies, and never fills the disk."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from podium.cli.failures import CliError
from podium.cli.stack import logs, supervision
from podium.cli.stack.logs import ServiceLog
from podium.cli.stack.process import ServiceProcess, service_environment

OBEYS = "import time; print('up', flush=True); time.sleep(600)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, lambda *_: None); print('up', flush=True); time.sleep(600)"
)
WAIT_S_MAX = 30.0


@asynccontextmanager
async def service(folder: Path, code: str, said: Callable[[str], object] = str) -> AsyncIterator[ServiceProcess]:
    process = ServiceProcess(
        "service", ["-c", code], service_environment(os.environ, {}), ServiceLog(folder / "log", said)
    )
    try:
        yield process
    finally:
        await process.stop(0.1)


@asynccontextmanager
async def running(folder: Path, code: str) -> AsyncIterator[ServiceProcess]:
    """A process that has said its first word."""
    spoken = asyncio.Event()
    async with service(folder, code, lambda _: spoken.set()) as process:
        await process.start()
        async with asyncio.timeout(WAIT_S_MAX):
            await spoken.wait()
        yield process


async def test_a_stop_is_asked_for_first(tmp_path: Path) -> None:
    async with running(tmp_path, OBEYS) as process:
        await process.stop(WAIT_S_MAX)
        assert await process.wait() == -signal.SIGTERM
        assert process.pid is None


async def test_who_does_not_stop_in_time_is_killed(tmp_path: Path) -> None:
    async with running(tmp_path, STUBBORN) as process:
        await process.stop(0.2)
        assert await process.wait() == -signal.SIGKILL


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent died")
def test_a_service_dies_with_its_parent_even_when_that_is_killed(tmp_path: Path) -> None:
    parent_code = f"""
import asyncio, os, sys
from pathlib import Path
from podium.cli.stack.logs import ServiceLog
from podium.cli.stack.process import ServiceProcess
async def main():
    up = asyncio.Event()
    log = ServiceLog(Path({str(tmp_path / "log")!r}), lambda line: up.set())
    process = ServiceProcess("service", ["-c", {STUBBORN!r}], os.environ, log)
    await process.start()
    await up.wait()
    print(process.pid, flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", parent_code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
        assert child.wait(WAIT_S_MAX) is None or not child.is_running()


def test_the_clients_secrets_are_not_the_services(tmp_path: Path) -> None:
    given = {"PODIUM_TOKEN": "x", "PODIUM_TOKEN_FILE": "x", "PODIUM_ADDRESS": "x", "PODIUM_IDLE_S": "5", "HOME": "/h"}
    environment = service_environment(given, {"PODIUM_LISTEN": "127.0.0.1:0"})
    assert {name for name in environment if name.startswith("PODIUM_")} == {"PODIUM_IDLE_S", "PODIUM_LISTEN"}
    assert environment["HOME"] == "/h"


async def test_what_a_service_says_is_kept_within_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "FILE_BYTES_MAX", 100_000)
    async with service(tmp_path, "print('x' * 300_000)\nfor n in range(500): print('line', n)") as process:
        await process.start()
        await process.wait()
        await process.settle()
        assert {path.name for path in tmp_path.iterdir()} == {"log", "log.1"}
        assert all(path.stat().st_size <= 100_000 for path in tmp_path.iterdir())
        assert process.said().splitlines()[0].startswith("line 4")


async def test_a_service_that_ends_is_started_again_until_that_is_no_use(tmp_path: Path) -> None:
    notices: list[str] = []
    async with service(tmp_path, "import sys; print('my last words'); sys.exit(3)") as process:
        await process.start()
        with pytest.raises(
            CliError, match=r"(?s)ended with status 3; 5 restarts did not help.*my last words"
        ) as raised:
            await supervision.keep(process, notices.append, pause_s=0.001)
    assert raised.value.reason == "SERVICE_FAILED"
    assert len(notices) == supervision.RESTARTS_MAX
    assert notices[0].startswith("service ended with status 3; starting it again")


async def test_a_service_that_ran_for_long_begins_with_a_clean_record(tmp_path: Path) -> None:
    notices: list[str] = []
    enough = asyncio.Event()
    starts = 0

    def said(line: str) -> None:
        nonlocal starts
        starts += 1
        if starts > supervision.RESTARTS_MAX + 3:
            enough.set()

    async with service(tmp_path, "print('up')", said) as process:
        await process.start()
        keeping = asyncio.create_task(supervision.keep(process, notices.append, stable_s=0.0, pause_s=0.001))
        async with asyncio.timeout(WAIT_S_MAX):
            await enough.wait()
        assert not keeping.done()
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
