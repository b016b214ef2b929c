"""The log as the services see it: one connection in one role, and everything that can be done over it."""

import contextlib
import ssl
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from dataclasses import dataclass, field

from podium.errors import log_unavailable
from podium.eventlog import appends, layout, live, reads
from podium.eventlog.feed import BYTES_MAX, MESSAGES_MAX, Feed
from podium.eventlog.layout import Limits
from podium.eventlog.link import Link, LinkError, NotConnected
from podium.eventlog.live import LiveSubscription
from podium.eventlog.roles import Role
from podium.eventlog.stored import StoredAppend, Tail
from podium.v1.event_pb2 import Event
from podium.v1.runner_pb2 import Delta
from podium.v1.session_pb2 import SessionState


@dataclass(frozen=True, slots=True)
class LogSettings:
    """How to reach the NATS server.

    Attributes:
        servers: nats:// or tls:// URLs of all members.
        password: of the role's user; None = the server asks for none (tests only).
        limits: what the streams must look like; the operator makes them so, everybody checks.
        outage_s: how long owners and feeds keep trying while the log is away.
    """

    servers: tuple[str, ...]
    password: str | None = field(default=None, repr=False)
    name: str = ""
    tls: ssl.SSLContext | None = None
    limits: Limits = field(default_factory=Limits)
    connect_timeout_s: float = 10.0
    request_timeout_s: float = 5.0
    ping_interval_s: float = 5.0
    outage_s: float = 300.0


class EventLog:
    """One connection to the log; use `EventLog.connect`. Methods raise `podium.errors.Unavailable` when it is away."""

    def __init__(self, link: Link, settings: LogSettings, role: Role) -> None:
        """Use EventLog.connect."""
        self.link = link
        self.settings = settings
        self.role = role

    @classmethod
    @contextlib.asynccontextmanager
    async def connect(cls, settings: LogSettings, role: Role) -> AsyncIterator["EventLog"]:
        """Connect as `role`, and close at the end.

        Raises Unavailable when no server takes the connection within `connect_timeout_s`.
        """
        opening = Link.open(
            settings.servers,
            name=settings.name or f"podium {role.value}",
            user=role.value,
            password=settings.password,
            inbox_prefix=role.inbox_prefix,
            tls=settings.tls,
            connect_timeout_s=settings.connect_timeout_s,
            request_timeout_s=settings.request_timeout_s,
            ping_interval_s=settings.ping_interval_s,
        )
        async with contextlib.AsyncExitStack() as around:
            try:
                link = await around.enter_async_context(opening)
            except NotConnected as error:
                raise log_unavailable("connecting", error) from error
            yield cls(link, settings, role)

    async def ensure_streams(self) -> None:
        """Make and check all streams; needs the operator's role. Raises LogUnusable."""
        try:
            await layout.ensure(self.link, self.settings.limits)
        except LinkError as error:
            raise log_unavailable("making the streams", error) from error

    async def check_streams(self, *only: str) -> None:
        """Check that streams (default: EVENTS) are there and safe to use. Raises LogUnusable."""
        try:
            await layout.check(self.link, self.settings.limits, only=only or (layout.EVENTS,))
        except LinkError as error:
            raise log_unavailable("checking the streams", error) from error

    async def tail(self, session_id: str) -> Tail:
        """Return the session's newest position and state, never stale; Tail(0, None) when there is no session."""
        return await reads.tail(self.link, session_id)

    async def message_after(self, session_id: str, position: int) -> StoredAppend | None:
        """Return the session's first message after a position, never stale; None = nothing there yet."""
        return await reads.message_after(self.link, session_id, position)

    def history(
        self,
        session_id: str,
        *,
        after_revision: int = 0,
        after_position: int = 0,
        up_to_position: int | None = None,
    ) -> AsyncIterator[StoredAppend]:
        """Iterate over the session's messages, oldest first, up to a position (default: the newest now).

        Messages without anything newer than `after_revision` are left out; the first one may begin before it.
        """
        return reads.history(
            self.link,
            session_id,
            after_revision=after_revision,
            after_position=after_position,
            up_to_position=up_to_position,
        )

    async def last_position(self) -> int:
        """Return the position of the newest message of all sessions."""
        return await reads.last_position(self.link)

    async def append(self, session_id: str, events: Sequence[Event], state: SessionState, *, expected: int) -> int:
        """Store events right after the session's message at `expected` (0 = it has none); return their position.

        Raises Conflict, InDoubt, AppendTooLarge. `command` and `SessionWriter` know what to do about them.
        """
        return await appends.append(self.link, session_id, events, state, expected=expected)

    async def ask_to_yield(self, session_id: str) -> None:
        """Ask the session's owner to pause for a moment; may be lost."""
        with contextlib.suppress(LinkError):
            await self.link.publish(layout.yield_subject(session_id))

    @contextlib.asynccontextmanager
    async def feed(
        self,
        *,
        after_position: int,
        partitions: Collection[int] | None = None,
        messages_max: int = MESSAGES_MAX,
        bytes_max: int = BYTES_MAX,
    ) -> AsyncIterator[Feed]:
        """Give an iterator over batches of all appends after a position, in the order of the log, without end."""
        feed = Feed(
            self.link,
            after_position=after_position,
            partitions=partitions,
            messages_max=messages_max,
            bytes_max=bytes_max,
            outage_s=self.settings.outage_s,
        )
        with _translated("feeding"):
            async with feed.open():
                yield feed

    @contextlib.asynccontextmanager
    async def live(self, session_id: str | None) -> AsyncIterator[LiveSubscription]:
        """Give an iterator over batches of appends as they are stored: one session's, or everybody's (None)."""
        with _translated("listening"):
            async with LiveSubscription().open(self.link, session_id) as subscription:
                yield subscription

    async def publish_delta(self, delta: Delta) -> bool:
        """Show text that is being said; return False when it was dropped."""
        return await self.link.publish_losable(layout.delta_subject(delta.session_id), delta.SerializeToString())

    @contextlib.asynccontextmanager
    async def deltas(self, session_id: str | None) -> AsyncIterator[AsyncIterator[Delta]]:
        """Give an iterator over text that is being said in one session, or in all (None); some may be missing."""
        with _translated("listening"):
            async with live.deltas(self.link, session_id) as iterator:
                yield iterator


@contextlib.contextmanager
def _translated(doing: str) -> Iterator[None]:
    try:
        yield
    except LinkError as error:
        raise log_unavailable(doing, error) from error
