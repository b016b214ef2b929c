"""Commands over gRPC, against a real gateway and a real log."""

import asyncio
import uuid
from typing import Any

import grpc
import pytest

from podium import rpc
from podium.drafts import Draft
from podium.errors import AlreadyExists, FailedPrecondition, NotFound, PermissionDenied, PodiumError, Unauthenticated
from podium.eventlog import BlobStore, EventLog, SessionWriter, UnacknowledgedBudget, attach
from podium.eventlog.content import LongContent
from podium.names import session_id
from podium.v1 import event_pb2 as e
from podium.v1 import session_pb2 as s
from podium.v1 import session_service_pb2 as api
from podium.v1.content_pb2 import ContentBlock, TextBlock
from podium.v1.session_service_pb2_grpc import SessionServiceStub
from tests.support.gateways import CLOCK, Gateway


def said(text: str, **more: Any) -> api.TurnInput:
    return api.TurnInput(prompt=[ContentBlock(text=TextBlock(text=text))], **more)


def fresh() -> str:
    return str(uuid.uuid4())


async def created(gateway: Gateway, text: str = "", request_id: str = "", **session: Any) -> api.CreateSessionResponse:
    request = api.CreateSessionRequest(request_id=request_id or fresh(), session=s.Session(**session))
    if text:
        request.turn.CopyFrom(said(text))
    return await gateway.sessions.CreateSession(request)


async def events_of(log: EventLog, name: str) -> list[e.Event]:
    return [event async for stored in log.history(session_id(name)) for event in stored.events]


def kinds(events: list[e.Event]) -> list[str]:
    return [event.WhichOneof("body") or "" for event in events]


async def refused(call: Any) -> PodiumError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return rpc.from_rpc_error(caught.value)


class Owner:
    """Attaches to a session as a runner does, to say what a provider would."""

    def __init__(self, log: EventLog) -> None:
        self.log = log

    async def attach(self, name: str) -> SessionWriter:
        def claim(state: s.SessionState | None) -> e.RunnerAttached:
            assert state is not None
            return e.RunnerAttached(runner="r1", host="h1", epoch=state.epoch + 1)

        result = await attach(self.log, session_id(name), claim, clock=CLOCK)
        assert result.tail.state is not None
        return SessionWriter(
            self.log,
            session_id(name),
            runner="r1",
            epoch=result.tail.state.epoch,
            tail=result.tail,
            clock=CLOCK,
            budget=UnacknowledgedBudget(),
            offload=LongContent(BlobStore(self.log.link, CLOCK)).out,
        )


async def test_a_session_and_its_first_turn_are_one_append(gateway: Gateway, runner_log: EventLog) -> None:
    answer = await created(gateway, "explain this repo\nplease", workspace="amarillo", provider="claude")
    assert answer.session.title == "explain this repo"
    assert answer.session.workspace == "amarillo"
    assert answer.session.waiting_on == s.WAITING_ON_RUNNER
    events = await events_of(runner_log, answer.session.name)
    assert kinds(events) == ["session_created", "turn_requested"]
    assert {event.principal for event in events} == {"admin"}
    assert events[1].turn_id == answer.turn_id


async def test_the_same_request_gives_the_same_answer_and_one_effect(gateway: Gateway, runner_log: EventLog) -> None:
    first = await created(gateway, "hello", request_id="same-" + fresh())
    name, request_id = first.session.name, fresh()
    start = api.StartTurnRequest(request_id=request_id, session=name, turn=said("again"))
    answers = await asyncio.gather(*(gateway.sessions.StartTurn(start) for _ in range(100)))
    assert len({answer.SerializeToString() for answer in answers}) == 1
    assert kinds(await events_of(runner_log, name)).count("turn_requested") == 2
    # The answer is that of the first time, also when the session has gone on.
    await gateway.sessions.StartTurn(api.StartTurnRequest(request_id=fresh(), session=name, turn=said("more")))
    assert await gateway.sessions.StartTurn(start) == answers[0]


async def test_creating_again_with_the_same_request_id_finds_the_session(gateway: Gateway) -> None:
    request_id = fresh()
    first = await created(gateway, "hello", request_id=request_id)
    assert await created(gateway, "hello", request_id=request_id) == first


async def test_a_request_id_used_for_something_else_is_refused(gateway: Gateway) -> None:
    request_id = fresh()
    await created(gateway, "hello", request_id=request_id)
    error = await refused(created(gateway, "goodbye", request_id=request_id))
    assert isinstance(error, AlreadyExists)
    assert error.reason == "REQUEST_ID_REUSED"


async def test_a_queued_turn_is_cancelled_once(gateway: Gateway) -> None:
    answer = await created(gateway, "hello")
    cancel = api.CancelTurnRequest(request_id=fresh(), session=answer.session.name, turn_id=answer.turn_id, reason="no")
    cancelled = await gateway.sessions.CancelTurn(cancel)
    assert cancelled.cancelled
    assert cancelled.position > 0
    again = await gateway.sessions.CancelTurn(
        api.CancelTurnRequest(request_id=fresh(), session=answer.session.name, turn_id=answer.turn_id)
    )
    assert not again.cancelled
    assert again.position == 0


