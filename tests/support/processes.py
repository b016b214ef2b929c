"""Services as processes of their own: what tests kill, suspend and look for."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
END_S_MAX = 20.0


@dataclass
class Service:
    """One process of a service; its log lines are JSON objects in `log_file`."""

    process: asyncio.subprocess.Process
    log_file: Path

    def lines(self) -> list[dict[str, object]]:
        lines = self.log_file.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    async def said(self, event: str, seconds: float = 60) -> dict[str, object]:
        """Return the first log line with this event, once it is there."""
        async with asyncio.timeout(seconds):
            while True:
                for line in self.lines():
                    if line.get("event") == event:
                        return line
                if self.process.returncode is not None:
                    raise AssertionError(f"the service ended: {self.log_file.read_text()[-3000:]}")
                await asyncio.sleep(0.02)

    async def kill(self) -> None:
        self.process.kill()
        await self.process.wait()

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)


@asynccontextmanager
async def service(module: str, folder: Path, environment: Mapping[str, str]) -> AsyncIterator[Service]:
    """Run `python -m module` with exactly this environment; ends it at the exit."""
    folder.mkdir(parents=True, exist_ok=True)
    log_file = folder / f"{module}.log"
    exact = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(folder), **environment}
    with log_file.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            module,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=exact,
            cwd=folder,
        )
    running = Service(process, log_file)
    try:
        yield running
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            try:
                async with asyncio.timeout(END_S_MAX):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()


def marked_processes(session_id: str) -> list[psutil.Process]:
    """Return the living processes that were started for a session, wherever they hang in the process tree."""
    found = []
    for process in psutil.process_iter():
        try:
            mark = process.environ().get("PODIUM_SESSION_MARK", "")
            if session_id in mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def names(session_id: str) -> list[str]:
    """Return the names of those processes; one that ends meanwhile is not among them."""
    found = []
    for process in marked_processes(session_id):
        with suppress(psutil.NoSuchProcess):
            found.append(process.name())
    return found
