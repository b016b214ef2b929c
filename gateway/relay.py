"""Relays calls to the indexer: bytes in, bytes out, nothing decoded. One public address serves both."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc

from podium import rpc
from podium.errors import InvalidArgument, PodiumError, Unavailable

RELAYED_DEADLINE_S = 120.0
"""For callers that set none: as long as the indexer lets a query run, and a little more."""


def _as_is(payload: bytes) -> bytes:
    return payload


class Relay:
    """A channel to the indexer under the gateway's own token."""

    def __init__(self, address: str, token_file: Path, ca_file: Path | None) -> None:
        """Take where the indexer is and how to be let in; raises InvalidArgument for a token that cannot be read."""
        try:
            token = token_file.read_text().strip()
        except OSError as error:
            raise InvalidArgument(
                "PODIUM_INDEXER_TOKEN_FILE", found=str(error), expected="a file with a token"
            ) from error
        self.channel = rpc.channel(address, token, ca_file)

    def unary(self, method: str) -> rpc.Handler:
        """Return a handler that relays `method` (`/package.Service/Method`)."""
        call = self.channel.unary_unary(method, request_serializer=_as_is, response_deserializer=_as_is)

        async def relay(request: bytes, context: Any) -> bytes:
            try:
                answer: bytes = await call(request, timeout=_deadline(context))
            except grpc.aio.AioRpcError as error:
                raise _translated(error) from error
            return answer

        return _handler(grpc.unary_unary_rpc_method_handler, relay)

    def stream(self, method: str) -> rpc.Handler:
        """Return a handler that relays `method`, whose answer is a stream; the caller's pace is the indexer's."""
        call = self.channel.unary_stream(method, request_serializer=_as_is, response_deserializer=_as_is)

        async def relay(request: bytes, context: Any) -> AsyncIterator[bytes]:
            answers = call(request, timeout=_deadline(context))
            try:
                async for answer in answers:
                    yield answer
            except grpc.aio.AioRpcError as error:
                raise _translated(error) from error
            finally:
                # A caller that left must not keep a query running.
                answers.cancel()

        return _handler(grpc.unary_stream_rpc_method_handler, relay)


def _handler(make: Any, relay: Any) -> Any:
    return make(relay, request_deserializer=_as_is, response_serializer=_as_is)


def _deadline(context: Any) -> float:
    remaining: float | None = context.time_remaining()
    return RELAYED_DEADLINE_S if remaining is None else remaining


def _translated(error: grpc.aio.AioRpcError) -> PodiumError:
    translated = rpc.from_rpc_error(error)
    if translated.reason == "UNAVAILABLE":
        return Unavailable("PROJECTION_UNAVAILABLE", f"the indexer cannot be reached: {translated.message}")
    return translated
