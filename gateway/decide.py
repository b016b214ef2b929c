"""What a command does to a session: from the state and the command to facts and an answer. Pure.

A decision without drafts changes nothing. A request that had its effect before is answered by deciding again
on the state before its fact (`gateway.commands`), so the same request gives the same answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, assert_never

from gateway import limits
from gateway.catalog import Catalog
from podium import names
from podium.drafts import Body, Draft
from podium.errors import FailedPrecondition, InvalidArgument, NotFound, ResourceExhausted, session_not_found
from podium.session import UNTITLED
from podium.v1 import event_pb2 as e
from podium.v1 import session_pb2 as s
from podium.v1 import session_service_pb2 as api

Command: TypeAlias = (
    api.CreateSessionRequest
    | api.StartTurnRequest
    | api.CancelTurnRequest
    | api.InterruptTurnRequest
    | api.StopSessionRequest
    | api.ResolveApprovalRequest
    | api.UpdateSessionRequest
)
"""All that can be asked of a session. RunTurn is a StartTurn and a wait."""

Answer: TypeAlias = (
    api.CreateSessionResponse
    | api.StartTurnResponse
    | api.CancelTurnResponse
    | api.InterruptTurnResponse
    | api.StopSessionResponse
    | api.ResolveApprovalResponse
    | api.UpdateSessionResponse
)
"""What each of them is answered with."""

UPDATABLE = ("title", "model", "effort", "permission_mode", "labels", "archived")


@dataclass(frozen=True, slots=True)
class Asked:
    """Who asks, under which id, for which session, and what marks the facts that follow."""

    session_id: str
    principal: str
    request_id: str
    fingerprint: int
    traceparent: str = ""

    def fact(self, body: Body, turn_id: str = "") -> Draft:
        """Return a draft of the gateway's that this request caused."""
        return Draft(
            body,
            turn_id=turn_id,
            source=e.SOURCE_GATEWAY,
            principal=self.principal,
            causation_id=self.request_id,
            request_fingerprint=self.fingerprint,
            traceparent=self.traceparent,
        )


@dataclass(frozen=True, slots=True)
class Decision:
    """The facts to append (none = nothing changes) and the answer; the answer's position, revision and session are
    filled in from the append.
    """

    answer: Answer
    drafts: Sequence[Draft] = field(default_factory=tuple)


def decide(state: s.SessionState | None, command: Command, asked: Asked, catalog: Catalog | None = None) -> Decision:
    """Return what `command` does to a session in `state` (None = there is no such session).

    `catalog` checks efforts and modes against what the runners offer; None = they were checked before.
    Raises PodiumError when the state does not allow it; single fields were checked before (`gateway.checks`).
    """
    if isinstance(command, api.CreateSessionRequest):
        return _create(command, asked)
    if state is None:
        raise session_not_found(asked.session_id)
    match command:
        case api.StartTurnRequest():
            _check_turn(state.session, command.turn, catalog)
            return _start_turn(state, command, asked)
        case api.CancelTurnRequest():
            return _cancel_turn(state, command, asked)
        case api.InterruptTurnRequest():
            return _interrupt(state, command, asked)
        case api.StopSessionRequest():
            return _stop(state, command, asked)
        case api.ResolveApprovalRequest():
            return _resolve(state, command, asked)
        case api.UpdateSessionRequest():
            _check_update(state.session, command, catalog)
            return _update(state, command, asked)
        case _:
            assert_never(command)


def _create(command: api.CreateSessionRequest, asked: Asked) -> Decision:
    wanted = command.session
    created = e.SessionCreated(
        provider=wanted.provider,
        vendor=wanted.vendor,
        workspace=wanted.workspace,
        directory=wanted.directory,
        pool=wanted.pool,
        title=wanted.title,
        model=wanted.model,
        effort=wanted.effort,
        permission_mode=wanted.permission_mode or s.PERMISSION_MODE_DEFAULT,
        labels=wanted.labels,
        runner_labels=wanted.runner_labels,
        parent_session_id=names.session_id(wanted.parent, "session.parent") if wanted.parent else "",
        origin=s.ORIGIN_API,
        approval_policy=wanted.approval_policy,
        system_prompt_addition=wanted.system_prompt_addition,
    )
    drafts = [asked.fact(created)]
    answer = api.CreateSessionResponse()
    if command.HasField("turn"):
        answer.turn_id = _turn_id(asked)
        drafts.append(asked.fact(_requested(command.turn), answer.turn_id))
    return Decision(answer, drafts)


