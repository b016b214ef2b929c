"""One NATS server and one gateway, and runners with the scripted provider: each test in a pool of its own."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from indexer.__main__ import running as run_indexer
from indexer.settings import IndexerSettings
from podium import auth
from podium.eventlog import EventLog, Role, StoredAppend
from podium.eventlog.access import log_settings
from podium.eventlog.server import EmbeddedServer
from podium.eventlog.serverconfig import ServerSettings
from podium.names import session_id
from podium.settings import ServiceSettings
from podium.v1 import event_pb2 as e
from podium.v1 import session_pb2 as s
from podium.v1 import session_service_pb2 as api
from podium.v1.content_pb2 import ContentBlock, TextBlock
from tests.support import gateways, processes, runners
from tests.support.scripted_provider import NAME, ScriptedProvider

TTL_S = 1
WAIT_S = 30.0

_pools = count(1)


def fresh() -> str:
    return str(uuid.uuid4())


def said(text: str, **more: Any) -> api.TurnInput:
    return api.TurnInput(prompt=[ContentBlock(text=TextBlock(text=text))], **more)


@dataclass
class House:
    """What all tests share."""

    server: EmbeddedServer
    settings: ServiceSettings
    gateway: gateways.Gateway
    log: EventLog


@asynccontextmanager
async def house(folder: Path, *, indexed: bool = False, **gateway: Any) -> AsyncIterator[House]:
    """Run NATS and a gateway; `indexed`: an indexer too, that tells the gateway's sweep what is unfinished."""
    async with AsyncExitStack() as around:
        server = await around.enter_async_context(EmbeddedServer(ServerSettings(data=folder / "nats")))
        settings = ServiceSettings(nats_url=server.url, nats_credentials_file=server.credentials_file)
        async with EventLog.connect(log_settings(settings, Role.OPERATOR), Role.OPERATOR) as log:
            await log.ensure_streams()
        if indexed:
            port = await around.enter_async_context(indexer(settings, folder))
            gateway["indexer_address"] = f"127.0.0.1:{port}"
        running = gateways.gateway(settings, folder / "gateway", heartbeat_ttl_s=TTL_S, **gateway)
        served = await around.enter_async_context(running)
        log = await around.enter_async_context(gateways.connected(settings, Role.RUNNER))
        yield House(server, settings, served, log)


@asynccontextmanager
async def indexer(settings: ServiceSettings, folder: Path) -> AsyncIterator[int]:
    """Run an indexer that the gateway may ask, and yield its port."""
    tokens = folder / "indexer-tokens.json"
    auth.write_tokens(tokens, [auth.entry("gateway", [auth.Role.ADMIN], "token-of-gateway")])
    indexer_settings = IndexerSettings(  # type: ignore[call-arg]  # mypy does not see its positional defaults
        nats_url=settings.nats_url,
        nats_credentials_file=settings.nats_credentials_file,
        listen="127.0.0.1:0",
        tokens_file=tokens,
        store_file=folder / "podium.duckdb",
        store_memory_mb=128,
        stop_grace_s=0.1,
    )
    async with run_indexer(indexer_settings) as port:
        yield port


