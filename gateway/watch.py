"""Shows what happens: one subscription to all live appends, fanned out to those who watch a session.

A watcher joins history and live by revision: it is registered with the fan-out first, then reads the log up to the
newest position, then goes on with what arrived meanwhile. A hole or a reconnect sends it back to the log. So there
is no gap and no repeat, whatever the broker loses. Events are passed on as the bytes they have on the log.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

from gateway.pieces import RESPONSE_BYTES_MAX, Piece, Runs, grouped
from podium.errors import OutOfRange, ResourceExhausted, session_not_found
from podium.eventlog import EventLog, StoredAppend
from podium.v1 import event_pb2
from podium.v1 import session_service_pb2 as api

WATCHER_BYTES_MAX = 4 * 1024 * 1024
DELTAS_MAX = 1000
WATCHES_MAX = 2000
HEARTBEAT_S_DEFAULT = 15
HEARTBEAT_S_MAX = 60


class _Inbox:
    """What arrived for one watcher and was not sent yet."""

    def __init__(self) -> None:
        self.appends: deque[StoredAppend] = deque()
        self.deltas: deque[bytes] = deque(maxlen=DELTAS_MAX)
        self.size = 0
        self.incomplete = False
        """Something was lost on the way: read the log again."""
        self.overflowed = False
        self._arrived = asyncio.Event()

    def put(self, stored: StoredAppend) -> None:
        if self.overflowed:
            return
        self.appends.append(stored)
        self.size += len(stored.payload)
        if self.size > WATCHER_BYTES_MAX:
            self.appends.clear()
            self.size, self.overflowed = 0, True
        self._arrived.set()

    def put_delta(self, payload: bytes) -> None:
        self.deltas.append(payload)
        self._arrived.set()

    def lose(self) -> None:
        self.incomplete = True
        self._arrived.set()

    def take(self) -> list[StoredAppend]:
        taken = list(self.appends)
        self.appends.clear()
        self.size = 0
        self._arrived.clear()
        return taken

    async def wait(self, seconds: float) -> bool:
        """Return whether something arrived in time."""
        try:
            async with asyncio.timeout(seconds):
                await self._arrived.wait()
        except TimeoutError:
            return False
        return True


class Watches:
    """All watches of one gateway."""

    def __init__(self, log: EventLog) -> None:
        """Take the log, connected as gateway."""
        self._log = log
        self._inboxes: dict[str, set[_Inbox]] = {}
        self._runs = Runs()
        self._count = 0

    async def run(self) -> None:
        """Hand every live append to those who watch its session, until cancelled."""
        missed = 0
        async with self._log.live(None) as live:
            async for batch in live:
                if live.missed != missed:
                    missed = live.missed
                    self._runs.clear()
                    for inboxes in self._inboxes.values():
                        for inbox in inboxes:
                            inbox.lose()
                for stored in batch:
                    for inbox in self._inboxes.get(stored.session_id, ()):
                        inbox.put(stored)

    @asynccontextmanager
    async def following(self, session_id: str, after_revision: int) -> AsyncIterator[AsyncIterator[event_pb2.Event]]:
        """Yield the session's events after a revision, then live, parsed and one by one."""
        async with aclosing(self._events_of(session_id, after_revision)) as events:
            yield events

    async def _events_of(self, session_id: str, after_revision: int) -> AsyncGenerator[event_pb2.Event, None]:
        async with self._joined(session_id) as inbox:
            follower = _Follower(self._log, self._runs, session_id, after_revision, inbox)
            while True:
                async for piece in follower.pieces():
                    for event in event_pb2.Append.FromString(piece.events_bytes).events:
                        yield event
                await inbox.wait(HEARTBEAT_S_DEFAULT)
                await follower.check()

    async def session(self, session_id: str, request: api.WatchSessionRequest) -> AsyncIterator[bytes]:
        """Yield serialised WatchSessionResponses: history after a revision, then live, with heartbeats."""
        heartbeat_s = min(request.heartbeat_s or HEARTBEAT_S_DEFAULT, HEARTBEAT_S_MAX)
        async with self._joined(session_id, deltas=request.include_deltas) as inbox:
            follower = _Follower(self._log, self._runs, session_id, request.after_revision, inbox)
            announced = False
            while True:
                async for piece in follower.pieces():
                    yield piece.events_bytes
                deltas = [inbox.deltas.popleft() for _ in range(len(inbox.deltas))]
                if deltas and announced:
                    yield b"".join(_field(2, delta) for delta in deltas)
                if not announced or not await inbox.wait(heartbeat_s):
                    await follower.check()
                    announced = True
                    yield _heartbeat(follower.sent)

    async def events(self, request: api.WatchEventsRequest) -> AsyncIterator[api.WatchEventsResponse]:
        """Yield the events of all sessions after a position, then live; filtered by what the appends' headers say."""
        after = await self._log.last_position() if request.after_position < 0 else request.after_position
        heartbeat_s = min(request.heartbeat_s or HEARTBEAT_S_DEFAULT, HEARTBEAT_S_MAX)
        kinds = frozenset(request.kinds)
        async with self._log.feed(after_position=after) as feed:
            batches = feed.__aiter__()
            coming = asyncio.ensure_future(anext(batches))
            try:
                while True:
                    done, _ = await asyncio.wait({coming}, timeout=heartbeat_s)
                    if not done:
                        yield api.WatchEventsResponse(position=after, heartbeat=api.Heartbeat(newest=after, live=True))
                        continue
                    batch = coming.result()
                    coming = asyncio.ensure_future(anext(batches))
                    after = batch[-1].position
                    for response in _selected(batch, request, kinds):
                        yield response
            finally:
                coming.cancel()

    @asynccontextmanager
    async def _joined(self, session_id: str, *, deltas: bool = False) -> AsyncIterator[_Inbox]:
        if self._count >= WATCHES_MAX:
            raise ResourceExhausted("TOO_MANY_WATCHES", f"this gateway has {WATCHES_MAX} watches", limit=WATCHES_MAX)
        inbox = _Inbox()
        self._inboxes.setdefault(session_id, set()).add(inbox)
        self._count += 1
        try:
            if not deltas:
                yield inbox
                return
            async with asyncio.TaskGroup() as tasks:
                listening = tasks.create_task(self._listen(session_id, inbox))
                try:
                    yield inbox
                finally:
                    listening.cancel()
        finally:
            self._count -= 1
            self._inboxes[session_id].discard(inbox)
            if not self._inboxes[session_id]:
                del self._inboxes[session_id]

    async def _listen(self, session_id: str, inbox: _Inbox) -> None:
        async with self._log.deltas(session_id) as deltas:
            async for delta in deltas:
                inbox.put_delta(delta.SerializeToString())


