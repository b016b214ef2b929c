"""Runners on a real log: how many turns at once, who is evicted, what a drain and an outage do, where sessions go."""

import asyncio
import random
import signal
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest

from podium.names import session_id
from podium.v1 import event_pb2 as e
from podium.v1 import session_pb2 as s
from podium.v1 import session_service_pb2 as api
from tests.support import gateways
from tests.support.house import Play, is_free, runs, until
from tests.support.scripted_provider import ScriptedProvider

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(90)]


async def hanging(play: Play, how_many: int = 1, **session: Any) -> list[str]:
    """Start sessions whose turns run until interrupted."""
    names = [await play.create("hang", **session) for _ in range(how_many)]
    for name in names:
        await play.says(name, "hanging")
    return names


async def waiting_on(play: Play, name: str) -> s.WaitingOn.ValueType:
    answer = await play.sessions.GetSession(api.GetSessionRequest(name=name))
    return s.WaitingOn.ValueType(answer.session.waiting_on)


# Slots and room.


async def test_slots_bound_the_turns_that_run_and_a_free_one_starts_the_next(play: Play) -> None:
    async with play.runner(slots=2) as runner:
        first, second = await hanging(play, 2)
        third = await play.create("say third")
        fourth = await play.create("say fourth")
        await play.turn(second, "say next")
        state = await play.state(third)
        assert (state.session.waiting_on, is_free(state)) == (s.WAITING_ON_RUNNER, True)
        assert len(play.provider.drivers) == 2
        await play.interrupt(first)
        # Well under the second after which a runner would look anyway.
        await play.ended(third, seconds=5)
        await play.ended(fourth, seconds=5)
        assert not await play.events(second, "turn_ended")
        assert len(runner.service._hosts) == 4


async def test_an_idle_session_is_given_up_and_its_next_turn_resumes(play: Play) -> None:
    async with play.runner(idle_s=0.3) as runner:
        name = await play.create("say one")
        await play.until(name, lambda state: state.epoch and is_free(state))
        (detached,) = await play.events(name, "runner_detached")
        assert detached.runner_detached.reason == e.DETACH_REASON_IDLE
        assert play.provider.open_drivers == []
        await play.turn(name, "say two")
        await play.ended(name, 2)
        assert play.provider.specs[-1].provider_session_id == f"native-{session_id(name)}"
        attached = [event.runner_attached.epoch for event in await play.events(name, "runner_attached")]
        assert attached == [1, 2]
        await play.until(name, lambda state: state.epoch == 2 and is_free(state))
        await until(lambda: not runner.service._hosts)


async def test_a_session_more_evicts_the_one_that_is_idle_longest_and_none_before(play: Play) -> None:
    async with play.runner(sessions_max=2):
        oldest = await play.create("say one")
        await play.ended(oldest)
        newer = await play.create("say two")
        await play.ended(newer)
        await play.turn(oldest, "say again")
        await play.ended(oldest, 2)
        # Full, but nobody needs the room.
        assert not is_free(await play.state(oldest))
        assert not is_free(await play.state(newer))
        third = await play.create("say three")
        await play.ended(third)
        assert is_free(await play.state(newer))
        assert not is_free(await play.state(oldest))
        await play.turn(newer, "say once more")
        await play.ended(newer, 2)


async def test_sessions_that_are_all_busy_are_not_evicted(play: Play) -> None:
    async with play.runner(sessions_max=1, slots=4):
        (busy,) = await hanging(play)
        waiting = await play.create("say waits")
        with pytest.raises(AssertionError):
            await play.ended(waiting, seconds=1)
        assert runs(await play.state(busy))
        await play.interrupt(busy)
        await play.ended(waiting)


async def test_many_sessions_on_few_slots_all_get_their_turn(play: Play) -> None:
    async with play.runner(slots=2, sessions_max=3):
        names = [await play.create("say one") for _ in range(12)]
        for name in names:
            await play.ended(name)
        assert len(play.provider.open_drivers) <= 3


# Heartbeats.


async def test_the_heartbeat_says_what_the_runner_has_and_does(play: Play) -> None:
    (play.folder / "work" / "amarillo").mkdir(parents=True)
    async with play.runner(slots=3, runner_labels={"gpu": "yes"}) as runner:
        directory = str(play.folder / "work" / "amarillo")
        (busy,) = await hanging(play, directory=directory)
        idle = await play.create("say one")
        await play.ended(idle)

        async def told() -> Any:
            return next(one for one in await play.runners() if one.id == runner.id)

        async with asyncio.timeout(10):
            while (seen := await told()).busy != 1 or seen.sessions != 2 or "amarillo" not in seen.workspaces:
                await asyncio.sleep(0.02)
        assert (seen.host, seen.slots, dict(seen.labels)) == ("h1", 3, {"gpu": "yes"})
        assert sorted(seen.session_ids) == sorted([session_id(busy), session_id(idle)])
        assert [(provider.name, provider.installed) for provider in seen.providers] == [("scripted", True)]
        assert list(seen.workspaces) == ["amarillo", "default"]
        assert seen.load > 0
        assert seen.memory_bytes > 1_000_000
        stopped_at = asyncio.get_running_loop().time()
        await play.interrupt(busy)
        await play.ended(busy)
    # It said that it leaves: nobody waits for a heartbeat to run out twice.
    async with asyncio.timeout(10):
        while await play.runners():
            await asyncio.sleep(0.01)
    assert asyncio.get_running_loop().time() - stopped_at < 3


