"""The queue that tells a host's runners which session has something to do.

A wake carries no truth: whoever takes one reads the session, and a wake that gets lost is published again by a
gateway. At most one waits per session; a newer one replaces it also while it is being handled, so that what was
appended after the handler's look is never forgotten.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

import orjson
from nats.aio.msg import Msg

from podium.eventlog.jetstream import log_needed, store
from podium.eventlog.layout import WAKES, session_of, wake_subject
from podium.eventlog.link import Denied, Link, LinkError, NoAnswer, status_of
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
_RETRY_S = 1.0
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

    async def consume(self, pool: str, host: str) -> AsyncIterator[Wake]:
        """Yield wakes one by one for ever; the next is fetched when it is asked for, so ask when there is a free slot.

        While the server is away it waits. Several runners of a host share its wakes. Raises Denied.
        """
        ready = False
        while True:
            try:
                if not ready:
                    await self._make_consumer(pool, host)
                    ready = True
                message = await self._pull(pool, host)
            except NoAnswer:
                # The server was asked and the connection broke, or it went away: ask again.
                ready = False
            except Denied:
                raise
            except LinkError as error:
                log.warning("no wakes for now: %s", error)
                ready = False
                await asyncio.sleep(_RETRY_S)
                await self._link.wait_connected(PULL_S)
            else:
                if message is None:
                    continue
                if message.reply:
                    yield Wake(self._link, message)
                else:
                    ready = status_of(message) in _NOTHING_NOW

    async def _make_consumer(self, pool: str, host: str) -> None:
        """Make the host's consumer when it is not there; an equal one stays as it is."""
        name, subject = _consumer(pool, host), wake_subject(part(pool), part(host), "*")
        config: dict[str, Any] = {
            "name": name,
            "durable_name": name,
            "filter_subject": subject,
            "ack_policy": "explicit",
            "ack_wait": int(self._ack_wait_s * _NS),
            "deliver_policy": "all",
            "max_deliver": DELIVERIES_MAX,
            "max_ack_pending": -1,
            "inactive_threshold": CONSUMER_IDLE_S * _NS,
        }
        await self._link.api(f"CONSUMER.CREATE.{WAKES}.{name}.{subject}", {"stream_name": WAKES, "config": config})

    async def _pull(self, pool: str, host: str) -> Msg | None:
        """Return a wake or the server's refusal, None when there was nothing in PULL_S."""
        answer = await self._link.request(
            f"$JS.API.CONSUMER.MSG.NEXT.{WAKES}.{_consumer(pool, host)}",
            orjson.dumps({"batch": 1, "expires": int(PULL_S * _NS)}),
            timeout_s=PULL_S + _ANSWER_MARGIN_S,
        )
        return None if status_of(answer) in _NOTHING_NOW else answer


def _consumer(pool: str, host: str) -> str:
    # A plus is in no name, so no two pairs share a consumer.
    return f"{part(pool)}+{part(host)}"


def _deliveries(reply: str) -> int:
    """Return how often the wake was delivered, this time included.

    `$JS.ACK.<stream>.<consumer>.<delivered>.…`, or with domain and account hash before the stream.
    Source: https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-15.md
    """
    parts = reply.split(".")
    at = 4 if len(parts) == 9 else 6  # The two forms differ by their length.
    return int(parts[at])
