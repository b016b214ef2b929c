"""The files of a NATS server: its folder, the folder's lock, its configuration, what it said."""

import contextlib
import fcntl
import os
import shutil
from pathlib import Path

from podium.eventlog import serverconfig
from podium.eventlog.credentials import Credentials
from podium.eventlog.serverconfig import DataFolderUnusable, ServerSettings

_TAIL_BYTES = 4 * 1024


def credentials_file(data: Path) -> Path:
    """Return where the passwords of the server in `data` are."""
    return data / "credentials.json"


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


def tail(path: Path, start: int) -> str:
    """Return the end of a file after `start` bytes; from its beginning when it has become shorter."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(start if start <= size else 0, size - _TAIL_BYTES))
            return file.read(_TAIL_BYTES).decode("utf-8", errors="replace").strip()
    except FileNotFoundError:
        return ""


def _unusable(data: Path, error: OSError) -> DataFolderUnusable:
    return DataFolderUnusable(
        f"{data}: cannot be used for the NATS server: {error.strerror}; it needs a folder of ours with free space"
    )
