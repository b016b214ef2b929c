"""The projection: the same log gives the same rows, whatever the batches, and nothing that is wrong gets through."""

from collections.abc import Sequence
from dataclasses import fields
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.projection.carry import Carry
from indexer.projection.project import RevisionGap, UnknownEvent, project
from indexer.projection.rows import TABLES, Rows
from podium.drafts import Draft
from podium.eventlog import StoredAppend
from podium.session import fold
from podium.v1 import event_pb2 as e
from podium.v1 import session_pb2 as s
from tests.support import stories
from tests.support.stories import SESSION, TURN_1, Log

OTHER = "019bb8ca-471d-76a2-ba3c-000000000002"
WHOLE = stories.whole()


def in_batches(appends: Sequence[StoredAppend], ends: Sequence[int]) -> dict[str, list[tuple[object, ...]]]:
    """Return all rows, projected in batches that end at `ends`; of sessions the last row each."""
    tables: dict[str, list[tuple[object, ...]]] = {table: [] for table in TABLES}
    carries: dict[str, Carry] = {}
    position = 0
    bounds = [0, *sorted(ends), len(appends)]
    sessions: dict[object, tuple[object, ...]] = {}
    for begin, end in pairwise(bounds):
        projected = project(appends[begin:end], carries, after=position)
        carries |= projected.carries
        position = projected.position
        for table in TABLES:
            tables[table] += getattr(projected.rows, table)
        sessions |= {row.id: row for row in projected.rows.sessions}
    return tables | {"sessions": list(sessions.values())}


def test_every_event_is_a_row() -> None:
    rows = project(WHOLE.appends, {}, after=0).rows
    assert [row.revision for row in rows.events] == list(range(1, len(WHOLE.events) + 1))
    assert [row.kind for row in rows.events] == [event.WhichOneof("body") for event in WHOLE.events]


def test_the_session_counts_the_messages_that_people_see() -> None:
    rows = project(WHOLE.appends, {}, after=0).rows
    seen = [row for row in rows.messages if row.role != "system"]
    assert len(seen) == rows.sessions[0].message_count == 8


def test_every_finished_turn_has_one_result_with_what_it_used() -> None:
    rows = project(WHOLE.appends, {}, after=0).rows
    results = [row for row in rows.messages if row.role == "result"]
    assert [row.turn_id for row in results] == [stories.TURN_1, stories.TURN_2]
    assert (
        results[0].content
        == (
            f'{{"type":"result","session_id":"{SESSION}","usage":{{"input_tokens":385,"output_tokens":10,'
            '"cache_read_input_tokens":300,"cache_creation_input_tokens":70}}'
        ).encode()
    )
    assert results[1].content == f'{{"type":"result","session_id":"{SESSION}","usage":null}}'.encode()


def test_a_turn_shows_the_model_that_spoke_last_in_it() -> None:
    first, failed, cancelled = project(WHOLE.appends, {}, after=0).rows.turn_ends
    assert (first.resolved_model, failed.resolved_model, cancelled.resolved_model) == ("claude-opus-4-5", None, None)


def test_a_tool_call_and_its_result_are_facts_of_their_own() -> None:
    rows = project(WHOLE.appends, {}, after=0).rows
    (use,), (result,) = rows.tool_uses, rows.tool_results
    assert (use.name, use.input, use.turn_id) == ("Bash", '{"command":"pytest -q"}', TURN_1)
    assert (result.tool_use_id, result.output, result.is_error) == (use.tool_use_id, "2 failed", True)


def test_usage_that_the_provider_does_not_tell_is_null() -> None:
    log = Log()
    stories.begin(log)
    log.append(Draft(e.Usage(accuracy=e.USAGE_ACCURACY_UNAVAILABLE, model="auto"), turn_id=TURN_1))
    log.append(Draft(e.TurnEnded(status=s.TURN_STATUS_COMPLETED), turn_id=TURN_1))
    rows = project(log.appends, {}, after=0).rows
    (usage,) = rows.usage
    assert (usage.uncached_input_tokens, usage.output_tokens, usage.provider_cost_microusd) == (None, None, None)
    assert rows.messages[-1].content == f'{{"type":"result","session_id":"{SESSION}","usage":null}}'.encode()


@settings(deadline=None)
@given(st.sets(st.integers(0, len(WHOLE.appends))))
def test_the_batches_make_no_difference(ends: set[int]) -> None:
    assert in_batches(WHOLE.appends, sorted(ends)) == in_batches(WHOLE.appends, [])


