"""One service as a child process: it dies with us, says what it says into its log, and is stopped within its grace."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import podium
from podium.cli.stack.logs import LINE_BYTES_MAX, ServiceLog

KILLED_S = 5.0
"""After SIGKILL a process is gone, or it hangs in the kernel and waiting longer is no use."""

# A hook between fork and exec would, in Python, run with other threads' locks held; so a tiny process asks for the
# signal itself and becomes the service. PR_SET_PDEATHSIG is 1; a parent that died before is seen by its pid. SIGKILL,
# because NATS dies too, and a service that is asked politely would wait for NATS to come back.
_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


class ServiceProcess:
    """A process that `python -m MODULE` starts; may be started again after it has ended."""

    def __init__(self, name: str, arguments: Sequence[str], environment: Mapping[str, str], log: ServiceLog) -> None:
        """`arguments`: what follows `python`; `environment`: all that the process sees."""
        self.name = name
        self.log = log
        self.environment = dict(environment)
        self._arguments = list(arguments)
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """Return the process id while it runs."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def start(self) -> None:
        """Start the process; it has not begun to serve when this returns."""
        await self._end_reading()
        self.log.begin()
        self._process = await asyncio.create_subprocess_exec(
            *_command(self._arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=self.environment,
            cwd=self.log.path.parent,
            limit=LINE_BYTES_MAX,
            # A Ctrl-C in the terminal is for us; we stop the services in their order.
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self._reading = asyncio.create_task(self.log.read(self._process.stdout), name=f"log of {self.name}")

    async def wait(self) -> int:
        """Return the exit status once the process has ended."""
        assert self._process is not None
        return await self._process.wait()

    def said(self) -> str:
        """Return the end of what it said since it was started last."""
        return self.log.last_words()

    async def settle(self) -> None:
        """Wait until all that an ended process said is in its log."""
        await self._end_reading()

    async def stop(self, grace_s: float) -> None:
        """End the process: SIGTERM, and SIGKILL after `grace_s`. May be called twice."""
        process = self._process
        if process is not None and process.returncode is None:
            self._signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(grace_s):
                    await process.wait()
            except TimeoutError:
                await self.kill()
            finally:
                # Nothing when it has ended; when we are cancelled, nobody will wait for it any more.
                self._signal(signal.SIGKILL)
        await self._end_reading()

    async def kill(self) -> None:
        """End the process without warning."""
        if self._process is not None and self._process.returncode is None:
            self._signal(signal.SIGKILL)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(KILLED_S):
                    await self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def _end_reading(self) -> None:
        """Wait until all that was said is in the log; a grandchild that holds the pipe cannot hold us."""
        if self._reading is None:
            return
        reading, self._reading = self._reading, None
        await asyncio.wait({reading}, timeout=1.0)
        reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reading


def service_environment(given: Mapping[str, str], settings: Mapping[str, str]) -> dict[str, str]:
    """Return a service's environment: what is given, less the client's own secrets, with its settings."""
    for_clients = {"PODIUM_TOKEN", "PODIUM_TOKEN_FILE", "PODIUM_ADDRESS", "PODIUM_CA_FILE", "PODIUM_DATA"}
    kept = {name: value for name, value in given.items() if name not in for_clients}
    root = str(Path(podium.__file__).resolve().parents[1])
    return {**kept, "PYTHONPATH": root, "PYTHONUNBUFFERED": "1", **settings}


def _command(arguments: Sequence[str]) -> list[str]:
    """Return how to start a process that ends with us (Linux; elsewhere our own end stops it)."""
    python = [sys.executable, "-P", *arguments]
    if sys.platform != "linux":
        return python
    return [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *python]
