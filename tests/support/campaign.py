"""Kills of one process at seeded random moments under load, and the proof of what must have survived them.

A load process owns sessions and writes numbered events; clerks give real commands to the same sessions through the
gateway, and repeat each under its request id until it is answered; watchers follow sessions and resume. After the kills
the log and DuckDB are read back and compared with what was acknowledged.
"""

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from podium import rpc
from podium.eventlog import EventLog, Role, StoredAppend
from podium.v1 import analytics_service_pb2 as analytics
from podium.v1 import content_pb2 as c
from podium.v1 import session_pb2 as s
from podium.v1 import session_service_pb2 as api
from tests.integration.eventlog.rig import broken_promises
from tests.support.orders import Noted, Orders
from tests.support.proof import Commands, wrong_commands, wrong_numbers, wrong_rows
from tests.support.stage import Client, Stage, until

VICTIMS = ("nats", "gateway", "load", "indexer")
SESSIONS, EVENTS_PER_S, BATCH, EVENT_BYTES = 20, 1_500, 3, 600
CLERKS, WATCHERS = 4, 2
LIVE_S = (0.4, 1.4)
"""How long all is well before a kill."""
DOWN_S = (0.0, 0.7)
"""How long the process is away."""
RECOVERY_S_MAX = 60.0
CALL_S_MAX = 5.0
COMMAND_PAUSE_S = 0.02

A = TypeVar("A")


@dataclass(frozen=True, slots=True)
class Kill:
    """What was so at one kill, and after the process had come back.

    Attributes:
        rate: events written per second before it.
        in_flight: events given to writers and not acknowledged, and commands not answered, when it died.
        acknowledged: events acknowledged, and commands answered, until then.
        stored: of those, what the log (for the indexer: the projection) has afterwards, with what was in flight.
        recovery_s: from the restart until work was done again.
    """

    number: int
    rate: float
    in_flight: int
    acknowledged: int
    stored: int
    recovery_s: float


