"""Runners die, hang and come back: the session goes on under another, and nothing of the old one takes effect."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from podium.eventlog import EventLog, Role
from podium.names import session_id
from podium.scripted_model import Reply, Script, ScriptedModel, ToolCall, Turns, claude_environment
from podium.settings import ServiceSettings
from podium.v1 import event_pb2 as e
from podium.v1 import session_pb2 as s
from podium.v1 import session_service_pb2 as api
from tests.integration.gateway.test_commands import events_of, fresh, said
from tests.integration.stack.test_claude_sessions import until
from tests.support import gateways, processes
from tests.support.gateways import Gateway

pytestmark = [pytest.mark.claude, pytest.mark.timeout(180)]

SCRIPT = Script(
    Turns([lambda talk: Reply(text=f"answer {len(talk.prompts)}")]),
    scenarios={
        # A tool child in a session of its own, as daemons make themselves: a process group does not reach it.
        "sleep": [
            Reply(
                tool=ToolCall("Bash", {"command": "setsid sleep 300 >/dev/null 2>&1 & sleep 299", "timeout": 290000})
            ),
            Reply(text="slept"),
        ],
        "ask": [Reply(tool=ToolCall("Bash", {"command": "touch made"})), Reply(text="made")],
    },
)


@dataclass
class Stack:
    gateway: Gateway
    model: ScriptedModel
    log: EventLog
    settings: ServiceSettings
    folder: Path
    around: AsyncExitStack

    async def runner(self, name: str, **given: str) -> processes.Service:
        """Start a runner; all share a host, its state folder and the clients' home, as on one machine."""
        home, work = self.folder / "home", self.folder / "work"
        for folder in (home, work):
            folder.mkdir(exist_ok=True)
        environment = {
            **claude_environment(home, self.model.url),
            "PODIUM_NATS_URL": self.settings.nats_url,
            "PODIUM_NATS_CREDENTIALS_FILE": str(self.settings.nats_credentials_file),
            "PODIUM_HOST": "h1",
            "PODIUM_RUNNER_NAME": name,
            "PODIUM_ROOTS": json.dumps([str(work)]),
            "PODIUM_STATE_DIR": str(self.folder / "state"),
            "PODIUM_ALLOW_BYPASS": "true",
            "PODIUM_DRAIN_S": "5",
            "PODIUM_HEARTBEAT_TTL_S": str(gateways.HEARTBEAT_TTL_S),
            **given,
        }
        service = await self.around.enter_async_context(processes.service("runner", self.folder / name, environment))
        await service.said("ready")
        return service

    async def start(self, text: str, mode: s.PermissionMode.ValueType = s.PERMISSION_MODE_BYPASS) -> str:
        session = s.Session(permission_mode=mode)
        request = api.CreateSessionRequest(request_id=fresh(), session=session, turn=said(text))
        return (await self.gateway.sessions.CreateSession(request)).session.name

    async def ended(self, name: str, count: int) -> list[e.Event]:
        """Return the session's turn_ended events once there are so many."""
        call = self.gateway.sessions.WatchSession(api.WatchSessionRequest(session=name))
        found: list[e.Event] = []
        async with asyncio.timeout(90):
            async for response in call:
                found += [event for event in response.events if event.HasField("turn_ended")]
                if len(found) >= count:
                    call.cancel()
                    return found
        raise AssertionError("the watch ended")


@asynccontextmanager
async def stack(folder: Path) -> AsyncIterator[Stack]:
    async with (
        gateways.log_server(folder) as settings,
        gateways.gateway(settings, folder / "gateway") as gateway,
        ScriptedModel(SCRIPT) as model,
        gateways.connected(settings, Role.RUNNER) as log,
        AsyncExitStack() as runners,
    ):
        yield Stack(gateway, model, log, settings, folder, runners)


async def gone(session: str) -> None:
    """Wait until no process of the session is left."""
    async with asyncio.timeout(30):
        while processes.marked_processes(session):
            await asyncio.sleep(0.05)


async def sleeping(session: str) -> None:
    """Wait until both sleeps of the scenario run."""
    async with asyncio.timeout(60):
        while processes.names(session).count("sleep") < 2:
            await asyncio.sleep(0.05)


