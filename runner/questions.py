"""Questions of a running turn to people: asked on the log, answered by whoever answers first, within their time."""

import asyncio
from collections.abc import Callable

from podium.clock import NS, Clock, to_ns, to_timestamp
from podium.drafts import Draft
from podium.eventlog import EventLog, SessionWriter
from podium.names import derived_id
from podium.v1 import event_pb2 as e
from podium.v1 import session_pb2 as s
from runner.patience import patiently
from runner.providers.port import Answer, AnswerDeferred

QUESTIONS_MAX = 64
"""Per turn; a client that asks more is refused, so that the session's state stays small."""


class Questions:
    """The questions of one session's turns."""

    def __init__(
        self,
        log: EventLog,
        writer: SessionWriter,
        clock: Clock,
        *,
        defer_after_s: float,
        can_defer: bool,
        drains: Callable[[], bool],
        outage_s: float,
    ) -> None:
        """Take where to ask.

        `defer_after_s`: after so long without an answer the asking client is ended, where the provider can.
        `drains`: whether the runner shuts down: then all questions are deferred.
        `outage_s`: how long the log may be away when an answer is read.
        """
        self._log = log
        self._writer = writer
        self._clock = clock
        self._defer_after_s = defer_after_s
        self._can_defer = can_defer
        self._changed = asyncio.Condition()
        self._drains = drains
        self._outage_s = outage_s
        self._being_put: set[str] = set()

    async def state_changed(self) -> None:
        """Look at the state again: an answer may be in it."""
        async with self._changed:
            self._changed.notify_all()

    async def ask(self, question: e.ApprovalRequested, turn_id: str) -> Answer:
        """Ask and return the answer; at the deadline that is `expired`.

        The same tool_use_id of the same turn is the same question: what was answered meanwhile is returned at once.
        Raises AnswerDeferred when the client shall be ended meanwhile.
        """
        approval_id = derived_id("approval", self._writer.session_id, turn_id, question.tool_use_id)
        known = self._open(approval_id)
        if known is None and not self._has_room(approval_id):
            return Answer(s.APPROVAL_OUTCOME_DENIED, message=f"a turn may ask {QUESTIONS_MAX} questions")
        # Asked again after a deferral: the log must know that the answer has found a process.
        if known is None or known.deferred:
            self._being_put.add(approval_id)
            try:
                await self._put(question, approval_id, turn_id, known)
            finally:
                self._being_put.discard(approval_id)
        outcome = await self._settled(approval_id)
        if not outcome:
            await self._expire(approval_id, turn_id)
        return await self._answer(approval_id)

    def _has_room(self, approval_id: str) -> bool:
        """Return whether one more question may be asked; those on their way to the log count too."""
        asked = {one.id for one in self._writer.state.approvals} | self._being_put
        return approval_id in asked or len(asked) < QUESTIONS_MAX

    async def _put(
        self, question: e.ApprovalRequested, approval_id: str, turn_id: str, known: s.OpenApproval | None
    ) -> None:
        asked = e.ApprovalRequested()
        asked.CopyFrom(question)
        asked.approval_id = approval_id
        policy = self._writer.state.session.approval_policy
        asked.on_deadline = policy.on_deadline or s.DEADLINE_ACTION_DENY
        if known is not None and known.HasField("deadline"):
            asked.deadline.CopyFrom(known.deadline)
        elif policy.deadline_s:
            asked.deadline.CopyFrom(to_timestamp(self._clock.now_ns() + policy.deadline_s * NS))
        await self._writer.write([Draft(asked, turn_id=turn_id, source=e.SOURCE_PROVIDER)])
        await self._writer.flush()

    async def _settled(self, approval_id: str) -> int:
        """Return the outcome once there is one, 0 at the deadline. Raises AnswerDeferred."""
        started = self._clock.monotonic()
        defer_after_s = float(self._writer.state.session.approval_policy.defer_after_s) or self._defer_after_s
        while True:
            approval = self._open(approval_id)
            # A question that left the state ended with its turn.
            if approval is None or approval.outcome:
                return approval.outcome if approval is not None else s.APPROVAL_OUTCOME_TURN_ENDED
            waits = [float("inf")]
            if self._can_defer:
                waits.append(0.0 if self._drains() else started + defer_after_s - self._clock.monotonic())
            until_deadline_s = float("inf")
            if approval.HasField("deadline"):
                until_deadline_s = (to_ns(approval.deadline) - self._clock.now_ns()) / NS
            if until_deadline_s <= 0:
                return 0
            if min(waits) <= 0:
                raise AnswerDeferred
            await self._wait(min(*waits, until_deadline_s))

    async def _wait(self, seconds: float) -> None:
        async with self._changed:
            try:
                async with asyncio.timeout(None if seconds == float("inf") else seconds):
                    await self._changed.wait()
            except TimeoutError:
                return

    async def _expire(self, approval_id: str, turn_id: str) -> None:
        expired = e.ApprovalResolved(
            approval_id=approval_id, outcome=s.APPROVAL_OUTCOME_EXPIRED, message="nobody answered in time"
        )
        await self._writer.write([Draft(expired, turn_id=turn_id)], only_if=is_pending(approval_id))
        await self._writer.flush()

    async def _answer(self, approval_id: str) -> Answer:
        approval = self._open(approval_id)
        if approval is None:
            return Answer(s.APPROVAL_OUTCOME_TURN_ENDED, message="the turn has ended")
        session_id, position = self._writer.session_id, approval.resolved_after_position
        stored = await patiently(lambda: self._log.message_after(session_id, position), self._outage_s)
        for event in stored.events if stored is not None else ():
            resolved = event.approval_resolved
            if event.HasField("approval_resolved") and resolved.approval_id == approval_id:
                return Answer(resolved.outcome, resolved.updated_input_json, resolved.message, resolved.remember_json)
        return Answer(approval.outcome)

    def _open(self, approval_id: str) -> s.OpenApproval | None:
        return next((one for one in self._writer.state.approvals if one.id == approval_id), None)


def is_pending(approval_id: str) -> Callable[[s.SessionState], bool]:
    """Return a condition: the question has no answer yet."""
    return lambda state: any(one.id == approval_id and not one.outcome for one in state.approvals)
