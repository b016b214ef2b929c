"""`python -m indexer`: puts the indexer together and serves until it is told to stop."""

import argparse
import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
import uvloop

from indexer import service
from indexer.full_text import FullText
from indexer.lists import Lists
from indexer.loop import Projector
from indexer.progress import Progress
from indexer.queries import Queries
from indexer.reads import Reads
from indexer.settings import IndexerSettings
from indexer.sql.service import MEBIBYTE, QueryLimits, QueryRunner, SqlSettings
from indexer.sql.snapshot import Snapshots
from indexer.store import StoreLimits, StoreUnusable, open_store
from indexer.usage import UsageSums
from indexer.views import RELATIONS
from podium import rpc, telemetry
from podium.clock import SystemClock
from podium.errors import PodiumError
from podium.eventlog import BlobStore, EventLog, Role
from podium.eventlog.access import log_settings
from podium.settings import load

_log = structlog.get_logger()


@asynccontextmanager
async def running(settings: IndexerSettings, *, rebuild: bool = False) -> AsyncIterator[int]:
    """Run an indexer while the block runs, and yield its port.

    `rebuild`: throw the store away first. Raises StoreUnusable and PodiumError.
    """
    limits = StoreLimits(memory_bytes=settings.store_memory_mb * MEBIBYTE, threads=settings.store_threads)
    async with (
        EventLog.connect(log_settings(settings, Role.INDEXER), Role.INDEXER) as log,
        open_store(settings.store_file, limits, rebuild=rebuild) as store,
        asyncio.TaskGroup() as tasks,
    ):
        clock, progress = SystemClock(), Progress(store.position)
        full_text = FullText(BlobStore(log.link, clock))
        projecting = tasks.create_task(
            Projector(log, full_text, store, progress, erased=settings.erased_sessions).run()
        )  # fmt: skip
        reads = Reads(store, progress, timeout_s=settings.read_timeout_s)
        copies = Snapshots(store, settings.store_file.with_name(f"{settings.store_file.name}.copies"))
        try:
            async with QueryRunner(copies, _sql_settings(settings)) as runner:
                analytics = service.AnalyticsService(
                    UsageSums(reads, progress), Queries(runner, reads, _query_limits(settings)), progress, log, clock
                )
                services = {
                    service.SESSIONS: service.lists(Lists(reads)),
                    service.ANALYTICS: service.analytics(analytics),
                }
                async with rpc.serving(settings, settings.listen, services=services, roles=service.roles()) as port:
                    yield port
        finally:
            projecting.cancel()


def _sql_settings(settings: IndexerSettings) -> SqlSettings:
    return SqlSettings(
        relations=RELATIONS,
        max_running=settings.queries_running,
        max_waiting=settings.queries_waiting,
        # Gateways call under one name each: a limit per caller would be one for everybody behind a gateway.
        max_per_caller=settings.queries_running + settings.queries_waiting,
        memory_bytes=settings.query_memory_mb * MEBIBYTE,
        limits=_query_limits(settings),
    )


def _query_limits(settings: IndexerSettings) -> QueryLimits:
    return QueryLimits(
        timeout_s=settings.query_timeout_s,
        max_rows=settings.query_max_rows,
        max_bytes=settings.query_max_mb * MEBIBYTE,
    )


async def serve(settings: IndexerSettings, *, rebuild: bool) -> None:
    """Serve until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    async with running(settings, rebuild=rebuild):
        await stop.wait()
        _log.info("stopping")


def main() -> int:
    """Run the indexer; exit code 2 = a setting is wrong, 1 = something it needs is not there."""
    parser = argparse.ArgumentParser(prog="python -m indexer", description="Projects the log into DuckDB and answers.")
    parser.add_argument("--rebuild", action="store_true", help="throw the projection away and read the log again")
    arguments = parser.parse_args()
    try:
        settings = load(IndexerSettings)
        telemetry.configure(service="indexer", level=settings.log_level, form=settings.log_format)
        # A quarter less CPU per event than with asyncio's own loop: the feed brings megabytes.
        uvloop.run(serve(settings, rebuild=arguments.rebuild))
    except PodiumError as error:
        print(f"indexer: {error.message}\n{error.advice}", file=sys.stderr)  # noqa: T201 - the last words
        return 2 if error.code == "INVALID_ARGUMENT" else 1
    except StoreUnusable as error:
        print(f"indexer: {error}", file=sys.stderr)  # noqa: T201 - the last words
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