async def test_a_killed_runner_is_replaced_and_leaves_no_orphan(tmp_path: Path) -> None:
    async with stack(tmp_path) as podium:
        first = await podium.runner("first")
        name = await podium.start("[[scenario:sleep]] go")
        await sleeping(session_id(name))
        queued = await podium.gateway.sessions.StartTurn(
            api.StartTurnRequest(request_id=fresh(), session=name, turn=said("are you there?"))
        )
        await podium.runner("second")
        await first.kill()
        lost, completed = await podium.ended(name, 2)
        assert lost.turn_ended.status == s.TURN_STATUS_LOST
        assert lost.turn_ended.problem.code == "RUNNER_LOST"
        assert completed.turn_id == queued.turn_id
        assert completed.turn_ended.status == s.TURN_STATUS_COMPLETED
        events = await events_of(podium.log, name)
        assert [event.runner_attached.epoch for event in events if event.HasField("runner_attached")] == [1, 2]
        assert {event.epoch for event in events if event.revision > lost.revision} <= {0, 2}
        assert "sleep" not in processes.names(session_id(name))


async def test_a_turn_that_was_interrupted_ends_so_under_the_next_owner(tmp_path: Path) -> None:
    async with stack(tmp_path) as podium:
        first = await podium.runner("first")
        name = await podium.start("[[scenario:sleep]] go")
        await sleeping(session_id(name))
        first.send(signal.SIGSTOP)
        await podium.gateway.sessions.InterruptTurn(
            api.InterruptTurnRequest(request_id=fresh(), session=name, reason="enough")
        )
        await podium.runner("second")
        (ended,) = await podium.ended(name, 1)
        assert ended.turn_ended.status == s.TURN_STATUS_INTERRUPTED
        assert ended.turn_ended.reason == "enough"
        assert ended.epoch == 2


async def test_a_suspended_runner_that_wakes_writes_nothing_and_has_no_agent(tmp_path: Path) -> None:
    async with stack(tmp_path) as podium:
        first = await podium.runner("first")
        name = await podium.start("[[scenario:sleep]] go")
        await sleeping(session_id(name))
        first.send(signal.SIGSTOP)
        await podium.runner("second")
        (lost,) = await podium.ended(name, 1)
        assert lost.turn_ended.status == s.TURN_STATUS_LOST
        assert "sleep" not in processes.names(session_id(name))
        first.send(signal.SIGCONT)
        await first.said("fenced")
        answer = await podium.gateway.sessions.RunTurn(
            api.RunTurnRequest(request_id=fresh(), session=name, turn=said("are you there?"))
        )
        assert answer.turn.status == s.TURN_STATUS_COMPLETED
        events = await events_of(podium.log, name)
        taken = next(event.revision for event in events if event.runner_attached.epoch == 2)
        assert {event.epoch for event in events if event.revision >= taken} <= {0, 2}


async def test_a_drained_runner_hands_its_waiting_question_to_the_next(tmp_path: Path) -> None:
    async with stack(tmp_path) as podium:
        first = await podium.runner("first")
        name = await podium.start("[[scenario:ask]] go", s.PERMISSION_MODE_DEFAULT)
        asked = (await until(podium.gateway, name, "approval_requested")).approval_requested
        first.send(signal.SIGTERM)
        await until(podium.gateway, name, "runner_detached")
        await gone(session_id(name))
        async with asyncio.timeout(20):
            assert await first.process.wait() == 0
        await podium.runner("second")
        await podium.gateway.sessions.ResolveApproval(
            api.ResolveApprovalRequest(
                request_id=fresh(),
                session=name,
                approval_id=asked.approval_id,
                decision=api.APPROVAL_DECISION_ALLOW,
            )
        )
        (ended,) = await podium.ended(name, 1)
        assert ended.turn_ended.status == s.TURN_STATUS_COMPLETED, ended
        assert list((podium.folder / "state/workspaces/default").iterdir()) == [
            podium.folder / "state/workspaces/default/made"
        ]
        events = await events_of(podium.log, name)
        assert sum(event.HasField("approval_resolved") for event in events) == 1
