"""One connection to the NATS server: requests, publishes and subscriptions, every wait bounded. Owns the nats client.

LinkError
├── NotConnected   nothing was sent
├── NoAnswer       it may have arrived: no answer in time, or the connection broke
├── NoResponders   nobody listens there now (no leader, no such stream)
├── Denied         the role may not do that
└── ApiError       JetStream's own refusal, with its err_code
"""

import asyncio
import contextlib
import itertools
import logging
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import nats.errors
import orjson
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

log = logging.getLogger(__name__)

PENDING_BYTES_MAX = 128 * 1024 * 1024
"""Above all that may wait to be sent at once (64 MB of unacknowledged facts and 8 MB of what may be lost).

The client's own 2 MB make `publish` wait for the socket, and that wait swallows cancellation (nats-py 2.16).
"""
LOSABLE_BYTES_MAX = 8 * 1024 * 1024
"""What may be lost (deltas, native records) is not sent while more than this waits in front of it."""
RECONNECT_WAIT_S = 0.1
CLOSE_TIMEOUT_S = 5.0
SUBSCRIPTION_BYTES_MAX = 64 * 1024 * 1024
SUBSCRIPTION_MESSAGES_MAX = 65_536
_DENIED = re.compile(
    r"permissions violation for (?P<act>publish|subscription) to \"(?P<subject>[^\"]+)\"", re.IGNORECASE
)


class LinkError(Exception):
    """The server did not do what was asked."""


class NotConnected(LinkError):
    """There is no connection now; nothing was sent."""


class NoAnswer(LinkError):
    """No answer came; what was sent may have arrived."""


class NoResponders(LinkError):
    """Nobody listens on the subject now."""


class Denied(LinkError):
    """The role's permissions do not allow it."""


class ApiError(LinkError):
    """JetStream refused."""

    def __init__(self, code: int, err_code: int, description: str) -> None:
        """Take the three fields of JetStream's `error` object."""
        super().__init__(f"{description} (code {code}, err_code {err_code})")
        self.code, self.err_code, self.description = code, err_code, description


@dataclass(eq=False, slots=True)
class _Exchange:
    """A request on its way: ends with its first answer, or with the one that `is_last` accepts."""

    subject: str
    done: asyncio.Future[list[Msg]]
    is_last: Callable[[Msg], bool] | None
    answers: list[Msg] = field(default_factory=list)

    def take(self, message: Msg) -> None:
        self.answers.append(message)
        if (self.is_last is None or self.is_last(message)) and not self.done.done():
            self.done.set_result(self.answers)

    def fail(self, error: LinkError) -> None:
        if not self.done.done():
            self.done.set_exception(error)


class Listening:
    """A subscription; `missed` rises whenever messages may have been lost on the way to it."""

    def __init__(self, subject: str, on_missed: Callable[[], None]) -> None:
        """Made by Link.subscribe."""
        self.subject = subject
        self.missed = 0
        self._on_missed = on_missed

    def lost_some(self) -> None:
        """Count a hole and tell the reader."""
        self.missed += 1
        self._on_missed()


