"""Questions of a turn: answered, put off, asked again, expired, and whose owner is lost."""

import asyncio
from contextlib import AsyncExitStack

import orjson
import pytest

from podium.eventlog import BlobStore
from podium.eventlog.content import LongContent
from podium.session import pending_approvals
from podium.v1 import provider_pb2
from podium.v1 import session_pb2 as s
from runner.questions import QUESTIONS_MAX
from tests.support import gateways
from tests.support.house import Play, is_free, runs

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(60)]

ALLOWED, DENIED, EXPIRED, ENDED = (
    s.APPROVAL_OUTCOME_ALLOWED,
    s.APPROVAL_OUTCOME_DENIED,
    s.APPROVAL_OUTCOME_EXPIRED,
    s.APPROVAL_OUTCOME_TURN_ENDED,
)
INTERRUPTS = s.DEADLINE_ACTION_INTERRUPT


async def asked(play: Play, name: str, how_many: int = 1) -> dict[str, str]:
    """Return the ids of the open questions by the call they are about, once there are so many."""
    state = await play.until(name, lambda state: len(state.approvals) >= how_many)
    return {approval.tool_use_id: approval.id for approval in state.approvals}


async def test_two_questions_at_once_are_answered_in_any_order(play: Play) -> None:
    async with play.runner():
        name = await play.create("ask t1 t2")
        ids = await asked(play, name, 2)
        await play.resolve(name, ids["t2"], allow=False, message="not that")
        await play.resolve(name, ids["t1"])
        (ended,) = await play.ended(name)
        assert ended.turn_ended.status == s.TURN_STATUS_COMPLETED
        assert await play.texts(name) == ["t1:APPROVAL_OUTCOME_ALLOWED: t2:APPROVAL_OUTCOME_DENIED:not that"]


async def test_a_question_nobody_answers_is_denied_at_its_deadline(play: Play) -> None:
    async with play.runner():
        name = await play.create("ask t1", approval_policy=s.ApprovalPolicy(deadline_s=1))
        (ended,) = await play.ended(name)
        assert ended.turn_ended.status == s.TURN_STATUS_COMPLETED
        (resolved,) = await play.events(name, "approval_resolved")
        assert resolved.approval_resolved.outcome == EXPIRED
        assert await play.texts(name) == ["t1:APPROVAL_OUTCOME_EXPIRED:nobody answered in time"]


async def test_a_deadline_may_interrupt_the_turn_instead(play: Play) -> None:
    policy = s.ApprovalPolicy(deadline_s=1, on_deadline=INTERRUPTS)
    async with play.runner():
        name = await play.create("ask t1\nhang", approval_policy=policy)
        (ended,) = await play.ended(name)
        assert ended.turn_ended.status == s.TURN_STATUS_INTERRUPTED
        (resolved,) = await play.events(name, "approval_resolved")
        assert resolved.approval_resolved.outcome == EXPIRED


@pytest.mark.parametrize("first", ["answer", "deferral"])
async def test_a_question_put_off_is_asked_again_by_a_new_client_and_answered_once(play: Play, first: str) -> None:
    async with play.runner(defer_after_s=0.3):
        name = await play.create("ask t1 t2\nsay done")
        ids = await asked(play, name, 2)
        if first == "answer":
            await play.resolve(name, ids["t1"])
        await play.until(name, lambda state: is_free(state) and state.turn.deferred)
        assert play.provider.open_drivers == []
        session = (await play.state(name)).session
        assert (session.status, session.waiting_on) == (s.SESSION_STATUS_RUNNING, s.WAITING_ON_APPROVAL)
        if first == "deferral":
            await play.resolve(name, ids["t1"])
            # One is still open: no client is started for it.
            assert is_free(await play.state(name))
        await play.resolve(name, ids["t2"], allow=False, message="no")
        (ended,) = await play.ended(name)
        assert ended.turn_ended.status == s.TURN_STATUS_COMPLETED
        assert await play.texts(name) == ["t1:APPROVAL_OUTCOME_ALLOWED: t2:APPROVAL_OUTCOME_DENIED:no", "done"]
        assert len(play.provider.drivers) == 2
        assert len(await play.events(name, "approval_resolved")) == 2
        assert len(await play.events(name, "turn_started")) == 1


async def test_an_answer_that_comes_while_the_question_is_put_off_is_not_lost(play: Play) -> None:
    closing, may_close = asyncio.Event(), asyncio.Event()

    async def slowly(_: object) -> None:
        closing.set()
        await may_close.wait()

    play.provider.on_close = slowly
    async with play.runner(defer_after_s=0.2):
        name = await play.create("ask t1\nsay done")
        ids = await asked(play, name)
        await closing.wait()
        await play.resolve(name, ids["t1"])
        may_close.set()
        (ended,) = await play.ended(name)
        assert ended.turn_ended.status == s.TURN_STATUS_COMPLETED
        assert await play.texts(name) == ["t1:APPROVAL_OUTCOME_ALLOWED:", "done"]


async def test_a_question_put_off_expires_at_its_deadline_without_any_process(indexed_play: Play) -> None:
    play = indexed_play
    async with play.runner(defer_after_s=0.2):
        name = await play.create("ask t1\nsay done", approval_policy=s.ApprovalPolicy(deadline_s=1))
        await play.until(name, lambda state: is_free(state) and state.turn.deferred)
        (ended,) = await play.ended(name)
        assert ended.turn_ended.status == s.TURN_STATUS_COMPLETED
        assert await play.texts(name) == ["t1:APPROVAL_OUTCOME_EXPIRED:nobody answered in time", "done"]


