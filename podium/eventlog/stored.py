"""One append as it lies on the log: what its message looks like, and how it is read without parsing more than needed.

The payload is a serialised `podium.v1.Append`, all events before the state, so that it can be cut in two:

    payload[:events_length]   Append with `events` alone; the same bytes are a WatchSessionResponse's `events`
    payload[events_length:]   Append with `state` alone

Headers: Podium-Events-Length (bytes), Podium-First-Revision, Podium-Last-Revision, Podium-Provider,
Podium-Workspace, Podium-Kinds (names of the fields of Event.body, sorted, without repeats).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from urllib.parse import quote, unquote

from podium.eventlog.layout import APPEND_BYTES_MAX
from podium.v1.event_pb2 import Append, Event
from podium.v1.session_pb2 import SessionState

EVENTS_MAX = 200
EVENTS_BYTES_MAX = 256 * 1024
"""An owner's batch ends here; a single event may be larger, up to what a message may hold."""

_EVENTS_LENGTH = "Podium-Events-Length"
_FIRST, _LAST = "Podium-First-Revision", "Podium-Last-Revision"
_PROVIDER, _WORKSPACE, _KINDS = "Podium-Provider", "Podium-Workspace", "Podium-Kinds"
_HEADERS_BYTES_MAX = 4096
_EVENTS_FIELD = Append.EVENTS_FIELD_NUMBER
_STATE_FIELD = Append.STATE_FIELD_NUMBER
_UNQUOTED = " /:@+,;=()[]{}~!$&*"


class AppendTooLarge(Exception):
    """The events and the state do not fit into one message of the log."""


class AppendMalformed(Exception):
    """A message on the log is not what this module writes."""


@dataclass(frozen=True, slots=True)
class Tail:
    """The newest message of a session: its position and the state after it; 0 and None when there is no session."""

    position: int
    state: SessionState | None

    @property
    def revision(self) -> int:
        """Return the newest revision, 0 when there is no session."""
        return self.state.session.revision if self.state is not None else 0


class StoredAppend:
    """One append on the log; events and state are parsed when they are first asked for, and must not be changed."""

    __slots__ = ("_events", "_state", "_stored_at", "headers", "payload", "position", "session_id")

    def __init__(
        self, position: int, session_id: str, headers: Mapping[str, str], payload: bytes, stored_at: int | str
    ) -> None:
        """Take a message as it was read; `stored_at`: nanoseconds since 1970, or RFC 3339 as the server writes it."""
        self.position = position
        self.session_id = session_id
        self.headers = headers
        self.payload = payload
        self._stored_at = stored_at
        self._events: Sequence[Event] | None = None
        self._state: SessionState | None = None

    def __repr__(self) -> str:
        return f"<StoredAppend {self.session_id} at {self.position}, {len(self.payload)} bytes>"

    @property
    def first_revision(self) -> int:
        """Return the revision of the first event."""
        return self._number(_FIRST)

    @property
    def last_revision(self) -> int:
        """Return the revision of the last event."""
        return self._number(_LAST)

    @property
    def provider(self) -> str:
        """Return the session's provider."""
        return unquote(self.headers.get(_PROVIDER, ""))

    @property
    def workspace(self) -> str:
        """Return the session's workspace."""
        return unquote(self.headers.get(_WORKSPACE, ""))

    @property
    def kinds(self) -> frozenset[str]:
        """Return which kinds of events are in it: names of the fields of Event.body."""
        return frozenset(self.headers.get(_KINDS, "").split(","))

    @property
    def events_bytes(self) -> bytes:
        """Return the events, serialised as field 1 of Append (and of WatchSessionResponse)."""
        return self.payload[: self._events_length]

    @property
    def state_bytes(self) -> bytes:
        """Return the state, serialised as field 2 of Append."""
        return self.payload[self._events_length :]

    @property
    def events(self) -> Sequence[Event]:
        """Return the events, by rising revision."""
        if self._events is None:
            self._events = Append.FromString(self.events_bytes).events
        return self._events

    @property
    def state(self) -> SessionState:
        """Return the state after the last event."""
        if self._state is None:
            self._state = Append.FromString(self.state_bytes).state
        return self._state

    @property
    def stored_at_ns(self) -> int:
        """Return when the server stored it, nanoseconds since 1970."""
        if isinstance(self._stored_at, str):
            self._stored_at = nanoseconds(self._stored_at)
        return self._stored_at

    @property
    def _events_length(self) -> int:
        return self._number(_EVENTS_LENGTH)

    def _number(self, header: str) -> int:
        try:
            return int(self.headers[header])
        except (KeyError, ValueError):
            raise AppendMalformed(f"message {self.position} of {self.session_id} has no number in {header}") from None


def encode(events: Sequence[Event], state: SessionState) -> tuple[dict[str, str], bytes]:
    """Return headers and payload of the message that appends `events`. Raises AppendTooLarge."""
    # Written field by field: an Append would first copy all of it.
    events_part = b"".join([field(_EVENTS_FIELD, event.SerializeToString()) for event in events])
    payload = events_part + field(_STATE_FIELD, state.SerializeToString())
    if len(payload) > APPEND_BYTES_MAX - _HEADERS_BYTES_MAX:
        raise AppendTooLarge(
            f"{len(events)} events of {state.session.name} take {len(payload)} bytes with the state, "
            f"expected at most {APPEND_BYTES_MAX - _HEADERS_BYTES_MAX}; long content belongs into the object store"
        )
    headers = {
        _EVENTS_LENGTH: str(len(events_part)),
        _FIRST: str(events[0].revision),
        _LAST: str(events[-1].revision),
        _PROVIDER: _quoted(state.session.provider),
        _WORKSPACE: _quoted(state.session.workspace),
        _KINDS: ",".join(sorted({event.WhichOneof("body") or "" for event in events})),
    }
    return headers, payload


@lru_cache(maxsize=1024)
def _quoted(name: str) -> str:
    return quote(name, safe=_UNQUOTED)


def field(number: int, content: bytes) -> bytes:
    """Return a length-delimited protobuf field: a message, string or bytes, already serialised."""
    length = len(content)
    if length < 0x80:
        return bytes((number << 3 | 2, length)) + content
    if length < 0x4000:
        return bytes((number << 3 | 2, length & 0x7F | 0x80, length >> 7)) + content
    head = bytearray((number << 3 | 2,))
    while length > 0x7F:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    head.append(length)
    return bytes(head) + content


def nanoseconds(rfc3339: str) -> int:
    """Return a time like 2026-11-22T08:54:19.123456789Z as nanoseconds since 1970."""
    whole, _, fraction = rfc3339.rstrip("Z").partition(".")
    seconds = int(datetime.fromisoformat(whole + "+00:00").timestamp())
    return seconds * 1_000_000_000 + int(fraction.ljust(9, "0")[:9] or 0)
