"""A store file with hidden tables in `core` and public views in `main`, its owner, and the service over it."""

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
import pytest_asyncio

from indexer.sql.service import MEBIBYTE, QueryRunner, SqlSettings
from indexer.sql.snapshot import Quiet, Snapshots

RELATIONS = {"sessions": "id", "session_messages": "id"}
SECRET = "the-hidden-token"  # stands in core.secrets and nowhere a query may look

SCHEMA = f"""
CREATE SCHEMA core;
CREATE TABLE core.secrets (token VARCHAR);
INSERT INTO core.secrets VALUES ('{SECRET}');
CREATE TABLE core.session_rows (
    id VARCHAR, title VARCHAR, provider VARCHAR, model VARCHAR, effort VARCHAR, workspace VARCHAR, status VARCHAR,
    context_used_percent DOUBLE, jsonl_path VARCHAR, provider_session_id VARCHAR, runner VARCHAR,
    parent_session_id VARCHAR, archived BOOLEAN, message_count BIGINT, input_tokens BIGINT,
    cache_read_input_tokens BIGINT, cache_creation_input_tokens BIGINT, uncached_input_tokens BIGINT,
    output_tokens BIGINT, cost_usd DOUBLE, waiting_on VARCHAR, created_at TIMESTAMPTZ, updated_at TIMESTAMPTZ);
CREATE TABLE core.message_rows (
    id VARCHAR, session_id VARCHAR, role VARCHAR, content VARCHAR, created_at TIMESTAMPTZ, turn_id VARCHAR,
    revision BIGINT);
CREATE VIEW main.sessions AS SELECT * FROM core.session_rows;
CREATE VIEW main.session_messages AS SELECT * FROM core.message_rows;
"""


def session_row(number: int, title: str, model: str, messages: int, used: float | None) -> list[Any]:
    """Return a row of `sessions`, created `number` hours after midnight."""
    at = f"2026-11-20 {number:02d}:00:00+00"
    return [
        f"s{number}", title, "claude", model, "high", "amarillo", "idle", used, f"/home/dev/.claude/s{number}.jsonl",
        f"native-{number}", "r1", "s1" if number == 2 else None, False, messages, 99_319, 4_352, 0, 94_967, 113, 0.25,
        None, at, at,
    ]  # fmt: skip


SESSIONS = [
    session_row(1, "Implement smart contract", "gpt-5.2", 3, 61.5),
    session_row(2, "Explore Slither testing", "opus", 2, 12.0),
    session_row(3, "Untitled", "opus", 0, None),
    session_row(4, "Empty but named", "opus", 0, 0.0),
]


def message_row(session: int, number: int, role: str) -> list[Any]:
    """Return a row of `session_messages`, `number` seconds into its session."""
    kind = "user" if role == "user" else "assistant"
    content = (
        f'{{"type": "{kind}", "message": {{"role": "{kind}", "content": [{{"type": "text", "text": "m{number}"}}]}}}}'
    )
    at = f"2026-11-20 {session:02d}:00:{number:02d}+00"
    return [f"m{session}.{number}", f"s{session}", role, content, at, f"t{session}", number]


MESSAGES = [
    message_row(1, 3, "result"),
    message_row(1, 1, "user"),
    message_row(1, 2, "assistant"),
    message_row(2, 1, "user"),
    message_row(2, 2, "assistant"),
]


class LiveStore:
    """A DuckDB file and the one connection that owns it, as the projection has it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.position = 0
        self.checkpoints = 0
        self._writing = asyncio.Lock()
        self.connection = duckdb.connect(str(path))
        self.connection.execute(SCHEMA)
        self.add("session_rows", SESSIONS)
        self.add("message_rows", MESSAGES)

    def add(self, table: str, rows: list[list[Any]]) -> None:
        marks = ", ".join("?" * len(rows[0]))
        self.connection.executemany(f"INSERT INTO core.{table} VALUES ({marks})", rows)
        self.position += 1

    def execute(self, sql: str) -> None:
        self.connection.execute(sql)
        self.position += 1

    @asynccontextmanager
    async def quiesced(self) -> AsyncIterator[Quiet]:
        async with self._writing:
            await asyncio.to_thread(self.connection.cursor().execute, "CHECKPOINT")
            self.checkpoints += 1
            yield Quiet(self.path, self.position)

    def close(self) -> None:
        self.connection.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LiveStore]:
    live = LiveStore(tmp_path / "live.duckdb")
    yield live
    live.close()


@pytest.fixture
def snapshots(store: LiveStore, tmp_path: Path) -> Snapshots:
    return Snapshots(store, tmp_path / "copies")


MakeRunner = Callable[..., Any]


@pytest.fixture
def make_runner(snapshots: Snapshots) -> MakeRunner:
    """Return a factory of services over one store, with the settings given."""

    def make(**settings: Any) -> QueryRunner:
        return QueryRunner(snapshots, SqlSettings(relations=RELATIONS, **settings))

    return make


@pytest.fixture
async def runner(make_runner: MakeRunner) -> AsyncIterator[QueryRunner]:
    async with make_runner() as runner:
        yield runner


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[LiveStore, Snapshots, QueryRunner]]:
    """Give one store, its copies and one service to all tests of a module that leave no trace."""
    folder = tmp_path_factory.mktemp("sql")
    store = LiveStore(folder / "live.duckdb")
    snapshots = Snapshots(store, folder / "copies")
    settings = SqlSettings(relations=RELATIONS, memory_bytes=256 * MEBIBYTE)
    async with QueryRunner(snapshots, settings) as runner:
        yield store, snapshots, runner
    store.close()


@pytest.fixture(scope="session")
def rows_of() -> Callable[..., Any]:
    """Return a function that runs a query and gives its whole answer as an Arrow table."""

    async def rows(runner: QueryRunner, sql: str, parameters: Any = None, **options: Any) -> pa.Table:
        async with runner.query(sql, parameters, **options) as result:
            messages = [result.ipc_schema] + [batch async for batch in result]
        return pa.ipc.open_stream(b"".join(messages)).read_all()

    return rows


@pytest.fixture
def sections() -> Callable[[str, str], list[tuple[str, str]]]:
    """Return a reader of the .sql files here: `-- <word>: <title>` opens a section."""
    return read_sections


def read_sections(file: str, word: str) -> list[tuple[str, str]]:
    text = Path(__file__).with_name(file).read_text()
    parts = re.split(rf"^-- {word}: (.*)\n", text, flags=re.MULTILINE)[1:]
    return list(zip(parts[::2], parts[1::2], strict=True))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One value per section of their files for `legitimate` and for `attack`."""
    for name, file, word in (("legitimate", "legitimate.sql", "query"), ("attack", "attacks.sql", "attack")):
        if name in metafunc.fixturenames:
            cases = read_sections(file, word)
            metafunc.parametrize(name, cases, ids=[title.replace(" ", "-") for title, _ in cases])


@pytest.fixture
def sha256_of() -> Callable[[Path], str]:
    return lambda path: hashlib.sha256(path.read_bytes()).hexdigest()
