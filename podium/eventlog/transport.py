"""The client's TCP transport, made to let go of a server that hangs.

nats-py 2.16 closes a connection politely before it connects anew: it waits until everything written has been sent.
A server that is stopped, or a network that swallows packets, never takes it, and the client stays with that server
for ever although two others are there.
"""

from urllib.parse import ParseResult

from nats.aio.transport import TcpTransport


class AbortingTransport(TcpTransport):
    """Drops what could not be sent: whoever waits for an answer is told, and asks again."""

    def __init__(self) -> None:
        """Not connected yet."""
        super().__init__()  # type: ignore[no-untyped-call]  # nats-py does not say
        self._given_up = False

    def __bool__(self) -> bool:
        # The client makes a transport of its own in place of one that is false, as an unconnected one would be.
        return True

    async def connect(self, uri: ParseResult, buffer_size: int, connect_timeout: int) -> None:
        """Connect, again after `close`."""
        self._given_up = False
        await super().connect(uri, buffer_size, connect_timeout)

    async def drain(self) -> None:
        """Wait until the server takes more; after `close` nothing is to be waited for."""
        if not self._given_up:
            await super().drain()  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Close at once; what was not sent yet is lost."""
        self._given_up = True
        if self._io_writer is not None:
            self._io_writer.transport.abort()