class _Follower:
    """Walks one session from a revision on: history first, live after it, history again after a loss."""

    def __init__(self, log: EventLog, runs: Runs, session_id: str, after_revision: int, inbox: _Inbox) -> None:
        self._log = log
        self._runs = runs
        self._session_id = session_id
        self._inbox = inbox
        self.sent = after_revision
        self._position = 0
        self._live = False

    async def pieces(self) -> AsyncIterator[Piece]:
        """Yield what is there now and was not yielded yet, in pieces of at most 1 MiB (or one append)."""
        if self._inbox.overflowed and self._live:
            message = f"the watcher is more than {WATCHER_BYTES_MAX} bytes behind"
            raise ResourceExhausted("WATCHER_TOO_SLOW", message, resume_revision=self.sent)
        if not self._live or self._inbox.incomplete or self._inbox.overflowed:
            self._inbox.incomplete = self._inbox.overflowed = False
            async for piece in grouped(self._new(self._history())):
                yield piece
            self._live = True
        taken = self._inbox.take()
        run = self._runs.joined(taken)
        if run and run[0].first_revision == self.sent + 1:
            self.sent, self._position = run[-1].last_revision, taken[-1].position
            for piece in run:
                yield piece
        else:
            async for piece in grouped(self._new(_each(taken))):
                yield piece
        if self._inbox.incomplete:
            async for piece in grouped(self._new(self._history())):
                yield piece
            self._inbox.incomplete = False

    async def check(self) -> None:
        """Compare with the leader: live messages may be lost without anybody knowing."""
        tail = await self._log.tail(self._session_id)
        if tail.revision > self.sent:
            self._inbox.lose()

    async def _history(self) -> AsyncIterator[StoredAppend]:
        tail = await self._log.tail(self._session_id)
        if tail.state is None:
            raise session_not_found(self._session_id)
        if self.sent > tail.revision:
            message = f"the newest revision is {tail.revision}; there is nothing after {self.sent}"
            raise OutOfRange("REVISION_AHEAD", message, newest_revision=tail.revision)
        history = self._log.history(
            self._session_id,
            after_revision=self.sent,
            after_position=self._position,
            up_to_position=tail.position,
        )
        async for stored in history:
            if stored.first_revision > self.sent + 1:
                message = f"revisions {self.sent + 1} to {stored.first_revision - 1} are gone"
                raise OutOfRange("REVISION_GONE", message, first_revision=stored.first_revision)
            yield stored

    async def _new(self, appends: AsyncIterator[StoredAppend]) -> AsyncIterator[Piece]:
        async for stored in appends:
            if stored.last_revision <= self.sent:
                continue
            if stored.first_revision > self.sent + 1:
                self._inbox.incomplete = True
                return
            events_bytes = stored.events_bytes
            first = stored.first_revision
            if first <= self.sent:
                events = [event for event in stored.events if event.revision > self.sent]
                events_bytes, first = event_pb2.Append(events=events).SerializeToString(), events[0].revision
            self.sent, self._position = stored.last_revision, stored.position
            yield Piece(events_bytes, first, stored.last_revision)


