"""Where a session may run, and what is overdue."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.expiry import overdue
from gateway.placement import eligible, why_not
from podium.clock import NS, to_timestamp
from podium.v1 import event_pb2 as e
from podium.v1 import provider_pb2, runner_pb2
from podium.v1 import session_pb2 as s


def runner(name: str = "r1", **given: object) -> runner_pb2.Runner:
    claude = provider_pb2.Provider(name="claude", installed=True)
    values = {"host": "h1", "pool": "default", "slots": 4, "workspaces": ["default"], "providers": [claude], **given}
    return runner_pb2.Runner(id=name, **values)  # type: ignore[arg-type]


def session(**given: object) -> s.Session:
    return s.Session(**{"pool": "default", "provider": "claude", "workspace": "default", **given})  # type: ignore[arg-type]


def fits(one: runner_pb2.Runner, wanted: s.Session) -> bool:
    return bool(eligible([one], wanted))


def test_a_runner_fits_by_pool_host_labels_provider_and_workspace() -> None:
    assert fits(runner(), session())
    assert not fits(runner(pool="other"), session())
    assert not fits(runner(draining=True), session())
    assert not fits(runner(), session(host="h2"))
    assert fits(runner(labels={"gpu": "yes", "os": "linux"}), session(runner_labels={"gpu": "yes"}))
    assert not fits(runner(labels={"gpu": "no"}), session(runner_labels={"gpu": "yes"}))
    assert not fits(runner(), session(provider="codex"))
    assert not fits(runner(providers=[provider_pb2.Provider(name="claude")]), session())
    assert not fits(runner(), session(workspace="amarillo"))


def test_a_session_that_ran_or_names_a_folder_needs_no_known_workspace() -> None:
    assert fits(runner(), session(workspace="amarillo", host="h1"))
    assert fits(runner(), session(workspace="amarillo", directory="/srv/amarillo"))


def test_the_least_busy_runner_comes_first() -> None:
    busy, free, loaded = runner("busy", busy=2), runner("free", busy=1), runner("loaded", busy=1, load=3.0)
    assert [one.id for one in eligible([busy, loaded, free], session())] == ["free", "loaded", "busy"]
    small = runner("small", slots=1, busy=1)
    assert [one.id for one in eligible([small, busy], session())] == ["busy", "small"]


@given(st.permutations([runner(f"r{number}", busy=number % 3) for number in range(5)]))
def test_the_order_of_heartbeats_does_not_matter(runners: list[runner_pb2.Runner]) -> None:
    expected = eligible(sorted(runners, key=lambda one: one.id), session())
    assert eligible(runners, session()) == expected


def test_a_person_is_told_why_nobody_fits() -> None:
    assert why_not([], session()) == "no runner is there"
    told = why_not([runner()], session(host="h9", runner_labels={"gpu": "yes"}))
    assert "h9" in told
    assert "gpu=yes" in told


def deferred(*, deadline_s: int, on_deadline: int = s.DEADLINE_ACTION_DENY, owner: bool = False) -> s.SessionState:
    state = s.SessionState(turn=s.ActiveTurn(id="t1", deferred=not owner))
    if owner:
        state.owner.runner = "r1"
    for number in range(2):
        state.approvals.add(
            id=f"a{number}",
            turn_id="t1",
            deferred=True,
            deadline=to_timestamp((deadline_s + 100 * number) * NS),
            on_deadline=on_deadline,
        )
    return state


def test_a_deferred_question_is_overdue_at_its_deadline_and_no_other_is() -> None:
    assert overdue(None, 10 * NS) == []
    assert overdue(deferred(deadline_s=11), 10 * NS) == []
    (draft,) = overdue(deferred(deadline_s=10), 10 * NS)
    assert draft.turn_id == "t1"
    assert draft.source == e.SOURCE_GATEWAY
    assert isinstance(draft.body, e.ApprovalResolved)
    assert (draft.body.approval_id, draft.body.outcome) == ("a0", s.APPROVAL_OUTCOME_EXPIRED)
    assert len(overdue(deferred(deadline_s=10), 1000 * NS)) == 2


def test_an_owner_looks_at_the_clock_itself() -> None:
    assert overdue(deferred(deadline_s=1, owner=True), 10 * NS) == []


def test_a_deadline_that_interrupts_says_so_once() -> None:
    state = deferred(deadline_s=1, on_deadline=s.DEADLINE_ACTION_INTERRUPT)
    kinds = [type(draft.body) for draft in overdue(state, 1000 * NS)]
    assert kinds == [e.ApprovalResolved, e.ApprovalResolved, e.InterruptRequested]
    state.turn.interrupt_requested = True
    assert [type(draft.body) for draft in overdue(state, 1000 * NS)] == [e.ApprovalResolved, e.ApprovalResolved]
