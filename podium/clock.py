"""The time, as a thing that can be handed in: production takes the system's, tests turn their own."""

import time
from dataclasses import dataclass
from typing import Protocol

from google.protobuf.timestamp_pb2 import Timestamp

NS = 1_000_000_000


class Clock(Protocol):
    """Tells the time."""

    def now_ns(self) -> int:
        """Return nanoseconds since 1970."""
        ...

    def monotonic(self) -> float:
        """Return seconds from a fixed but unknown point; never goes back."""
        ...


class SystemClock:
    """The machine's clock."""

    def now_ns(self) -> int:
        """Return nanoseconds since 1970."""
        return time.time_ns()

    def monotonic(self) -> float:
        """Return seconds from a fixed but unknown point; never goes back."""
        return time.monotonic()


@dataclass
class ManualClock:
    """A clock that stands until it is turned."""

    ns: int = 1_700_000_000 * NS

    def now_ns(self) -> int:
        """Return nanoseconds since 1970."""
        return self.ns

    def monotonic(self) -> float:
        """Return seconds since 1970."""
        return self.ns / NS

    def advance(self, seconds: float) -> None:
        """Turn the clock forward."""
        self.ns += int(seconds * NS)


def to_timestamp(ns: int) -> Timestamp:
    """Return nanoseconds since 1970 as a protobuf timestamp."""
    return Timestamp(seconds=ns // NS, nanos=ns % NS)


def to_ns(timestamp: Timestamp) -> int:
    """Return a protobuf timestamp as nanoseconds since 1970."""
    return timestamp.seconds * NS + timestamp.nanos
