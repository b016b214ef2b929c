"""The sandbox itself, with the gate out of the way: what is left to an attacker whom the allow-list let through."""

import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from indexer.sql.process import worker_environment


def in_sandbox(body: str, snapshot: Path) -> str:
    """Run `body` in a confined child with `connection` open on the copy; return what it printed."""
    script = textwrap.dedent("""
        import sys
        from indexer.sql.sandbox import confine
        from indexer.sql.duck import Snapshot
        confine(256 << 20)
        snapshot = Snapshot(sys.argv[1], memory_bytes=256 << 20, threads=1, keys={"sessions": "id"})
        connection = snapshot._connection
        def attempt(sql):
            try:
                print(connection.execute(sql).fetchall())
            except Exception as error:
                print(type(error).__name__, str(error)[:200])
    """) + textwrap.dedent(body)
    done = subprocess.run(
        [sys.executable, "-c", script, str(snapshot)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=worker_environment(),
    )
    return done.stdout + done.stderr


def files_in(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


@pytest.mark.parametrize(
    "sql",
    [
        "WITH x AS (COPY (SELECT 1) TO '{path}' (FORMAT csv, USE_TMP_FILE false)) SELECT 1",
        "COPY (SELECT 1) TO '{path}'",
        "COPY (SELECT 1) TO '{path}.csv'",
        "SELECT content FROM read_blob('{path}')",
        "SELECT content FROM read_text('/etc/hostname')",
        "SELECT * FROM glob('/*')",
        "ATTACH '{path}' AS again",
        "ATTACH '/tmp/new.duckdb' AS again",
        "SET enable_external_access = true",
        "SET disabled_filesystems = ''",
        "SET lock_configuration = false",
        "SET GLOBAL memory_limit = '100GB'",
        "CREATE TABLE stolen AS SELECT 1",
        "INSERT INTO core.secrets VALUES ('x')",
        "LOAD httpfs",
        "EXPORT DATABASE '/tmp/exported'",
    ],
)
async def test_without_the_gate_the_sandbox_still_holds(
    sql: str, snapshots: Any, sha256_of: Callable[[Path], str], tmp_path: Path
) -> None:
    async with snapshots.lease() as copy:
        before = sha256_of(copy.path), files_in(tmp_path)
        said = in_sandbox(f"attempt({sql.format(path=copy.path)!r})", copy.path)
        assert "Exception" in said, said
        assert (sha256_of(copy.path), files_in(tmp_path)) == before


async def test_no_file_can_be_written_by_the_process(snapshots: Any, tmp_path: Path) -> None:
    async with snapshots.lease() as copy:
        body = f"open({str(tmp_path / 'x')!r}, 'wb', buffering=0).write(b'x')"
        assert "File too large" in in_sandbox(body, copy.path)
    assert [file for file in files_in(tmp_path) if file.name == "x" and file.stat().st_size > 0] == []


async def test_memory_beside_duckdbs_accounting_is_bounded_too(snapshots: Any) -> None:
    async with snapshots.lease() as copy:
        said = in_sandbox("attempt(\"SELECT length(repeat('x', 2000000000))\")", copy.path)
        assert "2000000000" not in said
        assert "Memory" in said or "alloc" in said, said


def test_the_worker_loads_nothing_it_does_not_need() -> None:
    script = "import indexer.sql.worker, sys; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert {"duckdb", "pyarrow"} <= set(loaded)
    assert set(loaded).isdisjoint({"grpc", "nats", "structlog", "asyncio", "pandas", "numpy", "google", "podium"})
