"""Appends on their way to watchers: joined once for all, never with a gap, never too large."""

from collections.abc import AsyncIterator, Sequence

import pytest

from gateway import pieces
from gateway.pieces import Piece, Runs, grouped
from podium.eventlog import StoredAppend
from podium.v1.event_pb2 import Append
from tests.support import stories


def appends(count: int) -> list[StoredAppend]:
    log = stories.Log()
    log.asked(stories.created())
    for number in range(1, count):
        log.append(stories.assistant(stories.text(f"number {number}")), stories.assistant(stories.text("more")))
    return log.appends


def revisions(joined: Sequence[Piece]) -> list[int]:
    """Return the revisions in the pieces, after checking that each says what it holds."""
    found = []
    for piece in joined:
        inside = [event.revision for event in Append.FromString(piece.events_bytes).events]
        assert [piece.first_revision, piece.last_revision] == [inside[0], inside[-1]]
        found += inside
    return found


def test_appends_are_joined_into_one_piece() -> None:
    joined = Runs().joined(appends(10))
    assert len(joined) == 1
    assert revisions(joined) == list(range(1, 20))


def test_watchers_at_the_same_point_get_the_very_same_bytes() -> None:
    runs, log = Runs(), appends(10)
    assert runs.joined(log[3:])[0].events_bytes is runs.joined(list(log[3:]))[0].events_bytes
    assert runs.joined(log[4:])[0].first_revision == log[4].first_revision


def test_a_missing_or_repeated_append_gives_no_run() -> None:
    runs, log = Runs(), appends(6)
    assert runs.joined([*log[:2], *log[3:]]) == ()
    assert runs.joined([*log[:3], *log[2:]]) == ()
    # The same ends, and whole.
    assert revisions(runs.joined(log)) == list(range(1, 12))


def test_a_run_is_cut_where_a_response_would_be_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    log = appends(10)
    monkeypatch.setattr(pieces, "RESPONSE_BYTES_MAX", 3 * len(log[1].events_bytes))
    joined = Runs().joined(log)
    assert len(joined) >= 3
    assert all(len(piece.events_bytes) <= pieces.RESPONSE_BYTES_MAX for piece in joined)
    assert revisions(joined) == list(range(1, 20))


def test_runs_are_kept_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    log = appends(30)
    monkeypatch.setattr(pieces, "RUNS_BYTES_MAX", 5 * len(log[1].events_bytes))
    runs = Runs()
    for stored in log:
        runs.joined([stored])
    assert 1 <= len(runs._kept) <= 6
    assert runs._bytes <= pieces.RUNS_BYTES_MAX
    assert revisions(runs.joined(log)) == list(range(1, 60))
    runs.clear()
    assert runs._bytes == 0


async def test_single_pieces_are_grouped_and_a_large_one_goes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "RESPONSE_BYTES_MAX", 10)

    async def several() -> AsyncIterator[Piece]:
        for revision, size in enumerate([4, 4, 4, 20, 1, 1], 1):
            yield Piece(b"x" * size, revision, revision)

    found = [(len(piece.events_bytes), piece.first_revision, piece.last_revision) async for piece in grouped(several())]
    assert found == [(8, 1, 2), (4, 3, 3), (20, 4, 4), (2, 5, 6)]
