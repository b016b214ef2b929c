"""Sessions of the real Claude Code CLI, from a gRPC command to the facts on the log."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from podium.eventlog import EventLog, Role
from podium.names import session_id
from podium.scripted_model import Pace, Reply, Script, ScriptedModel, ToolCall, Turns, Usage
from podium.scripted_model.script import Stall
from podium.v1 import event_pb2 as e
from podium.v1 import session_pb2 as s
from podium.v1 import session_service_pb2 as api
from tests.integration.gateway.test_commands import events_of, fresh, kinds, said
from tests.support import gateways, runners
from tests.support.gateways import Gateway

pytestmark = [pytest.mark.claude, pytest.mark.timeout(120)]

SCRIPT = Script(
    Turns(
        [
            Reply(
                thinking="A file, then.",
                tool=ToolCall("Bash", {"command": "echo hello > file && cat file"}),
                usage=Usage(uncached_input_tokens=10, cache_read_tokens=100, output_tokens=20),
            ),
            Reply(text="It says hello.", usage=Usage(uncached_input_tokens=5, cache_read_tokens=200, output_tokens=7)),
        ],
        [lambda talk: Reply(text=f"You asked {len(talk.prompts)} times; first: {talk.prompts[0][:40]}")],
    ),
    scenarios={
        "stall": [Reply(text="I will never " + "end " * 20, pace=Pace(piece_chars=4), ends=Stall(3))],
        "sleep": [Reply(tool=ToolCall("Bash", {"command": "setsid sleep 300 & sleep 300"}))],
    },
)


@asynccontextmanager
async def stack(folder: Path, **given: Any) -> AsyncIterator[tuple[Gateway, ScriptedModel, EventLog]]:
    async with (
        gateways.log_server(folder) as settings,
        gateways.gateway(settings, folder / "gateway") as gateway,
        ScriptedModel(SCRIPT) as model,
        runners.runner(settings, folder / "runner", model.url, **given),
        gateways.connected(settings, Role.RUNNER) as log,
    ):
        yield gateway, model, log


async def start(gateway: Gateway, text: str, **session: object) -> api.CreateSessionResponse:
    request = api.CreateSessionRequest(request_id=fresh(), session=s.Session(**session), turn=said(text))  # type: ignore[arg-type]
    return await gateway.sessions.CreateSession(request)


async def until(gateway: Gateway, name: str, kind: str, *, turn_id: str = "") -> e.Event:
    """Watch the session until an event of this kind."""
    call = gateway.sessions.WatchSession(api.WatchSessionRequest(session=name))
    async with asyncio.timeout(60):
        async for response in call:
            for event in response.events:
                if event.WhichOneof("body") == kind and turn_id in ("", event.turn_id):
                    call.cancel()
                    return event
    raise AssertionError("the watch ended")


async def test_a_session_asks_works_answers_and_goes_on(tmp_path: Path) -> None:
    async with stack(tmp_path) as (gateway, _, log):
        created = await start(gateway, "Make a file that says hello")
        name = created.session.name
        asked = (await until(gateway, name, "approval_requested")).approval_requested
        assert asked.tool_name == "Bash"
        await gateway.sessions.ResolveApproval(
            api.ResolveApprovalRequest(
                request_id=fresh(),
                session=name,
                approval_id=asked.approval_id,
                decision=api.APPROVAL_DECISION_ALLOW,
            )
        )
        ended = (await until(gateway, name, "turn_ended")).turn_ended
        assert ended.status == s.TURN_STATUS_COMPLETED, ended
        answer = await gateway.sessions.RunTurn(
            api.RunTurnRequest(request_id=fresh(), session=name, turn=said("And again?"))
        )
        assert answer.turn.status == s.TURN_STATUS_COMPLETED
        assert answer.final_text == "You asked 2 times; first: Make a file that says hello"
        session = (await gateway.sessions.GetSession(api.GetSessionRequest(name=name))).session
        # 20 and 7 are scripted; the third call has the script's default of 27 and 11.
        assert session.tokens.output_tokens == 20 + 7 + 27
        assert session.tokens.uncached_input_tokens == 10 + 5 + 11
        assert session.tokens.cache_read_input_tokens == 100 + 200
        assert session.status == s.SESSION_STATUS_IDLE
        assert Path(session.jsonl_path).is_file()
        events = await events_of(log, name)
        assert kinds(events).count("turn_ended") == 2
        assert [event.revision for event in events] == list(range(1, len(events) + 1))


async def test_an_interrupt_ends_the_turn_and_the_session_goes_on(tmp_path: Path) -> None:
    async with stack(tmp_path) as (gateway, model, _):
        created = await start(gateway, "[[scenario:stall]] go")
        name = created.session.name
        await model.wait_for(lambda request: request.first_byte_s is not None, deadline_s=30)
        stopped = await gateway.sessions.InterruptTurn(
            api.InterruptTurnRequest(request_id=fresh(), session=name, reason="enough")
        )
        assert stopped.effect == api.INTERRUPT_EFFECT_INTERRUPTING
        await model.wait_for(lambda request: request.closed_early, deadline_s=10)
        ended = (await until(gateway, name, "turn_ended")).turn_ended
        assert ended.status == s.TURN_STATUS_INTERRUPTED, ended
        assert session_id(name)
