"""The outbox, by itself: whatever happens to batches, what was put is confirmed once, in order, under its own id."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from podium.drafts import Draft
from podium.eventlog.outbox import Outbox
from podium.eventlog.stored import EVENTS_BYTES_MAX, EVENTS_MAX, Tail
from podium.session import fold
from podium.v1 import event_pb2 as e
from podium.v1.session_pb2 import SessionState

SESSION = "01a2027f-cdb9-7240-8074-ad7383a74bc0"
NS = 1_700_000_000_000_000_000


def note(text: str) -> Draft:
    return Draft(e.Notice(code="note", message=text), happened_at_ns=NS)


def start() -> Tail:
    created = e.Event(id="c", session_id=SESSION, revision=1, session_created=e.SessionCreated(provider="claude"))
    return Tail(5, fold(None, [created]))


def outbox(texts: list[str], size: int = 300) -> Outbox:
    box = Outbox(SESSION, "r1", 1)
    for number, text in enumerate(texts):
        box.put(note(text), f"id-{number}", size, said_at_ns=NS)
    return box


def test_a_batch_has_at_most_so_many_events() -> None:
    box = outbox([str(number) for number in range(450)])
    sizes = []
    while box.take():
        sizes.append(len(box.batch))
        box.confirm()
    assert sizes == [EVENTS_MAX, EVENTS_MAX, 50]


@settings(deadline=None)
@given(st.lists(st.integers(1, 2 * EVENTS_BYTES_MAX), min_size=1, max_size=30))
def test_a_batch_above_its_size_is_one_event(sizes: list[int]) -> None:
    box = Outbox(SESSION, "r1", 1)
    for number, size in enumerate(sizes):
        box.put(note(""), str(number), size, said_at_ns=NS)
    taken = []
    while box.take():
        assert len(box.batch) == 1 or sum(queued.size for queued in box.batch) <= EVENTS_BYTES_MAX
        taken += [queued.event_id for queued in box.batch]
        assert box.confirm() > 0
    assert taken == [str(number) for number in range(len(sizes))]
    assert box.bytes == 0


Fate = st.sampled_from(["stored", "answer lost, stored", "answer lost, not stored", "somebody was faster"])


@settings(deadline=None)  # a busy machine is no counterexample
@given(st.integers(1, 40), st.lists(Fate, max_size=60), st.data())
def test_whatever_becomes_of_appends_every_draft_is_stored_once_in_order(
    count: int, fates: list[str], data: st.DataObject
) -> None:
    """Plays the log: a position and the messages behind it, and the owner's rules for what it may assume."""
    box = outbox([])
    log: list[tuple[int, list[e.Event]]] = []
    tail, positions = start(), itertools.count(6)
    put = 0
    outcomes = iter(fates)
    while put < count or box.has_more:
        for _ in range(data.draw(st.integers(0 if box.has_more else 1, 5))):
            if put < count:
                box.put(note(str(put)), f"id-{put}", 300, said_at_ns=NS)
                put += 1
        if not box.take():
            continue
        again = box.stamped
        stamped = box.stamp(tail, lambda: NS)
        if again is not None and again.expected == tail.position:
            assert stamped is again
        fate = next(outcomes, "stored")
        if fate == "somebody was faster":
            position = next(positions)
            foreign = e.Event(id=f"foreign-{position}", revision=tail.revision + 1, notice=e.Notice())
            log.append((position, [foreign]))
            tail = Tail(position, fold(tail.state, [foreign]))
            box.in_doubt = False
        elif fate == "answer lost, not stored":
            box.in_doubt = True
            assert [queued.event_id for queued in box.batch] == [event.id for event in stamped.events]
        else:
            log.append((next(positions), list(stamped.events)))
            box.in_doubt = fate != "stored"
            tail = Tail(log[-1][0], stamped.state)
            box.confirm()
    events = [event for _, events in log for event in events]
    assert [event.revision for event in events] == list(range(2, 2 + len(events)))
    own = [event for event in events if event.id.startswith("id-")]
    assert [event.id for event in own] == [f"id-{number}" for number in range(count)]
    assert [event.notice.message for event in own] == [str(number) for number in range(count)]
    assert (box.queued, box.acknowledged, box.bytes) == (count, count, 0)


def test_a_batch_in_doubt_neither_grows_nor_shrinks() -> None:
    box = outbox(["a"])
    box.take()
    stamped = box.stamp(start(), lambda: NS)
    box.in_doubt = True
    box.put(note("b"), "id-b", 300, lambda _: False, said_at_ns=NS)
    box.take()
    assert box.leave_out(SessionState()) == 0
    assert box.stamp(start(), lambda: NS + 1) is stamped
    assert [event.id for event in stamped.events] == ["id-0"]


def test_a_batch_behind_a_foreign_fact_is_stamped_anew_under_the_same_ids() -> None:
    box = outbox(["a", "b"])
    box.take()
    first = box.stamp(start(), lambda: NS)
    tail = start()
    tail = Tail(9, fold(tail.state, [e.Event(id="f", revision=2, notice=e.Notice())]))
    second = box.stamp(tail, lambda: NS)
    assert [event.id for event in second.events] == [event.id for event in first.events]
    assert [event.revision for event in second.events] == [3, 4]
    assert {event.after_position for event in second.events} == {9}
    assert second.expected == 9


def test_what_a_foreign_fact_has_overtaken_is_left_out_and_counts_as_settled() -> None:
    box = outbox(["a"])
    box.put(note("only sometimes"), "id-s", 1_000, lambda state: state.epoch == 7, said_at_ns=NS)
    box.take()
    assert box.leave_out(SessionState(epoch=7)) == 0
    assert box.leave_out(SessionState(epoch=8)) == 1_000
    assert [queued.event_id for queued in box.batch] == ["id-0"]
    assert box.acknowledged == 1
