"""All appends in the order of the log, from a position on and for ever: what a projection is fed with.

An ephemeral consumer without acknowledgements, made from the position the caller already has, asked with two
overlapping pull requests. The caller keeps the position, in the same transaction as its rows; a hole in the
consumer's delivery sequence, a broken connection or a vanished consumer makes a new consumer behind the last
message taken, so the caller sees every message once. (A durable consumer with AckAll lost 4,600 of 100,000.)
Holes in the stream's own sequence are erased messages and are fine.
"""

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from typing import Any, Self

import orjson
from nats.aio.msg import Msg
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from podium.errors import log_unavailable
from podium.eventlog.layout import EVENTS, partition_subjects, session_of
from podium.eventlog.link import Link, LinkError, status_of
from podium.eventlog.stored import StoredAppend

log = logging.getLogger(__name__)

MESSAGES_MAX = 2_000
BYTES_MAX = 8 * 1024 * 1024
PULL_EXPIRES_S = 30.0
HEARTBEAT_S = 2.0
SILENCE_MAX_S = 5.0
"""Two heartbeats and a bit: then the consumer is taken for gone."""
INACTIVE_S = 60.0
OUTAGE_S = 300.0
IDLE_HEARTBEAT, PULL_TIMED_OUT, PULL_ENDED = 100, 408, 409
PULL_ENDINGS = ("Message Size Exceeds MaxBytes", "Batch Completed")
"""Ends of a pull that leave the consumer as it is; all other 409 mean that it, or its leader, has gone."""
_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class _Consumer:
    """One incarnation: its name, and the inbox that its pull requests name."""

    name: str
    inbox: str


