"""Clients that know nothing of Podium but its .proto files: they start an agent, answer it, lose their connection."""

import asyncio
import contextlib
import fcntl
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from podium.scripted_model import Reply, Script, ScriptedModel, ToolCall
from tests.integration.eventlog.proxy import Proxy
from tests.support import gateways, runners

ROOT = Path(__file__).resolve().parents[2]
INSTALL_S_MAX = 300
SAYS_S_MAX = 60.0
BROKEN_S_MAX = 30.0

pytestmark = [
    pytest.mark.claude,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(INSTALL_S_MAX + 180),
    pytest.mark.xdist_group("foreign-clients"),
]

COMMAND = "echo hello > greeting && cat greeting"
SCRIPT = Script(
    [
        Reply(text="A file, then.", tool=ToolCall("Bash", {"command": COMMAND})),
        lambda talk: Reply(text=f"The tool said: {talk.tool_results[-1].text.strip()}"),
    ]
)


@dataclass(frozen=True)
class Client:
    """How to start a client, and in which environment."""

    command: Sequence[str]
    environment: Mapping[str, str]


@pytest.fixture(scope="module")
def python_client(tmp_path_factory: pytest.TempPathFactory) -> Client:
    """The Python client with code generated, as README.md says, from a copy of the .proto files; no sight of Podium."""
    folder = copied("python", tmp_path_factory.mktemp("python"))
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    generate = next(line for line in lines if line.startswith("python -m grpc_tools.protoc "))
    (folder / "generated").mkdir()
    command = generate.replace("python", shlex.quote(sys.executable), 1)
    subprocess.run(["sh", "-c", command], cwd=folder, check=True, timeout=60)
    # -S: no .pth file, which could lead to the project's own `podium`.
    environment = {"PYTHONPATH": os.pathsep.join([str(folder / "generated"), sysconfig.get_path("purelib")])}
    client = Client([sys.executable, "-S", "-P", str(folder / "examples/python/client.py")], environment)
    where = [*client.command[:-1], "-c", "import podium.v1; print(*podium.v1.__path__)"]
    seen = subprocess.run(where, env=environment, cwd=folder, capture_output=True, text=True, check=True, timeout=60)
    assert seen.stdout.split() == [str(folder / "generated/podium/v1")]
    return client


@pytest.fixture(scope="module")
def node_client(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Client:
    """The Node client with the packages that its package.json pins, installed once and kept in pytest's cache."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        reason = "the Node client needs node 20 or newer and npm in PATH; install them to run this test"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    folder = copied("node", tmp_path_factory.mktemp("node"))
    pins = (folder / "examples/node/package.json").read_bytes()
    kept = pytestconfig.cache.mkdir("podium-node") / hashlib.sha256(pins).hexdigest()[:16]
    install(npm, pins, kept)
    (folder / "examples/node/node_modules").symlink_to(kept / "node_modules")
    return Client([node, str(folder / "examples/node/client.mjs")], {})


@pytest.fixture(params=["python", "node"])
def client(request: pytest.FixtureRequest) -> Client:
    found: Client = request.getfixturevalue(f"{request.param}_client")
    return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway_port(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[int]:
    """A gateway with a NATS server, a runner and the real Claude Code CLI behind it."""
    folder = tmp_path_factory.mktemp("stack")
    async with (
        gateways.log_server(folder) as settings,
        gateways.gateway(settings, folder / "gateway") as gateway,
        ScriptedModel(SCRIPT) as model,
        runners.runner(settings, folder / "runner", model.url),
    ):
        yield gateway.port


async def test_a_client_answers_the_agent_and_prints_its_answer(
    client: Client, gateway_port: int, tmp_path: Path
) -> None:
    async with started(client, gateway_port, tmp_path) as process:
        await said(process, "?? Bash", COMMAND, "[y/N]")
        answer(process, "y")
        shown = await rest_of(process)
    assert shown.answer == "The tool said: hello\n"
    assert shown.transcript.splitlines() == ["<- hello", "The tool said: hello"]
    assert shown.status == 0


async def test_a_client_that_says_no_sees_that_the_tool_did_not_run(
    client: Client, gateway_port: int, tmp_path: Path
) -> None:
    async with started(client, gateway_port, tmp_path) as process:
        await said(process, "?? Bash", "[y/N]")
        answer(process, "n")
        shown = await rest_of(process)
    assert "<- hello" not in shown.transcript
    assert shown.answer.startswith("The tool said: ")
    assert shown.status == 0


async def test_a_client_goes_on_after_a_broken_connection_without_a_hole_or_a_repeat(
    client: Client, gateway_port: int, tmp_path: Path
) -> None:
    async with Proxy.before(gateway_port) as proxy, started(client, proxy.port, tmp_path) as process:
        before = await said(process, "?? Bash", "[y/N]")
        # The turn cannot go on without the answer: all that follows comes over another connection.
        proxy.cut()
        answer(process, "y")
        shown = await rest_of(process)
    assert before.count("-> Bash") == 1
    assert shown.transcript.splitlines() == ["<- hello", "The tool said: hello"]
    assert shown.answer == "The tool said: hello\n"
    assert shown.status == 0


@dataclass(frozen=True)
class Shown:
    """What a client printed after it was answered, and how it ended."""

    answer: str
    transcript: str
    status: int


def copied(language: str, folder: Path) -> Path:
    """Copy a client and the contract, and nothing else of the project."""
    shutil.copytree(ROOT / "examples" / language, folder / "examples" / language)
    shutil.copytree(ROOT / "proto", folder / "proto")
    return folder


def install(npm: str, pins: bytes, kept: Path) -> None:
    """Install what package.json pins into `kept`, once, also when two test runs want it at the same time."""
    kept.mkdir(parents=True, exist_ok=True)
    with (kept / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (kept / "complete").exists():
            return
        (kept / "package.json").write_bytes(pins)
        # In our own environment: npm's registry and proxy are the machine's, as pip's are.
        command = [npm, "install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts"]
        done = subprocess.run(command, cwd=kept, capture_output=True, text=True, timeout=INSTALL_S_MAX, check=False)
        assert done.returncode == 0, f"npm install failed:\n{done.stdout}\n{done.stderr}"
        (kept / "complete").touch()


@contextlib.asynccontextmanager
async def started(client: Client, port: int, home: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Start a client that asks for a greeting, in an environment of its own."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "PODIUM_ADDRESS": f"127.0.0.1:{port}",
        "PODIUM_TOKEN": gateways.token("admin"),
        **client.environment,
    }
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *client.command, "Greet", "me", env=environment, cwd=home, stdin=pipe, stdout=pipe, stderr=pipe
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def said(process: asyncio.subprocess.Process, *words: str) -> str:
    """Return the transcript up to the point where all the words have come; fails with what came instead."""
    assert process.stderr is not None
    heard = b""
    try:
        async with asyncio.timeout(SAYS_S_MAX):
            while not all(word.encode() in heard for word in words):
                chunk = await process.stderr.read(4096)
                if not chunk:
                    break
                heard += chunk
    except TimeoutError:
        pass
    assert all(word.encode() in heard for word in words), f"expected {words}, heard: {heard.decode()}"
    return heard.decode()


def answer(process: asyncio.subprocess.Process, text: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{text}\n".encode())


async def rest_of(process: asyncio.subprocess.Process) -> Shown:
    async with asyncio.timeout(BROKEN_S_MAX + SAYS_S_MAX):
        output, transcript = await process.communicate()
    assert process.returncode is not None
    return Shown(output.decode(), transcript.decode(), process.returncode)
