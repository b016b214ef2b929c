"""The service's promises: limits hold, a query left behind leaves no process, and errors are typed and say little."""

import asyncio
import datetime as dt
import os
import signal
import sys
import textwrap
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pytest

from indexer.sql.errors import (
    QueryFailed,
    QueryTimedOut,
    QueryTooLarge,
    SnapshotUnavailable,
    StatementRefused,
    TooManyQueries,
)
from indexer.sql.frames import MAX_FRAME_BYTES
from indexer.sql.service import MEBIBYTE, QueryLimits, QueryRunner

Rows = Callable[..., Any]
Make = Callable[..., Any]

ENDLESS = "SELECT count(*) FROM range(1000000) a(i), range(1000000) b(j), range(1000) c WHERE hash(i + j) = 7"
LONG_STREAM = "SELECT i, repeat('x', 1000) AS s FROM range(2000000) t(i)"


async def eventually(fact: Callable[[], bool]) -> bool:
    """Wait until the fact holds, 20 s at most."""
    for _ in range(2000):
        if fact():
            return True
        await asyncio.sleep(0.01)
    return False


async def gone(pid: int) -> bool:
    """Wait until there is no such process."""
    return await eventually(lambda: not psutil.pid_exists(pid))


def busy_pid(runner: QueryRunner) -> int:
    (worker,) = runner._busy
    return worker.pid


async def until_busy(runner: QueryRunner) -> int:
    """Return the worker's pid once it has spent a second of CPU on top of its start."""
    assert await eventually(lambda: any(sum(psutil.Process(w.pid).cpu_times()[:2]) > 1.0 for w in runner._busy))
    return busy_pid(runner)


async def test_a_cancelled_query_leaves_no_process(runner: QueryRunner, rows_of: Rows) -> None:
    await rows_of(runner, "SELECT 1")
    task = asyncio.create_task(rows_of(runner, ENDLESS))
    pid = await until_busy(runner)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await gone(pid)
    assert (await rows_of(runner, "SELECT 41 + 1 AS n"))["n"].to_pylist() == [42]


async def test_leaving_before_the_end_kills_the_worker(runner: QueryRunner) -> None:
    async with runner.query(LONG_STREAM) as result:
        await anext(aiter(result))
        pid = busy_pid(runner)
    assert await gone(pid)


async def test_a_worker_killed_in_mid_stream_is_a_typed_error(runner: QueryRunner) -> None:
    async with runner.query(LONG_STREAM) as result:
        batches = aiter(result)
        await anext(batches)
        os.kill(busy_pid(runner), signal.SIGKILL)
        with pytest.raises(QueryFailed, match="SIGKILL") as caught:
            [_ async for _ in batches]
    assert caught.value.kind == "WorkerDied"


async def test_a_worker_that_cannot_be_interrupted_is_killed_at_the_deadline(
    runner: QueryRunner, rows_of: Rows
) -> None:
    await rows_of(runner, "SELECT 1")
    task = asyncio.create_task(rows_of(runner, ENDLESS, limits=QueryLimits(timeout_s=2)))
    pid = await until_busy(runner)
    os.kill(pid, signal.SIGSTOP)  # deaf to its own timer
    with pytest.raises(QueryTimedOut) as caught:
        await task
    assert caught.value.limit_s == 2
    assert await gone(pid)


async def test_a_client_that_does_not_read_is_cut_off_at_the_deadline(runner: QueryRunner) -> None:
    async with runner.query(LONG_STREAM, limits=QueryLimits(timeout_s=5)) as result:
        assert await gone(busy_pid(runner))
        with pytest.raises(QueryTimedOut):
            [_ async for _ in result]


async def test_a_slow_client_holds_no_memory(runner: QueryRunner) -> None:
    async with runner.query(LONG_STREAM) as result:
        batches = aiter(result)
        await anext(batches)
        worker = psutil.Process(busy_pid(runner))
        writer = f"/proc/{worker.pid}/wchan"
        assert await eventually(lambda: "pipe_write" in Path(writer).read_text() or _is_still(worker))
        assert worker.memory_info().rss < 400 * MEBIBYTE  # the whole answer has 2 GB
        assert psutil.Process().memory_info().rss < 600 * MEBIBYTE


def _is_still(process: psutil.Process) -> bool:
    """Tell whether the process uses no CPU for a while: it waits until somebody reads."""
    return process.cpu_percent(0.3) == 0.0


async def test_batches_fit_and_make_one_arrow_stream(runner: QueryRunner) -> None:
    messages = []
    async with runner.query("SELECT i, repeat('x', 5000) AS s FROM range(5000) t(i)") as result:
        assert result.schema.names == ["i", "s"]
        messages = [batch async for batch in result]
        assert result.rows == 5000
    assert max(map(len, messages)) <= MAX_FRAME_BYTES
    assert len(messages) > 5
    table = pa.ipc.open_stream(b"".join([result.ipc_schema, *messages])).read_all()
    assert table["i"].to_pylist() == list(range(5000))


