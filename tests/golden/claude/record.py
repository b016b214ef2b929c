"""`python -m tests.golden.claude.record [--expected-only] [CASE ...]`: record with the real client, or only read again.

Run it in an empty environment (`env -i PATH=… HOME=…`), so that nothing of this machine gets into a recording.
"""

import argparse
import asyncio
import tempfile
from pathlib import Path

from runner.providers.claude import probe
from tests.golden.claude.recordings import CASES, record, write, write_expected


async def _record(name: str) -> None:
    executable = probe.find_executable(None, {})
    assert executable is not None
    client = f"Claude Code {await probe.version(executable, {})}, claude-agent-sdk {probe.sdk_version()}"
    with tempfile.TemporaryDirectory(prefix="podium-golden-") as folder:
        write(name, await record(name, Path(folder)), client)


def main() -> None:
    """Record the cases named, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.golden.claude.record")
    parser.add_argument("--expected-only", action="store_true", help="do not run the client")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    chosen = parser.parse_args()
    for name in chosen.cases or CASES:
        if not chosen.expected_only:
            asyncio.run(_record(name))
        write_expected(name)


if __name__ == "__main__":
    main()
