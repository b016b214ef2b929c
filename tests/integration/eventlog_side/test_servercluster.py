"""Three servers: they elect, lose a member, and go on; heartbeats and wakes work as on one."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from podium.clock import SystemClock
from podium.errors import Unavailable
from podium.eventlog import layout
from podium.eventlog.blobs import BlobStore
from podium.eventlog.connection import EventLog, LogSettings
from podium.eventlog.directory import RunnerDirectory
from podium.eventlog.layout import Limits
from podium.eventlog.link import Link
from podium.eventlog.roles import Role
from podium.eventlog.server import EmbeddedServer
from podium.eventlog.servercluster import EmbeddedCluster
from podium.eventlog.wakes import WakeQueue
from podium.v1.runner_pb2 import Runner

pytestmark = pytest.mark.cluster


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[EmbeddedCluster]:
    async with EmbeddedCluster(tmp_path) as cluster:
        yield cluster


@contextlib.asynccontextmanager
async def connected(cluster: EmbeddedCluster, role: Role) -> AsyncIterator[Link]:
    settings = LogSettings(servers=tuple(cluster.urls), password=cluster.credentials.password(role))
    async with EventLog.connect(settings, role) as log:
        yield log.link


async def leader(link: Link, cluster: EmbeddedCluster, stream: str) -> EmbeddedServer:
    name = (await link.api(f"STREAM.INFO.{stream}"))["cluster"]["leader"]
    return next(server for server in cluster.servers if server.name == name)


async def test_the_side_rooms_go_on_after_a_leader_was_killed(cluster: EmbeddedCluster) -> None:
    clock = SystemClock()
    async with connected(cluster, Role.OPERATOR) as operator:
        await layout.ensure(operator, Limits(replicas=3))
        async with connected(cluster, Role.RUNNER) as runner, connected(cluster, Role.GATEWAY) as gateway:
            directory, blobs = RunnerDirectory(runner, clock, ttl_s=30), BlobStore(runner, clock)
            await directory.beat(Runner(id="r1"))
            blob = await blobs.put(b"x" * 300_000, "text/plain")
            assert await blobs.get(blob) == b"x" * 300_000
            victim = await leader(operator, cluster, "KV_runners")
            await victim.kill()
            beaten = Runner(id="r1", busy=1)
            async with asyncio.timeout(60):
                while True:
                    try:
                        await directory.beat(beaten)
                        await WakeQueue(gateway).publish("default", "host", "s1")
                    except Unavailable:
                        await asyncio.sleep(0.1)
                    else:
                        break
                assert await blobs.get(blob) == b"x" * 300_000
                assert (await anext(WakeQueue(runner).consume("default", "host"))).session_id == "s1"
            await victim.start()
            await cluster.wait_until_ready()
            assert await directory.runners() == [beaten]
