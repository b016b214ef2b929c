"""When a takeover may be tried: examples, and the rules that hold for every row of looks."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from podium.eventlog.presence import Look, Presence
from podium.v1.runner_pb2 import Runner

TTL_S = 6.0


def look(at: float, *present: str, left: tuple[str, ...] = (), took: float = 0.0) -> Look:
    return Look(at, at + took, {name: Runner(id=name) for name in present}, frozenset(left))


def watched(*looks: Look) -> Presence:
    presence = Presence(TTL_S)
    for one in looks:
        presence.saw(one)
    return presence


def test_a_runner_is_gone_after_a_full_time_to_live_of_absence() -> None:
    presence = watched(look(0, "r1"), look(2), look(4), look(6))
    assert not presence.is_gone("r1")
    assert presence.living.keys() == {"r1"}
    presence.saw(look(8))
    assert presence.is_gone("r1")
    assert not presence.living


def test_a_runner_that_comes_back_starts_anew() -> None:
    presence = watched(look(0, "r1"), look(2), look(6), look(7, "r1"), look(9), look(13))
    assert not presence.is_gone("r1")
    presence.saw(look(15))
    assert presence.is_gone("r1")


def test_a_broken_connection_starts_every_absence_anew() -> None:
    presence = watched(look(0, "r1"), look(2), look(4), look(6))
    presence.lost_sight()
    presence.saw(look(8))
    assert not presence.is_gone("r1")
    presence.saw(look(13))
    assert not presence.is_gone("r1")
    presence.saw(look(14))
    assert presence.is_gone("r1")


def test_an_observer_that_was_asleep_starts_anew() -> None:
    presence = watched(look(0, "r1"), look(2), look(60))
    assert not presence.is_gone("r1")


def test_nobody_is_gone_before_the_first_full_time_of_looking() -> None:
    assert not Presence(TTL_S).is_gone("never seen")
    assert not watched(look(0), look(5.9)).is_gone("never seen")
    assert watched(look(0), look(6)).is_gone("never seen")


def test_a_runner_that_left_is_gone_at_once() -> None:
    presence = watched(look(0, "r1"), look(1, left=("r1",)))
    assert presence.is_gone("r1")
    assert not presence.living


def test_a_leaving_seen_before_the_connection_broke_says_nothing_after_it() -> None:
    presence = watched(look(0, "r1"), look(1, left=("r1",)))
    presence.lost_sight()
    assert not presence.is_gone("r1")


def test_a_heartbeat_heard_between_looks_counts() -> None:
    presence = watched(look(0, "r1"), look(2), look(7))
    presence.heard(Runner(id="r1", busy=3))
    presence.saw(look(8))
    assert not presence.is_gone("r1")
    assert presence.living["r1"].busy == 3
    assert not watched(look(0), look(6)).living


def test_the_time_an_answer_took_does_not_count_as_absence() -> None:
    presence = watched(look(0, "r1"), look(1, took=3.0), look(7))
    assert not presence.is_gone("r1")


@dataclass(frozen=True)
class Step:
    after_s: float
    took_s: float
    present: bool
    kind: str


steps = st.lists(
    st.builds(
        Step,
        after_s=st.floats(0.0, 2 * TTL_S, allow_nan=False),
        took_s=st.floats(0.0, TTL_S, allow_nan=False),
        present=st.booleans(),
        kind=st.sampled_from(["look", "look", "look", "look", "break", "heard"]),
    ),
    max_size=40,
)


@given(steps)
def test_gone_always_means_a_full_time_to_live_of_unbroken_absence(row: list[Step]) -> None:
    """Whenever the class says gone, a second, slower account of the same row must agree, and the other way round."""
    presence = Presence(TTL_S)
    now, witnesses, before = 0.0, list[tuple[float, float]](), None
    for step in row:
        now += step.after_s
        if step.kind == "break":
            presence.lost_sight()
            witnesses.clear()
            continue
        if step.kind == "heard":
            presence.heard(Runner(id="r1"))
            witnesses.clear()
            present_now = True
        else:
            asked, now = now, now + step.took_s
            if before is not None and asked - before > TTL_S:
                witnesses.clear()
            before = now
            presence.saw(Look(asked, now, {"r1": Runner(id="r1")} if step.present else {}))
            present_now = step.present
            if step.present:
                witnesses.clear()
            else:
                witnesses.append((asked, now))
        expected = not present_now and witnesses[-1][0] - witnesses[0][1] >= TTL_S
        assert presence.is_gone("r1") == expected
        assert ("r1" in presence.living) <= (not expected)


@given(st.integers(1, 30), st.floats(0.1, TTL_S, allow_nan=False))
def test_a_dead_runner_is_always_found_out(looks_before: int, interval_s: float) -> None:
    presence = Presence(TTL_S)
    now = 0.0
    for _ in range(looks_before):
        presence.saw(look(now, "r1"))
        now += interval_s
    first_absent = now
    while now - first_absent <= TTL_S + interval_s:
        presence.saw(look(now))
        now += interval_s
    assert presence.is_gone("r1")
    assert not presence.living
