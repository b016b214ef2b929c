"""The queue that tells a host's runners which session has something to do.

A wake carries no truth: whoever takes one reads the session, and a wake that gets lost is published again by a
gateway. At most one waits per session; a newer one replaces it also while it is being handled, so that what was
appended after the handler's look is never forgotten.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator
from typing import Any

import orjson
from nats.aio.msg import Msg

from podium.eventlog.jetstream import log_needed, store
from podium.eventlog.layout import WAKES, session_of, wake_subject
from podium.eventlog.link import Denied, Link, LinkError, status_of
from podium.eventlog.subjects import part

log = logging.getLogger(__name__)

ACK_WAIT_S = 30.0
"""A wake whose runner died comes again after this long."""
DELIVERIES_MAX = 20
"""A wake that nobody finishes rests then, until it is published again."""
CONSUMER_IDLE_S = 24 * 3600
PULL_S = 2.0
"""How long one question to the server waits for a wake; also how long a question may be lost with a connection."""
_ANSWER_MARGIN_S = 2.0
_RETRY_S = 0.25
_NS = 1_000_000_000
_NOTHING_NOW = (404, 408)


class Wake:
    """One wake, to be settled once."""

    def __init__(self, link: Link, message: Msg) -> None:
        """Made by WakeQueue.consume."""
        self._link = link
        self._reply = message.reply
        self.session_id = session_of(message.subject)
        self.deliveries = _deliveries(message.reply)

    async def ack(self) -> None:
        """Say that the session was taken care of. A lost answer only brings the wake again."""
        await self._settle(b"+ACK")

    async def nak(self, delay_s: float) -> None:
        """Give it back, to this or another runner of the host, after so many seconds."""
        await self._settle(b"-NAK " + orjson.dumps({"delay": int(delay_s * _NS)}))

    async def working(self) -> None:
        """Ask for another ACK_WAIT_S."""
        await self._settle(b"+WPI")

    async def _settle(self, verdict: bytes) -> None:
        with contextlib.suppress(LinkError):
            await self._link.publish(self._reply, verdict)


class WakeQueue:
    """The wakes of all pools and hosts."""

    def __init__(self, link: Link, *, ack_wait_s: float = ACK_WAIT_S) -> None:
        """`ack_wait_s` must be the same for all runners of a host."""
        self._link = link
        self._ack_wait_s = ack_wait_s

    async def publish(self, pool: str, host: str, session_id: str) -> None:
        """Wake the runners of a host for a session. Raises Unavailable."""
        with log_needed("waking a runner"):
            await store(self._link, wake_subject(part(pool), part(host), session_id), b"")

    async def consume(self, pool: str, host: str) -> AsyncGenerator[Wake, None]:
        """Yield a host's wakes one by one, for ever; several runners of a host share them.

        The next is fetched when it is asked for, so ask when there is a free slot. While the server is away it waits.
        Raises Denied when the role may not.
        """
        while True:
            asking = _Asking(self._link, part(pool), part(host), self._ack_wait_s)
            stop_listening = self._link.on_reconnect(asking.start_over)
            try:
                # At the end the server sees that nobody listens, and hands no wake out to nobody.
                async with self._link.subscribe(asking.inbox, asking.take):
                    while True:
                        yield await asking.next_wake()
            except Denied:
                raise
            except LinkError as error:
                log.warning("no wakes for now: %s", error)
                await self._link.wait_connected(PULL_S)
                await asyncio.sleep(_RETRY_S)
            finally:
                stop_listening()


class _Asking:
    """One consumer's questions to the server, one at a time, and the answers to them."""

    def __init__(self, link: Link, pool: str, host: str, ack_wait_s: float) -> None:
        """Take pool and host as parts of a subject."""
        self.inbox = link.new_inbox()
        self._link = link
        # A plus is in no name, so no two pairs share a consumer.
        self._consumer = f"{pool}+{host}"
        self._subject = wake_subject(pool, host, "*")
        self._ack_wait_s = ack_wait_s
        self._answers: asyncio.Queue[Msg | None] = asyncio.Queue()
        self._ready = False

    async def next_wake(self) -> Wake:
        """Return the next wake. Raises LinkError."""
        while True:
            message = await self._next()
            if message is None:
                continue
            if message.reply:
                return Wake(self._link, message)
            if status_of(message) not in _NOTHING_NOW:
                # The consumer or its leader is gone.
                self._ready = False
                await asyncio.sleep(_RETRY_S)

    def take(self, message: Msg) -> None:
        """Take what the server sends: a wake, or why there is none."""
        self._answers.put_nowait(message)

    def start_over(self) -> None:
        """Ask again: the question was lost with the connection."""
        self._ready = False
        self._answers.put_nowait(None)

    async def _next(self) -> Msg | None:
        """Return the server's next answer, None when the question must be put again."""
        if self._answers.empty():
            if not self._ready:
                await self._make_consumer()
                self._ready = True
            await self._link.publish(
                f"$JS.API.CONSUMER.MSG.NEXT.{WAKES}.{self._consumer}",
                orjson.dumps({"batch": 1, "expires": int(PULL_S * _NS)}),
                reply=self.inbox,
            )
        try:
            async with asyncio.timeout(PULL_S + _ANSWER_MARGIN_S):
                return await self._answers.get()
        except TimeoutError:
            self._ready = False
            return None

    async def _make_consumer(self) -> None:
        """Make the host's consumer when it is not there; an equal one stays as it is."""
        config: dict[str, Any] = {
            "name": self._consumer,
            "durable_name": self._consumer,
            "filter_subject": self._subject,
            "ack_policy": "explicit",
            "ack_wait": int(self._ack_wait_s * _NS),
            "deliver_policy": "all",
            "max_deliver": DELIVERIES_MAX,
            "max_ack_pending": -1,
            "inactive_threshold": CONSUMER_IDLE_S * _NS,
        }
        request = {"stream_name": WAKES, "config": config}
        await self._link.api(f"CONSUMER.CREATE.{WAKES}.{self._consumer}.{self._subject}", request)


def _deliveries(reply: str) -> int:
    """Return how often the wake was delivered, this time included.

    `$JS.ACK.<stream>.<consumer>.<delivered>.…`, or with domain and account hash before the stream.
    Source: https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-15.md
    """
    parts = reply.split(".")
    at = 4 if len(parts) == 9 else 6  # The two forms differ by their length.
    return int(parts[at])