async def _each(appends: list[StoredAppend]) -> AsyncIterator[StoredAppend]:
    for stored in appends:
        yield stored


def _heartbeat(newest: int) -> bytes:
    return api.WatchSessionResponse(heartbeat=api.Heartbeat(newest=newest, live=True)).SerializeToString()


def _field(number: int, payload: bytes) -> bytes:
    """Return `payload` as a length-delimited protobuf field."""
    length, head = len(payload), bytearray([number << 3 | 2])
    while length > 0x7F:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    head.append(length)
    return bytes(head) + payload


def _selected(
    batch: list[StoredAppend], request: api.WatchEventsRequest, kinds: frozenset[str]
) -> list[api.WatchEventsResponse]:
    """Return responses of at most 1 MiB with the events that were asked for; the last one carries the position."""
    responses = [api.WatchEventsResponse()]
    size = 0
    for stored in batch:
        events = [
            event
            for event in (stored.events if _is_asked_for(stored, request, kinds) else ())
            if not kinds or event.WhichOneof("body") in kinds
        ]
        size += len(stored.payload)
        if size > RESPONSE_BYTES_MAX and responses[-1].events:
            responses.append(api.WatchEventsResponse())
            size = len(stored.payload)
        responses[-1].events.extend(events)
        responses[-1].position = stored.position
    return [response for response in responses if response.events]


def _is_asked_for(stored: StoredAppend, request: api.WatchEventsRequest, kinds: frozenset[str]) -> bool:
    if request.provider not in ("", stored.provider) or request.workspace not in ("", stored.workspace):
        return False
    if kinds and not kinds & stored.kinds:
        return False
    if not request.labels:
        return True
    labels = stored.state.session.labels
    return all(labels.get(key) == value for key, value in request.labels.items())