def test_a_restart_makes_no_difference() -> None:
    """What is remembered of a session is in its row: cut off after each append, taken up from the row."""
    rows: list[object] = []
    carries: dict[str, Carry] = {}
    for append in WHOLE.appends:
        projected = project([append], carries, after=append.position - 1)
        rows += projected.rows.messages
        row = projected.rows.sessions[-1]
        used = s.TokenTotals.FromString(row.turn_tokens) if row.turn_tokens is not None else None
        assert (row.revision, row.first_position) == (append.last_revision, 1)
        carries = {SESSION: Carry(append.last_revision, 1, row.running_turn_id or "", used, row.turn_model or "")}
    assert rows == project(WHOLE.appends, {}, after=0).rows.messages


def test_what_is_in_the_store_already_is_skipped() -> None:
    projected = project(WHOLE.appends[:4], {}, after=0)
    again = project(WHOLE.appends[:6], projected.carries, after=projected.position)
    assert [row.revision for row in again.rows.events] == [5, 6, 7, 8, 9, 10]


def test_a_missing_append_stops_the_projection_and_says_where() -> None:
    appends = [*WHOLE.appends[:4], *WHOLE.appends[5:]]
    with pytest.raises(RevisionGap, match=f"session {SESSION} goes on with revision 7 at position 6") as gap:
        project(appends, {}, after=0)
    assert (gap.value.expected, gap.value.found) == (5, 7)


def test_a_session_that_begins_in_its_middle_stops_the_projection() -> None:
    with pytest.raises(RevisionGap):
        project(WHOLE.appends[2:], {}, after=0)


def test_a_repeated_append_at_a_new_position_stops_the_projection() -> None:
    last = WHOLE.appends[-1]
    repeated = stories.stored_append(last.position + 1, SESSION, last.events, last.state)
    with pytest.raises(RevisionGap, match="expected 27"):
        project([*WHOLE.appends, repeated], {}, after=0)


def test_an_erased_session_may_have_gaps_and_others_may_not() -> None:
    appends = [*WHOLE.appends[:4], *WHOLE.appends[5:]]
    rows = project(appends, {}, after=0, erased=frozenset({SESSION})).rows
    assert [row.revision for row in rows.events] == [1, 2, 3, 4, *range(7, 27)]
    with pytest.raises(RevisionGap):
        project(appends, {}, after=0, erased=frozenset({OTHER}))


def test_a_failed_batch_leaves_what_is_remembered_as_it_was() -> None:
    known = project(WHOLE.appends[:6], {}, after=0).carries
    before = {name: carry.copy() for name, carry in known.items()}
    with pytest.raises(RevisionGap):
        project([WHOLE.appends[6], WHOLE.appends[8]], known, after=6)
    assert known == before


def test_a_newer_event_that_may_be_skipped_is_only_an_envelope() -> None:
    stranger = stories.of_the_future(WHOLE.appends[0].events[0], may_ignore=True)
    state = fold(None, [stranger])
    rows = project([stories.stored_append(1, SESSION, [stranger], state)], {}, after=0).rows
    assert [(row.kind, row.revision) for row in rows.events] == [(None, 1)]


def test_a_newer_event_that_must_not_be_skipped_stops_the_projection() -> None:
    stranger = stories.of_the_future(WHOLE.appends[0].events[0], may_ignore=False)
    append = stories.stored_append(1, SESSION, [stranger], fold(None, [stranger]))
    with pytest.raises(UnknownEvent, match="update the indexer"):
        project([append], {}, after=0)


def test_sessions_do_not_mix() -> None:
    log = Log()
    stories.begin(log)
    stories.begin(log, session_id=OTHER, turn_id=stories.TURN_2)
    log.append(Draft(stories.usage("m1", uncached_input_tokens=1, output_tokens=2), turn_id=TURN_1))
    log.append(
        Draft(stories.usage("m2", uncached_input_tokens=30, output_tokens=4), turn_id=stories.TURN_2), session_id=OTHER
    )
    log.append(Draft(e.TurnEnded(status=s.TURN_STATUS_COMPLETED), turn_id=TURN_1))
    log.append(Draft(e.TurnEnded(status=s.TURN_STATUS_COMPLETED), turn_id=stories.TURN_2), session_id=OTHER)
    contents = [row.content for row in project(log.appends, {}, after=0).rows.messages if row.role == "result"]
    assert [b'"input_tokens":1,' in str(c).encode() for c in contents] == [True, False]
    assert [b'"input_tokens":30,' in str(c).encode() for c in contents] == [False, True]


def test_it_says_which_appends_lack_text() -> None:
    log = Log()
    log.asked(stories.created())
    log.append(stories.user("all there"))
    short = stories.text("the beginning")
    short.full.object = "o"
    log.append(stories.user("all there"), stories.message(e.ROLE_USER, short))
    assert project(log.appends, {}, after=0).rows.shortened == {3}


def test_every_table_has_a_place_in_the_rows() -> None:
    assert {field.name for field in fields(Rows)} == {*TABLES, "shortened"}
