"""Workspaces: names for folders on this runner's host, each under one of the runner's roots.

Owns `workspaces.json` in the state folder: {"amarillo": "/home/me/src/amarillo"}. All runners of a host share it.
"""

import fcntl
import os
from collections.abc import Sequence
from pathlib import Path

import orjson

from podium.auth import write_private
from runner.providers.port import ProviderFailed

DEFAULT = "default"
WORKSPACES_MAX = 10_000


class Workspaces:
    """The names this host knows."""

    def __init__(self, state_dir: Path, roots: Sequence[Path]) -> None:
        """Take where the names are kept, and where folders may lie; the default workspace always may."""
        self._file = state_dir / "workspaces.json"
        self._own = state_dir / "workspaces"
        self._roots = [root.expanduser().resolve() for root in roots]

    def names(self) -> list[str]:
        """Return all names, sorted."""
        return sorted({DEFAULT, *self._read()})

    def folder(self, name: str, directory: str = "") -> Path:
        """Return the folder of a workspace, absolute and without links; `directory` registers it under the name.

        Raises ProviderFailed: WORKSPACE_UNKNOWN, WORKSPACE_MISSING, WORKSPACE_OUTSIDE_ROOTS, WORKSPACE_NAME_TAKEN.
        """
        if directory and name == DEFAULT:
            message = f"{DEFAULT!r} is the runner's own workspace, not {directory}; choose another name"
            raise ProviderFailed("WORKSPACE_NAME_TAKEN", message)
        if directory:
            found = self._checked(name, Path(directory))
            self._register(name, found)
            return found
        if name == DEFAULT:
            self._own.mkdir(parents=True, exist_ok=True, mode=0o700)
            folder = self._own.resolve() / DEFAULT
            folder.mkdir(exist_ok=True)
            return folder
        known = self._read().get(name)
        if known is None:
            message = f"no workspace {name!r} on this host; name its folder once (podium run --workspace DIR)"
            raise ProviderFailed("WORKSPACE_UNKNOWN", message)
        return self._checked(name, Path(known))

    def _checked(self, name: str, path: Path) -> Path:
        """Return where `path` really is, if that is a folder under a root: links and `..` are followed first."""
        try:
            real = path.resolve(strict=True)
        except (OSError, RuntimeError, ValueError) as error:
            raise ProviderFailed(
                "WORKSPACE_MISSING", f"workspace {name!r}: {path} cannot be opened: {error}"
            ) from error
        if not real.is_dir():
            raise ProviderFailed("WORKSPACE_MISSING", f"workspace {name!r}: {path} is no folder")
        if not any(real.is_relative_to(root) for root in self._roots):
            roots = ", ".join(str(root) for root in self._roots)
            message = f"workspace {name!r}: {real} is not under this runner's roots ({roots}); see PODIUM_ROOTS"
            raise ProviderFailed("WORKSPACE_OUTSIDE_ROOTS", message)
        return real

    def _register(self, name: str, folder: Path) -> None:
        if self._read().get(name) == str(folder):
            return
        self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(self._file.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            known = self._read()
            if known.get(name, str(folder)) != str(folder):
                message = f"workspace {name!r} is {known[name]} on this host, not {folder}; choose another name"
                raise ProviderFailed("WORKSPACE_NAME_TAKEN", message)
            if len(known) >= WORKSPACES_MAX:
                raise ProviderFailed("WORKSPACE_UNKNOWN", f"this host has {WORKSPACES_MAX} workspaces already")
            write_private(self._file, orjson.dumps({**known, name: str(folder)}, option=orjson.OPT_INDENT_2))
        finally:
            os.close(lock)

    def _read(self) -> dict[str, str]:
        try:
            content = orjson.loads(self._file.read_bytes())
            return {str(name): str(folder) for name, folder in content.items()}
        except FileNotFoundError:
            return {}
        except (OSError, orjson.JSONDecodeError, AttributeError) as error:
            raise ProviderFailed("WORKSPACE_UNKNOWN", f"{self._file} cannot be read: {error}") from error
