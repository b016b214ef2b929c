"""The live file: transactions, restarts, rebuilds, copies, and who may have it."""

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from indexer import schema
from indexer.projection.project import Projected, project
from indexer.projection.rows import Rows
from indexer.store import Store, StoreFailed, StoreUnusable, live, open_store
from podium.v1 import event_pb2 as e
from tests.integration.indexer.conftest import fill, table
from tests.support import stories
from tests.support.stories import SESSION, Log

ROOT = Path(__file__).parents[3]
WHOLE = stories.whole()


async def in_a_child(script: str, *arguments: object) -> str:
    """Run Python in a child: opening and closing the live file in this process would drop DuckDB's lock on it."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, *map(str, arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=ROOT
    )
    output, _ = await child.communicate()
    assert child.returncode == 0, output
    return output.decode().strip()


async def test_rows_and_position_outlive_the_process(tmp_path: Path) -> None:
    path = tmp_path / "podium.duckdb"
    async with open_store(path) as store:
        await fill(store, WHOLE)
        hashes = await store.table_hashes()
    async with open_store(path) as again:
        assert again.position == 16
        assert await again.table_hashes() == hashes


async def test_a_transaction_that_fails_leaves_neither_rows_nor_position(live_store: Store) -> None:
    projected = project(WHOLE.appends[:5], {}, after=0)
    await live_store.commit(projected)
    before = await live_store.table_hashes()
    # The table of the last insert is gone: everything before it in the transaction must go with it.
    live_store._connection.execute("ALTER TABLE core.tool_uses RENAME TO elsewhere")
    with pytest.raises(StoreFailed, match="storing rows"):
        await live_store.commit(project(WHOLE.appends[5:], projected.carries, after=5))
    live_store._connection.execute("ALTER TABLE core.elsewhere RENAME TO tool_uses")
    assert live_store.position == 5
    assert table(live_store, 'SELECT "position" FROM core.meta') == [{"position": 5}]
    assert await live_store.table_hashes() == before
    await live_store.commit(project(WHOLE.appends[5:], projected.carries, after=5))
    assert live_store.position == 16


CRASHING = """
import asyncio, os, sys
from pathlib import Path
from indexer.projection.project import project
from indexer.store import open_store
from tests.support import stories

class Dying:
    def __init__(self, connection, statements):
        self.connection, self.left = connection, statements
    def __getattr__(self, name):
        return getattr(self.connection, name)
    def execute(self, *what):
        done = self.connection.execute(*what)
        self.left -= 1
        if not self.left:
            os._exit(9)
        return done

async def die_after(statements, path):
    appends = stories.whole().appends
    async with open_store(path) as store:
        first = project(appends[:8], {}, after=0)
        await store.commit(first)
        store._connection = Dying(store._connection, statements)
        await store.commit(project(appends[8:], first.carries, after=8))
        store._connection = store._connection.connection

for statements in range(1, 100):
    child = os.fork()
    if not child:
        asyncio.run(die_after(statements, Path(sys.argv[1]) / f"{statements}.duckdb"))
        os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
        break
