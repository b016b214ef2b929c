"""Heartbeats on a real server: they expire, come back after expiry, and survive the server's own absence."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

import pytest

from podium.clock import SystemClock
from podium.errors import Unavailable
from podium.eventlog import layout
from podium.eventlog.directory import Appeared, Change, Changed, Gone, RunnerDirectory, RunnerReplaced, Watch
from podium.eventlog.jetstream import newest, store
from podium.eventlog.layout import Limits
from podium.eventlog.link import Link
from podium.eventlog.roles import Role
from podium.eventlog.server import EmbeddedServer
from podium.v1.provider_pb2 import Model
from podium.v1.runner_pb2 import ModelCatalog, Runner

Connect = Callable[[Role], AbstractAsyncContextManager[Link]]
TTL_S = 1
"""The shortest that the server knows."""
R1 = Runner(id="runner.one", host="h1", pool="default")
R2 = Runner(id="r2", host="h2", pool="default")


def directory(link: Link, ttl_s: int = TTL_S) -> RunnerDirectory:
    return RunnerDirectory(link, SystemClock(), ttl_s=ttl_s)


async def names(of: RunnerDirectory) -> list[str]:
    return [runner.id for runner in await of.runners()]


async def until_gone(of: RunnerDirectory) -> None:
    async with asyncio.timeout(10):
        while await of.runners():
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def keeping(of: RunnerDirectory, runner: Runner) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(of.keep(lambda: runner))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


async def change(watch: Watch) -> Change:
    async with asyncio.timeout(15):
        return await anext(watch)


async def test_a_runner_shows_itself_with_what_it_said_last(runner_link: Link, gateway_link: Link) -> None:
    runners = directory(runner_link, ttl_s=30)
    await runners.beat(R1)
    changed = Runner(id=R1.id, host="h1", busy=3, session_ids=["a", "b"])
    await runners.beat(changed)
    assert await directory(gateway_link).runners() == [changed]


async def test_a_heartbeat_that_is_not_renewed_runs_out(runner_link: Link) -> None:
    runners = directory(runner_link)
    await runners.beat(R1)
    assert await names(runners) == [R1.id]
    await until_gone(runners)


async def test_a_renewed_heartbeat_runs_out_too(runner_link: Link) -> None:
    """The client library's own `update` would make it immortal."""
    runners = directory(runner_link)
    for _ in range(3):
        await runners.beat(R1)
    await until_gone(runners)


async def test_a_heartbeat_comes_back_after_it_ran_out(runner_link: Link) -> None:
    runners = directory(runner_link)
    await runners.beat(R1)
    await until_gone(runners)
    await runners.beat(R1)
    assert await names(runners) == [R1.id]


async def test_a_heartbeat_comes_back_after_an_expiry_that_left_a_marker(
    operator_link: Link, runner_link: Link
) -> None:
    config = (await operator_link.api("STREAM.INFO.KV_runners"))["config"]
    await operator_link.api("STREAM.UPDATE.KV_runners", config | {"subject_delete_marker_ttl": 60_000_000_000})
    runners = directory(runner_link)
    await runners.beat(R1)
    await until_gone(runners)
    marker = await newest(runner_link, "KV_runners", ["$KV.runners.*"])
    assert marker[0].headers["Nats-Marker-Reason"] == "MaxAge"
    await runners.beat(R1)
    assert await names(runners) == [R1.id]


async def test_a_lost_answer_to_a_beat_does_not_stop_the_next(runner_link: Link) -> None:
    runners = directory(runner_link, ttl_s=30)
    await runners.beat(R1)
    # What the server took while its answer was lost: ours, but we do not know its sequence.
    await store(runner_link, "$KV.runners.runner~one", R1.SerializeToString(), ttl_s=30)
    await runners.beat(R1)
    assert await names(runners) == [R1.id]