async def test_a_provider_that_breaks_is_not_offered_and_the_others_are(play: Play) -> None:
    async def breaks(_: str) -> None:
        raise OSError("no such client")

    broken = ScriptedProvider(name="broken", on_probe=breaks)
    async with play.runner("broken", broken) as other, play.runner() as runner:
        told = {one.id: [provider.name for provider in one.providers] for one in await play.runners()}
        assert told == {other.id: [], runner.id: ["scripted"]}
        await play.ended(await play.create("say one"))


async def test_a_workspaces_file_that_cannot_be_read_ends_no_runner(play: Play) -> None:
    state = play.folder / "state-h1"
    state.mkdir()
    (state / "workspaces.json").write_text("[")
    async with play.runner() as runner:
        # Not even the default workspace can be told from a registered one.
        with pytest.raises(grpc.aio.AioRpcError, match="no runner of pool"):
            await play.create("say one")
        (state / "workspaces.json").write_text("{}")
        async with asyncio.timeout(10):
            while not any(one.workspaces for one in await play.runners()):
                await asyncio.sleep(0.02)
        await play.ended(await play.create("say one"))
        assert not runner.task.done()


# Placement.


async def test_a_session_stays_with_the_host_that_has_its_workspace_and_transcript(play: Play) -> None:
    one, two = ScriptedProvider(), ScriptedProvider()
    async with AsyncExitStack() as first:
        await first.enter_async_context(play.runner("one", one, host="h1"))
        name = await play.create("say one")
        await play.ended(name)
        await first.enter_async_context(play.runner("two", two, host="h2"))
        await play.stop(name)
        await play.until(name, is_free)
        await play.turn(name, "say two")
        await play.ended(name, 2)
        assert (len(one.drivers), len(two.drivers)) == (2, 0)
        first_runners = {event.runner for event in await play.events(name, "turn_started")}
        assert all(runner.startswith("one-") for runner in first_runners)


async def test_a_session_waits_for_the_host_that_has_it_and_goes_on_when_it_is_back(play: Play) -> None:
    async with play.runner("two", ScriptedProvider(), host="h2"):
        async with play.runner("one", host="h1"):
            name = await play.create("say one", runner_labels={}, directory="")
            state = await play.until(name, lambda state: state.session.host)
            host = state.session.host
            await play.ended(name)
        if host == "h2":
            await play.stop(name)
        else:
            await play.turn(name, "say two")
            await asyncio.sleep(0)
            assert await waiting_on(play, name) == s.WAITING_ON_RUNNER
            async with play.runner("again", host="h1"):
                await play.ended(name, 2, seconds=10)


async def test_a_session_goes_to_the_host_that_has_its_workspace(play: Play) -> None:
    one, two = ScriptedProvider(), ScriptedProvider()
    here = play.folder / "work" / "here"
    here.mkdir(parents=True)
    async with play.runner("one", one, host="h1"), play.runner("two", two, host="h2", runner_labels={"on": "two"}):
        first = await play.create("say one", directory=str(here), runner_labels={"on": "two"})
        await play.ended(first)
        assert (await play.state(first)).session.host == "h2"
        async with asyncio.timeout(10):
            while not any("here" in runner.workspaces for runner in await play.runners()):
                await asyncio.sleep(0.02)
        for _ in range(3):
            name = await play.create("say two", workspace="here")
            await play.ended(name)
            assert (await play.state(name)).session.host == "h2"
        assert one.drivers == []
        assert {spec.workspace for spec in two.specs} == {here.resolve()}


@pytest.mark.parametrize("labels", [{"gpu": "yes"}, {"gpu": "yes", "os": "linux"}])
async def test_labels_choose_the_runner_also_among_those_of_one_host(play: Play, labels: dict[str, str]) -> None:
    plain, gpu = ScriptedProvider(), ScriptedProvider()
    async with (
        play.runner("plain", plain),
        play.runner("gpu", gpu, runner_labels={"gpu": "yes", "os": "linux"}),
    ):
        names = [await play.create("say one", runner_labels=labels) for _ in range(4)]
        for name in names:
            await play.ended(name)
        assert (len(plain.specs), len(gpu.specs)) == (0, 4)


