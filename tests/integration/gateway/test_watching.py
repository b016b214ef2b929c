"""Watching over gRPC: no gap, no repeat, whoever joins whenever, whatever is lost on the way."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway import watch
from podium.drafts import Draft
from podium.eventlog import EventLog, SessionWriter
from podium.names import session_id
from podium.v1 import event_pb2 as e
from podium.v1 import runner_pb2
from podium.v1 import session_pb2 as s
from podium.v1 import session_service_pb2 as api
from podium.v1.content_pb2 import ContentBlock, TextBlock
from tests.integration.gateway.test_commands import Owner, created, fresh, refused, said
from tests.support.gateways import Gateway


def message(text: str) -> Draft:
    return Draft(e.Message(role=e.ROLE_ASSISTANT, content=[ContentBlock(text=TextBlock(text=text))]), turn_id="t")


async def into(seen: list[int], call: Any) -> None:
    """Read a watch to its end."""
    async for response in call:
        seen += [event.revision for event in response.events]


async def revisions(gateway: Gateway, name: str, *, after: int = 0, until: int) -> list[int]:
    """Watch until revision `until` and return all that was seen."""
    seen: list[int] = []
    call = gateway.sessions.WatchSession(api.WatchSessionRequest(session=name, after_revision=after))
    async for response in call:
        seen += [event.revision for event in response.events]
        if seen and seen[-1] >= until:
            call.cancel()
            return seen
    return seen


@asynccontextmanager
async def owned(gateway: Gateway, log: EventLog) -> AsyncIterator[tuple[str, SessionWriter]]:
    name = (await created(gateway)).session.name
    async with await Owner(log).attach(name) as writer:
        yield name, writer


async def test_watchers_that_join_at_any_time_see_every_event_once(gateway: Gateway, runner_log: EventLog) -> None:
    total = 2000
    async with owned(gateway, runner_log) as (name, writer), asyncio.TaskGroup() as tasks:

        async def say() -> None:
            for number in range(total):
                await writer.write([message(f"{number}")])
                if number % 50 == 0:
                    await asyncio.sleep(0)

        async def watch_and_rejoin(seed: int) -> list[int]:
            rng = random.Random(seed)
            seen: list[int] = []
            while not seen or seen[-1] < total + 2:
                await asyncio.sleep(rng.random() / 20)
                newest = (await gateway.sessions.GetSession(api.GetSessionRequest(name=name))).session.revision
                until = min(total + 2, max(newest, (seen[-1] if seen else 0) + rng.randint(1, 400)))
                seen += await revisions(gateway, name, after=seen[-1] if seen else 0, until=until)
            return seen

        watchers = [tasks.create_task(watch_and_rejoin(seed)) for seed in range(8)]
        await say()
        await writer.flush()
    for watcher in watchers:
        assert watcher.result() == list(range(1, total + 3))


async def test_a_resume_point_within_an_append_is_exact(gateway: Gateway, runner_log: EventLog) -> None:
    async with owned(gateway, runner_log) as (name, writer):
        await writer.write([message(f"{number}") for number in range(20)])
        await writer.flush()
    assert await revisions(gateway, name, after=7, until=22) == list(range(8, 23))


async def test_live_messages_that_were_lost_are_read_from_the_log(gateway: Gateway, runner_log: EventLog) -> None:
    """A hole between two live messages sends the watcher to the log: here the fan-out drops every second append."""
    async with owned(gateway, runner_log) as (name, writer):
        original, count = watch._Inbox.put, 0

        def forgetful(inbox: Any, stored: Any) -> None:
            nonlocal count
            count += 1
            if count % 2:
                original(inbox, stored)

        watching = asyncio.create_task(revisions(gateway, name, until=202))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(watch._Inbox, "put", forgetful)
            for number in range(200):
                await writer.write([message(f"{number}")])
                await writer.flush()
            # The last one may be the one that was dropped: the next that arrives shows the hole.
            patch.undo()
            await writer.write([message("last")])
        seen = await asyncio.wait_for(watching, 20)
    assert seen[:202] == list(range(1, 203))


async def test_a_heartbeat_says_where_live_begins(gateway: Gateway) -> None:
    name = (await created(gateway, "hello")).session.name
    call = gateway.sessions.WatchSession(api.WatchSessionRequest(session=name, heartbeat_s=1))
    beats = []
    async for response in call:
        if response.HasField("heartbeat"):
            beats.append(response.heartbeat)
        if len(beats) == 2:
            call.cancel()
            break
    assert [beat.newest for beat in beats] == [2, 2]
    assert all(beat.live for beat in beats)


async def test_deltas_are_shown_to_those_who_ask(gateway: Gateway, runner_log: EventLog) -> None:
    name = (await created(gateway, "hello")).session.name
    call = gateway.sessions.WatchSession(api.WatchSessionRequest(session=name, include_deltas=True))
    delta = runner_pb2.Delta(session_id=session_id(name), turn_id="t", item_id="i", text="Hel" * 100, offset=0)
    async for response in call:
        if response.deltas:
            assert response.deltas[0] == delta
            call.cancel()
            break
        # Not stored: said again until the watch has it.
        await runner_log.publish_delta(delta)


async def test_a_point_in_the_future_and_a_session_that_is_not_there_are_errors(gateway: Gateway) -> None:
    name = (await created(gateway)).session.name
    error = await refused(
        anext(aiter(gateway.sessions.WatchSession(api.WatchSessionRequest(session=name, after_revision=9))))
    )
    assert error.reason == "REVISION_AHEAD"
    assert error.metadata["newest_revision"] == "1"
    missing = api.WatchSessionRequest(session=f"sessions/{fresh()}")
    assert (await refused(anext(aiter(gateway.sessions.WatchSession(missing))))).reason == "SESSION_NOT_FOUND"


async def test_a_watcher_that_does_not_read_is_ended_with_its_resume_point(
    gateway: Gateway, runner_log: EventLog
) -> None:
    async with owned(gateway, runner_log) as (name, writer):
        call = gateway.sessions.WatchSession(api.WatchSessionRequest(session=name))
        seen = [event.revision for event in (await anext(aiter(call))).events]
        for _ in range(400):
            await writer.write([message("x" * 60_000)])
        await writer.flush()
        error = await refused(into(seen, call))
    assert error.reason == "WATCHER_TOO_SLOW"
    assert seen == list(range(1, int(error.metadata["resume_revision"]) + 1))
    rest = await revisions(gateway, name, after=seen[-1], until=402)
    assert seen + rest == list(range(1, 403))


async def test_all_sessions_are_watched_from_a_position_and_filtered(gateway: Gateway) -> None:
    first = await created(gateway, "one", workspace="amarillo", labels={"team": "a"})
    await created(gateway, "two", workspace="blanco")
    third = await created(gateway, "three", workspace="amarillo", labels={"team": "b"})
    request = api.WatchEventsRequest(
        after_position=first.position - 1, workspace="amarillo", labels={"team": "b"}, kinds=["turn_requested"]
    )
    async for response in gateway.sessions.WatchEvents(request):
        if response.events:
            assert [event.session_id for event in response.events] == [session_id(third.session.name)]
            assert response.position == third.position
            break


async def test_run_turn_waits_for_the_end_and_returns_the_answer(gateway: Gateway, runner_log: EventLog) -> None:
    async with owned(gateway, runner_log) as (name, writer):
        request = api.RunTurnRequest(request_id=fresh(), session=name, turn=said("what is two and two?"))
        waiting = asyncio.ensure_future(gateway.sessions.RunTurn(request))
        while not writer.state.queue:
            await asyncio.sleep(0.01)
        turn_id = writer.state.queue[0].id
        sub_agent = Draft(message("sub-agent").body, turn_id=turn_id, parent_tool_use_id="task")
        await writer.write(
            [
                Draft(e.TurnStarted(model="opus"), turn_id=turn_id),
                Draft(message("four").body, turn_id=turn_id),
                sub_agent,
                Draft(e.Usage(uncached_input_tokens=10, cache_read_tokens=5, output_tokens=3), turn_id=turn_id),
                Draft(e.TurnEnded(status=s.TURN_STATUS_COMPLETED), turn_id=turn_id),
            ]
        )
        answer = await asyncio.wait_for(waiting, 10)
    assert answer.final_text == "four"
    assert answer.turn.status == s.TURN_STATUS_COMPLETED
    assert (answer.turn.tokens.input_tokens, answer.turn.tokens.output_tokens) == (15, 3)
    # Asked again with the same id it gives the same answer, from the log.
    assert await gateway.sessions.RunTurn(request) == answer


async def test_run_turn_returns_a_long_answer_whole(gateway: Gateway, runner_log: EventLog) -> None:
    text, structured = "long " * 40_000, json.dumps({"items": ["x" * 100] * 1000})
    answer = await created(gateway)
    name = answer.session.name
    async with await Owner(runner_log).attach(name) as writer:
        request = api.RunTurnRequest(request_id=fresh(), session=name, turn=said("go on"))
        waiting = asyncio.ensure_future(gateway.sessions.RunTurn(request))
        while not writer.state.queue:
            await asyncio.sleep(0.01)
        turn_id = writer.state.queue[0].id
        ended = e.TurnEnded(status=s.TURN_STATUS_COMPLETED, structured_output_json=structured)
        bodies = (e.TurnStarted(), message(text).body, ended)
        await writer.write([Draft(body, turn_id=turn_id) for body in bodies])
        outcome = await asyncio.wait_for(waiting, 10)
    assert outcome.final_text == text
    assert outcome.structured_output_json == structured