async def test_a_newer_process_with_the_same_id_ends_the_older_one(connect: Connect) -> None:
    older, newer = Runner(id="r1"), Runner(id="r1")
    older.started_at.seconds, newer.started_at.seconds = 100, 200
    async with connect(Role.RUNNER) as one, connect(Role.RUNNER) as two:
        first, second = directory(one, ttl_s=30), directory(two, ttl_s=30)
        async with keeping(first, older) as task:
            async with asyncio.timeout(5):
                while not await first.runners():
                    await asyncio.sleep(0.01)
            await second.beat(newer)
            first.beat_soon()
            with pytest.raises(RunnerReplaced):
                async with asyncio.timeout(5):
                    await asyncio.shield(task)
        # The older one must not take the newer one's heartbeat with it.
        await first.leave()
        assert await first.runners() == [newer]


async def test_a_runner_that_leaves_is_gone_at_once_and_may_come_back(runner_link: Link, gateway_link: Link) -> None:
    runners = directory(runner_link, ttl_s=60)
    await runners.beat(R1)
    async with asyncio.timeout(10), directory(gateway_link, ttl_s=60).watch() as watch:
        assert await change(watch) == Appeared(R1)
        await runners.leave()
        assert await change(watch) == Gone(R1)
        assert watch.is_gone(R1.id)
        await runners.leave()
        assert not await runners.runners()
        await runners.beat(R1)
        assert await change(watch) == Appeared(R1)
        assert not watch.is_gone(R1.id)


async def test_leaving_after_a_lost_answer_takes_the_heartbeat_away(runner_link: Link) -> None:
    runners = directory(runner_link, ttl_s=60)
    await runners.beat(R1)
    await store(runner_link, "$KV.runners.runner~one", R1.SerializeToString(), ttl_s=60)
    await runners.leave()
    assert not await runners.runners()


async def test_a_watcher_hears_of_everybody_and_everything_new(runner_link: Link, connect: Connect) -> None:
    async with connect(Role.GATEWAY) as link, connect(Role.RUNNER) as other:
        first, second = directory(runner_link, ttl_s=30), directory(other, ttl_s=30)
        await first.beat(R1)
        async with directory(link, ttl_s=30).watch() as watch:
            assert await change(watch) == Appeared(R1)
            await second.beat(R2)
            assert await change(watch) == Appeared(R2)
            busy = Runner(id="r2", host="h2", pool="default", busy=1)
            await second.beat(busy)
            assert await change(watch) == Changed(busy)
            assert watch.living == {R1.id: R1, R2.id: busy}


async def test_a_beat_that_says_nothing_new_is_no_change(runner_link: Link, gateway_link: Link) -> None:
    runners = directory(runner_link, ttl_s=30)
    again, news = Runner(), Runner(busy=1)
    again.CopyFrom(R1)
    again.seen_at.seconds = 5
    news.MergeFrom(R1)
    async with directory(gateway_link, ttl_s=30).watch() as watch:
        for said in (R1, again, news):
            await runners.beat(said)
            await runner_link.settle()
            await gateway_link.settle()
            if said is R1:
                assert await change(watch) == Appeared(R1)
        assert await change(watch) == Changed(news)


async def test_a_dead_runner_is_gone_after_its_time_and_one_more(runner_link: Link, gateway_link: Link) -> None:
    runners = directory(runner_link)
    await runners.beat(R1)
    beaten_at = asyncio.get_running_loop().time()
    async with directory(gateway_link).watch() as watch:
        assert await change(watch) == Appeared(R1)
        assert not watch.is_gone(R1.id)
        assert await change(watch) == Gone(R1)
        took_s = asyncio.get_running_loop().time() - beaten_at
        assert watch.is_gone(R1.id)
    assert took_s >= 2 * TTL_S


async def test_a_living_runner_is_never_gone_while_the_server_restarts(
    server: EmbeddedServer, runner_link: Link, gateway_link: Link
) -> None:
    """Every heartbeat runs out while the server is away, and no lease may die of it."""
    async with keeping(directory(runner_link), R1), directory(gateway_link).watch() as watch:
        assert await change(watch) == Appeared(R1)
        changes = asyncio.create_task(anext_forever(watch))
        await server.kill()
        await asyncio.sleep(2.5 * TTL_S)  # The outage itself: longer than heartbeats live.
        await server.start()
        assert await runner_link.wait_connected(10)
        assert await gateway_link.wait_connected(10)
        # Long enough for whoever is absent to be found out.
        await asyncio.sleep(2.5 * TTL_S)
        assert not watch.is_gone(R1.id)
        changes.cancel()
        assert [seen for seen in await collected(changes) if isinstance(seen, Gone)] == []
        assert await names(directory(gateway_link)) == [R1.id]