class Link:
    """A connection that comes back by itself; whoever waits for an answer is told at once when it breaks."""

    def __init__(self, inbox_prefix: str, request_timeout_s: float) -> None:
        """Use Link.open."""
        self.generation = 0
        self.denials: list[str] = []
        self._client = Client()
        self._inbox_prefix = inbox_prefix
        self._request_timeout_s = request_timeout_s
        self._inbox = ""
        self._tokens = itertools.count(1)
        self._exchanges: dict[str, _Exchange] = {}
        self._listening: dict[int, Listening] = {}
        self._connected = asyncio.Event()
        self._reconnect_listeners: set[Callable[[], None]] = set()

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls,
        servers: list[str],
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
        """Connect, and close at the end. Raises NotConnected when no server took the connection in time."""
        link = cls(inbox_prefix, request_timeout_s)
        try:
            options: dict[str, Any] = {
                "name": name,
                "user": user if password is not None else None,
                "password": password,
                "inbox_prefix": inbox_prefix,
                "tls": tls,
                "ping_interval": ping_interval_s,
            }
            await link._connect(servers, options, connect_timeout_s)
            yield link
        finally:
            await link._close()

    @property
    def connected(self) -> bool:
        """Return whether there is a connection now."""
        return self._client.is_connected and self._connected.is_set()

    async def wait_connected(self, timeout_s: float) -> bool:
        """Return whether there is a connection, after waiting at most so long for it."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._connected.wait()
        except TimeoutError:
            return False
        return True

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
        answers = await self._exchange(subject, payload, headers, timeout_s, None)
        if not answers[0].data and status_of(answers[0]) == 503:
            raise NoResponders(f"nobody listens on {subject} now")
        return answers[0]

    async def request_many(
        self, subject: str, payload: bytes, *, is_last: Callable[[Msg], bool], timeout_s: float | None = None
    ) -> list[Msg]:
        """Return all answers up to the one that `is_last` accepts. Raises as `request`; the asker bounds the size."""
        answers = await self._exchange(subject, payload, None, timeout_s, lambda m: is_last(m) or status_of(m) == 503)
        if status_of(answers[-1]) == 503:
            raise NoResponders(f"nobody listens on {subject} now")
        return answers

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
        """Return a fresh subject that only this role can listen on."""
        return f"{self._inbox_prefix}.{self._inbox.split('.')[1]}-{next(self._tokens)}"

    @contextlib.asynccontextmanager
    async def subscribe(
        self,
        subject: str,
        handler: Callable[[Msg], None],
        *,
        on_missed: Callable[[], None] = lambda: None,
        messages_max: int = SUBSCRIPTION_MESSAGES_MAX,
        bytes_max: int = SUBSCRIPTION_BYTES_MAX,
    ) -> AsyncIterator[Listening]:
        """Hand every message on `subject` to `handler`, from the moment the block is entered.

        `on_missed` is called when some may have been lost: after a reconnect, and when more than the bounds waited.
        Raises Denied, NotConnected or NoAnswer.
        """
        listening = Listening(subject, on_missed)

        async def deliver(message: Msg) -> None:
            handler(message)

        if not self.connected:
            raise NotConnected(f"not connected while subscribing to {subject}")
        subscription = await self._client.subscribe(
            subject, cb=deliver, pending_msgs_limit=messages_max, pending_bytes_limit=bytes_max
        )
        key = id(subscription)
        self._listening[key] = listening
        try:
            await self.settle()
            if any(denied == f"subscription to {subject}" for denied in self.denials):
                raise Denied(f"this role may not subscribe to {subject}")
            yield listening
        finally:
            self._listening.pop(key, None)
            await self._unsubscribe(subscription)

    async def settle(self) -> None:
        """Return when the server has taken everything sent before. Raises NoAnswer."""
        try:
            # Twice: nats-py writes a PING ahead of the commands that wait for its flusher task, so the first
            # answer only proves that the flusher has run since.
            await self._client.flush(timeout=self._request_timeout_s)  # type: ignore[arg-type]  # a float is fine
            await self._client.flush(timeout=self._request_timeout_s)  # type: ignore[arg-type]
        except nats.errors.Error as error:
            raise NoAnswer(f"the server did not take what was sent: {error}") from error

    async def _exchange(
        self,
        subject: str,
        payload: bytes,
        headers: dict[str, str] | None,
        timeout_s: float | None,
        is_last: Callable[[Msg], bool] | None,
    ) -> list[Msg]:
        loop = asyncio.get_running_loop()
        exchange = _Exchange(subject, loop.create_future(), is_last)
        token = str(next(self._tokens))
        limit_s = timeout_s or self._request_timeout_s
        self._exchanges[token] = exchange
        timer = loop.call_later(limit_s, exchange.fail, NoAnswer(f"no answer from {subject} within {limit_s} s"))
        try:
            await self.publish(subject, payload, reply=f"{self._inbox}.{token}", headers=headers)
            return await exchange.done
        finally:
            timer.cancel()
            del self._exchanges[token]
            if exchange.done.done() and not exchange.done.cancelled():
                exchange.done.exception()  # Seen: a caller that was cancelled never asks for it.

    async def _answered(self, message: Msg) -> None:
        exchange = self._exchanges.get(message.subject[len(self._inbox) + 1 :])
        # None: the asker has given up.
        if exchange is not None:
            exchange.take(message)

    async def _connect(self, servers: list[str], options: dict[str, Any], timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await self._client.connect(
                    servers=servers,
                    **options,
                    error_cb=self._on_error,
                    disconnected_cb=self._on_disconnected,
                    reconnected_cb=self._on_reconnected,
                    closed_cb=self._on_closed,
                    # The client's default gives up after 60 attempts; here whoever waits decides how long.
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=RECONNECT_WAIT_S,  # type: ignore[arg-type]  # only ever added and slept
                    max_outstanding_pings=2,
                    pending_size=PENDING_BYTES_MAX,
                )
                self._inbox = f"{self._inbox_prefix}.{self._client.new_inbox().rpartition('.')[2]}"
                await self._client.subscribe(f"{self._inbox}.*", cb=self._answered)
                await self.settle()
        except TimeoutError:
            last = self._client.last_error
            raise NotConnected(f"no NATS server took the connection within {timeout_s} s: {last}") from None
        except nats.errors.Error as error:
            raise NotConnected(f"the NATS server refused the connection: {error}") from error
        self._connected.set()

    async def _close(self) -> None:
        self._connected.clear()
        self._fail_all(NotConnected("the connection is closed"))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._client.close()

    async def _unsubscribe(self, subscription: Subscription) -> None:
        with contextlib.suppress(nats.errors.Error):
            await subscription.unsubscribe()

    def _fail_all(self, error: LinkError) -> None:
        for exchange in list(self._exchanges.values()):
            exchange.fail(error)

    async def _on_error(self, error: Exception) -> None:
        if isinstance(error, nats.errors.SlowConsumerError):
            if listening := self._listening.get(id(error.sub)):
                listening.lost_some()
            return
        if found := _DENIED.search(str(error)):
            self._denied(found["act"].lower(), found["subject"])
            return
        log.debug("nats connection: %s", error)

    def _denied(self, act: str, subject: str) -> None:
        log.error("permission denied by the NATS server: %s to %s", act, subject)
        # Kept to answer a subscriber, and for tests; the newest hundred are enough for both.
        self.denials = [*self.denials[-99:], f"{act} to {subject}"]
        if act == "publish":
            for exchange in list(self._exchanges.values()):
                if exchange.subject.lower() == subject.lower():
                    exchange.fail(Denied(f"this role may not publish to {subject}"))

    async def _on_disconnected(self) -> None:
        self._connected.clear()
        self._fail_all(NoAnswer("the connection broke"))

    async def _on_reconnected(self) -> None:
        self.generation += 1
        self._connected.set()
        for listening in list(self._listening.values()):
            listening.lost_some()
        for listener in list(self._reconnect_listeners):
            listener()

    async def _on_closed(self) -> None:
        self._connected.clear()


def status_of(message: Msg) -> int:
    """Return the status of a message that the server itself made (404, 408, 409, 503 …), 0 for all others."""
    if not message.headers:
        return 0
    return int(message.headers.get("Status", 0))


Handler = Callable[[Msg], Awaitable[None]]
