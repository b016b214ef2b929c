"""A small checkout with tiny requirements, so that building its environment takes seconds."""

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMAND_S_MAX = 60

# What the copied bin/podium runs: it tells where it runs and what it can import.
CLI = """
import importlib.util, json, os, sys
print(json.dumps({
    "arguments": sys.argv[1:],
    "cwd": os.getcwd(),
    "file": __file__,
    "prefix": sys.prefix,
    "installed": [name for name in ("fake_run", "fake_claude") if importlib.util.find_spec(name)],
}))
"""


@dataclass
class Shelf:
    """A loopback server for wheels that can hold its answers back."""

    address: str
    wheels: dict[str, bytes] = field(default_factory=dict)
    fetched: list[str] = field(default_factory=list)
    asked: threading.Event = field(default_factory=threading.Event)
    open: threading.Event = field(default_factory=threading.Event)

    def requirement(self, name: str, version: str) -> str:
        """Put a wheel on the shelf; return the pinned and hashed line that asks for it."""
        file = f"{name}-{version}-py3-none-any.whl"
        self.wheels[f"/{file}"] = wheel(name, version)
        digest = hashlib.sha256(self.wheels[f"/{file}"]).hexdigest()
        return f"{name}=={version} --hash=sha256:{digest}\n"


@dataclass
class FakeCheckout:
    """A checkout with the real scripts, a CLI that reports, and requirements of one tiny wheel each."""

    root: Path
    shelf: Shelf
    environment: dict[str, str]

    def pin(self, version: str) -> None:
        """Write the requirement sets, nested as the real ones are."""
        run = self.shelf.requirement("fake_run", version)
        claude = run + self.shelf.requirement("fake_claude", "1.0")
        for name, lines in {"run": run, "claude": claude, "test": claude}.items():
            (self.root / "requirements" / f"{name}.txt").write_text(lines)

    def start(self, *arguments: str, script: Path | None = None, cwd: Path | None = None) -> "subprocess.Popen[str]":
        """Start bin/podium in a session of its own."""
        return subprocess.Popen(
            [script or self.root / "bin" / "podium", *arguments],
            cwd=cwd or self.root,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, **where: Path) -> subprocess.CompletedProcess[str]:
        """Run bin/podium to its end."""
        process = self.start(*arguments, **where)
        out, err = process.communicate(timeout=COMMAND_S_MAX)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def report(self, *arguments: str, **where: Path) -> dict[str, Any]:
        """Run bin/podium and return what its CLI saw."""
        done = self.run(*arguments, **where)
        assert done.returncode == 0, done.stderr
        seen: dict[str, Any] = json.loads(done.stdout)
        return seen

    @property
    def generations(self) -> set[str]:
        """The environments that lie in .venvs."""
        return {path.name for path in (self.root / ".venvs").iterdir() if path.name.isdecimal()}


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/":
                body = "".join(f'<a href="{name}">{name[1:]}</a>' for name in stock.wheels).encode()
            else:
                stock.asked.set()
                stock.open.wait(COMMAND_S_MAX)
                body = stock.wheels.get(self.path, b"")
                stock.fetched.append(self.path)
            self.send_response(200 if body else 404)
            self.send_header("Content-Type", "text/html" if self.path == "/" else "application/octet-stream")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """A killed pip hangs up; that is what some tests are about."""

    server = Server(("127.0.0.1", 0), Handler)
    stock = Shelf(f"http://127.0.0.1:{server.server_port}")
    stock.open.set()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield stock
    stock.open.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def checkout(tmp_path: Path, shelf: Shelf) -> FakeCheckout:
    root = tmp_path / "a check out"
    for name in ("bin/podium", "tools/environment.py", "tools/environment.sh"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    for name, text in {"__init__.py": "", "cli/__init__.py": "", "cli/__main__.py": CLI}.items():
        (root / "podium" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "podium" / name).write_text(text)
    (root / "requirements").mkdir()
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "python3").symlink_to(Path(sys.executable).resolve())
    for program in ("sh", "cmp", "readlink"):
        found = shutil.which(program)
        assert found is not None
        (programs / program).symlink_to(found)
    home = tmp_path / "home"
    home.mkdir()
    environment = {
        "PATH": str(programs),
        "HOME": str(home),
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": f"{shelf.address}/",
        "PIP_CONFIG_FILE": os.devnull,
        "NO_PROXY": "127.0.0.1",
    }
    checkout = FakeCheckout(root, shelf, environment)
    checkout.pin("1.0")
    return checkout


def wheel(name: str, version: str) -> bytes:
    """Return a wheel that holds one empty module; equal arguments give equal bytes."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": "",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, text in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(zipfile.ZipInfo(path), text)
    return buffer.getvalue()
