"""Streams are made once, and a stream that could lose facts is refused."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from podium.errors import Unavailable
from podium.eventlog import EventLog, Limits, LogUnusable, Role
from podium.eventlog.server import EmbeddedServer
from podium.eventlog.serverconfig import ServerSettings
from tests.integration.eventlog.rig import Broker


@pytest_asyncio.fixture
async def bare(tmp_path: Path) -> AsyncIterator[Broker]:
    """A server without streams."""
    async with EmbeddedServer(ServerSettings(data=tmp_path / "nats")) as server:
        yield Broker(1, [server])


async def test_streams_are_made_once_and_then_checked(bare: Broker) -> None:
    async with bare.connect(Role.OPERATOR) as operator:
        await operator.ensure_streams()
        await operator.ensure_streams()
        names = (await operator.link.api("STREAM.NAMES"))["streams"]
        assert sorted(names) == ["EVENTS", "KV_catalogs", "KV_runners", "NATIVE", "OBJ_blobs", "WAKES"]
    for role in (Role.GATEWAY, Role.RUNNER, Role.INDEXER):
        async with bare.connect(role) as log:
            await log.check_streams()


async def test_a_missing_stream_is_said(bare: Broker) -> None:
    async with bare.connect(Role.GATEWAY) as gateway:
        with pytest.raises(LogUnusable, match="EVENTS: not there"):
            await gateway.check_streams()


async def test_limits_can_be_changed_later(bare: Broker) -> None:
    async with bare.connect(Role.OPERATOR) as operator:
        await operator.ensure_streams()
    settings = replace(bare.settings(Role.OPERATOR), limits=Limits(native_bytes=5_000_000, native_age_s=60))
    async with EventLog.connect(settings, Role.OPERATOR) as operator:
        await operator.ensure_streams()
        config = (await operator.link.api("STREAM.INFO.NATIVE"))["config"]
        assert (config["max_bytes"], config["max_age"]) == (5_000_000, 60 * 10**9)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"storage": "memory"}, "storage: found 'memory', expected 'file'"),
        ({"persist_mode": "async", "allow_direct": True}, "persist_mode: found 'async'"),
        ({"republish": None}, "republish"),
        ({"discard": "old", "max_bytes": 1_000_000}, "discard: found 'old'"),
        ({"allow_direct": False}, "allow_direct"),
        ({"deny_delete": True}, "deny_delete"),
        ({"subjects": ["events.>"], "republish": None}, "subjects"),
    ],
)
async def test_a_stream_that_could_lose_or_hide_facts_is_refused(
    bare: Broker, change: dict[str, Any], named: str
) -> None:
    async with bare.connect(Role.OPERATOR) as operator:
        await operator.ensure_streams()
        config = (await operator.link.api("STREAM.INFO.EVENTS"))["config"]
        await operator.link.api("STREAM.DELETE.EVENTS")
        await operator.link.api("STREAM.CREATE.EVENTS", config | change)
        with pytest.raises(LogUnusable, match=named):
            await operator.ensure_streams()
    async with bare.connect(Role.RUNNER) as runner:
        with pytest.raises(LogUnusable, match=named):
            await runner.check_streams()


async def test_fewer_replicas_than_asked_for_are_refused(bare: Broker) -> None:
    async with bare.connect(Role.OPERATOR) as operator:
        await operator.ensure_streams()
    settings = replace(bare.settings(Role.GATEWAY), limits=Limits(replicas=3))
    async with EventLog.connect(settings, Role.GATEWAY) as gateway:
        with pytest.raises(LogUnusable, match="num_replicas: found 1, expected 3"):
            await gateway.check_streams()


async def test_a_role_without_the_right_to_make_streams_is_told(bare: Broker) -> None:
    async with bare.connect(Role.GATEWAY) as gateway:
        with pytest.raises(Unavailable, match="may not publish to"):
            await gateway.ensure_streams()
