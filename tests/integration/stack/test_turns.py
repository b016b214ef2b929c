"""Turns on a real log and gateway, with a client that does as its prompt says: start, end, stop, fail, go on."""

import asyncio
from typing import Any

import pytest

from podium.eventlog import Role
from podium.v1 import event_pb2 as e
from podium.v1 import session_pb2 as s
from podium.v1 import session_service_pb2 as api
from runner import session_host
from tests.support import gateways
from tests.support.house import Play, fresh, is_free, runs, until
from tests.support.scripted_provider import ScriptedDriver

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(60)]

FOREVER = asyncio.Event


async def for_ever(_: Any) -> None:
    await asyncio.Event().wait()


async def test_a_turn_runs_and_its_client_serves_the_next_one(play: Play) -> None:
    async with play.runner():
        name = await play.create("say hello")
        await play.turn(name, "say again")
        ends = await play.ended(name, 2)
        assert [event.turn_ended.status for event in ends] == [s.TURN_STATUS_COMPLETED] * 2
        assert await play.texts(name) == ["hello", "again"]
        assert len(play.provider.drivers) == 1
    assert play.provider.open_drivers == []


async def test_a_turn_says_with_which_model_and_effort_it_ran(play: Play) -> None:
    async with play.runner():
        name = await play.create("say one", model="opus", effort="low")
        await play.turn(name, "say two", model="haiku")
        await play.turn(name, "say three", effort="high")
        await play.ended(name, 3)
        started = [event.turn_started for event in await play.events(name, "turn_started")]
        assert [(one.model, one.effort, one.resumed) for one in started] == [
            ("opus", "low", False),
            ("haiku", "low", True),
            ("haiku", "high", True),
        ]
        (driver,) = play.provider.drivers
        assert [(turn.model, turn.effort) for turn in driver.turns] == [
            ("opus", "low"),
            ("haiku", "low"),
            ("haiku", "high"),
        ]


async def test_a_permission_mode_changes_between_turns_in_the_same_client(play: Play) -> None:
    async with play.runner():
        name = await play.create("say one")
        await play.ended(name)
        update = api.UpdateSessionRequest(request_id=fresh(), session=s.Session(permission_mode=s.PERMISSION_MODE_PLAN))
        update.session.name = name
        await play.sessions.UpdateSession(update)
        await play.turn(name, "say two")
        await play.ended(name, 2)
        (driver,) = play.provider.drivers
        assert driver.spec.permission_mode == s.PERMISSION_MODE_DEFAULT
        assert driver.modes == [s.PERMISSION_MODE_PLAN]


async def test_a_cancelled_turn_never_starts(play: Play) -> None:
    async with play.runner():
        name = await play.create("hang")
        second = await play.turn(name, "say second")
        third = await play.turn(name, "say third")
        await play.until(name, runs)
        cancel = api.CancelTurnRequest(request_id=fresh(), session=name, turn_id=second)
        assert (await play.sessions.CancelTurn(cancel)).cancelled
        await play.interrupt(name)
        await play.ended(name, 2)
        assert await play.texts(name) == ["hanging", "third"]
        started = [event.turn_id for event in await play.events(name, "turn_started")]
        assert second not in started
        assert third in started


async def test_cancelling_and_starting_at_once_has_one_winner(play: Play) -> None:
    async with play.runner(slots=8):

        async def race() -> None:
            name = await play.create()
            turn_id = await play.turn(name, "say started")
            cancel = api.CancelTurnRequest(request_id=fresh(), session=name, turn_id=turn_id)
            was_cancelled = (await play.sessions.CancelTurn(cancel)).cancelled
            if not was_cancelled:
                await play.ended(name)
            await play.until(name, lambda state: not runs(state) and not state.queue)
            started = await play.events(name, "turn_started")
            assert len(started) + len(await play.events(name, "turn_cancelled")) == 1
            assert was_cancelled == (not started)

        await asyncio.gather(*(race() for _ in range(12)))


async def test_an_interrupt_while_the_client_opens_prevents_the_prompt(play: Play) -> None:
    opening, may_open = asyncio.Event(), asyncio.Event()

    async def slowly(_: Any) -> None:
        opening.set()
        await may_open.wait()

    play.provider.on_open = slowly
    async with play.runner() as runner:
        name = await play.create("say never")
        await opening.wait()
        await play.interrupt(name, "no")
        (host,) = runner.service._hosts.values()
        await until(lambda: host.state.turn.interrupt_requested)
        may_open.set()
        (ended,) = await play.ended(name)
        assert (ended.turn_ended.status, ended.turn_ended.reason) == (s.TURN_STATUS_INTERRUPTED, "no")
        assert await play.texts(name) == []
        (driver,) = play.provider.drivers
        assert driver.turns == []
        await play.turn(name, "say after")
        await play.ended(name, 2)
        assert await play.texts(name) == ["after"]


