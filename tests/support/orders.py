"""What a load process is told, and what it writes down: shared by the process and by those who start it.

The ledger is a file of lines `{what} {session} {epoch} {number}`: `w` before an event is given to the writer, `a` once
the log has acknowledged all up to that number. Lines are appended with one write each and no fsync: what a killed
process wrote is there.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

ORDERS = "LOAD_ORDERS"


@dataclass(frozen=True, slots=True)
class Orders:
    """What to write.

    Attributes:
        sessions: ids of sessions that are there already.
        events_per_s: over all sessions; 0 = as fast as the log takes them.
        batch: events that are written at once, as one record of a provider may mean several.
        event_bytes: size of a serialised event, envelope included.
        seconds: how long; 0 = until SIGTERM.
        ledger: file to write down what was written and acknowledged; empty = nothing.
        spoken: events come as lines of Claude Code and go through its normaliser.
        prepared: the same batch is written again and again, made before the clock starts: what is measured begins with
            the writer. Its numbers repeat, so there is nothing for a ledger.
        waits: starts to write at SIGUSR1, not as soon as it has attached.
    """

    sessions: list[str]
    events_per_s: float = 0.0
    batch: int = 1
    event_bytes: int = 600
    seconds: float = 0.0
    ledger: str = ""
    spoken: bool = False
    prepared: bool = False
    waits: bool = False

    def environment(self) -> dict[str, str]:
        return {ORDERS: json.dumps(asdict(self))}

    @classmethod
    def received(cls, environment: Mapping[str, str]) -> "Orders":
        return cls(**json.loads(environment[ORDERS]))


class Ledger:
    """The file as it is written."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600) if path else None

    def note(self, what: str, session: str, epoch: int, number: int) -> None:
        if self._file is not None:
            os.write(self._file, f"{what} {session} {epoch} {number}\n".encode())


@dataclass(slots=True)
class Noted:
    """What a ledger says of each session and epoch: the highest number written, and acknowledged.

    `read` takes in what was appended since the last time.
    """

    path: Path
    written: dict[tuple[str, int], int] = field(default_factory=dict)
    acknowledged: dict[tuple[str, int], int] = field(default_factory=dict)
    _read_bytes: int = 0

    def read(self) -> "Noted":
        if self.path.exists():
            with self.path.open("rb") as file:
                file.seek(self._read_bytes)
                content = file.read()
            whole = content[: content.rfind(b"\n") + 1]
            self._read_bytes += len(whole)
            for line in whole.decode().splitlines():
                self._note(*line.split())
        return self

    def _note(self, what: str, session: str, epoch: str, number: str) -> None:
        into = self.written if what == "w" else self.acknowledged
        key = session, int(epoch)
        into[key] = max(into.get(key, 0), int(number))

    @property
    def events_written(self) -> int:
        return sum(self.written.values())

    @property
    def events_acknowledged(self) -> int:
        return sum(self.acknowledged.values())

    @property
    def in_flight(self) -> int:
        """Return how many events were written and not acknowledged, of the newest epoch of each session."""
        newest: dict[str, int] = {}
        for session, epoch in self.written:
            newest[session] = max(epoch, newest.get(session, 0))
        return sum(self.written[key] - self.acknowledged.get(key, 0) for key in newest.items())