class Feed:
    """An async iterator over batches of appends; use `EventLog.feed`."""

    def __init__(
        self,
        link: Link,
        *,
        after_position: int,
        partitions: Collection[int] | None,
        messages_max: int = MESSAGES_MAX,
        bytes_max: int = BYTES_MAX,
        outage_s: float = OUTAGE_S,
    ) -> None:
        """Start behind `after_position`; `partitions` None = all; a batch has at most `messages_max` messages."""
        self.position = after_position
        self.pending = 0
        self.restarts = 0
        self._link, self._partitions = link, partitions
        self._messages_max, self._bytes_max, self._outage_s = messages_max, bytes_max, outage_s
        self._consumer: _Consumer | None = None
        self._buffer: deque[StoredAppend] = deque()
        self._buffered_bytes = 0
        self._delivered = 0
        self._wanted = 0
        self._incarnation = 0
        self._inbox = ""
        self._heard_at = 0.0
        self._broken = ""
        self._something = asyncio.Event()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[StoredAppend]:
        """Return the next appends, at least one, after waiting for them as long as it takes.

        May be cancelled and called again. Raises Unavailable when the log was away longer than the limit.
        """
        while not self._buffer:
            if self._consumer is None or self._broken:
                await self._restart()
            await self._ask_for_more()
            await self._listen()
        batch = self._pop()
        await self._ask_for_more()
        return batch

    def _pop(self) -> list[StoredAppend]:
        batch = [self._buffer.popleft() for _ in range(min(len(self._buffer), self._messages_max))]
        self._buffered_bytes -= sum(len(stored.payload) for stored in batch)
        self.position = batch[-1].position
        return batch

    async def _listen(self) -> None:
        if self._buffer or self._broken:
            return
        self._something.clear()
        try:
            async with asyncio.timeout(max(0.0, self._heard_at + SILENCE_MAX_S - time.monotonic())):
                await self._something.wait()
        except TimeoutError:
            self._break("neither message nor heartbeat")

    # What arrives.

    def _arrived(self, message: Msg) -> None:
        consumer = self._consumer
        if consumer is None or self._broken:
            return
        if status := status_of(message):
            # The server's own messages come with the inbox as their subject, facts with theirs.
            if message.subject.startswith(consumer.inbox):
                self._status(status, message.headers or {})
            return
        name, position, delivered, stored_at_ns, pending = _delivery(message.reply)
        if name != consumer.name:
            return
        self._heard_at = time.monotonic()
        if delivered != self._delivered + 1:
            self._break(f"delivery {delivered} came after {self._delivered}")
            return
        self._delivered, self.pending = delivered, pending
        self._wanted -= 1
        self._buffer.append(
            StoredAppend(position, session_of(message.subject), message.headers or {}, message.data, stored_at_ns)
        )
        self._buffered_bytes += len(message.data)
        self._something.set()

    def _status(self, status: int, headers: dict[str, str]) -> None:
        self._heard_at = time.monotonic()
        description = headers.get("Description", "")
        if status == IDLE_HEARTBEAT:
            return
        if status == PULL_TIMED_OUT or (status == PULL_ENDED and description in PULL_ENDINGS):
            self._wanted -= int(headers.get("Nats-Pending-Messages", 0))
        else:
            self._break(f"{status} {description}")
        self._something.set()

    def _break(self, why: str) -> None:
        self._broken = self._broken or why
        self._something.set()

    def _missed(self) -> None:
        self._break("the connection broke")

    # What is asked for.

    async def _ask_for_more(self) -> None:
        """Have at least half a batch under way, as long as the caller takes what came."""
        consumer = self._consumer
        if consumer is None or self._broken or self._wanted > self._messages_max // 2:
            return
        if len(self._buffer) >= self._messages_max or self._buffered_bytes >= self._bytes_max:
            return
        pull = {
            "batch": self._messages_max,
            "max_bytes": self._bytes_max,
            "expires": int(PULL_EXPIRES_S * _S),
            "idle_heartbeat": int(HEARTBEAT_S * _S),
        }
        try:
            await self._link.publish(
                f"$JS.API.CONSUMER.MSG.NEXT.{EVENTS}.{consumer.name}",
                orjson.dumps(pull),
                reply=f"{consumer.inbox}.pull",
            )
            self._wanted += self._messages_max
        except LinkError as error:
            self._break(str(error))

    async def _restart(self) -> None:
        """Make a new consumer behind `position`; only called when all that came was handed out."""
        if self._broken:
            self.restarts += 1
            log.info("feed goes on behind position %d with a new consumer: %s", self.position, self._broken)
        try:
            async for attempt in AsyncRetrying(
                retry=retry_if_exception_type(LinkError),
                stop=stop_after_delay(self._outage_s),
                wait=wait_random_exponential(multiplier=0.05, max=1.0),
                reraise=True,
            ):
                with attempt:
                    if not self._link.connected:
                        await self._link.wait_connected(1.0)
                    await self._drop_consumer()
                    await self._make_consumer()
        except LinkError as error:
            raise log_unavailable("making a consumer", error) from error

    async def _make_consumer(self) -> None:
        self._incarnation += 1
        consumer = _Consumer(
            f"feed-{self._inbox.rpartition('.')[2]}-{self._incarnation}", f"{self._inbox}.{self._incarnation}"
        )
        self._wanted, self._delivered, self._broken = 0, 0, ""
        config: dict[str, Any] = {
            "name": consumer.name,
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": self.position + 1,
            "ack_policy": "none",
            "replay_policy": "instant",
            "inactive_threshold": int(INACTIVE_S * _S),
            "mem_storage": True,
            "num_replicas": 1,
        }
        if self._partitions is not None:
            config["filter_subjects"] = partition_subjects(sorted(self._partitions))
        await self._link.api(
            f"CONSUMER.CREATE.{EVENTS}.{consumer.name}", {"stream_name": EVENTS, "config": config, "action": "create"}
        )
        self._consumer = consumer
        self._heard_at = time.monotonic()

    async def _drop_consumer(self) -> None:
        if self._consumer is None:
            return
        name, self._consumer = self._consumer.name, None
        with contextlib.suppress(LinkError):
            await self._link.api(f"CONSUMER.DELETE.{EVENTS}.{name}", timeout_s=1.0)

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[Self]:
        """Listen while the block runs; the consumer goes with it."""
        self._inbox = self._link.new_inbox()
        async with self._link.subscribe(f"{self._inbox}.*.*", self._arrived, on_missed=self._missed):
            try:
                yield self
            finally:
                await self._drop_consumer()


def _delivery(reply: str) -> tuple[str, int, int, int, int]:
    """Return consumer, position, delivery number, time stored (ns) and messages pending, from the reply subject.

    $JS.ACK.[domain.account.]stream.consumer.deliveries.position.delivery.time.pending[.token], ADR-15.
    """
    tokens = reply.split(".")
    at = 3 if len(tokens) == 9 else 5
    return tokens[at], int(tokens[at + 2]), int(tokens[at + 3]), int(tokens[at + 4]), int(tokens[at + 5])
