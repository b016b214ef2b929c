"""What the tests of the log share: brokers, connections in every role, sessions with content, and a checker."""

import asyncio
import contextlib
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from podium import names
from podium.clock import SystemClock
from podium.drafts import Draft
from podium.errors import Unavailable
from podium.eventlog import (
    CommandResult,
    EventLog,
    Limits,
    LogSettings,
    Role,
    SessionWriter,
    StoredAppend,
    Tail,
    UnacknowledgedBudget,
    attach,
    command,
)
from podium.eventlog.link import LinkError
from podium.eventlog.server import EmbeddedServer
from podium.eventlog.servercluster import EmbeddedCluster
from podium.eventlog.serverconfig import ServerSettings
from podium.session import fold, seen
from podium.v1 import content_pb2 as c
from podium.v1 import event_pb2 as e
from podium.v1.session_pb2 import SessionState

CLOCK = SystemClock()


@dataclass
class Broker:
    """One NATS server (R1) or a cluster of three (R3) with all streams made."""

    replicas: int
    servers: list[EmbeddedServer]

    def settings(self, role: Role, **other: float) -> LogSettings:
        return LogSettings(
            servers=tuple(server.url for server in self.servers),
            password=self.servers[0].credentials.password(role),
            limits=Limits(replicas=self.replicas),
            **other,  # type: ignore[arg-type]  # timeouts
        )

    @contextlib.asynccontextmanager
    async def connect(self, role: Role, **other: float) -> AsyncIterator[EventLog]:
        async with EventLog.connect(self.settings(role, **other), role) as log:
            yield log


@contextlib.asynccontextmanager
async def single(folder: Path) -> AsyncIterator[Broker]:
    async with EmbeddedServer(ServerSettings(data=folder / "nats")) as server:
        broker = Broker(1, [server])
        await _make_streams(broker)
        yield broker


@contextlib.asynccontextmanager
async def cluster(folder: Path) -> AsyncIterator[Broker]:
    async with EmbeddedCluster(folder / "cluster") as three:
        broker = Broker(3, three.servers)
        await _make_streams(broker)
        yield broker


async def _make_streams(broker: Broker) -> None:
    async with broker.connect(Role.OPERATOR) as log:
        await log.ensure_streams()


def new_session_id() -> str:
    return names.new_id(time.time_ns())


def created(title: str = "") -> Draft:
    return Draft(
        e.SessionCreated(provider="claude", workspace="podium", pool="default", title=title),
        source=e.SOURCE_GATEWAY,
    )


def said(text: str = "hello", size: int = 0) -> Draft:
    text = text.ljust(size, ".")
    block = c.ContentBlock(text=c.TextBlock(text=text))
    return Draft(e.Message(role=e.ROLE_ASSISTANT, content=[block]), source=e.SOURCE_PROVIDER)


def text_of(event: e.Event) -> str:
    return event.message.content[0].text.text.rstrip(".") if event.WhichOneof("body") == "message" else ""


def noted(message: str) -> Draft:
    return Draft(e.Notice(code="note", message=message), source=e.SOURCE_PROVIDER)


async def create(log: EventLog, session_id: str) -> CommandResult:
    return await command(log, session_id, lambda state: [created()] if state is None else [], clock=CLOCK)


def asks(request_id: str, prompt: str = "do it") -> Callable[[SessionState | None], list[Draft]]:
    """Return how a gateway decides on a StartTurn: once per request id."""

    def decide(state: SessionState | None) -> list[Draft]:
        assert state is not None
        if seen(state, "tester", request_id) is not None:
            return []
        prompt_block = c.ContentBlock(text=c.TextBlock(text=prompt))
        return [
            Draft(
                e.TurnRequested(prompt=[prompt_block]),
                turn_id=str(uuid.uuid5(uuid.NAMESPACE_OID, request_id)),
                source=e.SOURCE_GATEWAY,
                principal="tester",
                causation_id=request_id,
            )
        ]

    return decide


async def take(log: EventLog, session_id: str, runner: str = "r1") -> Tail:
    """Attach a runner, whoever had the session before."""

    def claim(state: SessionState | None) -> e.RunnerAttached:
        assert state is not None
        reason = e.ATTACH_REASON_TAKEN_OVER if state.HasField("owner") else e.ATTACH_REASON_CLAIMED
        return e.RunnerAttached(runner=runner, host="h1", epoch=state.epoch + 1, reason=reason)

    return (await attach(log, session_id, claim, clock=CLOCK)).tail