async def test_a_row_that_fits_in_no_batch_is_refused_in_words(runner: QueryRunner, rows_of: Rows) -> None:
    with pytest.raises(QueryTooLarge, match="substr") as caught:
        await rows_of(runner, "WITH a AS MATERIALIZED (SELECT repeat('x', 10000) s) SELECT repeat(s, 500) FROM a")
    assert caught.value.resource == "row"


@pytest.mark.parametrize(
    ("limits", "resource"),
    [(QueryLimits(max_rows=10), "rows"), (QueryLimits(max_bytes=1000), "bytes")],
)
async def test_an_answer_over_its_limit_is_cut_off(
    runner: QueryRunner, rows_of: Rows, limits: QueryLimits, resource: str
) -> None:
    with pytest.raises(QueryTooLarge) as caught:
        await rows_of(runner, "SELECT * FROM range(1000)", limits=limits)
    assert caught.value.resource == resource


async def test_parameters_by_order_and_by_name(runner: QueryRunner, rows_of: Rows) -> None:
    moment = dt.datetime(2026, 11, 20, 1, tzinfo=dt.UTC)
    table = await rows_of(
        runner, "SELECT title FROM sessions WHERE created_at = ? AND message_count > ? AND NOT ?", [moment, 1, False]
    )
    assert table["title"].to_pylist() == ["Implement smart contract"]
    values = {"d": Decimal("1.50"), "b": b"\x00\xff", "l": [1, 2], "n": None, "t": "it's; DROP TABLE x"}
    table = await rows_of(runner, "SELECT $d AS d, $b AS b, $l AS l, $n AS n, $t AS t", values)
    assert table.to_pylist() == [values]


async def test_a_parameter_streams_as_a_literal_does(runner: QueryRunner) -> None:
    async with runner.query("SELECT i, repeat('x', ?) FROM range(?) t(i)", [1000, 2_000_000]) as result:
        await anext(aiter(result))
        assert psutil.Process(busy_pid(runner)).memory_info().rss < 400 * MEBIBYTE


async def test_a_bomb_in_a_parameter_is_refused(runner: QueryRunner, rows_of: Rows) -> None:
    with pytest.raises(StatementRefused, match="repeat"):
        await rows_of(runner, "SELECT repeat('x', $1)", [2_000_000_000])
    with pytest.raises(StatementRefused, match="repeat"):
        await rows_of(runner, "SELECT repeat('x', $n)", {"n": "2000000000"})


async def test_what_no_parameter_can_be_is_a_typed_error(runner: QueryRunner, rows_of: Rows) -> None:
    with pytest.raises(QueryFailed) as caught:
        await rows_of(runner, "SELECT ?", [object()])
    assert caught.value.kind == "InvalidParameter"
    with pytest.raises(QueryTooLarge) as too_large:
        await rows_of(runner, "SELECT ?", ["x" * 5_000_000])
    assert too_large.value.resource == "parameters"


async def test_a_missing_parameter_is_a_typed_error(runner: QueryRunner, rows_of: Rows) -> None:
    with pytest.raises(QueryFailed):
        await rows_of(runner, "SELECT $1, $2", [1])


async def test_describing_gives_schema_and_placeholders_without_running(runner: QueryRunner) -> None:
    described = await runner.describe("SELECT title, $a + 1 AS n, $b AS b FROM sessions, range(1000000000)")
    schema = pa.ipc.read_schema(pa.py_buffer(described.ipc_schema))
    assert schema.names == ["title", "n", "b"]
    assert described.parameters == ("a", "b")
    with pytest.raises(StatementRefused):
        await runner.describe("SELECT * FROM core.secrets")


async def test_an_enum_comes_as_text_so_that_each_batch_stands_alone(runner: QueryRunner, rows_of: Rows) -> None:
    table = await rows_of(runner, "SELECT 'b'::ENUM ('a', 'b') AS e, ['a'::ENUM ('a')] AS l")
    assert table.to_pylist() == [{"e": "b", "l": ["a"]}]


async def test_an_error_text_is_short_and_has_no_path(
    runner: QueryRunner, rows_of: Rows, store: Any, tmp_path: Path
) -> None:
    store.execute(f"UPDATE core.message_rows SET content = repeat('private ', 200000) || '{tmp_path}/live.duckdb'")
    with pytest.raises(QueryFailed) as caught:
        await rows_of(runner, "SELECT content::INTEGER FROM session_messages")
    assert "Conversion" in str(caught.value)
    assert len(str(caught.value)) <= 600
    with pytest.raises(QueryFailed) as caught:
        await rows_of(runner, "SELECT right(content, 200)::INTEGER FROM session_messages")
    assert str(tmp_path) not in str(caught.value)
    assert "<path>" in str(caught.value)


async def test_a_mistake_is_told_in_duckdbs_words_and_costs_no_worker(runner: QueryRunner, rows_of: Rows) -> None:
    await rows_of(runner, "SELECT 1")
    (worker,) = runner._idle
    with pytest.raises(QueryFailed, match="titel") as caught:
        await rows_of(runner, "SELECT titel FROM sessions")
    assert caught.value.kind == "BinderException"
    with pytest.raises(StatementRefused, match="syntax error"):
        await rows_of(runner, "SELEKT 1")
    assert (await rows_of(runner, "SELECT 1 AS n"))["n"].to_pylist() == [1]
    assert [w.pid for w in runner._idle] == [worker.pid]


