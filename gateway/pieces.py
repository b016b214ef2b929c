"""Events on their way to watchers: appends joined into responses of at most 1 MiB, as the bytes they are on the log."""

from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from podium.eventlog import StoredAppend

RESPONSE_BYTES_MAX = 1024 * 1024
RUNS_MAX, RUNS_BYTES_MAX = 256, 16 * 1024 * 1024
"""Joined runs that are kept: watchers at the same point ask for the same one within one turn of the event loop."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Events that follow the ones before without a gap: serialised as `repeated Event events = 1`."""

    events_bytes: bytes
    first_revision: int
    last_revision: int


class Runs:
    """Joins live appends once for all watchers of a session that are at the same point."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[int, int, int], Sequence[Piece]] = OrderedDict()
        self._bytes = 0

    def joined(self, appends: Sequence[StoredAppend]) -> Sequence[Piece]:
        """Return live appends of one session as pieces; none when there are none, or when one is missing or repeated.

        The appends of a session between two positions are always the same, if their number is.
        """
        if not appends:
            return ()
        key = appends[0].position, appends[-1].position, len(appends)
        run = self._kept.get(key)
        if run is None:
            run = self._kept[key] = _join(appends)
            self._bytes += _size(run)
            while len(self._kept) > RUNS_MAX or self._bytes > RUNS_BYTES_MAX:
                self._bytes -= _size(self._kept.popitem(last=False)[1])
        return run

    def clear(self) -> None:
        """Forget everything: the connection was another, and so may be the log."""
        self._kept.clear()
        self._bytes = 0


def _size(run: Sequence[Piece]) -> int:
    return sum(len(piece.events_bytes) for piece in run)


def _join(appends: Sequence[StoredAppend]) -> Sequence[Piece]:
    pieces = [Piece(stored.events_bytes, stored.first_revision, stored.last_revision) for stored in appends]
    if any(piece.first_revision != before.last_revision + 1 for before, piece in pairwise(pieces)):
        return ()
    group = _Group()
    full = [joined for piece in pieces if (joined := group.add(piece))]
    rest = group.take()
    return [*full, rest] if rest else full


class _Group:
    """Pieces that will be one response."""

    def __init__(self) -> None:
        self._pieces: list[Piece] = []
        self._size = 0

    def add(self, piece: Piece) -> Piece | None:
        """Take a piece; return those before it as one when it would make more than a response of them."""
        full = self.take() if self._size + len(piece.events_bytes) > RESPONSE_BYTES_MAX else None
        self._pieces.append(piece)
        self._size += len(piece.events_bytes)
        return full

    def take(self) -> Piece | None:
        """Return what is there as one piece, None for nothing."""
        pieces, self._pieces, self._size = self._pieces, [], 0
        if not pieces:
            return None
        joined = b"".join(piece.events_bytes for piece in pieces)
        return Piece(joined, pieces[0].first_revision, pieces[-1].last_revision)


async def grouped(pieces: AsyncIterator[Piece]) -> AsyncIterator[Piece]:
    """Join pieces into as few as responses of at most RESPONSE_BYTES_MAX allow; a larger one goes alone."""
    group = _Group()
    async for piece in pieces:
        if full := group.add(piece):
            yield full
    if rest := group.take():
        yield rest
