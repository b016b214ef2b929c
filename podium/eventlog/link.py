"""One connection to the NATS server: requests, publishes, subscriptions, every wait bounded. Owns the nats client."""

import asyncio
import contextlib
import itertools
import logging
import re
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import nats.errors
import orjson
from nats.aio.msg import Msg

from podium.eventlog.client import DirectClient, within
from podium.eventlog.exchanges import (
    ApiError,
    Denied,
    Exchanges,
    IsLast,
    LinkError,
    NoAnswer,
    NoResponders,
    NotConnected,
    status_of,
)

__all__ = [
    "ApiError",
    "Denied",
    "Link",
    "LinkError",
    "NoAnswer",
    "NoResponders",
    "NotConnected",
    "status_of",
]

log = logging.getLogger(__name__)

PENDING_BYTES_MAX = 128 * 1024 * 1024
"""Above all that may wait to be sent at once (64 MB of unacknowledged facts and 8 MB of what may be lost).

The client's own 2 MB make `publish` wait for the socket, and that wait swallows cancellation (nats-py 2.16).
"""
LOSABLE_BYTES_MAX = 8 * 1024 * 1024
"""What may be lost (deltas) is not sent while more than this waits in front of it."""
RECONNECT_WAIT_S = 0.1
CLOSE_TIMEOUT_S = 5.0
DENIALS_MAX = 100
_DENIED = re.compile(
    r"permissions violation for (?P<act>publish|subscription) to \"(?P<subject>[^\"]+)\"", re.IGNORECASE
)


