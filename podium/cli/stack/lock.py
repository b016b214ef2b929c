"""The lock of a data folder: one `podium up` at a time."""

import fcntl
import os
from typing import Self

import orjson

from podium.cli.failures import CliError
from podium.cli.home import DataFolder


class FolderLock:
    """Holds a data folder from `take` to `release`; the kernel releases it when we die."""

    def __init__(self, folder: DataFolder) -> None:
        """Take the folder; nothing is locked yet."""
        self._folder = folder
        self._descriptor: int | None = None

    def take(self) -> Self:
        """Make and lock the folder and leave our pid in it.

        Raises CliError DATA_FOLDER_IN_USE with who has it, or DATA_FOLDER_UNUSABLE.
        """
        try:
            self._folder.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(self._folder.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            message = f"{self._folder.path} cannot be used as data folder: {error.strerror or error}"
            raise CliError("DATA_FOLDER_UNUSABLE", message, "Choose another with --data DIR.") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise self._in_use(pid) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        self._descriptor = descriptor
        return self

    def release(self) -> None:
        """Give the folder free. May be called twice."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _in_use(self, pid: str) -> CliError:
        try:
            address = str(orjson.loads(self._folder.endpoint_file.read_bytes())["address"])
            told = f"it answers at {address}"
        except (OSError, ValueError, KeyError, TypeError):
            told = "it is not ready yet"
        message = f"{self._folder.path} is used by another `podium up` (pid {pid}); {told}"
        advice = "Use that one, end it, or choose another folder with --data DIR and another --listen HOST:PORT."
        return CliError("DATA_FOLDER_IN_USE", message, advice, pid=pid)
