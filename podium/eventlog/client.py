"""nats-py's client with four things changed, all in private parts of version 2.16 that the tests hold to it.

* It lets go of a server that hangs. The original closes a connection politely before it connects anew: it waits until
  everything written has been sent. A server that is stopped, or a network that swallows packets, never takes it, and
  the client stays with that server for ever although two others are there.
* A message goes straight to its handler. The original puts it into a queue that drops what does not fit, and wakes a
  task; our handlers never wait and bound what they keep.
* A flush that was given up does no harm when its answer comes. In the original it ends the reading for good.
* Headers are read at once. The original looks at every character of every name, most of the time a feed takes.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from urllib.parse import ParseResult

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.transport import TcpTransport

log = logging.getLogger(__name__)

CANCELLATIONS_MAX = 100


class DirectClient(Client):
    """The client; messages of subscriptions in `handlers`, by their id, bypass nats-py's queues."""

    def __init__(self) -> None:
        """Not connected yet."""
        super().__init__()
        self.handlers: dict[int, Callable[[Msg], None]] = {}
        self._transport = self._own_transport = AbortingTransport()

    def abort(self) -> None:
        """Give up what was not sent yet, so that `close` has nothing to wait for."""
        self._own_transport.close()

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        handler = self.handlers.get(sid)
        if handler is None:
            await super()._process_msg(sid, subject, reply, data, headers)
            return
        fields = None if not headers else await self._process_headers(headers)
        try:
            handler(Msg(self, subject.decode(), reply.decode(), data, fields, _sid=sid))
        except Exception:
            # Nothing may end the reading of a connection that others use too.
            log.exception("the handler of %s failed", subject)

    async def _process_pong(self) -> None:
        # The original sets a result on a flush that was given up meanwhile, and that error ends its reading for good.
        if self._pongs and self._pongs[0].done():
            self._pongs[0] = asyncio.get_running_loop().create_future()
        await super()._process_pong()

    @staticmethod
    def _parse_header_lines(raw: bytes) -> dict[str, str]:
        return parse_headers(raw)


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
        """Connect, again after `close`; what is left of an earlier attempt is closed, nats-py leaves it open."""
        self.close()
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


async def within(timeout_s: float, work: Coroutine[None, None, None]) -> None:
    """Do some work of the client, or raise TimeoutError; it has ended in either case.

    Before Python 3.12 `asyncio.wait_for`, of which the client is made, may swallow a cancellation; a client that tries
    for ever would then really do so. It is cancelled again until it listens.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait([task], timeout=timeout_s)
        if not task.done():
            raise TimeoutError
        task.result()
    finally:
        for _ in range(CANCELLATIONS_MAX):
            if task.done():
                break
            task.cancel()
            await asyncio.wait([task], timeout=0.05)


def parse_headers(lines: bytes) -> dict[str, str]:
    """Return the fields of a NATS header block: one `Name: value` a line, anything else (`NATS/1.0`) is skipped."""
    text = lines.decode("utf-8", "replace")
    try:
        # As every server and client of ours writes them.
        return dict([line.split(": ", 1) for line in text.split("\r\n") if line])
    except ValueError:
        parts = (line.partition(":") for line in text.split("\r\n"))
        return {name.strip(): value.strip() for name, colon, value in parts if colon}
