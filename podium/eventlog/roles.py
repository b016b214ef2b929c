"""Who may do what on the NATS server: one least-privilege user per service.

A permission is a subject. JetStream's own requests are subjects too (`$JS.API.STREAM.PURGE.EVENTS`), so what
a role cannot publish it cannot do: nobody but the operator can create, change, purge or delete a stream.
A denied publish looks like a timeout to whoever asked; the reason comes to the connection's `error_cb` only.

Two things that subjects cannot say are said by the streams: none of them takes roll-up headers (a publisher
with `Nats-Rollup: all` could otherwise empty a stream), and facts are guarded by their sequence.
"""

import enum
from dataclasses import dataclass

EVENTS = "EVENTS"
NATIVE = "NATIVE"
WAKES = "WAKES"
RUNNERS = "runners"
CATALOGS = "catalogs"
BLOBS = "blobs"


class Role(enum.StrEnum):
    """A service as the NATS server knows it; the value is its user name."""

    GATEWAY = "gateway"
    RUNNER = "runner"
    INDEXER = "indexer"
    OPERATOR = "operator"

    @property
    def inbox_prefix(self) -> str:
        """Return where answers to this role's requests go; no other role can listen there."""
        return f"_INBOX_{self.value}"


@dataclass(frozen=True)
class Permissions:
    """The subjects a user may publish and subscribe; all others are denied."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]

    def as_config(self) -> dict[str, object]:
        """Return the `permissions` block of the server's configuration."""
        return {"publish": {"allow": list(self.publish)}, "subscribe": {"allow": list(self.subscribe)}}


def permissions(role: Role) -> Permissions:
    """Return what a role may do."""
    publish, subscribe = _WORK[role]
    return Permissions(
        publish=("$JS.API.INFO", *publish),
        subscribe=(f"{role.inbox_prefix}.>", *subscribe),
    )


def _looks_at(*streams: str) -> tuple[str, ...]:
    """Check that a stream is there and configured as it must be."""
    return tuple(f"$JS.API.STREAM.INFO.{stream}" for stream in streams)


def _reads_leader(stream: str) -> tuple[str, ...]:
    return (f"$JS.API.STREAM.MSG.GET.{stream}",)


def _reads_direct(stream: str) -> tuple[str, ...]:
    return (f"$JS.API.DIRECT.GET.{stream}", f"$JS.API.DIRECT.GET.{stream}.>")


def _consumes(stream: str, *, acknowledges: bool) -> tuple[str, ...]:
    """Make, look at and pull from consumers; take away one's own."""
    allowed = [
        f"$JS.API.CONSUMER.CREATE.{stream}",
        f"$JS.API.CONSUMER.CREATE.{stream}.>",
        f"$JS.API.CONSUMER.INFO.{stream}.*",
        f"$JS.API.CONSUMER.MSG.NEXT.{stream}.*",
        f"$JS.API.CONSUMER.DELETE.{stream}.*",
    ]
    if acknowledges:
        allowed.append(f"$JS.ACK.{stream}.>")
    return tuple(allowed)


_KV_RUNNERS, _KV_CATALOGS, _OBJ_BLOBS = f"KV_{RUNNERS}", f"KV_{CATALOGS}", f"OBJ_{BLOBS}"

_WORK: dict[Role, tuple[tuple[str, ...], tuple[str, ...]]] = {
    # Takes commands: reads and appends facts, wakes runners, shows who lives. Feeds watchers.
    Role.GATEWAY: (
        (
            "events.*.*",
            "yield.*",
            "wake.*.*.*",
            *_looks_at(EVENTS, WAKES, _KV_RUNNERS, _KV_CATALOGS, _OBJ_BLOBS),
            *_reads_leader(EVENTS),
            *_reads_direct(EVENTS),
            *_reads_direct(_KV_RUNNERS),
            *_reads_direct(_KV_CATALOGS),
            *_reads_direct(_OBJ_BLOBS),
            # WatchEvents: everybody's facts from a position on.
            *_consumes(EVENTS, acknowledges=False),
            # Prompts over 64 KiB.
            f"$O.{BLOBS}.C.*",
            f"$O.{BLOBS}.M.*",
        ),
        ("live.>", "delta.>", f"$KV.{RUNNERS}.*"),
    ),
    # Owns sessions: appends what happened, takes wakes, shows itself. Cannot wake, cannot erase.
    Role.RUNNER: (
        (
            "events.*.*",
            "delta.*",
            "native.*.*",
            f"$KV.{RUNNERS}.*",
            f"$KV.{CATALOGS}.*.*",
            f"$O.{BLOBS}.C.*",
            f"$O.{BLOBS}.M.*",
            *_looks_at(EVENTS, NATIVE, WAKES, _KV_RUNNERS, _KV_CATALOGS, _OBJ_BLOBS),
            *_reads_leader(EVENTS),
            *_reads_direct(EVENTS),
            *_reads_leader(_KV_RUNNERS),
            *_reads_direct(_KV_RUNNERS),
            *_reads_direct(_KV_CATALOGS),
            *_reads_direct(_OBJ_BLOBS),
            *_consumes(WAKES, acknowledges=True),
        ),
        ("live.*", "yield.*", f"$KV.{RUNNERS}.*"),
    ),
    # Reads everything that is a fact, writes nothing.
    Role.INDEXER: (
        (
            *_looks_at(EVENTS, _OBJ_BLOBS),
            *_reads_leader(EVENTS),
            *_reads_direct(EVENTS),
            *_reads_direct(_OBJ_BLOBS),
            *_consumes(EVENTS, acknowledges=False),
        ),
        (),
    ),
    # Makes, checks, erases, backs up. Cannot append a fact or pose as a runner.
    Role.OPERATOR: (
        ("$JS.API.>", "$JS.ACK.>"),
        ("live.>", "delta.>", f"$KV.{RUNNERS}.*"),
    ),
}