@dataclass
class Campaign:
    """Everything that runs while something is killed."""

    stage: Stage
    seed: int
    victim: str
    load_module: str = "tests.support.load"
    sessions: list[str] = field(default_factory=list)
    commands: Commands = field(default_factory=Commands)
    kills: list[Kill] = field(default_factory=list)
    seen: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.noted = Noted(self.stage.folder / "ledger")
        self.committed = 0

    async def run(self, kills: int) -> "Campaign":
        """Kill so many times, let all come to rest, read everything back; `problems` is what was found."""
        await self.stage.gateway()
        await self.stage.indexer()
        async with self.stage.client() as client:
            self.sessions = await client.make_sessions(SESSIONS, prefix=f"{self.victim}-{self.seed}")
            orders = Orders(
                self.sessions,
                events_per_s=EVENTS_PER_S,
                batch=BATCH,
                event_bytes=EVENT_BYTES,
                ledger=str(self.noted.path),
            )
            await self.stage.load(orders, module=self.load_module)
            stop = asyncio.Event()
            async with asyncio.TaskGroup() as tasks:
                for number in range(CLERKS):
                    tasks.create_task(self._clerk(client, number, stop))
                watching = [tasks.create_task(self._watch(client, session)) for session in self.sessions[:WATCHERS]]
                for number in range(kills):
                    await self._kill(client, number + 1)
                stop.set()
                # It flushes first: all that was written is acknowledged.
                await self.stage.parts["load"].stop()
                await self._watched(client)
                for task in watching:
                    task.cancel()
            await self._read_back(client)
        return self

    # The kills.

    async def _kill(self, client: Client, number: int) -> None:
        before, at = self.noted.read().events_written, time.monotonic()
        await asyncio.sleep(self.random.uniform(*LIVE_S))
        if self.victim == "indexer":
            self.committed = (await client.analytics.GetProjection(analytics.GetProjectionRequest())).position
        # Both are read before the kill: what is acknowledged later must not count as acknowledged then.
        answered, sent = len(self.commands.answered), len(self.commands.sent)
        rate = (self.noted.read().events_written - before) / (time.monotonic() - at)
        await self._end_victim()
        if self.victim == "load":
            self.noted.read()
        in_flight, acknowledged = self.noted.in_flight + sent - answered, self.noted.events_acknowledged + answered
        await asyncio.sleep(self.random.uniform(*DOWN_S))
        back_at = time.monotonic()
        await self._start_victim()
        await until(self._recovery(client), RECOVERY_S_MAX)
        recovery_s = time.monotonic() - back_at
        if self.victim == "indexer":
            in_flight, acknowledged, stored = await self._projected(client)
        else:
            stored = await self._stored()
        self.kills.append(Kill(number, rate, in_flight, acknowledged, stored, recovery_s))

    async def _end_victim(self) -> None:
        if self.victim == "nats":
            await self.random.choice(self.stage.servers).kill()
        else:
            await self.stage.parts[self.victim].kill()

    async def _start_victim(self) -> None:
        if self.victim == "nats":
            for server in self.stage.servers:
                await server.start()
        else:
            await self.stage.parts[self.victim].start()

    def _recovery(self, client: Client) -> Callable[[], Awaitable[bool]]:
        """Return how to know that the work goes on."""
        acknowledged, answered = self.noted.read().events_acknowledged, len(self.commands.answered)

        async def works() -> bool:
            return (
                self.noted.read().events_acknowledged > acknowledged + BATCH * SESSIONS
                and len(self.commands.answered) > answered + CLERKS
            )

        async def projects() -> bool:
            with contextlib.suppress(rpc.CallFailed):
                call = client.analytics.GetProjection(analytics.GetProjectionRequest(), timeout=CALL_S_MAX)
                return (await call).position > self.committed
            return False

        return projects if self.victim == "indexer" else works

    async def _stored(self) -> int:
        """Return how many events of the load and how many commands' facts the log has, from the newest states."""
        async with self.stage.connect(Role.GATEWAY) as log:
            states = [(await log.tail(session)).state for session in self.sessions]
        messages = sum(state.session.message_count for state in states if state is not None)
        # A session remembers the requests that took effect, 12 bytes each; the first one made it.
        requests = sum(len(state.recent_requests) // 12 - 1 for state in states if state is not None)
        return messages + requests

    async def _projected(self, client: Client) -> tuple[int, int, int]:
        found = await client.analytics.GetProjection(analytics.GetProjectionRequest())
        return found.log_position - found.position, self.committed, found.position

    # What runs meanwhile.

    async def _clerk(self, client: Client, number: int, stop: asyncio.Event) -> None:
        random_ = random.Random(f"{self.seed}-{number}")
        count = 0
        while not stop.is_set():
            count += 1
            session, request_id = random_.choice(self.sessions), f"clerk-{number}-{count}"
            self.commands.sent[request_id] = session
            if count % 2:
                titled = s.Session(name=f"sessions/{session}", title=f"{number}-{count}")
                update = api.UpdateSessionRequest(request_id=request_id, session=titled)
                update.update_mask.paths.append("title")
                await self._update(client, update)
            else:
                await self._turn_and_back(client, session, request_id)
            self.commands.answered.add(request_id)
            await asyncio.sleep(COMMAND_PAUSE_S)

    async def _update(self, client: Client, update: api.UpdateSessionRequest) -> None:
        await _answered(lambda: client.sessions.UpdateSession(update, timeout=CALL_S_MAX))

    async def _turn_and_back(self, client: Client, session: str, request_id: str) -> None:
        """Ask for a turn and take it back."""
        prompt = api.TurnInput(prompt=[c.ContentBlock(text=c.TextBlock(text=request_id))])
        start = api.StartTurnRequest(request_id=request_id, session=f"sessions/{session}", turn=prompt)
        started = await _answered(lambda: client.sessions.StartTurn(start, timeout=CALL_S_MAX))
        cancel_id = f"{request_id}-back"
        self.commands.sent[cancel_id] = session
        cancel = api.CancelTurnRequest(request_id=cancel_id, session=start.session, turn_id=started.turn_id)
        await _answered(lambda: client.sessions.CancelTurn(cancel, timeout=CALL_S_MAX))
        self.commands.answered.add(cancel_id)

    async def _watch(self, client: Client, session: str) -> None:
        """Follow a session for ever; a hole or a repeat is a problem."""
        self.seen[session] = 0
        while True:
            request = api.WatchSessionRequest(session=f"sessions/{session}", after_revision=self.seen[session])
            with contextlib.suppress(rpc.CallFailed):
                async for response in client.sessions.WatchSession(request):
                    for event in response.events:
                        if event.revision != self.seen[session] + 1:
                            self.problems.append(
                                f"watch of {session}: revision {event.revision} after {self.seen[session]}"
                            )
                        self.seen[session] = event.revision
            await asyncio.sleep(0.02)

    async def _watched(self, client: Client) -> None:
        """Wait until the watchers have seen everything."""

        async def all_seen() -> bool:
            for session, seen in self.seen.items():
                found = await client.sessions.GetSession(api.GetSessionRequest(name=f"sessions/{session}"))
                if seen < found.session.revision:
                    return False
            return True

        try:
            await until(all_seen, RECOVERY_S_MAX)
        except TimeoutError:
            self.problems.append(f"watchers did not see everything: {self.seen}")

    # The proof.

    async def _read_back(self, client: Client) -> None:
        self.noted.read()
        facts: Counter[str] = Counter()
        histories: dict[str, list[StoredAppend]] = {}
        async with self.stage.connect(Role.GATEWAY) as log:
            for session in self.sessions:
                histories[session] = await _history(log, session)
                self.problems += broken_promises(histories[session])
                self.problems += wrong_numbers(session, histories[session], self.noted)
                for stored in histories[session]:
                    facts.update({event.causation_id for event in stored.events if event.causation_id})
        self.problems += wrong_commands(self.commands, facts)
        newest = max(appends[-1].position for appends in histories.values())
        await self._projects_up_to(client, newest)
        await self.stage.parts["indexer"].stop()
        self.problems += wrong_rows(self.stage.store_file, histories)

    async def _projects_up_to(self, client: Client, position: int) -> None:
        async def there() -> bool:
            found = await client.analytics.GetProjection(analytics.GetProjectionRequest())
            return found.position >= position or bool(found.problem)

        with contextlib.suppress(TimeoutError):
            await until(there, RECOVERY_S_MAX)


async def _history(log: EventLog, session: str) -> list[StoredAppend]:
    return [stored async for stored in log.history(session)]


async def _answered(call: Callable[[], Awaitable[A]]) -> A:
    """Return the answer; the same request is sent again while nobody answers."""
    end = time.monotonic() + RECOVERY_S_MAX
    while True:
        try:
            return await call()
        except rpc.CallFailed as error:
            retryable = error.code().name in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "ABORTED", "CANCELLED", "UNKNOWN")
            if not retryable or time.monotonic() > end:
                raise
        await asyncio.sleep(COMMAND_PAUSE_S)
