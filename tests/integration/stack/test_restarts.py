"""Services go and come back: whoever calls them is not left waiting."""

import asyncio
import contextlib
import time
from pathlib import Path

from podium import rpc
from podium.v1 import session_service_pb2 as api
from tests.support.stage import Client, stage

AWAY_S = 6.0
"""Long enough for pauses that double from one second on to have grown to four."""
BACK_S_MAX = 2.5


async def answers(client: Client) -> bool:
    with contextlib.suppress(rpc.CallFailed):
        await client.sessions.ListRunners(api.ListRunnersRequest(), timeout=1)
        return True
    return False


async def test_a_client_finds_a_gateway_again_soon_after_it_is_back(tmp_path: Path) -> None:
    async with stage(tmp_path) as whole, whole.client() as client:
        gateway = await whole.gateway()
        assert await answers(client)
        await gateway.kill()
        end = time.monotonic() + AWAY_S
        while time.monotonic() < end:
            assert not await answers(client)
            await asyncio.sleep(0.05)
        await gateway.start()
        async with asyncio.timeout(BACK_S_MAX):
            while not await answers(client):
                await asyncio.sleep(0.05)