class Link:
    """A connection that comes back by itself; whoever waits for an answer is told at once when it breaks.

    Attributes:
        generation: rises with each reconnect.
        denials: what the server's permissions forbade, newest last: "publish to x", "subscription to y".
    """

    def __init__(self, request_timeout_s: float) -> None:
        """Use Link.open."""
        self.generation = 0
        self.denials: list[str] = []
        self._request_timeout_s = request_timeout_s
        self._client = DirectClient()
        self._exchanges = Exchanges()
        self._inbox_numbers = itertools.count(1)
        self._missed_listeners: dict[int, Callable[[], None]] = {}
        self._reconnect_listeners: set[Callable[[], None]] = set()
        self._connected, self._broken = asyncio.Event(), asyncio.Event()
        self._around = contextlib.AsyncExitStack()

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls,
        servers: Sequence[str],
        *,
        name: str,
        user: str,
        password: str | None,
        inbox_prefix: str,
        tls: ssl.SSLContext | None = None,
        connect_timeout_s: float = 10.0,
        request_timeout_s: float = 5.0,
        ping_interval_s: float = 5.0,
    ) -> AsyncIterator["Link"]:
        """Connect, and close at the end; `password` None = the server asks for none.

        Raises NotConnected when no server took the connection in time.
        """
        options = {
            "servers": list(servers),
            "name": name,
            "user": user if password is not None else None,
            "password": password,
            "inbox_prefix": inbox_prefix,
            "tls": tls,
            # A server that hangs is left after three of these, by default after six minutes.
            "ping_interval": ping_interval_s,
        }
        link = cls(request_timeout_s)
        try:
            await link._connect(options, connect_timeout_s)
            yield link
        finally:
            await link._close()

    @property
    def connected(self) -> bool:
        """Return whether there is a connection now."""
        return self._client.is_connected and self._connected.is_set()

    async def wait_connected(self, timeout_s: float) -> bool:
        """Return whether there is a connection, after waiting at most so long for it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._connected.wait()
        return self.connected

    def on_reconnect(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` after each reconnect, subscriptions being back in place; return how to stop that."""
        self._reconnect_listeners.add(listener)
        return lambda: self._reconnect_listeners.discard(listener)

    async def request(
        self,
        subject: str,
        payload: bytes = b"",
        *,
        headers: dict[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> Msg:
        """Return the answer. Raises NotConnected, NoAnswer, NoResponders or Denied."""
        return (await self._ask(subject, payload, headers, timeout_s, None))[0]

    async def request_many(
        self, subject: str, payload: bytes, *, is_last: IsLast, timeout_s: float | None = None
    ) -> list[Msg]:
        """Return all answers up to the one that `is_last` accepts. Raises as `request`; the asker bounds the size."""
        return await self._ask(subject, payload, None, timeout_s, is_last)

    async def api(
        self, name: str, body: Mapping[str, Any] | None = None, *, timeout_s: float | None = None
    ) -> dict[str, Any]:
        """Return JetStream's answer to `$JS.API.{name}`. Raises ApiError and what `request` raises."""
        answer = await self.request(f"$JS.API.{name}", orjson.dumps(body) if body else b"", timeout_s=timeout_s)
        content: dict[str, Any] = orjson.loads(answer.data)
        if error := content.get("error"):
            raise ApiError(error.get("code", 0), error.get("err_code", 0), error.get("description", ""))
        return content

    async def publish(
        self, subject: str, payload: bytes = b"", *, reply: str = "", headers: dict[str, str] | None = None
    ) -> None:
        """Send without waiting for anything. Raises NotConnected."""
        if not self.connected:
            raise NotConnected(f"not connected while sending to {subject}")
        try:
            await self._client.publish(subject, payload, reply=reply, headers=headers)
        except (nats.errors.ConnectionClosedError, nats.errors.OutboundBufferLimitError) as error:
            raise NotConnected(f"not connected while sending to {subject}") from error

    async def publish_losable(self, subject: str, payload: bytes) -> bool:
        """Send what may be lost; return False when it was dropped: not connected, or too much waits."""
        if not self.connected or self._client.pending_data_size > LOSABLE_BYTES_MAX:
            return False
        await self.publish(subject, payload)
        return True

    def new_inbox(self) -> str:
        """Return a fresh subject that only this role can listen on, also below it."""
        return f"{self._exchanges.inbox}-{next(self._inbox_numbers)}"

    @contextlib.asynccontextmanager
    async def subscribe(
        self,
        subject: str,
        handler: Callable[[Msg], None],
        *,
        on_missed: Callable[[], None] | None = None,
    ) -> AsyncIterator[None]:
        """Hand every message on `subject` to `handler` while the block runs, from the moment it is entered.

        `handler` bounds what it keeps: no queue stands before it. `on_missed` is called when messages may have been
        lost: after a reconnect. Raises Denied, NotConnected or NoAnswer.
        """
        if not self.connected:
            raise NotConnected(f"not connected while subscribing to {subject}")
        async with self._subscribed(subject, handler) as key:
            if on_missed is not None:
                self._missed_listeners[key] = on_missed
            await self.settle()
            if f"subscription to {subject}".lower() in self.denials:
                raise Denied(f"this role may not subscribe to {subject}")
            yield

    @contextlib.asynccontextmanager
    async def _subscribed(self, subject: str, handler: Callable[[Msg], None]) -> AsyncIterator[int]:
        subscription = await self._client.subscribe(subject, cb=_nothing)
        key = subscription._id  # noqa: SLF001  # the number the server's messages carry
        self._client.handlers[key] = handler
        try:
            yield key
        finally:
            self._missed_listeners.pop(key, None)
            with contextlib.suppress(nats.errors.Error):
                await subscription.unsubscribe()
            del self._client.handlers[key]

    async def settle(self) -> None:
        """Return when the server has taken everything sent before. Raises NoAnswer."""
        flushing = asyncio.create_task(self._flush_twice())
        breaking = asyncio.create_task(self._broken.wait())
        try:
            # nats-py forgets who waits for a PONG when the connection breaks.
            await asyncio.wait(
                (flushing, breaking), timeout=self._request_timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
            if not flushing.done():
                raise NoAnswer("the server did not take what was sent")
            flushing.result()
        except nats.errors.Error as error:
            raise NoAnswer(f"the server did not take what was sent: {error!r}") from error
        finally:
            flushing.cancel()
            breaking.cancel()

    async def _flush_twice(self) -> None:
        # nats-py writes a PING ahead of the commands that wait for its flusher task, so the first answer only proves
        # that the flusher has run since.
        await self._client.flush()
        await self._client.flush()

    async def _ask(
        self,
        subject: str,
        payload: bytes,
        headers: dict[str, str] | None,
        timeout_s: float | None,
        is_last: IsLast | None,
    ) -> list[Msg]:
        async def send(reply: str) -> None:
            await self.publish(subject, payload, reply=reply, headers=headers)

        timeout_s = timeout_s or self._request_timeout_s
        return await self._exchanges.run(subject, send, timeout_s=timeout_s, is_last=is_last)

    async def _connect(self, options: dict[str, Any], timeout_s: float) -> None:
        try:
            connecting = self._client.connect(
                **options,
                max_outstanding_pings=2,
                # The client gives up after 60 attempts by itself; here whoever waits decides how long.
                max_reconnect_attempts=-1,
                reconnect_time_wait=RECONNECT_WAIT_S,  # type: ignore[arg-type]  # only ever added and slept
                pending_size=PENDING_BYTES_MAX,
                error_cb=self._on_error,
                disconnected_cb=self._on_disconnected,
                reconnected_cb=self._on_reconnected,
                closed_cb=self._on_closed,
            )
            await within(timeout_s, connecting)
            self._exchanges.inbox = self._client.new_inbox()
            answers = self._subscribed(f"{self._exchanges.inbox}.*", self._exchanges.answered)
            await self._around.enter_async_context(answers)
            await self.settle()
        except TimeoutError:
            last = self._client.last_error
            raise NotConnected(f"no NATS server took the connection within {timeout_s} s: {last}") from None
        except nats.errors.Error as error:
            raise NotConnected(f"the NATS server refused the connection: {error}") from error
        self._connected.set()

    async def _close(self) -> None:
        self._connected.clear()
        self._exchanges.fail_all(NotConnected("the connection is closed"))
        if self._client.is_connected:
            with contextlib.suppress(LinkError):
                await self._around.aclose()
                await self.settle()
        # A server that hangs would keep the client from closing; what it has not taken by now is lost.
        self._client.abort()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._client.close()

    async def _on_error(self, error: Exception) -> None:
        if found := _DENIED.search(str(error)):
            act, subject = found["act"].lower(), found["subject"]
            log.error("permission denied by the NATS server: %s to %s", act, subject)
            self.denials = [*self.denials[1 - DENIALS_MAX :], f"{act} to {subject}".lower()]
            if act == "publish":
                self._exchanges.fail_denied(subject)
        else:
            log.debug("nats connection: %s", error)

    async def _on_disconnected(self) -> None:
        self._connected.clear()
        self._broken.set()
        self._exchanges.fail_all(NoAnswer("the connection broke"))

    async def _on_reconnected(self) -> None:
        self.generation += 1
        self._broken.clear()
        self._connected.set()
        for listener in [*self._missed_listeners.values(), *self._reconnect_listeners]:
            listener()

    async def _on_closed(self) -> None:
        self._connected.clear()


async def _nothing(_: Msg) -> None:
    """Stand where nats-py wants a coroutine; messages go to the handlers of DirectClient."""
