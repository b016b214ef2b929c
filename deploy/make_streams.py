"""Make and check the log's streams, as the operator; run once NATS answers, before the services start."""

from __future__ import annotations

import asyncio
import sys

from podium.errors import PodiumError
from podium.eventlog import EventLog, Role
from podium.eventlog.access import log_settings
from podium.settings import ServiceSettings, load


async def make() -> None:
    """Make what is missing; raises PodiumError when a stream is not what it must be."""
    async with EventLog.connect(log_settings(load(ServiceSettings), Role.OPERATOR), Role.OPERATOR) as log:
        await log.ensure_streams()


def main() -> int:
    """Return 0 when every stream is there and safe to use."""
    try:
        asyncio.run(make())
    except PodiumError as error:
        print(error, file=sys.stderr)
        return 1
    print("the log's streams are ready")
    return 0


if __name__ == "__main__":
    sys.exit(main())
