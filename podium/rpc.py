"""gRPC as every service speaks it: server, channel, authentication, and the one place where errors are translated."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import structlog
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2  # type: ignore[import-untyped]
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from grpc_status import rpc_status

from podium import errors
from podium.auth import Principal, Role, Tokens
from podium.errors import InvalidArgument, PodiumError
from podium.settings import LOOPBACK, ListenSettings

MESSAGE_BYTES_MAX = 8 * 1024 * 1024
"""A prompt may have 4 MiB, a piece of an answer too; twice that leaves room for the rest."""

KEEPALIVE_S = 20
CONCURRENT_CALLS_MAX = 2000
RECONNECT_MS = (100, 1000)
"""First and longest pause between two tries to reach a server that is away; gRPC's own grow to two minutes, in which a
gateway would say that its indexer is away although it is back."""

_SERVER_OPTIONS = [
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.keepalive_time_ms", KEEPALIVE_S * 1000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Two servers on one port would each get some of the calls.
    ("grpc.so_reuseport", 0),
]
_CHANNEL_OPTIONS = [
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.keepalive_time_ms", KEEPALIVE_S * 1000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.initial_reconnect_backoff_ms", RECONNECT_MS[0]),
    ("grpc.max_reconnect_backoff_ms", RECONNECT_MS[1]),
]

# grpc's stubs describe the synchronous API; an aio handler and its context are only known here.
Handler: TypeAlias = Any
Context: TypeAlias = Any

CallFailed = grpc.aio.AioRpcError
"""What a call over `channel` raises; `from_rpc_error` says what it means."""

_log = structlog.get_logger()
_caller: ContextVar[Principal] = ContextVar("caller")


def caller() -> Principal:
    """Return who makes the call that is being answered."""
    return _caller.get()


def to_status(error: PodiumError) -> status_pb2.Status:
    """Return the error as google.rpc.Status with an ErrorInfo: reason, domain `podium`, metadata."""
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=errors.DOMAIN, metadata=error.metadata)
    detail = any_pb2.Any()
    detail.Pack(info)
    return status_pb2.Status(code=code_pb2.Code.Value(error.code), message=error.message, details=[detail])


def from_rpc_error(error: grpc.aio.AioRpcError) -> PodiumError:
    """Return what a failed call means: Podium's own error when the server sent one, else one by its gRPC code."""
    reason, metadata = "", {}
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # AioRpcError has what the function reads
    for detail in status.details if status is not None else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info) and info.domain == errors.DOMAIN:
            reason, metadata = info.reason, dict(info.metadata)
    code = error.code().name
    kinds = {kind.code: kind for kind in PodiumError.__subclasses__() if kind is not errors.Fenced}
    kinds[InvalidArgument.code] = errors.StatementRefused
    translated = kinds.get(code, PodiumError)(reason or code, error.details() or code)
    translated.metadata = metadata
    return translated


class _Guard(grpc.aio.ServerInterceptor):
    """Lets in who may, and turns what a handler raises into a status."""

    def __init__(self, tokens: Tokens, roles: Mapping[str, Role]) -> None:
        self._tokens = tokens
        self._roles = roles

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or method.startswith("/grpc.health."):
            return handler
        role = self._roles.get(method, Role.ADMIN)
        if method.startswith("/grpc.reflection."):
            role = Role.READ
        return _guarded(handler, self._tokens, role)


def _guarded(handler: Handler, tokens: Tokens, role: Role) -> Handler:
    @asynccontextmanager
    async def entered(context: Context) -> AsyncIterator[None]:
        try:
            metadata = dict(context.invocation_metadata())
            who = tokens.authenticate(str(metadata.get("authorization", "")).removeprefix("Bearer "))
            who.require(role)
            _caller.set(who)
            yield
        except PodiumError as error:
            await context.abort_with_status(rpc_status.to_status(to_status(error)))

    async def unary(request: Any, context: Context) -> Any:
        async with entered(context):
            return await handler.unary_unary(request, context)

    async def stream(request: Any, context: Context) -> AsyncIterator[Any]:
        async with entered(context):
            async for response in handler.unary_stream(request, context):
                yield response

    async def both(requests: Any, context: Context) -> AsyncIterator[Any]:
        async with entered(context):
            async for response in handler.stream_stream(requests, context):
                yield response

    coders = {
        "request_deserializer": handler.request_deserializer,
        "response_serializer": handler.response_serializer,
    }
    if handler.unary_unary is not None:
        return grpc.unary_unary_rpc_method_handler(unary, **coders)
    if handler.unary_stream is not None:
        return grpc.unary_stream_rpc_method_handler(stream, **coders)
    return grpc.stream_stream_rpc_method_handler(both, **coders)