async def test_an_interrupt_ends_a_client_that_hangs_while_it_opens(play: Play) -> None:
    play.provider.on_open = for_ever
    async with play.runner(interrupt_grace_s=0.2):
        name = await play.create("say never")
        await until(lambda: play.provider.specs)
        await play.interrupt(name)
        (ended,) = await play.ended(name, seconds=5)
        assert ended.turn_ended.status == s.TURN_STATUS_INTERRUPTED
        play.provider.on_open = lambda _: asyncio.sleep(0)
        await play.turn(name, "say after")
        await play.ended(name, 2)
        assert await play.texts(name) == ["after"]


async def test_a_client_that_never_comes_up_ends_the_turn(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_host, "OPEN_DEADLINE_S", 0.2)
    play.provider.on_open = for_ever
    async with play.runner():
        name = await play.create("say never")
        (ended,) = await play.ended(name, seconds=5)
        assert ended.turn_ended.problem.code == "RUNNER_FAULT"


@pytest.mark.parametrize("hangs", [False, True], ids=["is deaf", "hangs"])
async def test_a_client_that_ignores_an_interrupt_is_ended(play: Play, hangs: bool) -> None:  # noqa: FBT001
    play.provider.interrupt_hangs = hangs
    async with play.runner(interrupt_grace_s=0.3):
        name = await play.create("hang deaf")
        await play.says(name, "hanging")
        await play.turn(name, "say after")
        await play.interrupt(name, "enough")
        first, second = await play.ended(name, 2, seconds=10)
        assert (first.turn_ended.status, first.turn_ended.reason) == (s.TURN_STATUS_INTERRUPTED, "enough")
        assert second.turn_ended.status == s.TURN_STATUS_COMPLETED
        assert [driver.closes for driver in play.provider.drivers] == [1, 0]


async def test_an_interrupt_of_an_ended_turn_does_not_touch_the_next(play: Play) -> None:
    async with play.runner(interrupt_grace_s=0.2):
        name = await play.create("hang")
        await play.says(name, "hanging")
        await play.turn(name, "pause 0.6\nsay second")
        await play.interrupt(name)
        first, second = await play.ended(name, 2)
        assert first.turn_ended.status == s.TURN_STATUS_INTERRUPTED
        assert second.turn_ended.status == s.TURN_STATUS_COMPLETED, second
        assert (await play.interrupt(name)).effect == api.INTERRUPT_EFFECT_NOTHING


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ("raise", "RUNNER_FAULT"),
        ("garbage", "RUNNER_FAULT"),
        ("running", "RUNNER_FAULT"),
        ("deferred", "RUNNER_FAULT"),
        ("emit", "RUNNER_FAULT"),
        ("typed", "RATE_LIMITED"),
    ],
)
async def test_a_turn_whose_driver_breaks_fails_and_the_session_goes_on(play: Play, how: str, code: str) -> None:
    async with play.runner():
        name = await play.create(f"fail {how}")
        await play.turn(name, "say after")
        first, second = await play.ended(name, 2)
        assert first.turn_ended.status == s.TURN_STATUS_FAILED
        assert first.turn_ended.problem.code == code
        assert second.turn_ended.status == s.TURN_STATUS_COMPLETED
        assert [driver.closes for driver in play.provider.drivers] == [1, 0]


@pytest.mark.parametrize("how", ["cancelled", "draft"])
async def test_a_driver_that_breaks_its_host_loses_one_turn_and_no_other_session(play: Play, how: str) -> None:
    async with play.runner() as runner:
        other = await play.create("hang")
        name = await play.create(f"fail {how}")
        (lost,) = await play.ended(name)
        assert lost.turn_ended.status in (s.TURN_STATUS_LOST, s.TURN_STATUS_FAILED)
        await play.turn(name, "say after")
        await play.ended(name, 2)
        await play.interrupt(other)
        (ended,) = await play.ended(other)
        assert ended.turn_ended.status == s.TURN_STATUS_INTERRUPTED
        assert not runner.task.done()


