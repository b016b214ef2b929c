"""`python -m podium.scripted_model`: serve a built-in scenario on loopback until SIGTERM or Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from podium.scripted_model.scenarios import SCENARIOS
from podium.scripted_model.server import LABEL, ScriptedModel


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 after a stop that was asked for, 2 for a wrong argument."""
    parser = argparse.ArgumentParser(prog="python -m podium.scripted_model", description=LABEL)
    parser.add_argument("--host", default="127.0.0.1", help="a loopback address (default 127.0.0.1)")
    parser.add_argument("--port", type=int, default=0, help="0, the default, picks a free one")
    parser.add_argument("--scenario", choices=sorted(SCENARIOS), default="demo")
    parser.add_argument("--ready-file", type=Path, help="written with the ready line once the endpoint listens")
    options = parser.parse_args(arguments)
    try:
        endpoint = ScriptedModel(SCENARIOS[options.scenario](), host=options.host, port=options.port)
    except ValueError as wrong:
        parser.error(str(wrong))
    asyncio.run(_serve(endpoint, options.scenario, options.ready_file))
    return 0


async def _serve(endpoint: ScriptedModel, scenario: str, ready_file: Path | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with endpoint:
        ready = json.dumps({"podium": LABEL, "url": endpoint.url, "scenario": scenario, "pid": os.getpid()})
        sys.stdout.write(ready + "\n")
        sys.stdout.flush()
        if ready_file is not None:
            _write_whole(ready_file, ready + "\n")
        await stop.wait()


def _write_whole(path: Path, text: str) -> None:
    """Write so that a reader sees all of it or nothing."""
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


if __name__ == "__main__":
    sys.exit(main())
