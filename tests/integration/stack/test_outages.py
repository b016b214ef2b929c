"""The log is away, slow, or has another owner while a turn runs."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from podium.eventlog import Role, attach
from podium.names import session_id
from podium.v1 import event_pb2 as e
from podium.v1 import session_pb2 as s
from runner import service
from tests.support import gateways
from tests.support.house import House, Play, house, runs, until

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(90)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def away(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """A house of its own: its NATS server is killed."""
    async with house(tmp_path_factory.mktemp("away")) as running:
        yield running


@pytest.fixture
def play(away: House, tmp_path: Path) -> Play:
    return Play(away, tmp_path)


async def back(play: Play, name: str) -> None:
    """Wait until the log can be read again."""
    async with asyncio.timeout(30):
        while True:
            try:
                await play.state(name)
            except Exception:  # noqa: BLE001 - whatever it says while it is away
                await asyncio.sleep(0.05)
            else:
                return


async def test_a_turn_goes_on_over_an_outage_and_nothing_is_lost_or_doubled(play: Play) -> None:
    async with play.runner():
        name = await play.create("say begin\nmany 300 x 2000\npause 0.5\nmany 300 x 2000\nsay end")
        await play.says(name, "begin")
        await play.house.server.kill()
        await asyncio.sleep(1.5)  # longer than a heartbeat lives
        await play.house.server.start()
        await back(play, name)
        (ended,) = await play.ended(name)
        assert ended.turn_ended.status == s.TURN_STATUS_COMPLETED
        numbers = [text.split()[0] for text in await play.texts(name) if text[0].isdigit()]
        assert numbers == [str(number) for number in range(300)] * 2
        assert len(await play.events(name, "runner_attached")) == 1


async def test_a_turn_that_is_asked_for_right_after_an_outage_runs(play: Play) -> None:
    async with play.runner():
        name = await play.create("say one")
        await play.ended(name)
        await play.house.server.kill()
        await play.house.server.start()
        await back(play, name)
        await play.turn(name, "say two")
        await play.ended(name, 2)


async def test_an_answer_read_during_a_hiccup_does_not_cost_the_turn(play: Play) -> None:
    async with play.runner():
        name = await play.create("ask t1\nsay done")
        state = await play.until(name, lambda state: state.approvals)
        await play.resolve(name, state.approvals[0].id)
        await play.house.server.kill()
        await asyncio.sleep(0.3)
        await play.house.server.start()
        await back(play, name)
        (ended,) = await play.ended(name)
        assert ended.turn_ended.status == s.TURN_STATUS_COMPLETED
        assert await play.texts(name) == ["t1:APPROVAL_OUTCOME_ALLOWED:", "done"]


async def test_after_too_long_an_outage_the_client_is_ended_and_the_session_goes_on(play: Play) -> None:
    async with play.runner(outage_s=1.0) as runner:
        name = await play.create("say begin\nmany 2000 x 2000\nhang")
        await play.says(name, "begin")
        await play.house.server.kill()
        await until(lambda: not runner.service._hosts)
        # Nobody could tell the log; the client is gone all the same.
        assert play.provider.open_drivers == []
        await play.house.server.start()
        await back(play, name)
        (lost,) = await play.ended(name)
        assert (lost.turn_ended.status, lost.turn_ended.problem.code) == (s.TURN_STATUS_LOST, "RUNNER_LOST")
        await play.turn(name, "say after")
        await play.ended(name, 2)
        epochs = [event.runner_attached.epoch for event in await play.events(name, "runner_attached")]
        assert epochs == [1, 2]


async def test_a_drain_while_the_log_is_away_is_bounded_and_leaves_no_client(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "ABANDON_DEADLINE_S", 1.0)
    async with play.runner() as runner:
        name = await play.create("hang")
        await play.says(name, "hanging")
        await play.house.server.kill()
        runner.stop.set()
        async with asyncio.timeout(25):
            await runner.task
        assert play.provider.open_drivers == []
        await play.house.server.start()
    await back(play, name)
    async with play.runner("next"):
        (lost,) = await play.ended(name)
        assert lost.turn_ended.status == s.TURN_STATUS_LOST


async def test_a_client_faster_than_the_log_is_held_up_at_the_budget(play: Play) -> None:
    limit = 256 * 1024
    async with play.runner(unacknowledged_bytes_max=limit) as runner:
        name = await play.create("say begin\nmany 2000 x 1000\nsay end")
        await play.says(name, "begin")
        play.house.server.signal(signal.SIGSTOP)
        try:
            (driver,) = play.provider.drivers
            await until(lambda: runner.shared.budget._waiting)
            before = driver.emitted
            assert runner.shared.budget.used <= limit
            for _ in range(20):
                await asyncio.sleep(0.01)
            assert driver.emitted == before
        finally:
            play.house.server.signal(signal.SIGCONT)
        await play.ended(name)
        assert len(await play.texts(name)) == 2002


async def test_a_runner_that_is_fenced_while_its_client_speaks_ends_it_and_writes_nothing(play: Play) -> None:
    async with play.runner() as runner:
        name = await play.create("many 1000000 x 100")
        await play.until(name, runs)
        await until(lambda: play.provider.drivers and play.provider.drivers[0].emitted > 50)

        def claim(state: s.SessionState | None) -> e.RunnerAttached:
            assert state is not None
            return e.RunnerAttached(runner="thief", host="h1", epoch=state.epoch + 1)

        await attach(play.house.log, session_id(name), claim, clock=gateways.CLOCK)
        await until(lambda: not runner.service._hosts)
        assert play.provider.open_drivers == []
        events = await play.events(name)
        taken = next(event.revision for event in events if event.runner == "thief")
        assert not [event for event in events if event.revision > taken and event.runner == runner.id]


async def test_deltas_reach_a_watcher_while_the_turn_speaks(play: Play) -> None:
    async with play.runner():
        name = await play.create()
        async with (
            gateways.connected(play.house.settings, Role.GATEWAY) as log,
            log.deltas(session_id(name)) as heard,
            asyncio.timeout(20),
        ):
            turn_id = await play.turn(name, "deltas 400")
            text = ""
            async for delta in heard:
                assert (delta.turn_id, delta.offset) == (turn_id, len(text))
                text += delta.text
                if len(text) > 200:
                    break
        await play.ended(name)
        (said,) = await play.texts(name)
        assert said.startswith(text)