async def test_a_question_put_off_interrupts_its_turn_at_the_deadline_when_it_shall(indexed_play: Play) -> None:
    play = indexed_play
    policy = s.ApprovalPolicy(deadline_s=1, on_deadline=INTERRUPTS)
    async with play.runner(defer_after_s=0.2):
        name = await play.create("ask t1\nsay never", approval_policy=policy)
        await play.until(name, lambda state: is_free(state) and state.turn.deferred)
        (ended,) = await play.ended(name)
        assert ended.turn_ended.status == s.TURN_STATUS_INTERRUPTED
        assert ended.turn_ended.reason == "nobody answered in time"
        assert len(play.provider.drivers) == 1


async def test_a_put_off_turn_can_be_interrupted(play: Play) -> None:
    async with play.runner(defer_after_s=0.2):
        name = await play.create("ask t1\nsay never")
        await play.until(name, lambda state: is_free(state) and state.turn.deferred)
        await play.turn(name, "say after")
        await play.interrupt(name, "enough")
        first, second = await play.ended(name, 2)
        assert (first.turn_ended.status, first.turn_ended.reason) == (s.TURN_STATUS_INTERRUPTED, "enough")
        assert second.turn_ended.status == s.TURN_STATUS_COMPLETED


async def test_a_session_may_say_itself_when_its_questions_are_put_off(play: Play) -> None:
    async with play.runner(defer_after_s=300):
        name = await play.create("ask t1", approval_policy=s.ApprovalPolicy(defer_after_s=1))
        await play.until(name, lambda state: is_free(state) and state.turn.deferred)


async def test_a_provider_that_cannot_put_off_waits_on(play: Play) -> None:
    play.provider.capabilities = provider_pb2.Capabilities()
    async with play.runner(defer_after_s=0.1):
        name = await play.create("ask t1", approval_policy=s.ApprovalPolicy(deadline_s=1))
        (ended,) = await play.ended(name)
        assert ended.turn_ended.status == s.TURN_STATUS_COMPLETED
        assert not await play.events(name, "approval_deferred")


async def test_a_turn_that_ends_settles_its_open_questions(play: Play) -> None:
    async with play.runner():
        name = await play.create("ask t1 t2")
        await asked(play, name, 2)
        await play.interrupt(name)
        await play.ended(name)
        outcomes = [event.approval_resolved.outcome for event in await play.events(name, "approval_resolved")]
        assert outcomes == [ENDED, ENDED]
        assert not pending_approvals(await play.state(name))


async def test_a_turn_asks_at_most_so_many_questions_also_at_once(play: Play) -> None:
    ids = " ".join(f"t{number}" for number in range(QUESTIONS_MAX + 6))
    async with play.runner():
        name = await play.create(f"ask {ids}")
        state = await play.until(name, lambda state: len(state.approvals) >= QUESTIONS_MAX)
        assert len(await play.events(name, "approval_requested")) == QUESTIONS_MAX
        await asyncio.gather(*(play.resolve(name, approval.id) for approval in state.approvals))
        await play.ended(name)
        (driver,) = play.provider.drivers
        outcomes = [answer.outcome for answer in driver.answers]
        assert outcomes.count(ALLOWED) == QUESTIONS_MAX
        assert outcomes.count(DENIED) == 6


async def test_asking_twice_under_one_call_is_one_question(play: Play) -> None:
    async with play.runner():
        name = await play.create("ask t1\nask t1")
        ids = await asked(play, name)
        await play.resolve(name, ids["t1"])
        await play.ended(name)
        assert len(await play.events(name, "approval_requested")) == 1
        assert await play.texts(name) == ["t1:APPROVAL_OUTCOME_ALLOWED:"] * 2


async def test_a_long_input_is_asked_about_by_reference_and_found_whole(play: Play) -> None:
    async with play.runner():
        name = await play.create("ask_long 100000")
        state = await play.until(name, lambda state: state.approvals)
        (requested,) = await play.events(name, "approval_requested")
        assert requested.approval_requested.input_json == "{}"
        content = LongContent(BlobStore(play.house.log.link, gateways.CLOCK))
        whole = await content.back(requested.approval_requested)
        assert orjson.loads(whole.input_json) == {"command": "x" * 100_000}
        updated = '{"command": "' + "y" * 60_000 + '"}'
        await play.resolve(name, state.approvals[0].id, updated_input_json=updated)
        await play.ended(name)
        assert await play.texts(name) == [updated[:20]]


async def test_a_question_whose_owner_is_killed_ends_with_its_turn(play: Play) -> None:
    async with AsyncExitStack() as around:
        first = await play.process(around, "first")
        name = await play.create("ask t1")
        await asked(play, name)
        await first.kill()
        async with play.runner("second"):
            (ended,) = await play.ended(name)
        assert (ended.turn_ended.status, ended.turn_ended.problem.code) == (s.TURN_STATUS_LOST, "RUNNER_LOST")
        (resolved,) = await play.events(name, "approval_resolved")
        assert resolved.approval_resolved.outcome == s.APPROVAL_OUTCOME_OWNER_LOST


async def test_a_question_put_off_outlives_its_runner(play: Play) -> None:
    async with AsyncExitStack() as around:
        first = await play.process(around, "first", PODIUM_DEFER_AFTER_S="0.2")
        name = await play.create("ask t1\nsay done")
        ids = await asked(play, name)
        await play.until(name, lambda state: is_free(state) and state.turn.deferred)
        await first.kill()
        async with play.runner("second"):
            await play.resolve(name, ids["t1"])
            (ended,) = await play.ended(name)
        assert ended.turn_ended.status == s.TURN_STATUS_COMPLETED
        assert not runs(await play.state(name))
