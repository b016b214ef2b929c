"""What a session is after its events."""

import uuid

import pytest

from podium import names
from podium.clock import to_ns
from podium.drafts import Author, Body, Draft, kind_of, stamp
from podium.session import STATE_BYTES_MAX, UNTITLED, evolve, fold, has_work, seen
from podium.v1 import event_pb2 as e
from podium.v1 import session_pb2 as s
from podium.v1.content_pb2 import ContentBlock, TextBlock

NOW = 1_700_000_000_000_000_000
AUTHOR = Author("0b6c1a52-7a3e-5d43-9a44-2d1c0f6b8e11", names.new_id, "r", 1)


def after(*bodies: Body, turn_id: str = "t1") -> s.SessionState:
    drafts = [Draft(e.SessionCreated(provider="claude")), *(Draft(body, turn_id=turn_id) for body in bodies)]
    return stamp(None, drafts, AUTHOR, now_ns=NOW, after_position=0)[1]


def prompt(text: str) -> e.TurnRequested:
    return e.TurnRequested(prompt=[ContentBlock(text=TextBlock(text=text))])


def test_a_session_is_untitled_until_its_first_prompt() -> None:
    assert after().session.title == UNTITLED
    assert after(prompt("Implement the contract\nand test it")).session.title == "Implement the contract"
    assert after(prompt("x" * 200)).session.title == "x" * 80


def test_a_turn_waits_runs_and_ends() -> None:
    queued = after(prompt("hi"))
    assert queued.session.status == s.SESSION_STATUS_IDLE
    assert queued.session.waiting_on == s.WAITING_ON_RUNNER
    running = after(e.RunnerAttached(runner="r", epoch=1), prompt("hi"), e.TurnStarted())
    assert running.session.status == s.SESSION_STATUS_RUNNING
    failed = e.TurnEnded(status=s.TURN_STATUS_FAILED, problem=s.Problem(code="X", message="y" * 5000))
    ended = after(e.RunnerAttached(runner="r", epoch=1), prompt("hi"), e.TurnStarted(), failed)
    assert ended.session.status == s.SESSION_STATUS_ERROR
    assert len(ended.session.problem.message) == 1000
    healed = fold(ended, ())
    healed = stamp(
        healed,
        [
            Draft(prompt("b"), turn_id="t2"),
            Draft(e.TurnStarted(), turn_id="t2"),
            Draft(e.TurnEnded(status=s.TURN_STATUS_COMPLETED), turn_id="t2"),
        ],
        AUTHOR,
        now_ns=NOW,
        after_position=1,
    )[1]
    assert healed.session.status == s.SESSION_STATUS_IDLE
    assert not healed.session.HasField("problem")


def test_a_deferred_turn_has_work_only_when_its_questions_are_answered() -> None:
    asked: list[Body] = [
        e.RunnerAttached(runner="r", epoch=1),
        prompt("hi"),
        e.TurnStarted(),
        e.ApprovalRequested(approval_id="a", tool_use_id="u"),
        e.ApprovalDeferred(approval_id="a"),
        e.RunnerDetached(runner="r", epoch=1),
    ]
    waiting = after(*asked)
    assert waiting.turn.deferred
    assert waiting.session.status == s.SESSION_STATUS_RUNNING
    assert waiting.session.waiting_on == s.WAITING_ON_APPROVAL
    assert not has_work(waiting)
    answered = after(*asked, e.ApprovalResolved(approval_id="a", outcome=s.APPROVAL_OUTCOME_ALLOWED))
    assert has_work(answered)
    assert answered.session.waiting_on == s.WAITING_ON_RUNNER
    interrupted = after(*asked, e.InterruptRequested(reason="enough"))
    assert has_work(interrupted)


def test_a_detach_of_an_old_epoch_changes_nothing() -> None:
    state = after(e.RunnerAttached(runner="r", epoch=2), e.RunnerDetached(runner="old", epoch=1))
    assert state.owner.epoch == 2


def test_usage_is_summed_from_disjoint_buckets() -> None:
    usage = e.Usage(
        uncached_input_tokens=10,
        cache_read_tokens=100,
        cache_write_5m_tokens=20,
        cache_write_1h_tokens=5,
        output_tokens=7,
        reasoning_tokens=3,
    )
    tokens = after(usage, usage).session.tokens
    assert tokens.input_tokens == 270
    assert tokens.cache_read_input_tokens == 200
    assert tokens.cache_creation_input_tokens == 50
    assert tokens.uncached_input_tokens == 20
    assert (tokens.output_tokens, tokens.reasoning_tokens) == (14, 6)
    assert not tokens.HasField("provider_cost_microusd"), "unknown is not nothing"


def test_context_is_a_share_of_the_window_and_unknown_without_one() -> None:
    assert not after(e.Context(used_tokens=10)).session.HasField("context_used_percent")
    assert after(e.Context(used_tokens=50, window_tokens=200)).session.context_used_percent == 25
    assert after(e.Context(used_tokens=500, window_tokens=200)).session.context_used_percent == 100


def test_the_last_thousand_requests_are_remembered() -> None:
    state: s.SessionState | None = None
    for number in range(1005):
        draft = Draft(
            e.SessionUpdated(),
            source=e.SOURCE_GATEWAY,
            principal="p",
            causation_id=f"r{number}",
            request_fingerprint=number,
        )
        _, state = stamp(state, [draft], AUTHOR, now_ns=NOW, after_position=0)
    assert seen(state, "p", "r1004") == 1004
    assert seen(state, "p", "r5") == 5
    assert seen(state, "p", "r4") is None
    assert seen(state, "q", "r1004") is None
    assert state is not None
    assert state.ByteSize() < STATE_BYTES_MAX


def test_a_fold_leaves_its_input_alone() -> None:
    state = after(prompt("hi"))
    before = state.SerializeToString(deterministic=True)
    evolve(state, e.Event(revision=9, turn_id="t1", turn_started=e.TurnStarted()))
    assert state.SerializeToString(deterministic=True) == before


def test_a_body_of_a_newer_version_only_moves_the_revision() -> None:
    newer = e.Event(revision=7, may_ignore=True)
    state = evolve(after(), newer)
    assert state.session.revision == 7
    assert state.session.title == UNTITLED


def test_time_rises_when_the_clock_goes_back() -> None:
    drafts = [Draft(e.SessionCreated(), happened_at_ns=NOW), Draft(e.Notice(), happened_at_ns=NOW - 10**12)]
    events, _ = stamp(None, drafts, AUTHOR, now_ns=NOW, after_position=0)
    assert to_ns(events[1].created_at) == NOW + 1000


@pytest.mark.parametrize("name", [field.name for field in e.Event.DESCRIPTOR.oneofs_by_name["body"].fields])
def test_every_kind_of_event_can_be_drafted_and_folded(name: str) -> None:
    body = type(getattr(e.Event(), name))()
    assert kind_of(body) == name
    events, _ = stamp(after(), [Draft(body)], AUTHOR, now_ns=NOW, after_position=1)
    assert events[0].WhichOneof("body") == name


def test_ids_are_ordered_by_time_and_of_version_seven() -> None:
    ids = [names.new_id(NOW + step * 1000) for step in range(1000)]
    assert ids == sorted(ids)
    assert {uuid.UUID(one).version for one in ids} == {7}