async def test_an_interrupt_prevents_stops_or_changes_nothing(gateway: Gateway, runner_log: EventLog) -> None:
    queued = await created(gateway, "hello")
    name = queued.session.name
    interrupt = api.InterruptTurnRequest(request_id=fresh(), session=name, turn_id=queued.turn_id, reason="stop")
    assert (await gateway.sessions.InterruptTurn(interrupt)).effect == api.INTERRUPT_EFFECT_PREVENTED

    running = await gateway.sessions.StartTurn(api.StartTurnRequest(request_id=fresh(), session=name, turn=said("run")))
    async with await Owner(runner_log).attach(name) as writer:
        await writer.write([Draft(e.TurnStarted(), turn_id=running.turn_id)])
        await writer.flush()
        stop = await gateway.sessions.InterruptTurn(
            api.InterruptTurnRequest(request_id=fresh(), session=name, reason="enough")
        )
        assert stop.effect == api.INTERRUPT_EFFECT_INTERRUPTING
        assert stop.turn_id == running.turn_id
        ended = e.TurnEnded(status=s.TURN_STATUS_INTERRUPTED)
        await writer.write([Draft(ended, turn_id=running.turn_id)])
        tail = await writer.flush()
        assert tail.state is not None
        assert not tail.state.HasField("turn")
    late = await gateway.sessions.InterruptTurn(
        api.InterruptTurnRequest(request_id=fresh(), session=name, turn_id=running.turn_id)
    )
    assert late.effect == api.INTERRUPT_EFFECT_NOTHING
    assert late.position == 0


async def test_a_turn_that_never_was_is_not_found_and_an_old_one_is_remembered(gateway: Gateway) -> None:
    first = await created(gateway, "one")
    name = first.session.name
    second = await gateway.sessions.StartTurn(api.StartTurnRequest(request_id=fresh(), session=name, turn=said("two")))
    for turn_id in (first.turn_id, second.turn_id):
        await gateway.sessions.CancelTurn(api.CancelTurnRequest(request_id=fresh(), session=name, turn_id=turn_id))
    again = await gateway.sessions.CancelTurn(
        api.CancelTurnRequest(request_id=fresh(), session=name, turn_id=first.turn_id)
    )
    assert again.status == s.TURN_STATUS_CANCELLED
    unknown = fresh()
    cancel = api.CancelTurnRequest(request_id=fresh(), session=name, turn_id=unknown)
    assert (await refused(gateway.sessions.CancelTurn(cancel))).reason == "TURN_NOT_FOUND"
    interrupt = api.InterruptTurnRequest(request_id=fresh(), session=name, turn_id=unknown)
    assert (await refused(gateway.sessions.InterruptTurn(interrupt))).reason == "TURN_NOT_FOUND"
    nothing = await gateway.sessions.InterruptTurn(api.InterruptTurnRequest(request_id=fresh(), session=name))
    assert nothing.effect == api.INTERRUPT_EFFECT_NOTHING


async def test_stopping_drops_the_queue_and_interrupts(gateway: Gateway, runner_log: EventLog) -> None:
    first = await created(gateway, "one")
    name = first.session.name
    second = await gateway.sessions.StartTurn(api.StartTurnRequest(request_id=fresh(), session=name, turn=said("two")))
    async with await Owner(runner_log).attach(name) as writer:
        await writer.write([Draft(e.TurnStarted(), turn_id=first.turn_id)])
        await writer.flush()
        answer = await gateway.sessions.StopSession(
            api.StopSessionRequest(request_id=fresh(), session=name, reason="done")
        )
    assert answer.interrupted_turn_id == first.turn_id
    assert list(answer.cancelled_turn_ids) == [second.turn_id]
    assert answer.process_ending


async def test_a_question_is_answered_once(gateway: Gateway, runner_log: EventLog) -> None:
    answer = await created(gateway, "one")
    name, approval_id = answer.session.name, fresh()
    async with await Owner(runner_log).attach(name) as writer:
        await writer.write(
            [
                Draft(e.TurnStarted(), turn_id=answer.turn_id),
                Draft(e.ApprovalRequested(approval_id=approval_id, tool_use_id="t"), turn_id=answer.turn_id),
            ]
        )
        await writer.flush()
    seen = await gateway.sessions.GetSession(api.GetSessionRequest(name=name))
    assert list(seen.pending_approval_ids) == [approval_id]
    assert seen.session.waiting_on == s.WAITING_ON_APPROVAL
    allow = api.ResolveApprovalRequest(
        request_id=fresh(), session=name, approval_id=approval_id, decision=api.APPROVAL_DECISION_ALLOW
    )
    assert (await gateway.sessions.ResolveApproval(allow)).outcome == s.APPROVAL_OUTCOME_ALLOWED
    other = api.ResolveApprovalRequest(
        request_id=fresh(), session=name, approval_id=approval_id, decision=api.APPROVAL_DECISION_DENY
    )
    error = await refused(gateway.sessions.ResolveApproval(other))
    assert isinstance(error, FailedPrecondition)
    assert error.metadata["outcome"] == "allowed"


