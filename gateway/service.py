"""SessionService as the gateway answers it: commands, and reads of single sessions, runners and models."""

# ruff: noqa: N802 - gRPC names its methods

from collections.abc import AsyncIterator
from typing import Any, TypeVar

import structlog

from gateway import checks, limits, turns
from gateway.catalog import Catalog
from gateway.commands import Commands
from gateway.decide import Answer, Asked, Command
from gateway.placement import require_workspace
from gateway.settings import GatewaySettings
from gateway.wakes import Living, Waker
from gateway.watch import Watches
from podium import names, rpc
from podium.errors import session_not_found
from podium.eventlog import EventLog
from podium.eventlog.content import LongContent
from podium.session import has_work, pending_approvals
from podium.v1 import session_pb2 as s
from podium.v1 import session_service_pb2 as api

_log = structlog.get_logger()
_A = TypeVar("_A", bound=Answer)


class SessionService:
    """Answers SessionService, but for the lists that the indexer answers."""

    def __init__(
        self,
        settings: GatewaySettings,
        log: EventLog,
        commands: Commands,
        living: Living,
        waker: Waker,
        watches: Watches,
        content: LongContent,
    ) -> None:
        """Take its parts; `gateway.__main__` puts them together."""
        self._settings = settings
        self._log = log
        self._commands = commands
        self._living = living
        self._waker = waker
        self._watches = watches
        self._content = content

    async def CreateSession(self, request: api.CreateSessionRequest, context: Any) -> api.CreateSessionResponse:
        """Make a session, its id derived from principal and request id."""
        # Fingerprinted as it was sent: what the settings fill in may change between two tries.
        asked = _asked(request, context, names.session_id_for(rpc.caller().name, request.request_id))
        wanted = request.turn.model or request.session.model
        if wanted and self._catalog().find_model(wanted) is None:
            # A runner may have told of it a moment ago.
            await self._living.read_catalogs()
        catalog = self._catalog()
        checks.create_session(request, self._settings, catalog)
        require_workspace(self._living.all(), request.session)
        return await self._run(request, asked, catalog, api.CreateSessionResponse)

    async def StartTurn(self, request: api.StartTurnRequest, context: Any) -> api.StartTurnResponse:
        """Ask for a turn."""
        checks.turn(request)
        return await self._on_session(request, context, api.StartTurnResponse)

    async def RunTurn(self, request: api.RunTurnRequest, context: Any) -> api.RunTurnResponse:
        """Ask for a turn and wait for its end."""
        start = api.StartTurnRequest(request_id=request.request_id, session=request.session, turn=request.turn)
        started = await self.StartTurn(start, context)
        session_id = names.session_id(request.session)
        async with self._watches.following(session_id, started.revision - 1) as events:
            outcome = await turns.outcome(events, names.session_name(session_id), started.turn_id, self._content)
        outcome.position = (await self._log.tail(session_id)).position
        return outcome

    async def CancelTurn(self, request: api.CancelTurnRequest, context: Any) -> api.CancelTurnResponse:
        """Take a queued turn back."""
        limits.text(request.reason, "reason")
        return await self._on_session(request, context, api.CancelTurnResponse)

    async def InterruptTurn(self, request: api.InterruptTurnRequest, context: Any) -> api.InterruptTurnResponse:
        """Stop a turn."""
        limits.text(request.reason, "reason")
        return await self._on_session(request, context, api.InterruptTurnResponse)

    async def StopSession(self, request: api.StopSessionRequest, context: Any) -> api.StopSessionResponse:
        """Interrupt the turn, drop the queue, end the process."""
        limits.text(request.reason, "reason")
        return await self._on_session(request, context, api.StopSessionResponse)

    async def ResolveApproval(self, request: api.ResolveApprovalRequest, context: Any) -> api.ResolveApprovalResponse:
        """Answer a question."""
        checks.approval(request)
        return await self._on_session(request, context, api.ResolveApprovalResponse)

    async def UpdateSession(self, request: api.UpdateSessionRequest, context: Any) -> api.UpdateSessionResponse:
        """Change settings of a session."""
        asked = _asked(request, context, names.session_id(request.session.name, "session.name"))
        checks.update_session(request)
        return await self._run(request, asked, self._catalog(), api.UpdateSessionResponse)

    async def GetSession(self, request: api.GetSessionRequest, context: Any) -> api.GetSessionResponse:
        """Read one session from the log's leader."""
        session_id = names.session_id(request.name, "name")
        tail = await self._log.tail(session_id)
        if tail.state is None:
            raise session_not_found(session_id)
        session = s.Session()
        session.CopyFrom(tail.state.session)
        if not session.waiting_on and has_work(tail.state) and self._living.is_missing(tail.state.owner.runner):
            session.waiting_on = s.WAITING_ON_RUNNER
        return api.GetSessionResponse(
            session=session,
            running_turn_id=tail.state.turn.id,
            queued_turn_ids=[turn.id for turn in tail.state.queue],
            pending_approval_ids=[approval.id for approval in pending_approvals(tail.state)],
            position=tail.position,
        )

    def WatchSession(self, request: api.WatchSessionRequest, context: Any) -> AsyncIterator[bytes]:
        """Show a session's events, as serialised responses."""
        session_id = names.session_id(request.session)
        return self._watches.session(session_id, request)

    def WatchEvents(self, request: api.WatchEventsRequest, context: Any) -> AsyncIterator[api.WatchEventsResponse]:
        """Show all sessions' events."""
        return self._watches.events(request)

    async def ListProviders(self, request: api.ListProvidersRequest, context: Any) -> api.ListProvidersResponse:
        """Show what the living runners have."""
        providers = [provider for runner in self._living.all() for provider in runner.providers]
        return api.ListProvidersResponse(providers=sorted(providers, key=lambda p: (p.name, p.runner)))

    async def ListModels(self, request: api.ListModelsRequest, context: Any) -> api.ListModelsResponse:
        """Show the models of all providers, or of one."""
        models = (self._catalog()).models
        return api.ListModelsResponse(models=[m for m in models if request.provider in ("", m.provider)])

    async def ListRunners(self, request: api.ListRunnersRequest, context: Any) -> api.ListRunnersResponse:
        """Show the living runners."""
        return api.ListRunnersResponse(runners=self._living.all())

    async def _on_session(self, request: Any, context: Any, answer: type[_A]) -> _A:
        asked = _asked(request, context, names.session_id(request.session))
        return await self._run(request, asked, self._catalog(), answer)

    async def _run(self, request: Command, asked: Asked, catalog: Catalog, kind: type[_A]) -> _A:
        done = await self._commands.run(request, asked, catalog)
        await self._waker.wake(done.state)
        if not isinstance(done.answer, kind):
            raise TypeError(f"{type(request).__name__} was answered with {type(done.answer).__name__}")
        return done.answer

    def _catalog(self) -> Catalog:
        return Catalog(self._living.all(), self._living.catalogs)


def _asked(request: Any, context: Any, session_id: str) -> Asked:
    """Return who asks for what; the fingerprint covers all of the request but its id."""
    request_id = limits.request_id(request.request_id)
    content = type(request)()
    content.CopyFrom(request)
    content.request_id = ""
    metadata = dict(context.invocation_metadata() or ())
    return Asked(
        session_id=session_id,
        principal=rpc.caller().name,
        request_id=request_id,
        fingerprint=names.fingerprint(type(request).__name__.encode() + content.SerializeToString(deterministic=True)),
        traceparent=str(metadata.get("traceparent", ""))[:64],
    )