def writer(
    log: EventLog,
    tail: Tail,
    *,
    runner: str = "r1",
    budget: UnacknowledgedBudget | None = None,
    on_change: Callable[[SessionState], None] = lambda _: None,
    outage_s: float = 60.0,
) -> SessionWriter:
    assert tail.state is not None
    return SessionWriter(
        log,
        names.session_id(tail.state.session.name),
        runner=runner,
        epoch=tail.state.epoch,
        tail=tail,
        clock=CLOCK,
        budget=budget or UnacknowledgedBudget(),
        on_change=on_change,
        outage_s=outage_s,
    )


@contextlib.asynccontextmanager
async def owned(gateway: EventLog, runner: EventLog, session_id: str, **how: object) -> AsyncIterator[SessionWriter]:
    """Give the writer of a fresh session."""
    await create(gateway, session_id)
    async with writer(runner, await take(runner, session_id), **how) as own:  # type: ignore[arg-type]
        yield own


async def read_all(log: EventLog, session_id: str) -> list[StoredAppend]:
    return [stored async for stored in log.history(session_id)]


async def read_patiently(log: EventLog, session_id: str) -> list[StoredAppend]:
    """Read a session although brokers have just been killed."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await read_all(log, session_id)
            except Unavailable:
                await asyncio.sleep(0.05)


async def texts(log: EventLog, session_id: str) -> list[str]:
    """Return what the owner said, in the order of the log, after checking all that the log promises."""
    stored = await read_patiently(log, session_id)
    assert broken_promises(stored) == []
    return [text for append in stored for event in append.events if (text := text_of(event))]


async def until(condition: Callable[[], Awaitable[bool]], timeout_s: float = 20.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not await condition():  # the log is asked, it tells nobody
            await asyncio.sleep(0.005)


async def chatter(own: SessionWriter, stop: asyncio.Event) -> int:
    """Write without a pause, a few at a time; return how many."""
    count = 0
    while not stop.is_set():
        await own.write([said(str(count + number)) for number in range(5)])
        count += 5
        if own.unacknowledged > 500:
            await own.flush()
        await asyncio.sleep(0.001)
    await own.flush()
    return count


async def gets_on(own: SessionWriter, timeout_s: float = 60.0) -> None:
    """Return once the owner has stored more than it had."""
    before = own.position

    async def further() -> bool:
        return own.position > before + 5

    await until(further, timeout_s)


async def leader_of(broker: Broker) -> EmbeddedServer:
    """Return the cluster's member that leads the stream of facts."""
    async with broker.connect(Role.OPERATOR) as operator, asyncio.timeout(30):
        while True:
            with contextlib.suppress(LinkError):
                info = await operator.link.api("STREAM.INFO.EVENTS", timeout_s=2)
                for server in broker.servers:
                    if server.name == info["cluster"].get("leader"):
                        return server
            await asyncio.sleep(0.05)


def broken_promises(appends: Sequence[StoredAppend]) -> list[str]:
    """Return what is wrong with a session as it lies on the log: every invariant the log promises."""
    events = [(stored, event) for stored in appends for event in stored.events]
    ids = Counter(event.id for _, event in events)
    return [
        *_wrong_revisions(appends),
        *_wrong_places(appends),
        *_wrong_epochs(events),
        *(f"{event_id} is there twice" for event_id, times in ids.items() if times > 1),
        *(
            f"{stored}: revision {event.revision} is not later than the one before"
            for (_, before), (stored, event) in pairwise(events)
            if event.created_at.ToNanoseconds() <= before.created_at.ToNanoseconds()
        ),
    ]


def _wrong_revisions(appends: Sequence[StoredAppend]) -> Iterator[str]:
    revision = 0
    for stored in appends:
        found = [event.revision for event in stored.events]
        if found != list(range(revision + 1, revision + 1 + len(found))):
            yield f"{stored}: revisions {found} after {revision}"
        if [stored.first_revision, stored.last_revision] != [found[0], found[-1]]:
            yield f"{stored}: headers say {stored.first_revision} to {stored.last_revision}"
        revision = found[-1]


def _wrong_places(appends: Sequence[StoredAppend]) -> Iterator[str]:
    state: SessionState | None = None
    position = 0
    for stored in appends:
        if any(event.after_position != position for event in stored.events):
            yield f"{stored}: lies after {position}, was written after {stored.events[0].after_position}"
        state = fold(state, stored.events)
        if stored.state != state:
            yield f"{stored}: the state it carries is not the fold of the events"
        position = stored.position


def _wrong_epochs(events: Sequence[tuple[StoredAppend, e.Event]]) -> Iterator[str]:
    epoch = 0
    for stored, event in events:
        if event.WhichOneof("body") == "runner_attached":
            if event.epoch != epoch + 1:
                yield f"{stored}: epoch {event.epoch} attached after {epoch}"
            epoch = event.epoch
        elif event.epoch not in (0, epoch):
            yield f"{stored}: epoch {event.epoch} wrote under epoch {epoch}"