async def test_a_runner_that_died_during_the_outage_is_found_out_after_it(
    server: EmbeddedServer, runner_link: Link, gateway_link: Link
) -> None:
    await directory(runner_link).beat(R1)
    async with directory(gateway_link).watch() as watch:
        assert await change(watch) == Appeared(R1)
        await server.kill()
        await server.start()
        assert await change(watch) == Gone(R1)


async def test_a_look_that_fails_starts_the_absence_anew(
    runner_link: Link, gateway_link: Link, operator_link: Link
) -> None:
    """Without any break of the connection: nobody answered for a while, and that is no absence."""
    await directory(runner_link).beat(R1)
    async with asyncio.timeout(20), directory(gateway_link).watch() as watch:
        assert await change(watch) == Appeared(R1)
        while not watch._presence._absent_since_s:
            await asyncio.sleep(0.005)
        await operator_link.api("STREAM.DELETE.KV_runners")
        watch.look_soon()
        while watch._presence._sight_since_s is not None:
            await asyncio.sleep(0.005)
        back_at = asyncio.get_running_loop().time()
        await layout.ensure(operator_link, Limits())
        assert await change(watch) == Gone(R1)
        assert asyncio.get_running_loop().time() - back_at >= TTL_S


async def test_a_server_that_hangs_breaks_the_row_of_looks(
    server: EmbeddedServer, runner_link: Link, gateway_link: Link
) -> None:
    async with keeping(directory(runner_link), R1), directory(gateway_link).watch() as watch:
        assert await change(watch) == Appeared(R1)
        server.signal(signal.SIGSTOP)
        await asyncio.sleep(2 * TTL_S)
        server.signal(signal.SIGCONT)
        await asyncio.sleep(2 * TTL_S)
        assert not watch.is_gone(R1.id)
        assert watch.living.keys() == {R1.id}


async def test_listing_without_a_server_says_so(server: EmbeddedServer, gateway_link: Link) -> None:
    await server.kill()
    with pytest.raises(Unavailable, match="listing runners"):
        await directory(gateway_link).runners()


async def test_what_is_no_heartbeat_is_not_shown(runner_link: Link) -> None:
    await store(runner_link, "$KV.runners.broken", b"\xff\xff\xff")
    await store(runner_link, "$KV.runners.posing", R1.SerializeToString())
    assert await directory(runner_link).runners() == []


async def test_a_watcher_survives_what_is_no_heartbeat(runner_link: Link, gateway_link: Link) -> None:
    async with directory(gateway_link, ttl_s=30).watch() as watch:
        await store(runner_link, "$KV.runners.broken", b"\xff\xff\xff")
        await directory(runner_link, ttl_s=30).beat(R1)
        assert await change(watch) == Appeared(R1)


async def test_catalogs_are_kept_by_runner_and_provider(runner_link: Link, gateway_link: Link) -> None:
    runners, readers = directory(runner_link), directory(gateway_link)
    old = ModelCatalog(provider="claude", models=[Model(value="opus")])
    claude = ModelCatalog(provider="claude", models=[Model(value="opus"), Model(value="haiku")])
    codex = ModelCatalog(provider="codex")
    await runners.put_catalog("runner.one", old)
    await runners.put_catalog("runner.one", claude)
    await runners.put_catalog("runner.one", codex)
    await runners.put_catalog("r2", codex)
    assert await readers.catalogs() == {
        ("runner.one", "claude"): claude,
        ("runner.one", "codex"): codex,
        ("r2", "codex"): codex,
    }
    assert await readers.catalogs("r2") == {("r2", "codex"): codex}
    assert await readers.catalog("runner.one", "claude") == claude
    assert await readers.catalog("r2", "claude") is None


async def anext_forever(watch: Watch) -> list[Change]:
    seen: list[Change] = []
    with contextlib.suppress(asyncio.CancelledError):
        async for one in watch:
            seen.append(one)  # noqa: PERF401 - what was seen before the cancellation counts
    return seen


async def collected(changes: asyncio.Task[list[Change]]) -> list[Change]:
    return await changes