@dataclass
class Play:
    """One test's pool, its runners, and what it asks of the gateway."""

    house: House
    folder: Path
    pool: str = field(default_factory=lambda: f"pool{next(_pools)}")
    provider: ScriptedProvider = field(default_factory=ScriptedProvider)

    @property
    def sessions(self) -> Any:
        return self.house.gateway.sessions

    @asynccontextmanager
    async def runner(
        self, name: str = "r", provider: ScriptedProvider | None = None, **given: Any
    ) -> AsyncIterator[runners.Runner]:
        """Run a runner in this process, and wait until the gateway sees it."""
        quick = {"heartbeat_ttl_s": TTL_S, "drain_s": 0.3, "interrupt_grace_s": 1.0}
        given = {"host": "h1", "pool": self.pool, "runner_name": name, **quick, **given}
        given.setdefault("state_dir", self.folder / f"state-{given['host']}")
        used = provider or self.provider
        running = runners.runner(self.house.settings, self.folder, "", providers={used.name: used}, **given)
        async with running as found:
            await self.seen(found.id)
            yield found

    async def process(self, around: AsyncExitStack, name: str = "r", **given: str) -> processes.Service:
        """Start a runner as a process of its own."""
        environment = {
            "PODIUM_NATS_URL": self.house.settings.nats_url,
            "PODIUM_NATS_CREDENTIALS_FILE": str(self.house.settings.nats_credentials_file),
            "PODIUM_HOST": "h1",
            "PODIUM_POOL": self.pool,
            "PODIUM_RUNNER_NAME": name,
            "PODIUM_ROOTS": json.dumps([str(self.folder)]),
            "PODIUM_STATE_DIR": str(self.folder / "state-h1"),
            "PODIUM_HEARTBEAT_TTL_S": str(TTL_S),
            "PODIUM_DRAIN_S": "1",
            **given,
        }
        starting = processes.service(
            "tests.support.scripted_provider", self.folder / f"{name}-{fresh()[:8]}", environment
        )
        service = await around.enter_async_context(starting)
        await service.said("ready")
        return service

    async def seen(self, runner_id: str) -> None:
        """Wait until the gateway knows the runner."""
        async with asyncio.timeout(WAIT_S):
            while runner_id not in {runner.id for runner in await self.runners()}:
                await asyncio.sleep(0.02)

    async def runners(self) -> list[Any]:
        answer = await self.sessions.ListRunners(api.ListRunnersRequest())
        return [runner for runner in answer.runners if runner.pool == self.pool]

    async def create(self, text: str = "", **session: Any) -> str:
        """Make a session, with a first turn if there is a text; return its name."""
        wanted = s.Session(**{"provider": NAME, "pool": self.pool, **session})
        request = api.CreateSessionRequest(request_id=fresh(), session=wanted)
        if text:
            request.turn.CopyFrom(said(text))
        return str((await self.sessions.CreateSession(request)).session.name)

    async def turn(self, name: str, text: str, **more: Any) -> str:
        """Ask for a turn and return its id."""
        request = api.StartTurnRequest(request_id=fresh(), session=name, turn=said(text, **more))
        return str((await self.sessions.StartTurn(request)).turn_id)

    async def interrupt(self, name: str, reason: str = "enough") -> Any:
        request = api.InterruptTurnRequest(request_id=fresh(), session=name, reason=reason)
        return await self.sessions.InterruptTurn(request)

    async def stop(self, name: str) -> Any:
        return await self.sessions.StopSession(api.StopSessionRequest(request_id=fresh(), session=name, reason="stop"))

    async def resolve(self, name: str, approval_id: str, *, allow: bool = True, **more: Any) -> Any:
        decision = api.APPROVAL_DECISION_ALLOW if allow else api.APPROVAL_DECISION_DENY
        request = api.ResolveApprovalRequest(
            request_id=fresh(), session=name, approval_id=approval_id, decision=decision, **more
        )
        return await self.sessions.ResolveApproval(request)

    async def appends(self, name: str) -> list[StoredAppend]:
        return [stored async for stored in self.house.log.history(session_id(name))]

    async def events(self, name: str, kind: str = "") -> list[e.Event]:
        """Return the session's events, those of one kind if it is given."""
        events = [event for stored in await self.appends(name) for event in stored.events]
        assert [event.revision for event in events] == list(range(1, len(events) + 1))
        return [event for event in events if kind in ("", event.WhichOneof("body"))]

    async def state(self, name: str) -> s.SessionState:
        tail = await self.house.log.tail(session_id(name))
        assert tail.state is not None
        return tail.state

    async def until(
        self, name: str, holds: Callable[[s.SessionState], object], seconds: float = WAIT_S
    ) -> s.SessionState:
        """Return the session's state once `holds` accepts it."""
        state = await self.state(name)
        try:
            async with asyncio.timeout(seconds):
                while not holds(state):
                    await asyncio.sleep(0.01)
                    state = await self.state(name)
        except TimeoutError:
            kinds = [event.WhichOneof("body") for event in await self.events(name)]
            raise AssertionError(f"{kinds}\n{state}") from None
        return state

    async def ended(self, name: str, how_many: int = 1, seconds: float = WAIT_S) -> list[e.Event]:
        """Return how turns ended, oldest first, once so many have."""

        async def found() -> list[e.Event]:
            return await self.events(name, "turn_ended")

        try:
            async with asyncio.timeout(seconds):
                while len(ends := await found()) < how_many:
                    await asyncio.sleep(0.01)
        except TimeoutError:
            kinds = [event.WhichOneof("body") for event in await self.events(name)]
            raise AssertionError(f"{kinds}\n{await self.state(name)}") from None
        return ends

    async def says(self, name: str, text: str) -> None:
        """Wait until a message with this text is on the log."""
        async with asyncio.timeout(WAIT_S):
            while text not in await self.texts(name):
                await asyncio.sleep(0.01)

    async def texts(self, name: str) -> list[str]:
        """Return what the agent said."""
        messages = [event.message for event in await self.events(name, "message")]
        return [one.content[0].text.text for one in messages if one.role == e.ROLE_ASSISTANT]


def runs(state: s.SessionState) -> bool:
    return state.HasField("turn")


def is_free(state: s.SessionState) -> bool:
    return not state.HasField("owner")


async def until(holds: Callable[[], object], seconds: float = WAIT_S) -> None:
    """Wait until something in this process is so."""
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.01)