def _start_turn(state: s.SessionState, command: api.StartTurnRequest, asked: Asked) -> Decision:
    if state.session.archived:
        raise FailedPrecondition("SESSION_ARCHIVED", "the session is archived", session=asked.session_id)
    if len(state.queue) >= limits.QUEUED_TURNS_MAX:
        message = f"{len(state.queue)} turns wait already; at most {limits.QUEUED_TURNS_MAX} may"
        raise ResourceExhausted("QUEUE_FULL", message, limit=limits.QUEUED_TURNS_MAX)
    turn_id = _turn_id(asked)
    before = len(state.queue) + state.HasField("turn")
    answer = api.StartTurnResponse(turn_id=turn_id, turns_before=before)
    return Decision(answer, [asked.fact(_requested(command.turn), turn_id)])


def _cancel_turn(state: s.SessionState, command: api.CancelTurnRequest, asked: Asked) -> Decision:
    turn_id = names.bare_uuid(command.turn_id, "turn_id")
    if _is_queued(state, turn_id):
        answer = api.CancelTurnResponse(cancelled=True, status=s.TURN_STATUS_CANCELLED)
        return Decision(answer, [asked.fact(e.TurnCancelled(reason=command.reason), turn_id)])
    return Decision(api.CancelTurnResponse(status=_status_of(state, turn_id)))


def _interrupt(state: s.SessionState, command: api.InterruptTurnRequest, asked: Asked) -> Decision:
    turn_id = names.bare_uuid(command.turn_id, "turn_id") if command.turn_id else state.turn.id
    if turn_id and _is_queued(state, turn_id):
        answer = api.InterruptTurnResponse(effect=api.INTERRUPT_EFFECT_PREVENTED, turn_id=turn_id)
        return Decision(answer, [asked.fact(e.TurnCancelled(reason=command.reason), turn_id)])
    if not state.HasField("turn") or state.turn.id != turn_id:
        return Decision(api.InterruptTurnResponse(effect=api.INTERRUPT_EFFECT_NOTHING, turn_id=turn_id))
    answer = api.InterruptTurnResponse(effect=api.INTERRUPT_EFFECT_INTERRUPTING, turn_id=turn_id)
    if state.turn.interrupt_requested:
        return Decision(answer)
    return Decision(answer, [asked.fact(e.InterruptRequested(reason=command.reason), turn_id)])


def _stop(state: s.SessionState, command: api.StopSessionRequest, asked: Asked) -> Decision:
    answer = api.StopSessionResponse(process_ending=state.HasField("owner"))
    drafts = []
    if state.HasField("turn"):
        answer.interrupted_turn_id = state.turn.id
        if not state.turn.interrupt_requested:
            drafts.append(asked.fact(e.InterruptRequested(reason=command.reason), state.turn.id))
    for queued in state.queue:
        answer.cancelled_turn_ids.append(queued.id)
        drafts.append(asked.fact(e.TurnCancelled(reason=command.reason), queued.id))
    if state.HasField("owner") and not state.stop_requested:
        drafts.append(asked.fact(e.StopRequested(reason=command.reason)))
    return Decision(answer, drafts)


