import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from podium.eventlog import server as server_module
from podium.eventlog.connection import EventLog, LogSettings
from podium.eventlog.link import ApiError, Link
from podium.eventlog.roles import Role
from podium.eventlog.server import EmbeddedServer
from podium.eventlog.serverconfig import (
    BinaryMissing,
    DataFolderLocked,
    DataFolderUnusable,
    PortInUse,
    ServerError,
    ServerSettings,
)
from podium.eventlog.serverprocess import find_binary

NOTE = {"name": "NOTES", "subjects": ["notes"], "storage": "file"}


@contextlib.asynccontextmanager
async def operator(server: EmbeddedServer) -> AsyncIterator[Link]:
    settings = LogSettings(servers=(server.url,), password=server.credentials.password(Role.OPERATOR))
    async with EventLog.connect(settings, Role.OPERATOR) as log:
        yield log.link


async def test_what_was_stored_is_there_after_a_kill_and_at_the_same_place(bare_server: EmbeddedServer) -> None:
    url, first = bare_server.url, bare_server.pid
    async with operator(bare_server) as link:
        await link.api("STREAM.CREATE.NOTES", NOTE)
        await bare_server.kill()
        assert bare_server.pid is None
        await bare_server.start()
        assert (bare_server.url, bare_server.pid == first) == (url, False)
        # The client came back by itself.
        assert await link.wait_connected(10)
        assert (await link.api("STREAM.INFO.NOTES"))["config"]["storage"] == "file"


async def test_a_second_server_in_the_same_folder_is_refused_and_the_first_goes_on(
    bare_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "LOCK_WAIT_S_MAX", 0.1)
    with pytest.raises(DataFolderLocked, match=f"pid {bare_server.pid}"):
        await EmbeddedServer(bare_server.settings).start()
    async with operator(bare_server) as link:
        assert (await link.api("INFO"))["streams"] == 0


async def test_the_folder_is_free_again_after_a_stop(tmp_path: Path) -> None:
    settings = ServerSettings(data=tmp_path / "nats")
    async with EmbeddedServer(settings) as first:
        password = first.credentials.password(Role.GATEWAY)
    async with EmbeddedServer(settings) as second:
        assert second.credentials.password(Role.GATEWAY) == password


async def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PortInUse, match=f"port {port}"):
            await EmbeddedServer(ServerSettings(data=tmp_path / "nats", port=port)).start()


async def test_another_server_on_the_port_is_never_taken_for_ours(bare_server: EmbeddedServer, tmp_path: Path) -> None:
    other = EmbeddedServer(ServerSettings(data=tmp_path / "other", port=bare_server.port))
    with pytest.raises(PortInUse):
        await other.start()
    assert other.pid is None


async def test_a_folder_that_cannot_be_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(DataFolderUnusable, match="Not a directory"):
        await EmbeddedServer(ServerSettings(data=tmp_path / "file" / "nats")).start()


async def test_a_missing_binary_is_named(tmp_path: Path) -> None:
    with pytest.raises(BinaryMissing):
        await EmbeddedServer(ServerSettings(data=tmp_path / "nats"), binary=tmp_path / "none").start()


async def test_a_server_that_ends_at_once_is_quoted(tmp_path: Path) -> None:
    binary = tmp_path / "broken"
    binary.write_text("#!/bin/sh\necho 'the moon is full' >&2\nexit 3\n")
    binary.chmod(0o700)
    with pytest.raises(ServerError, match=r"status 3: the moon is full"):
        await EmbeddedServer(ServerSettings(data=tmp_path / "nats"), binary=binary).start()


async def test_a_failed_start_leaves_nothing_behind(tmp_path: Path) -> None:
    data = tmp_path / "nats"
    with pytest.raises(ServerError):
        await EmbeddedServer(ServerSettings(data=data), binary=tmp_path / "none").start()
    async with EmbeddedServer(ServerSettings(data=data)) as server:
        assert server.pid is not None


async def test_only_the_owner_can_read_what_holds_passwords(bare_server: EmbeddedServer) -> None:
    data = bare_server.settings.data
    assert data.stat().st_mode & 0o777 == 0o700
    for name in ("server.conf", "credentials.json"):
        assert (data / name).stat().st_mode & 0o777 == 0o600


async def test_the_server_sees_nothing_of_our_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "secret")
    async with EmbeddedServer(ServerSettings(data=tmp_path / "nats", memory_limit_mib=300)) as server:
        environment = psutil.Process(server.pid).environ()
    assert environment == {"GOMEMLIMIT": "300MiB", "HOME": str(tmp_path / "nats")}


async def test_it_listens_on_loopback_only(bare_server: EmbeddedServer) -> None:
    listening = [c.laddr for c in psutil.Process(bare_server.pid).net_connections() if c.status == "LISTEN"]
    assert [(address.ip, address.port) for address in listening] == [("127.0.0.1", bare_server.port)]
    assert bare_server.port < 30_000


