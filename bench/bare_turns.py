"""The reference of figure 5: turns of claude-agent-sdk with nothing around it: `python -m bench.bare_turns`.

Each SIGUSR1 runs one turn in the connected client; its time is said on standard error.
"""

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import structlog
from claude_agent_sdk import ClaudeAgentOptions, ClaudeSDKClient, ResultMessage

from podium import telemetry

PROMPT, WORKSPACE = "BARE_PROMPT", "BARE_WORKSPACE"

_log = structlog.get_logger()


async def run(prompt: str, workspace: Path) -> None:
    stop = asyncio.Event()
    asked: asyncio.Queue[None] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGUSR1, asked.put_nowait, None)
    # Partial messages as Podium's driver asks for them: both clients write the same lines.
    async with ClaudeSDKClient(ClaudeAgentOptions(cwd=workspace, include_partial_messages=True)) as client:
        _log.info("connected")
        turns = asyncio.create_task(serve(client, asked, prompt))
        await stop.wait()
        turns.cancel()


async def serve(client: ClaudeSDKClient, asked: "asyncio.Queue[None]", prompt: str) -> None:
    number = 0
    while True:
        await asked.get()
        begun = time.perf_counter()
        await client.query(prompt)
        result = [message async for message in client.receive_response() if isinstance(message, ResultMessage)]
        number += 1
        _log.info(f"turn {number}", ms=(time.perf_counter() - begun) * 1000, failed=result[-1].is_error)


def main() -> int:
    telemetry.configure(service="bare")
    asyncio.run(run(os.environ[PROMPT], Path(os.environ[WORKSPACE])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
