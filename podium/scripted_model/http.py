"""HTTP/1.1 for the scripted model: owns h11 and the sockets, and knows when the client goes away.

h11 over an asyncio.Protocol and not aiohttp: it is pure Python, already comes with claude-agent-sdk
(mcp, uvicorn), and the protocol's own callbacks give the instant at which the client's end closes,
which a framework shows only as a cancelled handler some time later.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import time
from collections.abc import Callable, Mapping
from typing import Final, cast

import h11

MAX_HEADER_BYTES: Final = 64 * 1024
# Anthropic's own limit is 32 MB; a client that sends more than this is broken.
MAX_BODY_BYTES: Final = 64 * 1024 * 1024
# Bytes that came after a request that is still being answered: no client here pipelines.
MAX_PIPELINED_BYTES: Final = 64 * 1024
BACKLOG: Final = 256


class Exchange:
    """One request and its answer. Sending after the client has closed raises ConnectionResetError."""

    def __init__(self, connection: HttpConnection, request: h11.Request, body: bytes) -> None:
        self._connection = connection
        self.method: Final = request.method.decode("ascii")
        self.target: Final = request.target.decode("ascii", "replace")
        self.headers: Final = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.headers}
        self.body: Final = body
        self.on_client_closed: Callable[[float], None] = lambda _: None
        self.task: asyncio.Task[None] | None = None

    async def send_head(self, status: int, headers: Mapping[str, str]) -> None:
        """Send the status line and headers; without content-length the body goes in chunks."""
        fields = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await self._connection.send(h11.Response(status_code=status, headers=fields))

    async def send(self, data: bytes) -> None:
        """Send a part of the body; returns when the socket's buffer has room again."""
        await self._connection.send(h11.Data(data=data))

    async def finish(self) -> None:
        """End the answer; the connection is ready for the next request."""
        await self._connection.send(h11.EndOfMessage())
        self._connection.finished()

    async def send_whole(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Send a complete answer. HEAD gets the headers alone."""
        await self.send_head(status, {**headers, "content-length": str(len(body))})
        if self.method != "HEAD":
            await self.send(body)
        await self.finish()

    def drop(self) -> None:
        """Close the connection where the answer stands; what was sent still arrives."""
        self._connection.close()


Handler = Callable[[Exchange], asyncio.Task[None]]


class HttpConnection(asyncio.Protocol):
    """One client connection: one request at a time, answered by the task that `handler` starts.

    The task is cancelled when the connection closes, whoever closes it. A client that only shuts down its sending
    half counts as gone: none of the clients driven here does that and still reads.
    """

    def __init__(self, handler: Handler, connections: set[HttpConnection]) -> None:
        self._handler: Final = handler
        self._connections: Final = connections
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEADER_BYTES)
        self._transport: asyncio.Transport | None = None
        self._request: h11.Request | None = None
        self._body = bytearray()
        self._exchange: Exchange | None = None
        self._closed_by_us = False
        self._writable = asyncio.Event()
        self._writable.set()

    # --- what the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        self._transport = cast("asyncio.Transport", transport)
        # Small deltas must not wait for the acknowledgement of the ones before.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connections.add(self)

    def data_received(self, data: bytes) -> None:
        """Bytes of a request have come in."""
        try:
            self._http.receive_data(data)
            if len(self._http.trailing_data[0]) > MAX_PIPELINED_BYTES and self._http.their_state is h11.DONE:
                self.abort()
                return
            self._advance()
        except h11.RemoteProtocolError as error:
            self._refuse(error.error_status_hint, str(error))

    def eof_received(self) -> None:
        """The client sends no more; None tells asyncio to close our end too."""
        self._client_closed()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone, whoever closed it."""
        self._client_closed()
        self._connections.discard(self)

    def pause_writing(self) -> None:
        """The socket's buffer is full."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """The socket's buffer has room again."""
        self._writable.set()

    # --- what an exchange calls

    async def send(self, event: h11.Event) -> None:
        """Write one h11 event, then wait until the socket's buffer has room."""
        if self._transport is None or self._transport.is_closing():
            raise ConnectionResetError("the client has closed the connection")
        data = self._http.send(event)
        if data:
            self._transport.write(data)
        await self._writable.wait()

    def finished(self) -> None:
        """The answer is out: read the next request, or close if this one asked for that."""
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
            asyncio.get_running_loop().call_soon(self._next)
        else:
            self.close()

    def close(self) -> None:
        """Send what is buffered, then close."""
        self._closed_by_us = True
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once; what is buffered is lost."""
        self._closed_by_us = True
        if self._transport is not None:
            self._transport.abort()

    # --- reading

    def _next(self) -> None:
        try:
            self._advance()
        except h11.RemoteProtocolError as error:
            self._refuse(error.error_status_hint, str(error))

    def _advance(self) -> None:
        while True:
            event = self._http.next_event()
            if isinstance(event, h11.Request):
                self._request, self._body = event, bytearray()
                if self._http.they_are_waiting_for_100_continue:
                    self._write(h11.InformationalResponse(status_code=100, headers=[]))
            elif isinstance(event, h11.Data):
                self._body += event.data
                if len(self._body) > MAX_BODY_BYTES:
                    self._refuse(413, f"a request body has at most {MAX_BODY_BYTES} bytes")
                    return
            elif isinstance(event, h11.EndOfMessage):
                self._start()
            else:  # NEED_DATA, PAUSED, or the client has said goodbye
                return

    def _start(self) -> None:
        if self._request is None:  # h11 gives no EndOfMessage without a Request
            raise AssertionError("end of a message that never began")
        self._exchange = Exchange(self, self._request, bytes(self._body))
        self._request, self._body = None, bytearray()
        self._exchange.task = self._handler(self._exchange)

    def _refuse(self, status: int, reason: str) -> None:
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            headers = [(b"content-type", b"text/plain"), (b"connection", b"close")]
            self._write(h11.Response(status_code=status, headers=headers))
            self._write(h11.Data(data=reason.encode()))
            self._write(h11.EndOfMessage())
        self.close()

    def _write(self, event: h11.Event) -> None:
        data = self._http.send(event)
        if data and self._transport is not None:
            self._transport.write(data)

    def _client_closed(self) -> None:
        exchange, self._exchange = self._exchange, None
        self._writable.set()
        if exchange is None:
            return
        if not self._closed_by_us:
            exchange.on_client_closed(time.monotonic())
        if exchange.task is not None:
            exchange.task.cancel()


def loopback_address(host: str) -> str:
    """`host` as a loopback IP address. Raises ValueError for anything else: this endpoint has no authentication."""
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        raise ValueError(f"the scripted model takes an IP address or localhost, got {host!r}") from None
    if not address.is_loopback:
        raise ValueError(f"the scripted model listens on loopback only, got {host!r}; use 127.0.0.1 or ::1")
    return str(address)


async def listen(host: str, port: int, protocol: Callable[[], HttpConnection]) -> asyncio.Server:
    """Listen on a loopback address; port 0 picks a free one."""
    address = loopback_address(host)
    return await asyncio.get_running_loop().create_server(protocol, address, port, backlog=BACKLOG)