async def test_a_failure_in_mid_stream_leaves_a_worker_that_answers(runner: QueryRunner, rows_of: Rows) -> None:
    with pytest.raises(QueryFailed, match="Conversion"):
        await rows_of(runner, "SELECT CASE WHEN i = 900000 THEN 'x' ELSE '1' END::INTEGER FROM range(1000000) t(i)")
    assert (await rows_of(runner, "SELECT 1 AS n"))["n"].to_pylist() == [1]


async def test_one_caller_cannot_take_all_places(make_runner: Make, rows_of: Rows) -> None:
    async with make_runner(max_running=1, max_waiting=2, max_per_caller=2) as runner:
        async with runner.query(LONG_STREAM, caller="a"):
            waiting = asyncio.create_task(rows_of(runner, "SELECT 1 AS n", caller="a"))
            await asyncio.sleep(0)
            with pytest.raises(TooManyQueries) as caught:
                await rows_of(runner, "SELECT 1", caller="a")
            assert (caught.value.scope, caught.value.limit) == ("caller", 2)
            other = asyncio.create_task(rows_of(runner, "SELECT 2 AS n", caller="b"))
            await asyncio.sleep(0)
            with pytest.raises(TooManyQueries) as caught:
                await rows_of(runner, "SELECT 1", caller="c")
            assert (caught.value.scope, caught.value.limit) == ("service", 3)
        assert (await waiting)["n"].to_pylist() == [1]
        assert (await other)["n"].to_pylist() == [2]


async def test_waiting_for_a_place_ends_at_the_deadline(make_runner: Make, rows_of: Rows) -> None:
    async with make_runner(max_running=1) as runner, runner.query(LONG_STREAM):
        with pytest.raises(QueryTimedOut):
            await rows_of(runner, "SELECT 1", limits=QueryLimits(timeout_s=0.1))


async def test_a_worker_is_replaced_after_its_share(make_runner: Make, rows_of: Rows) -> None:
    async with make_runner(queries_per_worker=2) as runner:
        pids = []
        for _ in range(3):
            async with runner.query("SELECT 1") as result:
                pids.append(busy_pid(runner))
                [_ async for _ in result]
    assert pids[0] == pids[1] != pids[2]


async def test_two_queries_run_at_once_in_two_processes(runner: QueryRunner) -> None:
    async with runner.query(LONG_STREAM), runner.query(LONG_STREAM):
        assert len({worker.pid for worker in runner._busy}) == 2


async def test_closing_kills_every_worker_and_may_be_repeated(make_runner: Make, rows_of: Rows) -> None:
    async with make_runner() as runner:
        task = asyncio.create_task(rows_of(runner, ENDLESS))
        pid = await until_busy(runner)
        idle = [worker.pid for worker in runner._idle]
    with pytest.raises(QueryFailed):
        await task
    await runner.__aexit__(None, None, None)
    assert all([await gone(p) for p in [pid, *idle]])


async def test_a_worker_knows_nothing_of_its_parents_environment(
    runner: QueryRunner, monkeypatch: pytest.MonkeyPatch, rows_of: Rows
) -> None:
    monkeypatch.setenv("PODIUM_TOKEN", "dummy-secret")
    async with runner.query(LONG_STREAM), runner.query(LONG_STREAM):  # the second one starts now
        for worker in runner._busy:
            assert set(psutil.Process(worker.pid).environ()) & {"PODIUM_TOKEN", "HOME", "USER"} == set()


async def test_an_answer_tells_its_age_and_position(runner: QueryRunner, store: Any) -> None:
    async with runner.query("SELECT 1") as result:
        assert (result.position, result.snapshot_age_s) == (store.position, 0.0)
        [_ async for _ in result]
    store.execute("DELETE FROM core.message_rows")
    async with runner.query("SELECT count(*) AS n FROM session_messages", at_least_position=store.position) as result:
        assert result.position == store.position
        (batch,) = [b async for b in result]
    assert pa.ipc.open_stream(result.ipc_schema + batch).read_all()["n"].to_pylist() == [0]


async def test_no_copy_is_a_typed_error(runner: QueryRunner, store: Any, rows_of: Rows) -> None:
    store.path = store.path.with_name("not-there.duckdb")
    with pytest.raises(SnapshotUnavailable):
        await rows_of(runner, "SELECT 1")


async def test_a_worker_dies_with_its_parent() -> None:
    script = """
        import asyncio, os
        from indexer.sql.process import WorkerProcess
        async def main():
            worker = await WorkerProcess.start(1 << 28)
            await worker.read()
            print(worker.pid, flush=True)
            await asyncio.sleep(60)
        asyncio.run(main())
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    parent = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        assert parent.stdout is not None
        pid = int(await parent.stdout.readline())
        assert psutil.pid_exists(pid)
    finally:
        parent.kill()
        await parent.wait()
    assert await gone(pid)
