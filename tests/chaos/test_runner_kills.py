"""Runners with the real Claude Code CLI are killed in mid-turn: sessions go on under the other, no turn ends twice."""

import asyncio
import contextlib
import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from podium import rpc
from podium.eventlog import Role
from podium.scripted_model import Pace, Reply, Script, ScriptedModel
from podium.v1 import content_pb2 as c
from podium.v1 import event_pb2 as e
from podium.v1 import session_pb2 as s
from podium.v1 import session_service_pb2 as api
from tests.integration.eventlog.rig import broken_promises
from tests.support.orders import Noted, Orders
from tests.support.processes import marked_processes
from tests.support.proof import wrong_numbers
from tests.support.stage import Client, Stage, stage, until

pytestmark = [pytest.mark.chaos, pytest.mark.claude, pytest.mark.timeout(1200)]

SEED, KILLS = 1, 20
SESSIONS, LOAD_SESSIONS, LOAD_EVENTS_PER_S = 3, 20, 1_200
RUNNERS = ("first", "second")
LIVE_S, DOWN_S = (0.2, 2.0), (0.0, 1.0)
PROGRESS_S_MAX = 90.0
# About a second of speech: most kills come in the middle of it.
SCRIPT = Script([Reply(text="One word after the other, slowly. " * 4, pace=Pace(piece_chars=4, delay_s=0.03))])


@dataclass
class Talk:
    """A client that asks for one turn after the other, and what became of them."""

    session: str
    asked: list[str] = field(default_factory=list)
    ended: list[e.Event] = field(default_factory=list)

    async def go_on(self, client: Client, stop: asyncio.Event) -> None:
        while not stop.is_set():
            request = api.StartTurnRequest(
                request_id=f"{self.session}-{len(self.asked)}",
                session=f"sessions/{self.session}",
                turn=api.TurnInput(prompt=[c.ContentBlock(text=c.TextBlock(text="Go on."))]),
            )
            started = await client.sessions.StartTurn(request)
            self.asked.append(started.turn_id)
            self.ended.append(await self._end(client, started))

    async def _end(self, client: Client, started: api.StartTurnResponse) -> e.Event:
        request = api.WatchSessionRequest(session=f"sessions/{self.session}", after_revision=started.revision)
        async for response in client.sessions.WatchSession(request):
            for event in response.events:
                if event.HasField("turn_ended") and event.turn_id == started.turn_id:
                    return event
        raise AssertionError("the watch ended")

    @property
    def completed(self) -> int:
        return sum(event.turn_ended.status == s.TURN_STATUS_COMPLETED for event in self.ended)


async def test_killed_runners_lose_turns_and_nothing_else(tmp_path: Path) -> None:
    random_ = random.Random(SEED)
    async with stage(tmp_path) as whole, ScriptedModel(SCRIPT) as model, whole.client() as client:
        await whole.gateway()
        for name in RUNNERS:
            await whole.runner(name, model.url)
        noted, loaded = await load(whole, client)
        talks = [Talk(session) for session in await client.make_sessions(SESSIONS, prefix="talk")]
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            for talk in talks:
                tasks.create_task(talk.go_on(client, stop))
            for _ in range(KILLS):
                await get_on(talks)
                await asyncio.sleep(random_.uniform(*LIVE_S))
                victim = whole.parts[random_.choice(await owners(client, talks) or RUNNERS)]
                await victim.kill()
                await asyncio.sleep(random_.uniform(*DOWN_S))
                await victim.start()
            await get_on(talks)
            stop.set()
        await whole.parts["load"].stop()
        for name in RUNNERS:
            await whole.parts[name].stop()
        assert [talk.session for talk in talks if marked_processes(talk.session)] == []
        lost = sum(len(talk.ended) - talk.completed for talk in talks)
        # Most kills met a running turn, else they proved little; each may cost one turn of each session, not more.
        assert KILLS // 2 <= lost <= KILLS * SESSIONS
        async with whole.connect(Role.GATEWAY) as log:
            for talk in talks:
                appends = [stored async for stored in log.history(talk.session)]
                assert broken_promises(appends) == []
                assert wrong_turns(talk, [event for stored in appends for event in stored.events]) == []
            for session in loaded:
                appends = [stored async for stored in log.history(session)]
                assert broken_promises(appends) == []
                assert wrong_numbers(session, appends, noted.read()) == []


async def load(whole: Stage, client: Client) -> tuple[Noted, list[str]]:
    """Have other sessions write all the time."""
    sessions = await client.make_sessions(LOAD_SESSIONS, prefix="load")
    noted = Noted(whole.folder / "ledger")
    await whole.load(Orders(sessions, events_per_s=LOAD_EVENTS_PER_S, batch=3, ledger=str(noted.path)))
    return noted, sessions


async def get_on(talks: list[Talk]) -> None:
    """Wait until every session has completed one turn more."""
    before = [talk.completed for talk in talks]

    async def further() -> bool:
        return all(talk.completed > count for talk, count in zip(talks, before, strict=True))

    await until(further, PROGRESS_S_MAX)


async def owners(client: Client, talks: list[Talk]) -> list[str]:
    """Return the names of the runners that have a session with a running turn."""
    found = []
    for talk in talks:
        with contextlib.suppress(rpc.CallFailed):
            got = await client.sessions.GetSession(api.GetSessionRequest(name=f"sessions/{talk.session}"))
            if got.running_turn_id:
                found.append(got.session.runner.rpartition("-")[0])
    return found


def wrong_turns(talk: Talk, events: list[e.Event]) -> list[str]:
    """Return what is wrong with a session's turns: each has one end, one answer if it completed, one request."""
    ends = Counter(event.turn_id for event in events if event.HasField("turn_ended"))
    starts = Counter(event.turn_id for event in events if event.HasField("turn_started"))
    requests = Counter(event.turn_id for event in events if event.HasField("turn_requested"))
    answers = Counter(
        event.turn_id for event in events if event.HasField("message") and event.message.role == e.ROLE_ASSISTANT
    )
    problems = [f"turn {turn} has {ends[turn]} ends" for turn in talk.asked if ends[turn] != 1]
    problems += [f"turn {turn} has {starts[turn]} starts" for turn in talk.asked if starts[turn] > 1]
    problems += [f"turn {turn} was requested {requests[turn]} times" for turn in talk.asked if requests[turn] != 1]
    for event in talk.ended:
        status, count = event.turn_ended.status, answers[event.turn_id]
        if status == s.TURN_STATUS_COMPLETED and count != 1:
            problems.append(f"turn {event.turn_id} completed with {count} answers")
        if status not in (s.TURN_STATUS_COMPLETED, s.TURN_STATUS_LOST):
            problems.append(f"turn {event.turn_id} ended {s.TurnStatus.Name(status)}: {event.turn_ended.reason}")
    return problems
