"""Commands and owners act on one session in any order: what always holds, found by hypothesis."""

import uuid
from itertools import pairwise

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway import limits
from gateway.decide import Asked, Command, Decision, decide
from podium import names
from podium.clock import to_ns
from podium.drafts import Author, Draft, stamp
from podium.errors import PodiumError
from podium.session import STATE_BYTES_MAX, fold, has_work, pending_approvals, seen
from podium.v1 import event_pb2 as e
from podium.v1 import session_pb2 as s
from podium.v1 import session_service_pb2 as api
from podium.v1.content_pb2 import ContentBlock, TextBlock

ENDS = [s.TURN_STATUS_COMPLETED, s.TURN_STATUS_FAILED, s.TURN_STATUS_INTERRUPTED, s.TURN_STATUS_LOST]


class SessionMachine(RuleBasedStateMachine):
    """A gateway that decides, and an owner that does what the state allows; the log is a list."""

    def __init__(self) -> None:
        super().__init__()
        self.session_id = str(uuid.uuid4())
        self.state: s.SessionState | None = None
        self.log: list[e.Event] = []
        self.position = 0
        self.now_ns = 1_700_000_000_000_000_000
        self.requests = 0
        self.turns: dict[str, str] = {}

    def append(self, drafts: list[Draft], *, runner: str = "", epoch: int = 0) -> None:
        author = Author(self.session_id, names.new_id, runner, epoch)
        events, self.state = stamp(self.state, drafts, author, now_ns=self.now_ns, after_position=self.position)
        self.log += events
        self.position += 1

    def ask(self, command: Command) -> Decision | None:
        self.requests += 1
        asked = Asked(self.session_id, "p", f"r{self.requests}", self.requests)
        try:
            decision = decide(self.state, command, asked)
        except PodiumError:
            return None
        assert decide(self.state, command, asked) == decision, "the same state and command give the same decision"
        if decision.drafts:
            self.append(list(decision.drafts))
            assert self.state is not None
            assert seen(self.state, "p", asked.request_id) == asked.fingerprint
        return decision

    @initialize(prompt=st.sampled_from(["", "do it\nnow"]))
    def create(self, prompt: str) -> None:
        command = api.CreateSessionRequest(session=s.Session(provider="claude", workspace="w", pool="default"))
        if prompt:
            command.turn.prompt.append(ContentBlock(text=TextBlock(text=prompt)))
        decision = self.ask(command)
        assert decision is not None
        if isinstance(decision.answer, api.CreateSessionResponse) and decision.answer.turn_id:
            self.turns[decision.answer.turn_id] = "queued"

    @rule(text=st.sampled_from(["hello", "ünïcode", "x" * 500]))
    def start_turn(self, text: str) -> None:
        turn = api.TurnInput(prompt=[ContentBlock(text=TextBlock(text=text))])
        decision = self.ask(api.StartTurnRequest(turn=turn))
        if decision is not None:
            assert isinstance(decision.answer, api.StartTurnResponse)
            self.turns[decision.answer.turn_id] = "queued"

    @precondition(lambda self: bool(self.turns))
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        turn_id = data.draw(st.sampled_from(sorted(self.turns)))
        decision = self.ask(api.CancelTurnRequest(turn_id=turn_id))
        assert decision is not None
        assert isinstance(decision.answer, api.CancelTurnResponse)
        assert decision.answer.cancelled == (self.turns[turn_id] == "queued")
        if decision.answer.cancelled:
            self.turns[turn_id] = "cancelled"

    @precondition(lambda self: bool(self.turns))
    @rule(data=st.data())
    def interrupt(self, data: st.DataObject) -> None:
        turn_id = data.draw(st.sampled_from(sorted(self.turns)))
        was = self.turns[turn_id]
        decision = self.ask(api.InterruptTurnRequest(turn_id=turn_id))
        assert decision is not None
        assert isinstance(decision.answer, api.InterruptTurnResponse)
        expected = {
            "queued": api.INTERRUPT_EFFECT_PREVENTED,
            "running": api.INTERRUPT_EFFECT_INTERRUPTING,
        }.get(was, api.INTERRUPT_EFFECT_NOTHING)
        assert decision.answer.effect == expected
        if was == "queued":
            self.turns[turn_id] = "cancelled"

    @rule()
    def stop(self) -> None:
        decision = self.ask(api.StopSessionRequest())
        assert decision is not None
        assert isinstance(decision.answer, api.StopSessionResponse)
        for turn_id in decision.answer.cancelled_turn_ids:
            self.turns[turn_id] = "cancelled"
        assert self.state is not None
        assert not self.state.queue

    @rule(archived=st.booleans(), title=st.text(max_size=20))
    def update(self, archived: bool, title: str) -> None:  # noqa: FBT001
        command = api.UpdateSessionRequest(session=s.Session(archived=archived, title=title))
        command.update_mask.paths.extend(["archived", "title"])
        self.ask(command)

    @rule()
    def attach(self) -> None:
        """Take the session over, and settle what the owner before left, as a runner does."""
        assert self.state is not None
        attached = e.RunnerAttached(runner="r", host="h", epoch=self.state.epoch + 1)
        self.append([Draft(attached)], runner="r", epoch=attached.epoch)
        assert self.state is not None
        if self.state.HasField("turn") and not any(approval.deferred for approval in self.state.approvals):
            self.end(s.TURN_STATUS_LOST)

    @precondition(
        lambda self: self.state is not None and self.state.HasField("owner") and not self.state.HasField("turn")
    )
    @rule()
    def detach(self) -> None:
        assert self.state is not None
        self.append([Draft(e.RunnerDetached(runner="r", epoch=self.state.epoch))], runner="r", epoch=self.state.epoch)

    @precondition(
        lambda self: (
            self.state is not None
            and self.state.HasField("owner")
            and not self.state.HasField("turn")
            and bool(self.state.queue)
        )
    )
    @rule()
    def begin(self) -> None:
        assert self.state is not None
        turn_id = self.state.queue[0].id
        self.append([Draft(e.TurnStarted(model="m"), turn_id=turn_id)], runner="r", epoch=self.state.epoch)
        self.turns[turn_id] = "running"

    @precondition(lambda self: self.state is not None and self.state.HasField("turn") and self.state.HasField("owner"))
    @rule(output=st.integers(0, 1000), tool=st.uuids())
    def speak(self, output: int, tool: uuid.UUID) -> None:
        assert self.state is not None
        drafts = [
            Draft(e.Message(role=e.ROLE_ASSISTANT), turn_id=self.state.turn.id),
            Draft(e.Usage(output_tokens=output, uncached_input_tokens=1), turn_id=self.state.turn.id),
            Draft(e.ApprovalRequested(approval_id=str(tool), tool_use_id=str(tool)), turn_id=self.state.turn.id),
        ]
        self.append(drafts if len(self.state.approvals) < 8 else drafts[:2], runner="r", epoch=self.state.epoch)

    @precondition(lambda self: self.state is not None and bool(pending_approvals(self.state)))
    @rule(allow=st.booleans())
    def answer(self, allow: bool) -> None:  # noqa: FBT001
        assert self.state is not None
        approval = pending_approvals(self.state)[0]
        decision = api.APPROVAL_DECISION_ALLOW if allow else api.APPROVAL_DECISION_DENY
        before = len(pending_approvals(self.state))
        assert self.ask(api.ResolveApprovalRequest(approval_id=approval.id, decision=decision)) is not None
        assert len(pending_approvals(self.state)) == before - 1
        assert self.ask(api.ResolveApprovalRequest(approval_id=approval.id, decision=decision)) is None

    @precondition(lambda self: self.state is not None and self.state.HasField("turn") and self.state.HasField("owner"))
    @rule(status=st.sampled_from(ENDS))
    def end(self, status: s.TurnStatus.ValueType) -> None:
        assert self.state is not None
        turn_id = self.state.turn.id
        self.append([Draft(e.TurnEnded(status=status), turn_id=turn_id)], runner="r", epoch=self.state.epoch)
        self.turns[turn_id] = "ended"

    @rule(seconds=st.integers(-3600, 3600))
    def clock_jumps(self, seconds: int) -> None:
        self.now_ns += seconds * 1_000_000_000

    @invariant()
    def the_carried_state_is_the_fold_of_all_events(self) -> None:
        if self.state is not None:
            assert fold(None, self.log) == self.state

    @invariant()
    def revisions_have_no_gap_and_times_rise(self) -> None:
        assert [event.revision for event in self.log] == list(range(1, len(self.log) + 1))
        times = [to_ns(event.created_at) for event in self.log]
        assert all(earlier < later for earlier, later in pairwise(times))
        assert all(time % 1000 == 0 for time in times), "whole microseconds, so that DuckDB keeps them apart"

    @invariant()
    def turns_are_where_the_model_says(self) -> None:
        if self.state is None:
            return
        assert [turn.id for turn in self.state.queue] == [t for t, was in self.turns.items() if was == "queued"]
        running = [turn_id for turn_id, was in self.turns.items() if was == "running"]
        assert running == ([self.state.turn.id] if self.state.HasField("turn") else [])
        assert self.state.session.turn_count == len(self.turns)

    @invariant()
    def status_follows(self) -> None:
        if self.state is None:
            return
        session = self.state.session
        assert (session.status == s.SESSION_STATUS_RUNNING) == self.state.HasField("turn")
        if pending_approvals(self.state):
            assert session.waiting_on == s.WAITING_ON_APPROVAL
        if not self.state.HasField("owner") and has_work(self.state) and not pending_approvals(self.state):
            assert session.waiting_on == s.WAITING_ON_RUNNER

    @invariant()
    def sums_are_the_sums_of_the_facts(self) -> None:
        if self.state is not None:
            output = sum(event.usage.output_tokens for event in self.log)
            assert self.state.session.tokens.output_tokens == output
            ended = sum(event.HasField("turn_ended") for event in self.log)
            said = sum(event.HasField("message") for event in self.log)
            assert self.state.session.message_count == said + ended

    @invariant()
    def the_state_stays_small(self) -> None:
        if self.state is not None:
            assert len(self.state.queue) <= limits.QUEUED_TURNS_MAX
            assert self.state.ByteSize() <= STATE_BYTES_MAX


TestSession = SessionMachine.TestCase
TestSession.settings = hypothesis_settings(max_examples=60, stateful_step_count=40, deadline=None)
