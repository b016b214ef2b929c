"""Copies of the live store that queries may read: made on demand, not too often, deleted when nobody reads them.

Owns one folder, wiped at the start: `<folder>/<n>/podium.duckdb`. The store's owner decides when a copy is safe.
"""

import asyncio
import shutil
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import structlog

from indexer.sql import copy_file
from indexer.sql.allowlist import CATALOG
from indexer.sql.errors import SnapshotUnavailable

REST_FACTOR = 10  # a copy may take at most a tenth of the time: the writer waits while it is made
MIN_REST_S = 0.25
COPY_LIMIT_S = 120.0  # 502 MB take 0.25 s; a disk that needs more than this is no disk to wait for
MAX_COPIES = 4  # on disk at once; when slow queries hold them all, the newest is not replaced

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Quiet:
    """The live file at rest: everything up to `position` is in `path` itself, nothing in the WAL alone."""

    path: Path
    position: int


class Store(Protocol):
    """What the owner of the live file offers."""

    @property
    def position(self) -> int:
        """The position of the last committed transaction."""

    def quiesced(self) -> AbstractAsyncContextManager[Quiet]:
        """Run CHECKPOINT and hold off the next one until the block ends.

        Commits may go on in the meantime (they reach the WAL only). The file may be read in the block, by another
        process: opening and closing it in the owner's process would drop DuckDB's lock.
        """


@dataclass(slots=True)
class Copy:
    """One copy on disk. `taken_at` is on the clock of `Snapshots`; `readers` counts the leases."""

    path: Path
    position: int
    taken_at: float
    readers: int = 0


class Snapshots:
    """The newest copy, and older ones as long as they are read. Bounded: MAX_COPIES on disk."""

    def __init__(self, store: Store, folder: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._folder = folder
        self._clock = clock
        self._copies: list[Copy] = []
        self._number = 0
        self._may_refresh_at = float("-inf")
        self._refreshing = asyncio.Lock()
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, mode=0o700)

    @asynccontextmanager
    async def lease(self, at_least_position: int | None = None) -> AsyncIterator[Copy]:
        """Hold the newest copy, refreshed first when it is behind and a refresh is due.

        Args:
            at_least_position: wait until a copy has it. The caller bounds the wait.

        SnapshotUnavailable when there is no copy at all.
        """
        copy = await self._fresh(at_least_position)
        copy.readers += 1
        try:
            yield copy
        finally:
            copy.readers -= 1
            self._delete_unread()

    def age_s(self, copy: Copy) -> float:
        """Return how long ago the copy was the present; 0 while the store has committed nothing since."""
        return 0.0 if copy.position == self._store.position else max(0.0, self._clock() - copy.taken_at)

    def invalidate(self) -> None:
        """Make the next lease copy again: the store was rebuilt, equal positions mean nothing."""
        self._may_refresh_at = float("-inf")
        for copy in self._copies:
            copy.position = -1

    async def _fresh(self, at_least: int | None) -> Copy:
        while True:
            async with self._refreshing:  # whoever waited here finds the copy the other one made
                if self._is_due():
                    await self._refresh()
                if not self._copies:
                    raise SnapshotUnavailable("the first copy failed")
                if at_least is None or self._copies[-1].position >= at_least:
                    return self._copies[-1]
            await asyncio.sleep(max(MIN_REST_S / 10, self._may_refresh_at - self._clock()))

    def _is_due(self) -> bool:
        if not self._copies:
            return True
        behind = self._copies[-1].position != self._store.position
        return behind and self._clock() >= self._may_refresh_at and len(self._copies) < MAX_COPIES

    async def _refresh(self) -> None:
        """Make a new copy; when that fails, keep answering from the last one, whose age tells."""
        started = self._clock()
        try:
            await self._copy()
        except OSError as error:
            if not self._copies:
                raise SnapshotUnavailable(error.strerror or type(error).__name__) from error
            _log.warning("snapshot_failed", error=str(error), age_s=self.age_s(self._copies[-1]))
        finally:
            took = self._clock() - started
            self._may_refresh_at = self._clock() + max(MIN_REST_S, REST_FACTOR * took)
        self._delete_unread()

    async def _copy(self) -> None:
        self._number += 1
        folder = self._folder / str(self._number)
        folder.mkdir(mode=0o700)
        target = folder / f"{CATALOG}.duckdb"  # the file's name is the catalog's
        try:
            async with self._store.quiesced() as quiet:
                taken_at = self._clock()
                self._check_room(quiet.path)
                await _copy_in_child(quiet.path, target)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self._copies.append(Copy(target, quiet.position, taken_at))

    def _check_room(self, live: Path) -> None:
        needed = 2 * live.stat().st_size  # one for the copy, one for the live file to grow into
        free = shutil.disk_usage(self._folder).free
        if free < needed:
            raise OSError(0, f"{free} bytes free where {needed} are needed")

    def _delete_unread(self) -> None:
        for copy in self._copies[:-1]:
            if copy.readers == 0:
                shutil.rmtree(copy.path.parent, ignore_errors=True)
                self._copies.remove(copy)


async def _copy_in_child(source: Path, target: Path) -> None:
    """Copy in a child process; OSError with the last line it wrote when it fails or is too slow."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-S", copy_file.__file__, str(source), str(target),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE, env={},
    )  # fmt: skip
    try:
        async with asyncio.timeout(COPY_LIMIT_S):
            _, complaint = await process.communicate()
    except TimeoutError:
        raise OSError(0, f"copying took longer than {COPY_LIMIT_S:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        lines = complaint.decode(errors="replace").strip().splitlines() or [f"exit code {process.returncode}"]
        raise OSError(0, lines[-1])
