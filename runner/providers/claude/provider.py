"""Claude Code on this runner: is it there, what models has it, and a driver for a session."""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from podium import names
from podium.clock import Clock, SystemClock
from podium.v1 import provider_pb2
from runner.processes import Launch
from runner.providers import problems
from runner.providers.child import Child, Line
from runner.providers.claude import probe
from runner.providers.claude.approvals import Reply
from runner.providers.claude.capabilities import CAPABILITIES, DISPLAY_NAME, NAME, VENDOR
from runner.providers.claude.checks import require_allowed
from runner.providers.claude.command import CLIENT_ENVIRONMENT, Start, arguments
from runner.providers.claude.driver import ClaudeDriver
from runner.providers.claude.errors import ClientError, Gone
from runner.providers.claude.models import models
from runner.providers.claude.records import JsonObject, NotARecord, parse
from runner.providers.claude.turn import Limits
from runner.providers.port import Driver, Outbox, ProviderFailed, ProviderSettings, SessionSpec

_LIST_S: Final = 30.0


class ClaudeProvider:
    """See runner.providers.port.Provider."""

    name: str = NAME
    display_name: str = DISPLAY_NAME
    vendor: str = VENDOR
    capabilities: provider_pb2.Capabilities = CAPABILITIES

    def __init__(self, settings: ProviderSettings, limits: Limits | None = None, clock: Clock | None = None) -> None:
        """Take the runner's settings for this provider."""
        self._settings: Final = settings
        self._limits: Final = limits
        self._clock: Final = clock

    async def probe(self) -> provider_pb2.Provider:
        """Return what is there of the client. See the port."""
        found = provider_pb2.Provider(name=NAME, display_name=DISPLAY_NAME, capabilities=CAPABILITIES)
        executable = self._executable()
        if executable is None or not probe.sdk_is_there():
            found.hint = probe.INSTALL_HINT
            return found
        environment = self._settings.environment
        found.version = await probe.version(executable, environment)
        found.installed = bool(found.version)
        if not found.installed:
            found.hint = f"{executable} does not run; {probe.INSTALL_HINT}"
            return found
        found.authentication = await probe.authentication(executable, environment)
        if found.authentication == provider_pb2.AUTHENTICATION_ABSENT:
            found.hint = probe.LOGIN_HINT
        return found

    async def models(self) -> list[provider_pb2.Model]:
        """Return the client's models. See the port."""
        executable = self._executable()
        if executable is None or not probe.sdk_is_there():
            return []
        return models(await self._server(executable))

    async def open(self, spec: SessionSpec, outbox: Outbox) -> Driver:
        """Return a driver; the client's process starts with the first turn. See the port."""
        executable = self._executable()
        if executable is None or not probe.sdk_is_there():
            raise ProviderFailed(problems.NOT_INSTALLED, f"Claude Code is not installed. {probe.INSTALL_HINT}")
        require_allowed(spec.permission_mode, allow_bypass=self._settings.allow_bypass)
        return ClaudeDriver(
            spec, outbox, executable, allow_bypass=self._settings.allow_bypass, limits=self._limits, clock=self._clock
        )

    def _executable(self) -> Path | None:
        return probe.find_executable(self._settings.executable, self._settings.environment)

    async def _server(self, executable: Path) -> JsonObject:
        """Return what a client says of itself at its start; it gets no prompt and so leaves no session."""
        await probe.import_sdk()
        from runner.providers.claude.connection import Connection  # noqa: PLC0415 - imports the SDK

        with tempfile.TemporaryDirectory(prefix="podium-models-") as folder:
            connection = Connection(self._starter(executable, Path(folder)), _control_frame, _nothing, _refuse)
            try:
                return await connection.open(_LIST_S)
            except (ClientError, Gone, TimeoutError, OSError, ValueError):
                return {}
            finally:
                await connection.close(busy=False)

    def _starter(self, executable: Path, folder: Path) -> Callable[[], Awaitable[Child]]:
        session_id = names.new_id(SystemClock().now_ns())
        start = Start(native_id=session_id, resumes=False, keeps_transcript=False)

        async def starts() -> Child:
            environment = {**CLIENT_ENVIRONMENT, "CLAUDE_AGENT_SDK_VERSION": probe.sdk_version()}
            launch = Launch(
                session=session_id,
                epoch=1,
                command=[str(executable)],
                environment={**environment, **self._settings.environment},
                cwd=folder,
            )
            return await Child.start(folder / "launch", launch, arguments(start))

        return starts


async def _control_frame(line: Line) -> JsonObject | None:
    try:
        record = parse(line.data)
    except NotARecord:
        return None
    return record if str(record.get("type")).startswith("control_") else None


async def _nothing() -> None:
    await asyncio.sleep(0)


async def _refuse(asked: object) -> Reply:
    del asked
    return Reply(message="There is no turn.")