@pytest.mark.parametrize(
    "changed", [{"pass": "wrong" * 8}, {"user": "somebody"}, {"user": "gateway"}], ids=["password", "user", "other"]
)
async def test_a_wrong_password_does_not_connect(bare_server: EmbeddedServer, changed: dict[str, str]) -> None:
    right = {"user": "operator", "pass": bare_server.credentials.password(Role.OPERATOR)}
    assert await said_to_a_client(bare_server, right) == "PONG"
    assert await said_to_a_client(bare_server, right | changed) == "-ERR 'Authorization Violation'"
    assert await said_to_a_client(bare_server, {}) == "-ERR 'Authorization Violation'"


async def said_to_a_client(server: EmbeddedServer, connect: dict[str, str]) -> str:
    """Connect by hand: the client library keeps a refused socket open."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        await reader.readline()
        writer.write(b"CONNECT " + json.dumps({"verbose": False} | connect).encode() + b"\r\nPING\r\n")
        return (await reader.readline()).decode().strip()
    finally:
        writer.close()
        await writer.wait_closed()


async def test_a_server_that_hangs_is_ended_all_the_same(
    bare_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "STOP_S_MAX", 0.2)
    bare_server.signal(signal.SIGSTOP)
    await bare_server.stop()
    assert await bare_server.wait() == -signal.SIGKILL
    await bare_server.stop()


async def test_cancelling_a_stop_ends_the_server(bare_server: EmbeddedServer) -> None:
    bare_server.signal(signal.SIGSTOP)
    stopping = asyncio.create_task(bare_server.stop())
    await asyncio.sleep(0)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    async with asyncio.timeout(10):
        assert await bare_server.wait() == -signal.SIGKILL


async def test_an_unexpected_end_can_be_waited_for(bare_server: EmbeddedServer) -> None:
    waiting = asyncio.create_task(bare_server.wait())
    assert bare_server.pid is not None
    os.kill(bare_server.pid, signal.SIGTERM)
    async with asyncio.timeout(10):
        await waiting
    assert bare_server.pid is None


async def test_the_log_is_bounded(bare_server: EmbeddedServer) -> None:
    config = (bare_server.settings.data / "server.conf").read_text()
    assert '"log_size_limit": 8388608' in config
    assert "Server is ready" in bare_server.log_file.read_text()


PARENT = """
import asyncio, sys
from pathlib import Path
from podium.eventlog.server import EmbeddedServer
from podium.eventlog.serverconfig import ServerSettings

async def main():
    async with EmbeddedServer(ServerSettings(data=Path(sys.argv[1]))) as server:
        print(server.pid, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
async def test_the_server_dies_with_a_killed_parent_and_the_folder_is_free(tmp_path: Path) -> None:
    data = tmp_path / "nats"
    parent = subprocess.Popen(  # noqa: ASYNC220 - returns at once
        [sys.executable, "-c", PARENT, str(data)],
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": str(Path(server_module.__file__).parents[2]), "PATH": os.environ["PATH"]},
    )
    assert parent.stdout is not None
    child = psutil.Process(int(await asyncio.to_thread(parent.stdout.readline)))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    await asyncio.to_thread(psutil.wait_procs, [child], 10)
    assert not child.is_running()
    async with EmbeddedServer(ServerSettings(data=data)) as server:
        assert server.pid != child.pid


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_the_lock_lives_as_long_as_the_server_not_as_its_parent(bare_server: EmbeddedServer) -> None:
    assert bare_server.settings.data / "lock" in open_files(bare_server)


def open_files(server: EmbeddedServer) -> list[Path]:
    return [entry.readlink() for entry in Path(f"/proc/{server.pid}/fd").iterdir()]


async def test_cancelling_a_start_leaves_no_server(tmp_path: Path) -> None:
    server = EmbeddedServer(ServerSettings(data=tmp_path / "nats"))
    starting = asyncio.create_task(server.start())
    deadline = time.monotonic() + 10
    while server.pid is None and time.monotonic() < deadline:
        await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert server.pid is None
    async with EmbeddedServer(server.settings):
        pass


def test_the_binary_comes_from_the_installed_package() -> None:
    version = subprocess.run([find_binary(), "--version"], capture_output=True, text=True, check=True, env={})
    assert version.stdout.startswith("nats-server: v2.")


async def test_a_stream_in_memory_beyond_the_little_for_consumers_is_refused(bare_server: EmbeddedServer) -> None:
    async with operator(bare_server) as link:
        with pytest.raises(ApiError, match="insufficient memory"):
            await link.api(
                "STREAM.CREATE.FAST",
                {"name": "FAST", "subjects": ["fast"], "storage": "memory", "max_bytes": 256 * 1024 * 1024},
            )
