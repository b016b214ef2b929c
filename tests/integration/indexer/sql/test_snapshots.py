"""Copies of the live store: consistent, not too often, no more than a few, and the live file's lock survives them."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import duckdb
import pytest

from indexer.sql.errors import SnapshotUnavailable
from indexer.sql.snapshot import MAX_COPIES, Snapshots


class Clock:
    """A clock that stands still until told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def copies(store: Any, tmp_path: Path, clock: Clock) -> Snapshots:
    return Snapshots(store, tmp_path / "copies", clock=clock)


def read(path: Path, sql: str) -> Any:
    with duckdb.connect(str(path), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def folders(tmp_path: Path) -> int:
    return len(list((tmp_path / "copies").iterdir()))


async def test_a_copy_holds_what_was_committed_and_nothing_is_left_in_a_wal(store: Any, copies: Snapshots) -> None:
    async with copies.lease() as copy:
        assert copy.position == store.position
        assert read(copy.path, "SELECT count(*) FROM sessions") == [(4,)]
        assert [file.name for file in copy.path.parent.iterdir()] == ["podium.duckdb"]


async def test_the_live_files_lock_survives_a_copy(store: Any, copies: Snapshots) -> None:
    """POSIX drops a process's locks on a file when it closes any handle on it: the copy is another process's work."""
    script = "import duckdb, sys; duckdb.connect(sys.argv[1])"
    async with copies.lease():
        command = [sys.executable, "-c", script, str(store.path)]
        second = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
        _, complaint = await second.communicate()
    assert b"Could not set lock" in complaint, "a second process opened the live file"


async def test_commits_during_a_copy_are_in_the_next_one(store: Any, copies: Snapshots, clock: Clock) -> None:
    quiesced = store.quiesced

    @asynccontextmanager
    async def busy() -> AsyncIterator[Any]:
        async with quiesced() as quiet:
            store.execute("DELETE FROM core.session_rows WHERE id = 's1'")
            yield quiet

    store.quiesced = busy
    async with copies.lease() as first:
        assert first.position == store.position - 1
        assert read(first.path, "SELECT count(*) FROM sessions") == [(4,)]
    store.quiesced = quiesced
    clock.now += 1000
    async with copies.lease() as second:
        assert second.position == store.position
        assert read(second.path, "SELECT count(*) FROM sessions") == [(3,)]


async def test_a_copy_is_kept_until_it_has_rested_ten_times_what_it_took(
    store: Any, copies: Snapshots, clock: Clock
) -> None:
    original = store.quiesced

    def slow() -> Any:
        clock.now += 2.0  # this copy takes two seconds
        return original()

    store.quiesced = slow
    async with copies.lease() as first:
        pass
    store.execute("DELETE FROM core.session_rows")
    clock.now += 19.9
    async with copies.lease() as same:
        assert same is first
        assert copies.age_s(same) == pytest.approx(19.9)
    clock.now += 0.2
    async with copies.lease() as newer:
        assert newer.position == store.position
        assert store.checkpoints == 2


async def test_nothing_is_copied_while_nothing_is_committed(store: Any, copies: Snapshots, clock: Clock) -> None:
    async with copies.lease() as first:
        pass
    clock.now += 1000
    async with copies.lease() as second:
        assert second is first
        assert copies.age_s(second) == 0.0
    assert store.checkpoints == 1


async def test_readers_who_come_together_share_one_copy(store: Any, copies: Snapshots) -> None:
    async def use() -> int:
        async with copies.lease() as copy:
            return copy.position

    await asyncio.gather(*(use() for _ in range(10)))
    assert store.checkpoints == 1


async def test_an_old_copy_goes_when_its_last_reader_does(
    store: Any, copies: Snapshots, clock: Clock, tmp_path: Path
) -> None:
    async with copies.lease() as old:
        store.execute("DELETE FROM core.session_rows")
        clock.now += 1000
        async with copies.lease() as new:
            assert new is not old
        assert old.path.exists()
        assert folders(tmp_path) == 2
    assert not old.path.exists()
    assert folders(tmp_path) == 1


async def test_the_number_of_copies_is_bounded(store: Any, copies: Snapshots, clock: Clock, tmp_path: Path) -> None:
    leases = []
    for _ in range(MAX_COPIES + 3):
        lease = copies.lease()
        await lease.__aenter__()
        leases.append(lease)
        store.execute("UPDATE core.session_rows SET message_count = message_count + 1")
        clock.now += 1000
    assert folders(tmp_path) == MAX_COPIES
    for lease in leases:
        await lease.__aexit__(None, None, None)
    assert folders(tmp_path) == 1


async def test_a_failed_refresh_answers_from_the_last_copy(store: Any, copies: Snapshots, clock: Clock) -> None:
    async with copies.lease() as first:
        pass
    store.execute("DELETE FROM core.session_rows")
    store.path = store.path.with_name("not-there.duckdb")
    clock.now += 1000
    async with copies.lease() as still:
        assert still is first
        assert copies.age_s(still) == pytest.approx(1000)


async def test_no_room_on_the_disk_is_told(store: Any, copies: Snapshots, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("indexer.sql.snapshot.shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(SnapshotUnavailable, match="1000 bytes free"):
        async with copies.lease():
            pass


async def test_what_an_earlier_process_left_is_wiped(store: Any, tmp_path: Path) -> None:
    left = tmp_path / "copies" / "7"
    left.mkdir(parents=True)
    (left / "podium.duckdb.partial").write_bytes(b"x" * 100)
    Snapshots(store, tmp_path / "copies")
    assert not left.exists()


async def test_a_reader_can_wait_for_a_position(store: Any, copies: Snapshots, clock: Clock) -> None:
    async with copies.lease():
        pass
    store.execute("DELETE FROM core.session_rows")
    clock.now += 1000
    async with copies.lease(at_least_position=store.position) as copy:
        assert copy.position == store.position
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2), copies.lease(at_least_position=store.position + 1):
            pass


async def test_a_rebuilt_store_is_copied_again(store: Any, copies: Snapshots) -> None:
    async with copies.lease() as first:
        pass
    copies.invalidate()
    async with copies.lease() as second:
        assert second is not first