async def test_a_session_without_a_fitting_runner_waits_and_starts_when_one_appears(play: Play) -> None:
    async with play.runner("plain"):
        name = await play.create("say one", runner_labels={"gpu": "yes"})
        assert await waiting_on(play, name) == s.WAITING_ON_RUNNER
        async with play.runner("gpu", runner_labels={"gpu": "yes"}):
            await play.ended(name, seconds=10)
            state = await play.state(name)
            assert state.session.waiting_on == s.WAITING_ON_UNSPECIFIED


async def test_a_session_that_a_gateway_forgot_is_found_by_the_indexer(indexed_play: Play) -> None:
    """The gateway that took the command is gone with its memory; the sweep of another finds the session."""
    play = indexed_play
    async with gateways.gateway(play.house.settings, play.folder / "first", heartbeat_ttl_s=1) as first:
        shared, play.house.gateway = play.house.gateway, first
        try:
            name = await play.create("say one")
        finally:
            play.house.gateway = shared
    async with play.runner():
        await play.ended(name, seconds=20)


# Drain.


async def test_a_drain_gives_running_turns_their_time_and_the_queue_to_the_next_runner(play: Play) -> None:
    async with AsyncExitStack() as around:
        first = await play.process(around, "first", PODIUM_DRAIN_S="20")
        name = await play.create("say one\npause 1\nsay two")
        queued = await play.turn(name, "say three")
        await play.says(name, "one")
        first.send(signal.SIGTERM)
        await first.said("draining")
        late = await play.create("say late")
        (ended,) = await play.ended(name)
        assert ended.turn_ended.status == s.TURN_STATUS_COMPLETED
        async with asyncio.timeout(20):
            assert await first.process.wait() == 0
        assert is_free(await play.state(name))
        assert not await play.events(late, "runner_attached")
        async with play.runner("second"):
            _, second = await play.ended(name, 2, seconds=10)
            assert second.turn_id == queued
            await play.ended(late, seconds=10)


async def test_a_turn_that_outlasts_the_drain_is_lost_and_the_queue_is_not(play: Play) -> None:
    async with play.runner("first", drain_s=0.3, slots=1) as first:
        (name,) = await hanging(play)
        waits = await play.create("say waits")
        queued = await play.turn(name, "say after")
        async with play.runner("second"):
            first.stop.set()
            async with asyncio.timeout(10):
                await first.task
            lost, completed = await play.ended(name, 2)
            assert (lost.turn_ended.status, lost.turn_ended.problem.code) == (s.TURN_STATUS_LOST, "RUNNER_DRAINED")
            assert (completed.turn_id, completed.turn_ended.status) == (queued, s.TURN_STATUS_COMPLETED)
            await play.ended(waits)


async def test_a_drain_puts_questions_off(play: Play) -> None:
    async with play.runner("first", drain_s=20) as first:
        name = await play.create("ask t1")
        state = await play.until(name, lambda state: state.approvals)
        first.stop.set()
        await play.until(name, is_free)
        async with asyncio.timeout(10):
            await first.task
    async with play.runner("second"):
        await play.resolve(name, state.approvals[0].id)
        (ended,) = await play.ended(name)
        assert ended.turn_ended.status == s.TURN_STATUS_COMPLETED


async def test_a_runner_can_be_told_to_stop_while_it_attaches(play: Play) -> None:
    names = []
    for round_ in range(4):
        async with play.runner(f"r{round_}") as runner:
            names += [await play.create("say one") for _ in range(3)]
            await asyncio.sleep(0.005 * round_)
            runner.stop.set()
            async with asyncio.timeout(20):
                await runner.task
    async with play.runner("last"):
        for name in names:
            await play.ended(name, seconds=20)
            attached = [event.runner_attached.epoch for event in await play.events(name, "runner_attached")]
            assert attached == list(range(1, len(attached) + 1))
            assert len(await play.events(name, "turn_started")) == 1


# Takeovers by kill -9.


@pytest.mark.timeout(240)
@pytest.mark.parametrize("kills", [3, pytest.param(10, marks=pytest.mark.chaos)])
async def test_killed_runners_leave_no_turn_stuck_and_no_revision_out(play: Play, kills: int) -> None:
    names: list[str] = []
    async with AsyncExitStack() as around:
        running = await play.process(around, "k", PODIUM_SLOTS="16")
        for _ in range(kills):
            following = asyncio.create_task(play.process(around, "k", PODIUM_SLOTS="16"))
            names += [await play.create("many 40 x 500\npause 0.2\nmany 40 x 500") for _ in range(2)]
            await play.turn(names[-1], "say queued")
            await asyncio.sleep(random.uniform(0, 0.5))
            await running.kill()
            running = await following
        for number, name in enumerate(names):
            ends = await play.ended(name, 1 + number % 2, seconds=60)
            assert {event.turn_ended.status for event in ends} <= {s.TURN_STATUS_LOST, s.TURN_STATUS_COMPLETED}
            state = await play.until(name, lambda state: not runs(state))
            assert not state.queue
