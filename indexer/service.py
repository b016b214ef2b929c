"""The indexer's two services: AnalyticsService, and the lists of SessionService under their own method names."""

# ruff: noqa: N802 - gRPC names its methods

from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

import grpc
from google.protobuf.duration_pb2 import Duration

from indexer.lists import Lists
from indexer.progress import Progress
from indexer.queries import Queries
from indexer.schema import SCHEMA_VERSION
from indexer.usage import UsageSums
from podium.auth import Role
from podium.clock import Clock
from podium.v1 import analytics_service_pb2 as api
from podium.v1 import session_service_pb2 as sessions_api
from podium.v1.analytics_service_pb2_grpc import AnalyticsServiceServicer, add_AnalyticsServiceServicer_to_server

SESSIONS = sessions_api.DESCRIPTOR.services_by_name["SessionService"].full_name
ANALYTICS = api.DESCRIPTOR.services_by_name["AnalyticsService"].full_name
LISTS = ("ListSessions", "ListTurns", "ListMessages", "ListApprovals")


class Log(Protocol):
    """What the service needs of the log."""

    async def last_position(self) -> int:
        """Return the newest position."""


class AnalyticsService(AnalyticsServiceServicer):
    """Answers from the projection."""

    def __init__(self, usage: UsageSums, queries: Queries, progress: Progress, log: Log, clock: Clock) -> None:
        """Take its parts; `indexer.__main__` puts them together."""
        self._usage, self._queries, self._progress, self._log, self._clock = usage, queries, progress, log, clock
        self._behind_since_ns: int | None = None

    async def GetUsage(self, request: api.GetUsageRequest, context: Any) -> api.GetUsageResponse:
        """Sum usage."""
        return await self._usage.get(request, context)

    async def GetProjection(self, request: api.GetProjectionRequest, context: Any) -> api.GetProjectionResponse:
        """Say how far the projection is."""
        # In this order: a position read later may be ahead of the log's, and the lag would be 0 when it is not.
        position = self._progress.position
        log_position = await self._log.last_position()
        lag = Duration()
        lag.FromNanoseconds(self._lag_ns(behind=position < log_position))
        return api.GetProjectionResponse(
            position=position,
            log_position=log_position,
            lag=lag,
            schema_version=SCHEMA_VERSION,
            problem=self._progress.problem,
        )

    async def Query(self, request: api.QueryRequest, context: Any) -> AsyncIterator[api.QueryResponse]:
        """Run one SELECT."""
        async for response in self._queries.run(request, context):
            yield response

    def _lag_ns(self, *, behind: bool) -> int:
        """Return for how long the oldest append that has no rows yet is on the log.

        When the feed has not even brought it, this is counted from when it was first missed.
        """
        now = self._clock.now_ns()
        if not behind:
            self._behind_since_ns = None
            return 0
        since = self._progress.pending_since()
        if since is None:
            since = self._behind_since_ns = self._behind_since_ns or now
        return max(0, now - since)


def lists(service: Lists) -> Callable[[grpc.aio.Server], None]:
    """Return a function that adds the four lists to a server; the other methods of SessionService are not there."""
    handlers = {
        "ListSessions": _unary(service.sessions, sessions_api.ListSessionsRequest),
        "ListTurns": _unary(service.turns, sessions_api.ListTurnsRequest),
        "ListMessages": _unary(service.messages, sessions_api.ListMessagesRequest),
        "ListApprovals": _unary(service.approvals, sessions_api.ListApprovalsRequest),
    }

    def add(server: grpc.aio.Server) -> None:
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SESSIONS, handlers),))

    return add


def analytics(service: AnalyticsService) -> Callable[[grpc.aio.Server], None]:
    """Return a function that adds AnalyticsService to a server."""

    def add(server: grpc.aio.Server) -> None:
        add_AnalyticsServiceServicer_to_server(service, server)

    return add


def roles() -> dict[str, Role]:
    """Return the role each method needs: all of them only read."""
    methods = [f"/{SESSIONS}/{name}" for name in LISTS]
    methods += [f"/{ANALYTICS}/{method.name}" for method in api.DESCRIPTOR.services_by_name["AnalyticsService"].methods]
    return dict.fromkeys(methods, Role.READ)


def _unary(method: Callable[..., Any], request: Any) -> Any:
    return grpc.unary_unary_rpc_method_handler(
        method,
        request_deserializer=request.FromString,
        response_serializer=lambda response: response.SerializeToString(),
    )