async def test_a_client_that_hangs_while_it_closes_is_left_to_the_launcher(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.providers.port.CLOSE_DEADLINE_S", 0.2)
    play.provider.on_close = for_ever
    async with play.runner():
        name = await play.create("say one")
        await play.ended(name)
        await play.stop(name)
        await play.until(name, is_free)
        await play.turn(name, "say two")
        await play.ended(name, 2)
        assert len(play.provider.drivers) == 2


async def test_a_client_that_breaks_while_it_closes_keeps_its_outcome(play: Play) -> None:
    async def breaks(_: ScriptedDriver) -> None:
        raise OSError("no such process")

    play.provider.on_close = breaks
    async with play.runner():
        name = await play.create("fail typed")
        (ended,) = await play.ended(name)
        assert ended.turn_ended.problem.code == "RATE_LIMITED"
        await play.turn(name, "say after")
        await play.ended(name, 2)


async def test_stopping_interrupts_drops_the_queue_and_ends_the_client(play: Play) -> None:
    async with play.runner():
        name = await play.create("hang")
        await play.turn(name, "say never")
        await play.says(name, "hanging")
        stopped = await play.stop(name)
        assert len(stopped.cancelled_turn_ids) == 1
        state = await play.until(name, is_free)
        assert not state.stop_requested
        assert play.provider.open_drivers == []
        await play.turn(name, "say after")
        await play.ended(name, 2)
        assert await play.texts(name) == ["hanging", "after"]


async def test_stopping_an_idle_session_ends_its_client_and_the_next_turn_resumes(play: Play) -> None:
    async with play.runner():
        name = await play.create("say one")
        await play.ended(name)
        await play.stop(name)
        await play.until(name, is_free)
        assert play.provider.open_drivers == []
        await play.turn(name, "say two")
        await play.ended(name, 2)
        assert play.provider.specs[-1].provider_session_id


async def test_stopping_a_session_that_nobody_owns_leaves_nothing_behind(play: Play) -> None:
    name = await play.create("say queued")
    await play.stop(name)
    state = await play.state(name)
    assert not state.stop_requested
    assert not state.queue
    turn_id = await play.turn(name, "say after")
    async with play.runner():
        (ended,) = await play.ended(name)
        assert ended.turn_id == turn_id


async def test_a_turn_asked_for_while_the_client_is_being_stopped_runs(play: Play) -> None:
    """The gateway sees a living owner, which is about to leave: nobody may forget the turn."""
    closing, may_close = asyncio.Event(), asyncio.Event()

    async def slowly(_: ScriptedDriver) -> None:
        closing.set()
        await may_close.wait()

    play.provider.on_close = slowly
    async with play.runner():
        name = await play.create("say one")
        await play.ended(name)
        await play.stop(name)
        await closing.wait()
        await play.turn(name, "say two")
        may_close.set()
        await play.ended(name, 2, seconds=10)


async def test_a_turn_that_waits_for_a_slot_is_stopped_at_once(play: Play) -> None:
    async with play.runner(slots=1):
        idle = await play.create("say one")
        await play.ended(idle)
        busy = await play.create("hang")
        await play.says(busy, "hanging")
        await play.turn(idle, "say waits")
        await until(lambda: play.provider.drivers)
        await play.stop(idle)
        await play.until(idle, is_free, seconds=5)
        assert await play.texts(idle) == ["one"]
        assert runs(await play.state(busy))


async def test_a_prompt_whose_content_is_gone_fails_the_turn(play: Play) -> None:
    name = await play.create("say " + "x" * 200_000)
    (requested,) = await play.events(name, "turn_requested")
    blob = requested.turn_requested.prompt[0].full
    assert blob.object
    async with gateways.connected(play.house.settings, Role.OPERATOR) as log:
        await log.link.api("STREAM.PURGE.OBJ_blobs")
    async with play.runner():
        (ended,) = await play.ended(name)
        assert ended.turn_ended.status == s.TURN_STATUS_FAILED
        assert ended.turn_ended.problem.code == "PROMPT_LOST"
        await play.turn(name, "say after")
        await play.ended(name, 2)


async def test_a_long_prompt_reaches_the_client_whole(play: Play) -> None:
    async with play.runner():
        name = await play.create("say " + "x" * 200_000)
        await play.ended(name)
        (driver,) = play.provider.drivers
        assert driver.turns[0].prompt[0].text.text == "say " + "x" * 200_000


async def test_no_task_is_left_of_sessions_that_ended(play: Play) -> None:
    async with play.runner() as runner:
        before = len(asyncio.all_tasks())
        for prompt in ("say one", "fail raise", "fail garbage", "ask a b"):
            name = await play.create(prompt)
            if prompt == "ask a b":
                await play.until(name, lambda state: len(state.approvals) == 2)
            else:
                await play.ended(name)
            await play.stop(name)
            await play.until(name, is_free)
        await until(lambda: not runner.service._hosts)
        await until(lambda: len(asyncio.all_tasks()) <= before)


async def test_what_a_turn_says_belongs_to_it(play: Play) -> None:
    async with play.runner():
        name = await play.create("say one")
        await play.ended(name)
        turn_ids = {event.turn_id for event in await play.events(name, "message")}
        (started,) = await play.events(name, "turn_started")
        assert turn_ids == {started.turn_id}
        prompts = [event.message for event in await play.events(name, "message") if event.message.role == e.ROLE_USER]
        assert [prompt.content[0].text.text for prompt in prompts] == ["say one"]
