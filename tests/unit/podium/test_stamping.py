"""What the fold may skip, and the ids it does not take from the uuid module."""

import time
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podium import session
from podium.drafts import Author, Draft, kind_of, stamp
from podium.names import new_id
from podium.session import fold
from podium.v1 import event_pb2 as e
from podium.v1 import session_pb2 as s

SESSION = "019bb8ca-471d-76a2-ba3c-3c9ce69b5fca"
TURNS, APPROVALS, EPOCHS = st.sampled_from(["t1", "t2"]), st.sampled_from(["a1", "a2"]), st.integers(1, 2)

BODIES: st.SearchStrategy[Any] = st.one_of(
    st.builds(e.TurnRequested),
    st.builds(e.TurnCancelled),
    st.builds(e.TurnStarted),
    st.builds(e.TurnEnded, status=st.sampled_from([s.TURN_STATUS_COMPLETED, s.TURN_STATUS_FAILED, s.TURN_STATUS_LOST])),
    st.builds(e.RunnerAttached, runner=st.just("r1"), epoch=EPOCHS),
    st.builds(e.RunnerDetached, epoch=EPOCHS),
    st.builds(e.InterruptRequested),
    st.builds(e.StopRequested),
    st.builds(e.Message, role=st.sampled_from([e.ROLE_USER, e.ROLE_ASSISTANT, e.ROLE_SYSTEM])),
    st.builds(e.ApprovalRequested, approval_id=APPROVALS),
    st.builds(e.ApprovalDeferred, approval_id=APPROVALS),
    st.builds(e.ApprovalResolved, approval_id=APPROVALS, outcome=st.just(s.APPROVAL_OUTCOME_ALLOWED)),
    st.builds(e.Usage, output_tokens=st.integers(0, 9)),
    st.builds(e.Context, used_tokens=st.integers(0, 9), window_tokens=st.integers(0, 9)),
    st.builds(
        e.Notice,
        notice_class=st.sampled_from([e.NOTICE_CLASS_QUOTA, e.NOTICE_CLASS_AUTH]),
        severity=st.sampled_from([e.SEVERITY_INFO, e.SEVERITY_ERROR]),
    ),
    st.builds(e.ProviderBound, provider_session_id=st.just("n")),
    st.builds(e.UnreadableRecord),
)


@given(st.lists(st.tuples(BODIES, TURNS), max_size=40))
def test_what_follows_from_the_rest_is_always_up_to_date(bodies: list[tuple[Any, str]]) -> None:
    """Nearly all events are of kinds after which `_derive` is left out: it would have changed nothing."""
    author = Author(SESSION, lambda _: "id", "r1", 1)
    drafts = [Draft(e.SessionCreated(provider="claude"))]
    drafts += [Draft(body, turn_id=turn) for body, turn in bodies]
    events, _ = stamp(None, drafts, author, now_ns=1, after_position=0)
    state = None
    for event in events:
        state = fold(state, [event])
        derived = s.SessionState()
        derived.CopyFrom(state)
        session._derive(derived)
        assert derived == state, kind_of(drafts[event.revision - 1].body)


def test_a_new_id_is_a_uuid_of_version_7_that_says_when() -> None:
    now_ns = time.time_ns()
    parsed = uuid.UUID(new_id(now_ns))
    assert parsed.version == 7
    assert parsed.variant == uuid.RFC_4122
    assert parsed.int >> 80 == now_ns // 1_000_000
    assert str(parsed) == new_id(now_ns)[:19] + str(parsed)[19:]


def test_ids_sort_as_they_were_made() -> None:
    made = [new_id(1_763_800_000_000_000_000 + step * 250) for step in range(8_000)]
    # 4,096 steps in a millisecond: two ids of one step have no order.
    assert [one[:18] for one in made] == sorted(one[:18] for one in made)
    assert len(set(made)) == len(made)


def test_a_draft_happened_when_it_was_handed_in_unless_it_says_so() -> None:
    author = Author(SESSION, new_id)
    drafts = [Draft(e.Message()), Draft(e.Message(), happened_at_ns=7_000), Draft(e.Message())]
    events, _ = stamp(None, drafts, author, now_ns=50_000, after_position=0, said_at_ns=[3_000, 4_000, 9_000])
    assert [event.created_at.ToNanoseconds() for event in events] == [3_000, 7_000, 9_000]
    assert {event.recorded_at.ToNanoseconds() for event in events} == {50_000}


def test_stamping_asks_for_a_time_for_each_draft() -> None:
    with pytest.raises(ValueError, match="zip"):
        stamp(None, [Draft(e.Message())], Author(SESSION, new_id), now_ns=1, after_position=0, said_at_ns=[1, 2])