async def test_settings_change_with_a_mask(gateway: Gateway) -> None:
    name = (await created(gateway, title="before", labels={"team": "a"})).session.name
    request = api.UpdateSessionRequest(
        request_id=fresh(), session=s.Session(name=name, title="after", labels={"team": "b"})
    )
    request.update_mask.paths.append("title")
    updated = (await gateway.sessions.UpdateSession(request)).session
    assert updated.title == "after"
    assert dict(updated.labels) == {"team": "a"}
    request.request_id = fresh()
    assert (await gateway.sessions.UpdateSession(request)).position == 0


async def test_an_archived_session_takes_no_turn(gateway: Gateway) -> None:
    name = (await created(gateway)).session.name
    archive = api.UpdateSessionRequest(request_id=fresh(), session=s.Session(name=name, archived=True))
    await gateway.sessions.UpdateSession(archive)
    start = api.StartTurnRequest(request_id=fresh(), session=name, turn=said("hello"))
    assert (await refused(gateway.sessions.StartTurn(start))).reason == "SESSION_ARCHIVED"


async def test_the_queue_is_bounded(gateway: Gateway) -> None:
    name = (await created(gateway)).session.name
    for _ in range(16):
        await gateway.sessions.StartTurn(api.StartTurnRequest(request_id=fresh(), session=name, turn=said("hello")))
    start = api.StartTurnRequest(request_id=fresh(), session=name, turn=said("hello"))
    assert (await refused(gateway.sessions.StartTurn(start))).reason == "QUEUE_FULL"


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (api.CreateSessionRequest(request_id=""), "request_id"),
        (api.CreateSessionRequest(request_id="x" * 129), "request_id"),
        (api.CreateSessionRequest(request_id="r", session=s.Session(workspace="../etc")), "session.workspace"),
        (api.CreateSessionRequest(request_id="r", session=s.Session(directory="etc")), "session.directory"),
        (api.CreateSessionRequest(request_id="r", session=s.Session(title="x" * 257)), "title"),
        (api.CreateSessionRequest(request_id="r", session=s.Session(labels={"A": "b"})), "session.labels"),
        (api.CreateSessionRequest(request_id="r", turn=api.TurnInput()), "turn.prompt"),
        (api.CreateSessionRequest(request_id="r", turn=said("x", output_schema_json="[")), "turn.output_schema_json"),
    ],
)
async def test_a_malformed_field_is_named(gateway: Gateway, request_: api.CreateSessionRequest, field: str) -> None:
    error = await refused(gateway.sessions.CreateSession(request_))
    assert error.code == "INVALID_ARGUMENT"
    assert error.metadata["field"] == field


async def test_a_session_that_is_not_there_is_said_so(gateway: Gateway) -> None:
    error = await refused(gateway.sessions.GetSession(api.GetSessionRequest(name=f"sessions/{fresh()}")))
    assert isinstance(error, NotFound)
    assert error.reason == "SESSION_NOT_FOUND"


async def test_a_prompt_of_more_than_four_mebibytes_is_refused(gateway: Gateway) -> None:
    error = await refused(created(gateway, "x" * (4 * 1024 * 1024 + 1)))
    assert error.reason == "PROMPT_TOO_LARGE"


async def test_a_prompt_of_three_mebibytes_is_taken(gateway: Gateway, runner_log: EventLog) -> None:
    prompt = "é" * (3 * 512 * 1024)
    request_id = fresh()
    answer = await created(gateway, prompt, request_id=request_id)
    assert await created(gateway, prompt, request_id=request_id) == answer
    requested = (await events_of(runner_log, answer.session.name))[1].turn_requested
    whole = await LongContent(BlobStore(runner_log.link, CLOCK)).back(requested)
    assert whole.prompt[0].text.text == prompt


async def test_calls_need_a_token_and_a_role(gateway: Gateway) -> None:
    request = api.CreateSessionRequest(request_id=fresh())
    async with grpc.aio.insecure_channel(f"127.0.0.1:{gateway.port}") as nobody:
        assert isinstance(await refused(SessionServiceStub(nobody).CreateSession(request)), Unauthenticated)
    async with rpc.channel(f"127.0.0.1:{gateway.port}", "wrong") as stranger:
        assert (await refused(SessionServiceStub(stranger).CreateSession(request))).reason == "TOKEN_UNKNOWN"
    async with gateway.channel_as("reader") as reader:
        error = await refused(SessionServiceStub(reader).CreateSession(request))
        assert isinstance(error, PermissionDenied)
        assert error.metadata["needed"] == "run"
        assert await SessionServiceStub(reader).ListRunners(api.ListRunnersRequest()) is not None


async def test_lists_say_when_the_indexer_is_away_and_commands_go_on(gateway: Gateway) -> None:
    error = await refused(gateway.sessions.ListSessions(api.ListSessionsRequest()))
    assert error.reason == "PROJECTION_UNAVAILABLE"
    assert (await created(gateway)).position > 0
