"""The gateway's methods as gRPC handlers: its own are decoded, the indexer's are relayed as bytes."""

from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from gateway.relay import Relay
from gateway.service import SessionService
from podium.auth import Role
from podium.v1 import analytics_service_pb2, session_service_pb2

SESSIONS = session_service_pb2.DESCRIPTOR.services_by_name["SessionService"]
ANALYTICS = analytics_service_pb2.DESCRIPTOR.services_by_name["AnalyticsService"]

RELAYED = frozenset({"ListSessions", "ListTurns", "ListMessages", "ListApprovals"})
"""Methods of SessionService that the indexer answers; of AnalyticsService it answers all."""

_ROLES = {
    "CreateSession": Role.RUN,
    "StartTurn": Role.RUN,
    "RunTurn": Role.RUN,
    "CancelTurn": Role.RUN,
    "InterruptTurn": Role.RUN,
    "StopSession": Role.RUN,
    "UpdateSession": Role.RUN,
    "ResolveApproval": Role.APPROVE,
}


def roles() -> dict[str, Role]:
    """Return the role each method needs: what changes nothing needs `read`."""
    return {
        f"/{service.full_name}/{method.name}": _ROLES.get(method.name, Role.READ)
        for service in (SESSIONS, ANALYTICS)
        for method in service.methods
    }


def sessions(service: SessionService, relay: Relay) -> Callable[[grpc.aio.Server], None]:
    """Return a function that adds SessionService to a server."""
    own = {method.name: getattr(service, method.name) for method in SESSIONS.methods if method.name not in RELAYED}
    return _adder(SESSIONS, own, relay)


def analytics(relay: Relay) -> Callable[[grpc.aio.Server], None]:
    """Return a function that adds AnalyticsService, relayed whole, to a server."""
    return _adder(ANALYTICS, {}, relay)


def _adder(
    descriptor: ServiceDescriptor, own: dict[str, Callable[..., Any]], relay: Relay
) -> Callable[[grpc.aio.Server], None]:
    handlers: dict[str, Any] = {}
    for method in descriptor.methods:
        path = f"/{descriptor.full_name}/{method.name}"
        if method.name in own:
            make = (
                grpc.unary_stream_rpc_method_handler if method.server_streaming else grpc.unary_unary_rpc_method_handler
            )
            handlers[method.name] = make(
                own[method.name],
                request_deserializer=GetMessageClass(method.input_type).FromString,
                response_serializer=_serialized,
            )
        else:
            handlers[method.name] = relay.stream(path) if method.server_streaming else relay.unary(path)

    def add(server: grpc.aio.Server) -> None:
        generic = grpc.method_handlers_generic_handler(descriptor.full_name, handlers)
        server.add_generic_rpc_handlers((generic,))

    return add


def _serialized(response: Message | bytes) -> bytes:
    """Return a response's bytes; watches make theirs themselves."""
    return response if isinstance(response, bytes) else response.SerializeToString()
