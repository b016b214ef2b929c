"""Removes uploads that no event refers to: `python -m podium.eventlog.collect`, to be run once a day.

An upload precedes its event; when the event is never appended (a refused command, a killed runner), nobody needs it.
The whole log is read to know what is referred to, at the speed of a projection; needs the operator's password.
"""

import asyncio
import sys

from podium import telemetry
from podium.clock import SystemClock
from podium.errors import PodiumError
from podium.eventlog.access import log_settings
from podium.eventlog.blobs import COLLECT_AFTER_S, BlobStore, Collected
from podium.eventlog.connection import EventLog
from podium.eventlog.offload import references
from podium.eventlog.roles import Role
from podium.settings import ServiceSettings, load


async def collect(log: EventLog, *, older_than_s: float = COLLECT_AFTER_S) -> Collected:
    """Remove unreferenced uploads older than `older_than_s` (default 24 h). Raises Unavailable."""
    # What is appended after this point refers to uploads that are younger than any age limit.
    end = await log.last_position()
    referenced = await _referenced(log, end)

    async def is_referenced(name: str) -> bool:
        return name in referenced

    return await BlobStore(log.link, SystemClock()).collect(is_referenced, older_than_s=older_than_s)


async def _referenced(log: EventLog, end: int) -> set[str]:
    """Return the names of all uploads that an event up to position `end` refers to."""
    names: set[str] = set()
    position = 0
    if end == 0:
        return names
    async with log.feed(after_position=0) as feed:
        async for batch in feed:
            for stored in batch:
                position = stored.position
                for event in stored.events:
                    names.update(blob.object for blob in references(event))
            if position >= end:
                return names
    return names


async def _run(settings: ServiceSettings) -> Collected:
    async with EventLog.connect(log_settings(settings, Role.OPERATOR), Role.OPERATOR) as log:
        return await collect(log)


def main() -> int:
    """Collect once; exit code 2 = a setting is wrong, 1 = the log is not there."""
    try:
        settings = load(ServiceSettings)
        telemetry.configure(service="collect", level=settings.log_level, form=settings.log_format)
        collected = asyncio.run(_run(settings))
    except PodiumError as error:
        print(f"collect: {error.message}\n{error.advice}", file=sys.stderr)  # noqa: T201 - the last words
        return 2 if error.code == "INVALID_ARGUMENT" else 1
    print(f"removed {collected.objects} uploads, {collected.size_bytes} bytes")  # noqa: T201 - the result
    return 0


if __name__ == "__main__":
    sys.exit(main())