def credentials(settings: ListenSettings, host: str) -> grpc.ServerCredentials | None:
    """Return TLS credentials, None for plain text on loopback; anything else is refused."""
    if settings.tls_certificate_file is None or settings.tls_key_file is None:
        if host not in LOOPBACK:
            expected = "a loopback address, or PODIUM_TLS_CERTIFICATE_FILE and PODIUM_TLS_KEY_FILE beside it"
            raise InvalidArgument("PODIUM_LISTEN", found=host, expected=expected)
        return None
    try:
        pair = settings.tls_key_file.read_bytes(), settings.tls_certificate_file.read_bytes()
    except OSError as error:
        raise InvalidArgument("PODIUM_TLS_KEY_FILE", found=str(error), expected="two PEM files") from error
    return grpc.ssl_server_credentials([pair])


@asynccontextmanager
async def serving(
    settings: ListenSettings,
    listen: str,
    *,
    services: Mapping[str, Callable[[grpc.aio.Server], None]],
    roles: Mapping[str, Role],
) -> AsyncIterator[int]:
    """Answer gRPC on `listen` (HOST:PORT, port 0 = any free one) and yield the port.

    `services`: full service name -> function that adds it to the server. `roles`: full method
    (`/package.Service/Method`) -> role it needs; a method that is not there needs `admin`. At the exit new calls are
    refused and running ones have `settings.stop_grace_s`. Raises InvalidArgument when the address cannot be used.
    """
    host, _, _ = listen.rpartition(":")
    secure = credentials(settings, host)
    tokens = Tokens.read(settings.tokens_file)
    server = grpc.aio.server(
        interceptors=[_Guard(tokens, roles)], options=_SERVER_OPTIONS, maximum_concurrent_rpcs=CONCURRENT_CALLS_MAX
    )
    for add in services.values():
        add(server)
    healthy = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    reflection.enable_server_reflection([*services, health.SERVICE_NAME, reflection.SERVICE_NAME], server)
    try:
        port = server.add_secure_port(listen, secure) if secure else server.add_insecure_port(listen)
    except RuntimeError as error:
        expected = "an address of this machine with a port that is free"
        raise InvalidArgument("PODIUM_LISTEN", found=listen, expected=expected) from error
    await server.start()
    for name in ("", *services):
        await healthy.set(name, health_pb2.HealthCheckResponse.SERVING)
    _log.info("serving", listen=f"{host}:{port}", tls=secure is not None)
    try:
        yield port
    finally:
        await asyncio.shield(_stop(server, healthy, settings.stop_grace_s))


async def _stop(server: grpc.aio.Server, healthy: Any, grace_s: float) -> None:
    await healthy.enter_graceful_shutdown()
    await server.stop(grace_s)


class _Bearer(grpc.AuthMetadataPlugin):
    def __init__(self, token: str) -> None:
        self._metadata = (("authorization", f"Bearer {token}"),)

    def __call__(self, context: grpc.AuthMetadataContext, callback: grpc.AuthMetadataPluginCallback) -> None:
        callback(self._metadata, None)


class _UnaryToken(grpc.aio.UnaryUnaryClientInterceptor):
    def __init__(self, token: str) -> None:
        self._token = token

    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(_with_token(client_call_details, self._token), request)


class _StreamToken(grpc.aio.UnaryStreamClientInterceptor):
    def __init__(self, token: str) -> None:
        self._token = token

    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(_with_token(client_call_details, self._token), request)


def _with_token(details: Any, token: str) -> Any:
    metadata = grpc.aio.Metadata(*(details.metadata or ()))
    metadata.add("authorization", f"Bearer {token}")
    return details._replace(metadata=metadata)


def channel(address: str, token: str, ca_file: Path | None = None) -> grpc.aio.Channel:
    """Return a channel whose calls carry the token: TLS when a CA is given, plain text on loopback only."""
    if ca_file is not None:
        tls = grpc.ssl_channel_credentials(ca_file.read_bytes())
        both = grpc.composite_channel_credentials(tls, grpc.metadata_call_credentials(_Bearer(token)))
        return grpc.aio.secure_channel(address, both, options=_CHANNEL_OPTIONS)
    if address.rpartition(":")[0] not in LOOPBACK:
        raise InvalidArgument(
            "PODIUM_ADDRESS", found=address, expected="a loopback address, or PODIUM_CA_FILE beside it"
        )
    # gRPC sends call credentials over TLS only; on loopback the token goes as plain metadata.
    interceptors: Any = [_UnaryToken(token), _StreamToken(token)]
    return grpc.aio.insecure_channel(address, options=_CHANNEL_OPTIONS, interceptors=interceptors)
