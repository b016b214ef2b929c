"""The NATS server of a stack, with its streams made and its passwords shared out."""

from podium.cli.failures import CliError
from podium.cli.home import DataFolder
from podium.cli.stack.secrets import Secrets, share_passwords
from podium.eventlog import EventLog, LogUnusable, Role
from podium.eventlog.access import log_settings
from podium.eventlog.server import EmbeddedServer
from podium.eventlog.serverconfig import ServerError, ServerSettings
from podium.settings import ServiceSettings

SAID_BYTES_MAX = 4096


class Nats:
    """An embedded server in the data folder; keeps its port over restarts."""

    def __init__(self, folder: DataFolder) -> None:
        """Take the data folder; nothing runs yet."""
        self.name = "nats"
        self._server = EmbeddedServer(ServerSettings(data=folder.nats))
        self._secrets: Secrets | None = None

    @property
    def url(self) -> str:
        """Return where the services connect."""
        return self._server.url

    @property
    def pid(self) -> int | None:
        """Return the process id while it runs."""
        return self._server.pid

    async def start(self, secrets: Secrets | None = None) -> None:
        """Start the server and make its streams; the first time `secrets` says where passwords go."""
        self._secrets = secrets or self._secrets
        try:
            await self._server.start()
        except ServerError as error:
            advice = f"Read {self._server.log_file}, or choose another folder with --data."
            raise CliError("NATS_FAILED", str(error), advice) from error
        assert self._secrets is not None
        share_passwords(self._secrets, self._server.credentials)
        operator = ServiceSettings(nats_url=self._server.url, nats_credentials_file=self._secrets.nats(Role.OPERATOR))
        try:
            async with EventLog.connect(log_settings(operator, Role.OPERATOR), Role.OPERATOR) as log:
                await log.ensure_streams()
        except LogUnusable as error:
            advice = "The log was made by another version or by hand; choose another folder with --data."
            raise CliError("NATS_FAILED", str(error), advice) from error

    async def wait(self) -> int:
        """Return the exit status once it has ended."""
        return await self._server.wait()

    async def stop(self) -> None:
        """End the server; bounded. May be called twice."""
        await self._server.stop()

    def said(self) -> str:
        """Return the end of what it logged."""
        try:
            return self._server.log_file.read_bytes()[-SAID_BYTES_MAX:].decode("utf-8", errors="replace").strip()
        except OSError:
            return ""
