"""One turn of one session, from its slot to its end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from podium.clock import to_ns
from podium.drafts import Draft
from podium.errors import PodiumError
from podium.eventlog import BlobError
from podium.session import pending_approvals, prompt_text
from podium.v1 import event_pb2 as e
from podium.v1 import session_pb2 as s
from runner.mentions import require_inside
from runner.patience import patiently
from runner.providers.port import ProviderFailed, TurnOutcome, TurnSpec
from runner.steps import may_start

if TYPE_CHECKING:
    from runner.session_host import SessionHost

_log = structlog.get_logger()
_MS = 1_000_000
_ENDS = (s.TURN_STATUS_COMPLETED, s.TURN_STATUS_FAILED, s.TURN_STATUS_INTERRUPTED, s.TURN_STATUS_LOST)


class TurnRun:
    """Starts or resumes one turn, waits for its outcome, writes how it ended."""

    def __init__(self, host: SessionHost, turn_id: str, after_position: int, *, resumes: bool) -> None:
        """Take the turn; its request is the session's first message after `after_position`."""
        self._host = host
        self._turn_id = turn_id
        self._after_position = after_position
        self._resumes = resumes
        self._patience: asyncio.Timeout | None = None
        self.waits = True
        """Whether it still waits for a slot."""

    def cut_off(self) -> None:
        """End the client's part in the turn, as interrupted: the client did not obey in time."""
        if self._patience is not None and not self._patience.expired():
            self._patience.reschedule(asyncio.get_running_loop().time())

    async def run(self) -> None:
        """Run the turn when there is a slot. Raises PodiumError when nothing can be written any more."""
        async with self._host.shared.slots:
            self.waits = False
            try:
                request = await patiently(self._request, self._host.shared.settings.outage_s)
            except (BlobError, LookupError) as error:
                request = None
                _log.error("a prompt is gone", session=self._host.session_id, reason=str(error))
            if not self._resumes and not await self._started(request or e.TurnRequested()):
                return
            if request is None:
                outcome = _failed("PROMPT_LOST", "the prompt is not in the object store any more; ask again")
            else:
                outcome = await self._outcome(self._spec(request))
            if outcome.deferred:
                await self._deferred()
            else:
                await self._ended(outcome)

    async def _request(self) -> e.TurnRequested:
        stored = await self._host.shared.log.message_after(self._host.session_id, self._after_position)
        for event in stored.events if stored is not None else ():
            if event.turn_id == self._turn_id and event.HasField("turn_requested"):
                return await self._host.shared.content.back(event.turn_requested)
        raise LookupError(f"turn {self._turn_id} was not asked for at {self._after_position}")

    async def _started(self, request: e.TurnRequested) -> bool:
        """Write that the turn starts, unless it was cancelled meanwhile; return whether it started."""
        host, session = self._host, self._host.state.session
        started = e.TurnStarted(
            model=request.model or session.model,
            effort=request.effort or session.effort,
            resumed=bool(session.provider_session_id),
        )
        await host.write([Draft(started, turn_id=self._turn_id)], only_if=self._may_start)
        state = await host.flush()
        if not (state.HasField("turn") and state.turn.id == self._turn_id):
            return False
        prompt = e.Message(role=e.ROLE_USER, content=request.prompt)
        await host.write([Draft(prompt, turn_id=self._turn_id)])
        return True

    def _may_start(self, state: s.SessionState) -> bool:
        return may_start(state, self._turn_id, draining=self._host.draining)

    def _spec(self, request: e.TurnRequested) -> TurnSpec:
        session = self._host.state.session
        return TurnSpec(
            turn_id=self._turn_id,
            prompt=() if self._resumes else list(request.prompt),
            model=session.model,
            effort=session.effort,
            output_schema_json=request.output_schema_json,
            resumes_deferred=self._resumes,
        )

    async def _outcome(self, spec: TurnSpec) -> TurnOutcome:
        """Return how the turn ended; whatever the client does is an outcome."""
        host, was_cut_off = self._host, False
        try:
            async with asyncio.timeout(None) as self._patience:
                outcome = _checked(await self._said(spec), host.state)
        except ProviderFailed as failed:
            outcome = TurnOutcome(s.TURN_STATUS_FAILED, failed.problem.message, failed.problem)
        except PodiumError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a driver does wrong ends the turn, not the session
            was_cut_off = self._patience is not None and self._patience.expired()
            if was_cut_off:
                outcome = TurnOutcome(s.TURN_STATUS_INTERRUPTED, host.state.turn.interrupt_reason)
            else:
                _log.error("a driver broke", session=host.session_id, turn=self._turn_id, exc_info=error)
                outcome = _failed("RUNNER_FAULT", f"the provider's driver broke: {type(error).__name__}: {error}")
        finally:
            self._patience = None
        if was_cut_off or outcome.deferred or outcome.status in (s.TURN_STATUS_FAILED, s.TURN_STATUS_LOST):
            # What state such a client is in nobody knows; a deferred one has ended.
            await host.drop_driver()
        if outcome.status == s.TURN_STATUS_FAILED:
            return self._stopped() or outcome
        return outcome

    async def _said(self, spec: TurnSpec) -> TurnOutcome:
        # Asked twice: somebody may stop the turn before its client is there, and while it starts.
        if stopped := self._stopped():
            return stopped
        await asyncio.to_thread(require_inside, prompt_text(spec.prompt), self._host.workspace())
        driver = await self._host.driver()
        return self._stopped() or await driver.run_turn(spec)

    def _stopped(self) -> TurnOutcome | None:
        """Return the outcome of a turn that somebody asked to stop, None when nobody did."""
        turn = self._host.state.turn
        if not turn.interrupt_requested:
            return None
        return TurnOutcome(s.TURN_STATUS_INTERRUPTED, turn.interrupt_reason)

    async def _deferred(self) -> None:
        """Mark the turn's questions: their answers resume it, those that came meanwhile too."""
        host = self._host
        asked = [e.ApprovalDeferred(approval_id=approval.id) for approval in host.state.approvals]
        await host.write([Draft(deferred, turn_id=self._turn_id) for deferred in asked])
        state = await host.flush()
        _log.info("turn deferred", session=host.session_id, questions=len(pending_approvals(state)))

    async def _ended(self, outcome: TurnOutcome) -> None:
        host = self._host
        turn, now_ns = host.state.turn, host.shared.clock.now_ns()
        ended = e.TurnEnded(
            status=outcome.status,
            reason=outcome.reason[:1000],
            problem=outcome.problem,
            queued_ms=max(0, to_ns(turn.started_at) - to_ns(turn.requested_at)) // _MS,
            duration_ms=max(0, now_ns - to_ns(turn.started_at)) // _MS,
            api_duration_ms=outcome.api_duration_ms,
            structured_output_json=outcome.structured_output_json,
            provider_cost_microusd=outcome.provider_cost_microusd,
            first_token_ms=host.first_token_ms(to_ns(turn.started_at)),
        )
        await host.end_turn(self._turn_id, ended)


def _checked(outcome: TurnOutcome, state: s.SessionState) -> TurnOutcome:
    """Return the outcome; raises TypeError or ValueError for one that a driver must not return."""
    if not isinstance(outcome, TurnOutcome):
        raise TypeError(f"run_turn returned {outcome!r}, expected a TurnOutcome")
    if outcome.deferred and not state.approvals:
        raise ValueError("a turn was deferred without a question to wait for")
    if not outcome.deferred and outcome.status not in _ENDS:
        raise ValueError(f"a turn cannot end with status {outcome.status}")
    return outcome


def _failed(code: str, message: str) -> TurnOutcome:
    return TurnOutcome(s.TURN_STATUS_FAILED, message, s.Problem(code=code, message=message))