def _resolve(state: s.SessionState, command: api.ResolveApprovalRequest, asked: Asked) -> Decision:
    approval = next((approval for approval in state.approvals if approval.id == command.approval_id), None)
    if approval is None:
        message = f"no question {command.approval_id} waits in this session; its turn may have ended"
        raise NotFound("APPROVAL_NOT_FOUND", message, approval=command.approval_id)
    if approval.outcome:
        outcome = s.ApprovalOutcome.Name(approval.outcome).removeprefix("APPROVAL_OUTCOME_").lower()
        message = f"the question was settled before: {outcome}"
        raise FailedPrecondition("APPROVAL_SETTLED", message, approval=approval.id, outcome=outcome)
    outcomes = {
        api.APPROVAL_DECISION_ALLOW: s.APPROVAL_OUTCOME_ALLOWED,
        api.APPROVAL_DECISION_DENY: s.APPROVAL_OUTCOME_DENIED,
    }
    if command.decision not in outcomes:
        raise InvalidArgument("decision", found=command.decision, expected="ALLOW or DENY")
    resolved = e.ApprovalResolved(
        approval_id=approval.id,
        outcome=outcomes[command.decision],
        updated_input_json=command.updated_input_json,
        message=command.message,
        remember_json=command.remember_json,
    )
    answer = api.ResolveApprovalResponse(outcome=resolved.outcome)
    return Decision(answer, [asked.fact(resolved, approval.turn_id)])


def _update(state: s.SessionState, command: api.UpdateSessionRequest, asked: Asked) -> Decision:
    wanted, now = command.session, state.session
    changed = [path for path in dict.fromkeys(command.update_mask.paths) if _differs(path, wanted, now)]
    if not changed:
        return Decision(api.UpdateSessionResponse())
    update = e.SessionUpdated(
        title=wanted.title,
        model=wanted.model,
        effort=wanted.effort,
        permission_mode=wanted.permission_mode,
        archived=wanted.archived,
        labels=wanted.labels,
    )
    for path in set(UPDATABLE) - set(changed):
        update.ClearField(path)  # type: ignore[arg-type]  # UPDATABLE are its fields
    update.update_mask.paths.extend(changed)
    return Decision(api.UpdateSessionResponse(), [asked.fact(update)])


def _check_turn(now: s.Session, turn: api.TurnInput, catalog: Catalog | None) -> None:
    if catalog is not None and (turn.model or turn.effort):
        catalog.check_effort(now.provider, turn.model or now.model, turn.effort or now.effort)


def _check_update(now: s.Session, command: api.UpdateSessionRequest, catalog: Catalog | None) -> None:
    """Check what changes, and nothing else: a session can be renamed when no runner offers its model any more."""
    changed = set(command.update_mask.paths)
    if catalog is None:
        return
    after = s.Session(model=now.model, effort=now.effort)
    for path in changed & {"model", "effort"}:
        setattr(after, path, getattr(command.session, path))
    if changed & {"model", "effort"}:
        catalog.check_effort(now.provider, after.model, after.effort)
    if "permission_mode" in changed:
        catalog.check_permission_mode(now.provider, command.session.permission_mode)


def _differs(path: str, wanted: s.Session, now: s.Session) -> bool:
    if path == "title":
        return (wanted.title or UNTITLED) != now.title
    if path == "labels":
        return dict(wanted.labels) != dict(now.labels)
    return bool(getattr(wanted, path) != getattr(now, path))


def _requested(turn: api.TurnInput) -> e.TurnRequested:
    return e.TurnRequested(
        prompt=turn.prompt,
        model=turn.model,
        effort=turn.effort,
        delivery=turn.delivery or e.DELIVERY_QUEUE,
        output_schema_json=turn.output_schema_json,
    )


def _turn_id(asked: Asked) -> str:
    return names.turn_id_for(asked.session_id, asked.principal, asked.request_id)


def _is_queued(state: s.SessionState, turn_id: str) -> bool:
    return any(queued.id == turn_id for queued in state.queue)


def _status_of(state: s.SessionState, turn_id: str) -> s.TurnStatus.ValueType:
    if state.HasField("turn") and state.turn.id == turn_id:
        return s.TURN_STATUS_RUNNING
    return state.last_turn_status if state.last_turn_id == turn_id else s.TURN_STATUS_UNSPECIFIED
