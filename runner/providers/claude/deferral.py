"""What a turn that waits for its answer without a process needs to go on: kept in the session's own folder."""

from pathlib import Path

import orjson

from runner.providers.claude.records import NotARecord, number, parse
from runner.providers.claude.transcript import Totals

_NAME = "claude-deferred.json"


def keep(folder: Path, before: Totals | None) -> None:
    """Write the running totals of the turn's beginning: the process that resumes counts on. Raises OSError."""
    if before is None:
        forget(folder)
        return
    part = folder / f"{_NAME}.part"
    part.write_bytes(orjson.dumps({"cost_usd": before.cost_usd, "api_ms": before.api_ms}))
    part.replace(folder / _NAME)


def recall(folder: Path) -> Totals | None:
    """Return what `keep` wrote, None when there is nothing to read: the turn's cost is unknown then."""
    try:
        kept = parse((folder / _NAME).read_bytes())
    except (OSError, NotARecord):
        return None
    cost = kept.get("cost_usd")
    return Totals(float(cost) if isinstance(cost, int | float) else 0.0, number(kept, "api_ms"))


def forget(folder: Path) -> None:
    """Remove it. Raises OSError."""
    (folder / _NAME).unlink(missing_ok=True)
