"""Runs a NATS server of our own: owns its process and its data folder.

    async with EmbeddedServer(ServerSettings(data=home / "nats")) as server:
        ...  # server.url, server.credentials

`python -m podium.eventlog.server --run` becomes the server instead (for containers); see servercommand.py.
"""

import asyncio
import contextlib
import os
import signal
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from podium.eventlog import credentials as passwords
from podium.eventlog.credentials import Credentials
from podium.eventlog.serverconfig import DataFolderLocked, PortInUse, ServerError, ServerSettings
from podium.eventlog.serverfiles import credentials_file, lock_folder, tail, write_config
from podium.eventlog.serverprocess import (
    bracketed,
    command,
    environment,
    find_binary,
    free_port,
    greeting,
    name_for,
    reachable,
    why,
)

START_S_MAX = 60.0
"""The server listens only after it has read its store, which takes seconds when the log is large."""
STOP_S_MAX = 10.0
LOCK_WAIT_S_MAX = 5.0
"""A predecessor that was told to end needs a moment."""
_POLL_S = 0.005
_PORT_ATTEMPTS_MAX = 8


class EmbeddedServer:
    """A nats-server process in a data folder, from entering the context to leaving it.

    It dies with the thread that started it (Linux; elsewhere the context's exit ends it), keeps its port over
    restarts so that clients come back, and logs to `<data>/server.log` (bounded).
    """

    def __init__(
        self, settings: ServerSettings, *, credentials: Credentials | None = None, binary: Path | None = None
    ) -> None:
        """Without credentials those in `<data>/credentials.json` are used, made when missing."""
        self.settings = settings
        self.port = settings.port
        self.name = settings.name or name_for(settings.data)
        self._binary = binary
        self._credentials: Credentials | None = credentials
        self._process: asyncio.subprocess.Process | None = None
        self._lock: int | None = None

    @property
    def url(self) -> str:
        """Return where clients connect, e.g. nats://127.0.0.1:20471."""
        scheme = "tls" if self.settings.tls else "nats"
        return f"{scheme}://{bracketed(reachable(self.settings.host))}:{self.port}"

    @property
    def credentials(self) -> Credentials:
        """Return the roles' passwords; known once the server was started."""
        if self._credentials is None:
            raise ServerError("the server was never started")
        return self._credentials

    @property
    def credentials_file(self) -> Path:
        """Return the file with the passwords, unless they were handed in."""
        return credentials_file(self.settings.data)

    @property
    def log_file(self) -> Path:
        """Return the file the server logs to."""
        return self.settings.data / "server.log"

    @property
    def pid(self) -> int | None:
        """Return the process id while the server runs."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start the server and wait until it takes clients; does nothing when it runs.

        Raises BinaryMissing, PortInUse, DataFolderLocked, DataFolderUnusable, or ServerError with the end of
        the log.
        """
        if self.pid is not None:
            return
        binary = self._binary or find_binary()
        await self._take_lock()
        try:
            await self._start_on_a_port(binary)
        except BaseException:
            await self.kill()
            self._release_lock()
            raise

    async def stop(self) -> None:
        """End the server: SIGTERM, and after STOP_S_MAX SIGKILL. May be called twice."""
        process = self._process
        if process is not None and process.returncode is None:
            self.signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(STOP_S_MAX):
                    await process.wait()
            except TimeoutError:
                await self.kill()
            finally:
                # Nothing when it has ended; when we are cancelled, nobody will wait for it any more.
                self.signal(signal.SIGKILL)
        self._release_lock()

    async def kill(self) -> None:
        """End the server without warning, as a crash would; the folder stays ours, `start` brings it back."""
        if self._process is not None and self._process.returncode is None:
            self.signal(signal.SIGKILL)
            await self._process.wait()

    async def restart(self) -> None:
        """Stop and start on the same port."""
        await self.stop()
        await self.start()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, e.g. SIGSTOP and SIGCONT for a server that hangs."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def wait(self) -> int:
        """Return the exit status once the server has ended, however that came."""
        if self._process is None:
            raise ServerError("the server was never started")
        return await self._process.wait()

    async def _start_on_a_port(self, binary: Path) -> None:
        for attempt in range(_PORT_ATTEMPTS_MAX):
            port = self.port or free_port()
            try:
                await self._start_once(binary, port)
            except PortInUse:
                # Between our look and the server's bind another process may take a port; a named one is final.
                if self.port or attempt == _PORT_ATTEMPTS_MAX - 1:
                    raise
            else:
                self.port = port
                return

    async def _start_once(self, binary: Path, port: int) -> None:
        config = await asyncio.to_thread(self._prepare, port)
        log_start = self.log_file.stat().st_size if self.log_file.exists() else 0
        # What the server says before it has a log, and what the Go runtime says at its end.
        with (self.settings.data / "stderr.log").open("wb") as stderr:
            self._process = await asyncio.create_subprocess_exec(
                *command(binary, config),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=stderr,
                cwd=self.settings.data,
                env=environment(self.settings),
                # A Ctrl-C in the terminal is for us; the server goes last.
                start_new_session=True,
                # The lock lives as long as any holder: also when we die before the server does.
                pass_fds=() if self._lock is None else (self._lock,),
            )
        self._note_holder(self._process.pid)
        await self._wait_until_ready(port, log_start)

    def _prepare(self, port: int) -> Path:
        if self._credentials is None:
            self._credentials = passwords.load_or_create(self.credentials_file)
        return write_config(
            self.settings, name=self.name, port=port, credentials=self._credentials, log_file=self.log_file
        )

    async def _wait_until_ready(self, port: int, log_start: int) -> None:
        deadline = time.monotonic() + START_S_MAX
        process = self._process
        assert process is not None
        while process.returncode is None:
            info = await greeting(reachable(self.settings.host), port)
            if info is not None and info.get("server_name") == self.name:
                return
            if time.monotonic() > deadline:
                await self.kill()
                raise ServerError(f"nats-server: not ready after {START_S_MAX:.0f} s: {self._said(log_start)}")
            await asyncio.sleep(_POLL_S)
        raise why(self._said(log_start), port=port, data=self.settings.data, status=process.returncode)

    def _said(self, log_start: int) -> str:
        """Return what the server logged since `log_start`, shortened to its end."""
        parts = [tail(self.settings.data / "stderr.log", 0), tail(self.log_file, log_start)]
        return "\n".join(part for part in parts if part)

    async def _take_lock(self) -> None:
        if self._lock is not None:
            return
        deadline = time.monotonic() + LOCK_WAIT_S_MAX
        while (lock := lock_folder(self.settings.data)) is None:
            if time.monotonic() > deadline:
                holder = tail(self.settings.data / "lock", 0) or "unknown"
                raise DataFolderLocked(f"{self.settings.data}: another NATS server (pid {holder}) uses this folder")
            await asyncio.sleep(_POLL_S)
        self._lock = lock

    def _note_holder(self, pid: int) -> None:
        if self._lock is not None:
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, str(pid).encode(), 0)

    def _release_lock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


if __name__ == "__main__":
    from podium.eventlog.servercommand import main

    main(sys.argv[1:])
