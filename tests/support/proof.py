"""What must be true of the log and of DuckDB after any number of kills: pure checks that return what is wrong."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from podium.eventlog import StoredAppend
from tests.support.orders import Noted


@dataclass(slots=True)
class Commands:
    """What clients have asked for: request id to session, and which were answered."""

    sent: dict[str, str] = field(default_factory=dict)
    answered: set[str] = field(default_factory=set)


def wrong_numbers(session: str, appends: list[StoredAppend], noted: Noted) -> list[str]:
    """Return what is wrong with the load's numbers: each epoch's are 1..k, and k is at least what was acknowledged."""
    found: dict[int, list[int]] = defaultdict(list)
    for stored in appends:
        for event in stored.events:
            if event.HasField("message"):
                said = event.message.content[0].text.text.rstrip(".").split(":")
                found[int(said[0])].append(int(said[1]))
    problems = []
    for epoch in {epoch for name, epoch in noted.written if name == session} | set(found):
        numbers, key = found[epoch], (session, epoch)
        acknowledged, written = noted.acknowledged.get(key, 0), noted.written.get(key, 0)
        if numbers != list(range(1, len(numbers) + 1)):
            problems.append(f"{session} epoch {epoch}: numbers are not 1..{len(numbers)}: {_first_wrong(numbers)}")
        if len(set(numbers)) < acknowledged:
            problems.append(f"{session} epoch {epoch}: {acknowledged} acknowledged, {len(set(numbers))} stored")
        if numbers and max(numbers) > written:
            problems.append(f"{session} epoch {epoch}: {max(numbers)} stored, {written} written")
    return problems


def _first_wrong(numbers: list[int]) -> str:
    expected, found = next((at, number) for at, number in enumerate(numbers, 1) if at != number)
    return f"{found} stands where {expected} should"


def wrong_commands(commands: Commands, facts: Counter[str]) -> list[str]:
    """Return the answered requests without effect, and those with more than one (a cancelled turn is one fact)."""
    lost = [f"request {name} was answered and has no fact" for name in commands.answered if facts[name] == 0]
    doubled = [f"request {name} has {facts[name]} appends" for name in commands.sent if facts[name] > 1]
    return lost + doubled


def wrong_rows(store_file: Path, histories: dict[str, list[StoredAppend]]) -> list[str]:
    """Return the sessions whose rows in DuckDB are not exactly the events of the log, in their order."""
    with duckdb.connect(str(store_file), read_only=True) as store:
        rows = store.execute(
            "SELECT session_id, revision, id FROM core.events ORDER BY session_id, revision"
        ).fetchall()
    stored: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for session, revision, event_id in rows:
        stored[session].append((revision, event_id))
    problems = []
    for session, appends in histories.items():
        expected = [(event.revision, event.id) for append in appends for event in append.events]
        if stored[session] != expected:
            problems.append(f"{session}: {len(stored[session])} rows in DuckDB, {len(expected)} events on the log")
    return problems