"""


async def test_a_crash_after_any_statement_leaves_all_of_a_batch_or_nothing(tmp_path: Path) -> None:
    await in_a_child(CRASHING, tmp_path)
    left = {}
    for path in tmp_path.glob("*.duckdb"):
        async with open_store(path) as store:
            left[int(path.stem)] = (store.position, table(store, "SELECT count(*) AS n FROM core.events")[0]["n"])
    before, after = (8, WHOLE.appends[7].last_revision), (16, 26)
    assert set(left.values()) == {before, after}
    assert len(left) > 10
    assert left[1] == before
    assert left[max(left)] == after


async def test_every_way_to_cut_the_log_gives_equal_hashes(tmp_path: Path) -> None:
    found = []
    for step in (1, 3, 16):
        async with open_store(tmp_path / f"{step}.duckdb") as store:
            for begin in range(0, len(WHOLE.appends), step):
                # Looked up each time, as after a restart.
                known = await store.carries({SESSION})
                await store.commit(project(WHOLE.appends[begin : begin + step], known, after=store.position))
            found.append(await store.table_hashes())
    assert found[0] == found[1] == found[2]
    assert found[0]["events"].startswith("26:")


async def test_a_hash_tells_one_changed_letter_and_one_row_more(live_store: Store) -> None:
    await fill(live_store, WHOLE)
    before = await live_store.table_hashes()
    live_store._connection.execute("UPDATE core.tool_results SET output = '3 failed'")
    live_store._connection.execute("INSERT INTO core.usage SELECT * FROM core.usage LIMIT 1")
    after = await live_store.table_hashes()
    assert {name for name in before if before[name] != after[name]} == {"tool_results", "usage"}


async def test_what_is_remembered_of_a_session_comes_back(live_store: Store) -> None:
    projected = project(WHOLE.appends[:6], {}, after=0)
    await live_store.commit(projected)
    assert await live_store.carries({SESSION, "unknown"}) == projected.carries
    assert projected.carries[SESSION].tokens is not None


async def test_a_session_has_one_row_however_often_it_changes(live_store: Store) -> None:
    for append in WHOLE.appends:
        await live_store.commit(project([append], await live_store.carries({SESSION}), after=append.position - 1))
    assert table(live_store, "SELECT id, revision FROM sessions") == [{"id": SESSION, "revision": 26}]


async def test_text_is_kept_as_it_was(live_store: Store) -> None:
    odd = 'nul \x00, quote ", backslash \\, line\nend, emoji 🙂, 漢字, \u2028'
    log = Log()
    log.asked(stories.created())
    log.append(
        stories.user(odd),
        stories.message(e.ROLE_USER, stories.tool_result("c", odd)),
        stories.assistant(stories.text("x" * 70_000)),
    )
    await fill(live_store, log)
    read = table(live_store, "SELECT content FROM session_messages ORDER BY revision")
    assert json.loads(read[0]["content"])["message"]["content"][0]["text"] == odd
    assert table(live_store, "SELECT output FROM core.tool_results") == [{"output": odd}]
    (said,) = table(
        live_store, "SELECT content ->> '$.message.content[0].text' AS text FROM session_messages LIMIT 1 OFFSET 2"
    )
    assert len(said["text"]) == 70_000


async def test_tables_of_another_version_are_built_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "podium.duckdb"
    async with open_store(path) as store:
        await fill(store, WHOLE)
    monkeypatch.setattr(schema, "SCHEMA_VERSION", schema.SCHEMA_VERSION + 1)
    async with open_store(path) as store:
        assert store.position == 0
        assert table(store, "SELECT count(*) AS n FROM core.events") == [{"n": 0}]
        await fill(store, WHOLE)
    async with open_store(path) as store:
        assert store.position == 16


async def test_a_rebuild_puts_aside_what_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "podium.duckdb"
    path.write_bytes(b"somebody's letters" * 1000)
    async with open_store(path, rebuild=True) as store:
        await fill(store, WHOLE)
    assert (tmp_path / "podium.duckdb.unreadable").read_bytes().startswith(b"somebody's letters")


async def test_a_rebuild_begins_empty(tmp_path: Path) -> None:
    path = tmp_path / "podium.duckdb"
    async with open_store(path) as store:
        await fill(store, WHOLE)
    async with open_store(path, rebuild=True) as store:
        assert store.position == 0


async def test_a_second_indexer_is_refused_with_words(tmp_path: Path, live_store: Store) -> None:
    script = (
        "import asyncio, sys; from pathlib import Path; from indexer.store import open_store\n"
        "async def main():\n"
        "    async with open_store(Path(sys.argv[1]), rebuild=True): pass\n"
        "asyncio.run(main())"
    )
    second = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", script, str(live_store.path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert second.returncode != 0
    assert "stop the indexer that has it" in second.stderr
    await fill(live_store, WHOLE)


async def test_a_file_that_is_no_database_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "podium.duckdb"
    path.write_bytes(b"somebody's letters" * 1000)
    with pytest.raises(StoreUnusable, match="--rebuild"):
        async with open_store(path):
            pass
    assert path.read_bytes().startswith(b"somebody's letters")


async def digest(path: Path) -> str:
    return await in_a_child(
        "import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], 'rb').read()).hexdigest())", path
    )


async def test_a_quiet_file_holds_everything_and_stays_as_it_is_while_commits_go_on(
    live_store: Store, tmp_path: Path
) -> None:
    first = project(WHOLE.appends[:8], {}, after=0)
    await live_store.commit(first)
    copy = tmp_path / "copy.duckdb"
    async with live_store.quiesced() as quiet:
        assert (quiet.path, quiet.position) == (live_store.path, 8)
        before = await digest(quiet.path)
        carries = first.carries
        position = 8
        for append in WHOLE.appends[8:]:
            projected = project([append], carries, after=position)
            await live_store.commit(projected)
            carries, position = projected.carries, projected.position
        assert await digest(quiet.path) == before
        await in_a_child("import shutil, sys; shutil.copy(*sys.argv[1:])", quiet.path, copy)
    with duckdb.connect(str(copy), read_only=True) as copied:
        assert copied.execute('SELECT count(*), max("position") FROM core.events').fetchall() == [
            (WHOLE.appends[7].last_revision, 8)
        ]
    assert live_store.position == 16
    async with live_store.quiesced() as quiet:
        assert quiet.position == 16
        assert await digest(quiet.path) != before


async def test_a_checkpoint_waits_for_a_read_of_an_older_state(live_store: Store) -> None:
    """DuckDB refuses it then; and reads without a pause between them would keep every checkpoint out."""
    reading = await live_store._cursors.get()
    reading.execute("BEGIN")
    reading.execute("SELECT count(*) FROM core.events").fetchall()
    await fill(live_store, WHOLE)
    with pytest.raises(duckdb.Error, match="Cannot CHECKPOINT"):
        live_store._connection.execute("CHECKPOINT")

    async def quiet_position() -> int:
        async with live_store.quiesced() as quiet:
            return quiet.position

    waiting = asyncio.ensure_future(quiet_position())
    assert await live_store.rows("SELECT 1") == [(1,)]
    reading.execute("ROLLBACK")
    live_store._cursors.put_nowait(reading)
    assert await waiting == 16


async def test_a_checkpoint_gives_up_on_a_read_that_does_not_end(
    live_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "READS_WAIT_S", 0.05)
    endless = asyncio.ensure_future(live_store.rows("SELECT count(*) FROM range(100000000000) a, range(1000) b"))
    await asyncio.sleep(0)
    with pytest.raises(OSError, match="reads took longer"):
        async with live_store.quiesced():
            pass
    endless.cancel()
    await asyncio.wait({endless})
    async with live_store.quiesced():
        assert await live_store.rows("SELECT 1") == [(1,)]


async def test_large_commits_do_not_touch_a_quiet_file(live_store: Store) -> None:
    """A commit far over the checkpoint threshold waits with its checkpoint until the block ends."""
    live_store._connection.execute("SET GLOBAL checkpoint_threshold = '1KB'")
    log = Log()
    log.asked(stories.created())
    for _ in range(50):
        log.append(*[stories.assistant(stories.text("y" * 1000))] * 100)
    async with live_store.quiesced() as quiet:
        before = await digest(quiet.path)
        await fill(live_store, log)
        assert await digest(quiet.path) == before


async def test_checkpoints_come_back_after_a_quiet_time(live_store: Store) -> None:
    def threshold() -> object:
        return table(live_store, "SELECT current_setting('checkpoint_threshold') AS at")[0]["at"]

    usual = threshold()
    async with live_store.quiesced():
        assert threshold() != usual
    assert threshold() == usual


async def test_a_cancelled_read_is_interrupted_and_its_place_is_free_again(live_store: Store) -> None:
    endless = "SELECT count(*) FROM range(100000000000) a, range(1000) b"
    for _ in range(8):  # more than there are places
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await live_store.rows(endless)
    assert await live_store.rows("SELECT 1") == [(1,)]


async def test_a_read_that_fails_says_so_and_the_next_one_works(live_store: Store) -> None:
    with pytest.raises(StoreFailed, match="while reading"):
        await live_store.rows("SELECT nothing FROM nowhere")
    assert await live_store.rows("SELECT ? + 1", [1]) == [(2,)]


async def test_closing_twice_is_allowed(tmp_path: Path) -> None:
    async with open_store(tmp_path / "podium.duckdb") as store:
        await store.close()


async def test_an_empty_batch_moves_the_position_alone(live_store: Store) -> None:
    await live_store.commit(Projected(Rows(), {}, 9))
    assert live_store.position == 9
    assert table(live_store, 'SELECT "position" FROM core.meta') == [{"position": 9}]


def test_arrow_and_duckdb_agree_on_every_column() -> None:
    with duckdb.connect() as database:
        for statement in schema.ddl():
            database.execute(statement)
        for name, expected in schema.ARROW.items():
            found: pa.Schema = database.sql(f"SELECT * FROM core.{name}").to_arrow_table().schema
            assert found.names == expected.names
            assert [_plain(kind) for kind in found.types] == [_plain(kind) for kind in expected.types], name


def _plain(kind: pa.DataType) -> str:
    return re.sub(r"tz=[^\]]*", "tz=UTC", str(kind))
