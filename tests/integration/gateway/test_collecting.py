"""Uploads that nothing refers to are removed, those that an event needs stay."""

import asyncio

from podium.eventlog import BlobStore, EventLog, Role
from podium.eventlog.blobs import BlobMissing
from podium.eventlog.collect import collect
from podium.eventlog.content import LongContent
from podium.settings import ServiceSettings
from tests.integration.gateway.test_commands import created, events_of
from tests.support import gateways
from tests.support.gateways import CLOCK, Gateway


async def test_only_what_nothing_refers_to_is_removed(
    gateway: Gateway, log_server: ServiceSettings, runner_log: EventLog
) -> None:
    prompt = "long " * 40_000
    answer = await created(gateway, prompt)
    blobs = BlobStore(runner_log.link, CLOCK)
    orphan = await blobs.put(b"nobody's", "text/plain")
    async with gateways.connected(log_server, Role.OPERATOR) as operator:
        assert (await collect(operator)).objects == 0, "a fresh upload may wait for its event"
        await asyncio.sleep(0.01)
        assert (await collect(operator, older_than_s=0)).objects >= 1
    requested = (await events_of(runner_log, answer.session.name))[1].turn_requested
    assert (await LongContent(blobs).back(requested)).prompt[0].text.text == prompt
    try:
        await blobs.get(orphan)
    except BlobMissing:
        return
    raise AssertionError("the orphan is still there")
