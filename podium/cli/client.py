"""The connection to a gateway: calls with deadlines, errors as Podium's own, session names from what people type."""

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from podium import names, rpc
from podium.cli import home
from podium.cli.failures import CliError, Exit
from podium.errors import InvalidArgument, NotFound, PodiumError
from podium.v1 import analytics_service_pb2, session_pb2
from podium.v1 import session_service_pb2 as api
from podium.v1.analytics_service_pb2_grpc import AnalyticsServiceStub
from podium.v1.session_service_pb2_grpc import SessionServiceStub

CALL_S = 30.0
PAGE_SIZE = 1000
SEARCHED_SESSIONS_MAX = 20_000
PREFIX_LENGTH_MIN = 4
LAST = "last"

T = TypeVar("T")


class Client:
    """Calls one gateway."""

    def __init__(self, endpoint: home.Endpoint) -> None:
        """Take where to go; nothing is connected before the first call."""
        self.endpoint = endpoint
        self.channel = rpc.channel(endpoint.address, endpoint.token, endpoint.ca_file)
        # The generated stubs describe both the blocking and the asyncio API; a channel of grpc.aio makes the latter.
        self.sessions: Any = SessionServiceStub(self.channel)
        self.analytics: Any = AnalyticsServiceStub(self.channel)

    async def close(self) -> None:
        """Close the connection."""
        await self.channel.close(grace=None)

    async def call(self, method: Callable[..., Awaitable[T]], request: Any, *, seconds: float | None = CALL_S) -> T:
        """Return the answer of a unary method; raises PodiumError."""
        try:
            return await method(request, timeout=seconds)
        except rpc.CallFailed as error:
            raise self.translated(error) from None

    async def stream(self, method: Callable[..., Any], request: Any) -> AsyncGenerator[Any, None]:
        """Yield the answers of a streaming method; the call ends with the iteration. Raises PodiumError."""
        call = method(request)
        try:
            async for answer in call:
                yield answer
        except rpc.CallFailed as error:
            raise self.translated(error) from None
        finally:
            call.cancel()

    def translated(self, error: rpc.CallFailed) -> PodiumError:
        """Return what a failed call means to the user of a command."""
        translated = rpc.from_rpc_error(error)
        if translated.reason == "UNAVAILABLE":
            message = f"Podium does not answer at {self.endpoint.address} (from {self.endpoint.source})"
            return CliError("NOT_RUNNING", message, home.HOW_TO_START, exit_code=Exit.UNREACHABLE)
        return translated

    async def log_position(self) -> int:
        """Return the newest position of the log; a list read at it misses nothing that was done before."""
        told = await self.call(self.analytics.GetProjection, analytics_service_pb2.GetProjectionRequest())
        return int(told.log_position)

    async def session_name(self, typed: str) -> str:
        """Return `sessions/{id}` for a name, an id, a unique prefix of one, or `last`.

        Raises NotFound, or InvalidArgument when several sessions begin so.
        """
        text = typed.removeprefix("sessions/").lower()
        if len(text) == 36:
            return names.session_name(names.session_id(text))
        position = await self.log_position()
        if text == LAST:
            request = api.ListSessionsRequest(page_size=1, at_least_position=position)
            page = await self.call(self.sessions.ListSessions, request)
            if not page.sessions:
                raise NotFound("SESSION_NOT_FOUND", "there is no session yet", session=typed)
            return str(page.sessions[0].name)
        if len(text) < PREFIX_LENGTH_MIN or not set(text) <= set("0123456789abcdef-"):
            expected = f"a session id, at least {PREFIX_LENGTH_MIN} characters of its beginning, or `{LAST}`"
            raise InvalidArgument("SESSION", found=typed, expected=expected)
        return await self._by_prefix(text, position)

    async def _by_prefix(self, prefix: str, position: int) -> str:
        start = names.session_name(prefix)
        request = api.ListSessionsRequest(page_size=PAGE_SIZE, include_archived=True, at_least_position=position)
        found: list[session_pb2.Session] = []
        for _ in range(SEARCHED_SESSIONS_MAX // PAGE_SIZE):
            page = await self.call(self.sessions.ListSessions, request)
            found += [session for session in page.sessions if session.name.startswith(start)]
            request.page_token = page.next_page_token
            if not page.next_page_token:
                break
        if not found:
            raise NotFound("SESSION_NOT_FOUND", f"no session begins with {prefix!r}", session=prefix)
        if len(found) > 1:
            several = ", ".join(f"{names.session_id(one.name)} ({one.title})" for one in found[:5])
            raise InvalidArgument("SESSION", found=prefix, expected=f"one session; {len(found)} begin so: {several}")
        return found[0].name


def request_id() -> str:
    """Return a fresh request id: a command that is typed twice is meant twice."""
    return secrets.token_hex(16)


@asynccontextmanager
async def connected(data: Path | None) -> AsyncIterator[Client]:
    """Yield a client for the Podium that runs; `data` is the command's --data."""
    client = Client(home.discover(data))
    try:
        yield client
    finally:
        await client.close()


def run(data: Path | None, work: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
    """Run a command's work against the Podium that runs, and return its result."""

    async def connected_work() -> T:
        async with connected(data) as client:
            return await work(client)

    return asyncio.run(connected_work())
