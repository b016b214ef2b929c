"""A network that misbehaves on demand, between a client and a NATS server: cuts, swallows answers, delivers late."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Self


@dataclass(eq=False)
class _Connection:
    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    held: bytearray = field(default_factory=bytearray)


@dataclass
class Proxy:
    """Forwards bytes between its own port and a server's.

    Attributes:
        deaf: answers of the server are thrown away.
        hanging: nothing passes in either direction until it ends, as with a stopped server.
        holding: what clients send is kept back; `release` delivers it, also after the client has gone.
        cut_after: bytes from clients until every connection is cut in the middle of whatever is being sent.
    """

    target: int
    port: int = 0
    deaf: bool = False
    hanging: bool = False
    holding: bool = False
    cut_after: int | None = None
    _connections: list[_Connection] = field(default_factory=list)
    _orphans: list[_Connection] = field(default_factory=list)
    _serving: set[asyncio.Task[None]] = field(default_factory=set)

    @classmethod
    @contextlib.asynccontextmanager
    async def before(cls, target: int) -> AsyncIterator[Self]:
        proxy = cls(target)
        server = await asyncio.start_server(proxy._accepted, "127.0.0.1", 0)
        proxy.port = server.sockets[0].getsockname()[1]
        try:
            yield proxy
        finally:
            proxy.hanging = False
            proxy.cut()
            for connection in proxy._orphans:
                connection.server.transport.abort()
            server.close()
            await server.wait_closed()
            await asyncio.gather(*proxy._serving)

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """End every connection; what was held back stays with the server's side until `release`."""
        for connection in self._connections:
            connection.client.transport.abort()
            if connection.held:
                self._orphans.append(connection)
            else:
                connection.server.transport.abort()
        self._connections.clear()
        self.deaf = False

    async def release(self) -> int:
        """Deliver what was held back, late; return how many bytes."""
        self.holding = False
        delivered = 0
        for connection in [*self._orphans, *self._connections]:
            connection.server.write(bytes(connection.held))
            await connection.server.drain()
            delivered += len(connection.held)
            connection.held.clear()
        return delivered

    async def _accepted(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            await self._serve(reader, client)
        finally:
            self._serving.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        try:
            from_server, server = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            client.transport.abort()
            return
        connection = _Connection(client, server)
        self._connections.append(connection)
        with contextlib.suppress(OSError):
            await asyncio.gather(self._upward(reader, connection), self._downward(from_server, connection))
        client.transport.abort()
        if connection not in self._orphans:
            server.transport.abort()

    async def _read(self, reader: asyncio.StreamReader) -> bytes:
        chunk = await reader.read(65_536)
        while self.hanging:
            await asyncio.sleep(0.005)
        return chunk

    async def _upward(self, reader: asyncio.StreamReader, connection: _Connection) -> None:
        while chunk := await self._read(reader):
            if self.cut_after is not None:
                chunk, self.cut_after = chunk[: self.cut_after], self.cut_after - len(chunk)
                if self.cut_after <= 0:
                    self.cut_after = None
                    connection.server.write(chunk)
                    await connection.server.drain()
                    self.cut()
                    return
            if self.holding:
                connection.held += chunk
                continue
            connection.server.write(chunk)
            await connection.server.drain()
        if connection not in self._orphans:
            connection.server.close()

    async def _downward(self, reader: asyncio.StreamReader, connection: _Connection) -> None:
        while chunk := await self._read(reader):
            if not self.deaf and not connection.client.is_closing():
                connection.client.write(chunk)
                await connection.client.drain()
        connection.client.close()
