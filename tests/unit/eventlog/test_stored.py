"""What a message of the log looks like, and what of it is read."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nats.aio.client import Client

from podium.eventlog import AppendMalformed, AppendTooLarge, StoredAppend
from podium.eventlog.client import DirectClient, parse_headers
from podium.eventlog.stored import encode, nanoseconds
from podium.v1.event_pb2 import Append, Event, Message, Notice
from podium.v1.session_pb2 import Session, SessionState

TOKEN = st.text(st.characters(codec="ascii", min_codepoint=33, max_codepoint=126, exclude_characters=":"), min_size=1)
VALUE = st.text(st.characters(exclude_characters="\r\n", exclude_categories=("Cs", "Cc", "Z")), max_size=40)


def state(**session: object) -> SessionState:
    return SessionState(version=1, session=Session(name="sessions/s", **session))  # type: ignore[arg-type]


def stored(headers: dict[str, str], payload: bytes) -> StoredAppend:
    return StoredAppend(7, "s", headers, payload, "2026-11-22T09:04:19.914411768Z")


@settings(deadline=None)
@given(st.integers(1, 20), st.text(max_size=300), VALUE, VALUE)
def test_what_is_encoded_is_read_back(count: int, text: str, provider: str, workspace: str) -> None:
    events = [Event(id=str(number), revision=3 + number, notice=Notice(message=text)) for number in range(count)]
    after = state(provider=provider, workspace=workspace, revision=2 + count)
    headers, payload = encode(events, after)
    read = stored(headers, payload)
    assert (list(read.events), read.state) == (events, after)
    assert (read.first_revision, read.last_revision) == (3, 2 + count)
    assert (read.provider, read.workspace, read.kinds) == (provider, workspace, frozenset({"notice"}))
    assert Append.FromString(payload) == Append(events=events, state=after)
    assert read.events_bytes + read.state_bytes == payload
    assert all(value.isascii() and value.isprintable() for value in headers.values())


def test_kinds_are_named_once() -> None:
    events = [
        Event(revision=1, notice=Notice()),
        Event(revision=2, message=Message()),
        Event(revision=3, notice=Notice()),
    ]
    headers, _ = encode(events, state())
    assert headers["Podium-Kinds"] == "message,notice"


def test_what_does_not_fit_into_a_message_is_refused() -> None:
    with pytest.raises(AppendTooLarge, match="object store"):
        encode([Event(revision=1, notice=Notice(message="x" * 1_050_000))], state())


def test_a_message_that_is_none_of_ours_says_so() -> None:
    for headers in ({}, {"Podium-Events-Length": "many"}):
        with pytest.raises(AppendMalformed, match="message 7 of s"):
            _ = stored(headers, b"junk").events


def test_times_keep_their_nanoseconds() -> None:
    assert nanoseconds("2026-11-22T09:04:19.914411768Z") == 1795338259914411768
    assert nanoseconds("2026-11-22T09:04:19Z") == 1795338259000000000
    assert nanoseconds("2026-11-22T09:04:19.5Z") == 1795338259500000000
    assert stored({}, b"").stored_at_ns == 1795338259914411768


@settings(deadline=None)
@given(st.dictionaries(TOKEN, VALUE, max_size=8))
def test_headers_are_read_as_the_client_reads_them(fields: dict[str, str]) -> None:
    block = "".join(f"{name}: {value}\r\n" for name, value in fields.items()).encode() + b"\r\n"
    assert parse_headers(block) == Client._parse_header_lines(block)


@pytest.mark.parametrize(
    "block", [b"", b"\r\n", b"NATS/1.0\r\nA:b\r\n\r\n", b"A:\tb\r\nC: d\r\n", b"junk\r\nA: b: c\r\n"]
)
def test_headers_out_of_the_ordinary_are_read_too(block: bytes) -> None:
    assert parse_headers(block) == Client._parse_header_lines(block)


def test_the_private_parts_of_the_client_that_are_replaced_are_still_there() -> None:
    """A new version of nats-py that renames them would silently undo what podium/eventlog/client.py does."""
    for name in ("_process_msg", "_process_pong", "_parse_header_lines", "_process_headers"):
        assert hasattr(Client, name), name
    assert DirectClient._process_msg is not Client._process_msg
    assert {"_transport", "_pongs"} <= vars(Client()).keys()
