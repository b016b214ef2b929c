"""What there is on the NATS server: names, subjects, and every stream's configuration, made once and checked."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from podium import names
from podium.eventlog.link import ApiError, Link, LinkError
from podium.eventlog.roles import BLOBS, CATALOGS, EVENTS, NATIVE, RUNNERS, WAKES

APPEND_BYTES_MAX = 1024 * 1024
"""Largest message on EVENTS, headers included."""

STREAM_NOT_FOUND = 10059
SUBJECTS_KEPT = 4096
"""A partition is a sum over the id's bytes, and every append and read of a session asks for it."""
_S = 1_000_000_000
_DAY_S = 24 * 3600


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is kept, per stream; -1 bytes = as much as the server may store.

    Facts are kept for ever; what EVENTS may hold at most is the operator's choice, and a full EVENTS refuses
    appends (discard new) rather than forget.
    """

    replicas: int = 1
    events_bytes: int = -1
    native_bytes: int = 2 * 1024**3
    native_age_s: int = 7 * _DAY_S
    wake_age_s: int = 3600
    blobs_bytes: int = -1


class LogUnusable(Exception):
    """A stream is missing or configured in a way that could lose or mix up facts."""


@lru_cache(maxsize=SUBJECTS_KEPT)
def events_subject(session_id: str) -> str:
    """Return where the session's facts are appended: events.{partition}.{session}."""
    return f"events.{names.partition(session_id)}.{session_id}"


def partition_subjects(partitions: Iterable[int]) -> list[str]:
    """Return the filters for all sessions of these partitions."""
    return [f"events.{partition}.*" for partition in partitions]


def session_of(subject: str) -> str:
    """Return the session of a subject that ends with it (events.7.{session}, live.{session} …)."""
    return subject.rpartition(".")[2]


def live_subject(session_id: str | None) -> str:
    """Return where the session's appends are republished once stored; None = those of all sessions."""
    return f"live.{session_id or '*'}"


def delta_subject(session_id: str | None) -> str:
    """Return where text is published while it is being said; None = that of all sessions."""
    return f"delta.{session_id or '*'}"


def yield_subject(session_id: str) -> str:
    """Return where a gateway asks the session's owner to let it append."""
    return f"yield.{session_id}"


def native_subject(session_id: str, epoch: int) -> str:
    """Return where an owner's raw provider records go."""
    return f"native.{session_id}.{epoch}"


def wake_subject(pool: str, host: str, session_id: str) -> str:
    """Return where a wake for the session waits; pool and host are tokens without dots."""
    return f"wake.{pool}.{host}.{session_id}"


def streams(limits: Limits) -> dict[str, dict[str, Any]]:
    """Return the configuration of every stream by name, in the words of `$JS.API.STREAM.CREATE`.

    Source: https://docs.nats.io/nats-concepts/jetstream/streams (checked with nats-server 2.15.1).
    """
    common: dict[str, Any] = {
        "storage": "file",
        "num_replicas": limits.replicas,
        "retention": "limits",
        "discard": "old",
        "allow_direct": True,
        # Nobody sends Nats-Msg-Id: it is stream-wide and would cost memory.
        "duplicate_window": 1 * _S,
    }
    layout: dict[str, dict[str, Any]] = {
        EVENTS: {
            "subjects": ["events.*.*"],
            "discard": "new",
            "max_bytes": limits.events_bytes,
            "max_msg_size": APPEND_BYTES_MAX,
            "republish": {"src": "events.*.*", "dest": "live.{{wildcard(2)}}"},
        },
        NATIVE: {"subjects": ["native.*.*"], "max_bytes": limits.native_bytes, "max_age": limits.native_age_s * _S},
        # Discard old: a newer wake replaces the one that waits. A refused one could be lost between a runner's
        # look at the session and its acknowledgement.
        WAKES: {
            "subjects": ["wake.*.*.*"],
            "retention": "workqueue",
            "max_msgs_per_subject": 1,
            "max_age": limits.wake_age_s * _S,
        },
        f"KV_{RUNNERS}": {"subjects": [f"$KV.{RUNNERS}.>"], "max_msgs_per_subject": 1, "allow_msg_ttl": True},
        f"KV_{CATALOGS}": {"subjects": [f"$KV.{CATALOGS}.>"], "max_msgs_per_subject": 1, "allow_msg_ttl": True},
        f"OBJ_{BLOBS}": {
            "subjects": [f"$O.{BLOBS}.C.>", f"$O.{BLOBS}.M.>"],
            "discard": "new",
            "max_bytes": limits.blobs_bytes,
        },
    }
    return {name: {"name": name, **common, **own} for name, own in layout.items()}


_ADJUSTABLE = frozenset({"max_bytes", "max_age"})
"""What an operator may change on a running stream."""

_REFUSED: Mapping[str, object] = {
    # Acknowledged facts were lost with it.
    "persist_mode": "async",
    "sealed": True,
    "no_ack": True,
    "allow_rollup_hdrs": True,
    # Cannot be unset later, and erasure must stay possible; roles withhold deleting instead.
    "deny_delete": True,
    "deny_purge": True,
}


async def ensure(link: Link, limits: Limits) -> None:
    """Make the streams that are missing, set limits anew, and check all of them; needs the operator's role.

    Raises LogUnusable when a stream exists with another configuration, LinkError when the server does not answer.
    """
    for name, wanted in streams(limits).items():
        found = await _found(link, name)
        if found is None:
            found = (await link.api(f"STREAM.CREATE.{name}", wanted))["config"]
        elif any(found.get(key, -1) != wanted[key] for key in _ADJUSTABLE & wanted.keys()):
            found = (
                await link.api(f"STREAM.UPDATE.{name}", found | {k: wanted[k] for k in _ADJUSTABLE & wanted.keys()})
            )["config"]
        _refuse_unless_safe(name, found, wanted)


async def check(link: Link, limits: Limits, *, only: Iterable[str] = (EVENTS,)) -> None:
    """Check that streams are there and safe, without changing anything.

    Raises LogUnusable that says what was found and what was expected.
    """
    wanted = streams(limits)
    for name in only:
        found = await _found(link, name)
        if found is None:
            raise LogUnusable(f"stream {name}: not there; `podium up` or the operator makes it")
        _refuse_unless_safe(name, found, wanted[name])


async def _found(link: Link, name: str) -> dict[str, Any] | None:
    try:
        info = await link.api(f"STREAM.INFO.{name}")
    except ApiError as error:
        if error.err_code == STREAM_NOT_FOUND:
            return None
        raise
    config: dict[str, Any] = info["config"]
    return config


def _refuse_unless_safe(name: str, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    differences = [
        f"{key}: found {found.get(key)!r}, expected {value!r}"
        for key, value in wanted.items()
        if key not in _ADJUSTABLE and found.get(key) != value
    ]
    differences += [f"{key}: found {value!r}" for key, value in _REFUSED.items() if found.get(key) == value]
    if differences:
        raise LogUnusable(f"stream {name} is not as it must be: {'; '.join(differences)}")


__all__ = [
    "APPEND_BYTES_MAX",
    "BLOBS",
    "CATALOGS",
    "EVENTS",
    "NATIVE",
    "RUNNERS",
    "WAKES",
    "Limits",
    "LinkError",
    "LogUnusable",
    "check",
    "delta_subject",
    "ensure",
    "events_subject",
    "live_subject",
    "native_subject",
    "partition_subjects",
    "session_of",
    "streams",
    "wake_subject",
    "yield_subject",
]
