"""Whether the client is there, which version, and whether it is logged in: without a call that costs anything."""

import asyncio
import contextlib
import importlib
import importlib.metadata
import importlib.util
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from podium.v1 import provider_pb2
from runner.providers.claude.records import NotARecord, parse

_SDK: Final = "claude_agent_sdk"
_ANSWER_S: Final = 20.0
_ANSWER_BYTES_MAX: Final = 1024 * 1024

INSTALL_HINT: Final = "Install it with `pip install 'podium[claude]'` on the runner; it brings the client."
LOGIN_HINT: Final = "Run `claude auth login` as the runner's user, or give the runner ANTHROPIC_API_KEY."


def sdk_is_there() -> bool:
    """Whether claude-agent-sdk can be imported; does not import it."""
    return importlib.util.find_spec(_SDK) is not None


async def import_sdk() -> None:
    """Import claude-agent-sdk without holding up the event loop: 2 s of work that heartbeats must not wait for."""
    await asyncio.to_thread(importlib.import_module, _SDK)


def find_executable(chosen: Path | None, environment: Mapping[str, str]) -> Path | None:
    """Return the client to run: the chosen one, else the one the SDK carries, else the one in PATH."""
    if chosen is not None:
        return chosen if chosen.is_file() else None
    package = importlib.util.find_spec(_SDK)
    for folder in (package.submodule_search_locations or ()) if package else ():
        bundled = Path(folder) / "_bundled" / "claude"
        if bundled.is_file():
            return bundled
    installed = shutil.which("claude", path=environment.get("PATH", ""))
    return Path(installed) if installed else None


def sdk_version() -> str:
    """Return the SDK's version, empty when it is not installed."""
    try:
        return importlib.metadata.version("claude-agent-sdk")
    except importlib.metadata.PackageNotFoundError:
        return ""


async def version(executable: Path, environment: Mapping[str, str]) -> str:
    """Return the client's version, e.g. `2.1.330`, empty when it does not run."""
    code, said = await _ask(executable, environment, "--version")
    return said.split()[0].decode("ascii", "replace") if code == 0 and said.split() else ""


async def authentication(executable: Path, environment: Mapping[str, str]) -> provider_pb2.Authentication.ValueType:
    """Return whether the client has something to log in with; whether it is still good only a paid call can tell."""
    _, said = await _ask(executable, environment, "auth", "status")
    try:
        logged_in = parse(said).get("loggedIn")
    except NotARecord:
        return provider_pb2.AUTHENTICATION_UNSPECIFIED
    if logged_in is True:
        return provider_pb2.AUTHENTICATION_PRESENT
    return provider_pb2.AUTHENTICATION_ABSENT if logged_in is False else provider_pb2.AUTHENTICATION_UNSPECIFIED


async def _ask(executable: Path, environment: Mapping[str, str], *words: str) -> tuple[int | None, bytes]:
    """Return the exit code and standard output of a short command; None when it did not run or not end."""
    try:
        process = await asyncio.create_subprocess_exec(
            executable,
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=dict(environment),
            start_new_session=True,
        )
    except OSError:
        return None, b""
    assert process.stdout is not None
    try:
        async with asyncio.timeout(_ANSWER_S):
            said = await process.stdout.read(_ANSWER_BYTES_MAX)
            return await process.wait(), said
    except TimeoutError:
        return None, b""
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
