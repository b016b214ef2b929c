"""Run every check and every test, each to its end, and say at the end which of them failed."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = Path(sys.executable).parent
# What is ours to check; folders that a checkout does not have yet are left out.
PACKAGES = ("podium", "gateway", "runner", "indexer", "tools", "deploy", "examples", "bench", "tests")
STATIC_S_MAX = 300
TESTS_S_MAX = 2700
CHAOS_S_MAX = 7200
TESTS, ALONE = "tests", "failed tests again, alone"

DESCRIPTION = """\
Check and test everything: the contract, style, types, imports, then every test but the chaos ones.

    bin/test                    all of it
    bin/test --checks           all but the tests
    bin/test --chaos            only the tests that kill processes at random, for minutes
    bin/test -k lease           what follows goes to pytest, and only pytest runs
    bin/test tests/golden -x
"""


@dataclass(frozen=True)
class Part:
    """One program to run, and how long it may take."""

    name: str
    command: Sequence[str]
    time_s_max: int = STATIC_S_MAX


@dataclass(frozen=True)
class Outcome:
    """How a part ended."""

    name: str
    passed: bool
    took_s: float


def main(arguments: list[str]) -> int:
    """Run what was chosen; return 1 when any part failed."""
    parser = argparse.ArgumentParser("bin/test", description=DESCRIPTION, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--checks", action="store_true", help="all but the tests")
    parser.add_argument("--chaos", action="store_true", help="only the tests marked chaos")
    chosen, for_pytest = parser.parse_known_args(arguments)
    outcomes = [run(part) for part in parts(checks=chosen.checks, chaos=chosen.chaos, for_pytest=for_pytest)]
    if outcomes[-1].name == TESTS and not outcomes[-1].passed:
        # Two workers share this machine's cores with the brokers, clients and indexers that the tests start: a test
        # may fail for want of time. Each that failed gets one more run, alone; it is listed either way.
        alone = run(Part(ALONE, pytest("--last-failed", "--last-failed-no-failures", "none", "-ra"), TESTS_S_MAX))
        outcomes[-1:] = [replace(outcomes[-1], name=f"{TESTS} (some failed, see below)", passed=alone.passed), alone]
    print(summary(outcomes), flush=True)
    return 0 if all(outcome.passed for outcome in outcomes) else 1


def parts(*, checks: bool, chaos: bool, for_pytest: Sequence[str]) -> list[Part]:
    """Return what to run, in order."""
    if chaos:
        return [Part("chaos", pytest("-m", "chaos", *for_pytest), CHAOS_S_MAX)]
    if checks:
        return static_parts()
    # Two workers: most tests wait for processes. loadgroup keeps together what shares something.
    tests = Part(TESTS, pytest("-m", "not chaos", "-n", "2", "--dist", "loadgroup", *for_pytest), TESTS_S_MAX)
    return [tests] if for_pytest else [*static_parts(), tests]


def static_parts() -> list[Part]:
    """Return the checks that start nothing of ours."""
    present = [name for name in PACKAGES if (ROOT / name).is_dir()]
    return [
        Part("contract: lint", script("buf", "lint")),
        Part("contract: format", script("buf", "format", "--diff", "--exit-code")),
        Part("contract: nothing broken", script("buf", "breaking", "--against", "proto/baseline.binpb")),
        Part("style: lint", script("ruff", "check", ".")),
        Part("style: format", script("ruff", "format", "--check", ".")),
        Part("types", script("mypy", *present)),
        Part("imports", script("lint-imports")),
    ]


def script(name: str, *arguments: str) -> list[str]:
    """Return the command for a program of this environment."""
    return [str(SCRIPTS / name), *arguments]


def pytest(*arguments: str) -> list[str]:
    """Return the command that runs tests with this interpreter."""
    return [sys.executable, "-P", "-m", "pytest", *arguments]


def run(part: Part) -> Outcome:
    """Run a part to its end or its time limit, its output going straight to ours."""
    print(f"\n── {part.name} " + "─" * max(0, 90 - len(part.name)), flush=True)
    started = time.monotonic()
    try:
        code = subprocess.run(
            part.command, cwd=ROOT, env=environment(), timeout=part.time_s_max, check=False
        ).returncode
    except subprocess.TimeoutExpired:
        print(f"{part.name} did not end within {part.time_s_max} s and was killed.", flush=True)
        code = 1
    return Outcome(part.name, code == 0, time.monotonic() - started)


def environment() -> dict[str, str]:
    """Return our environment without the caches, paths and options that change what a check sees."""
    foreign = {"PYTHONPATH", "PYTHONHOME", "MYPYPATH", "PYTEST_ADDOPTS", "RUFF_CONFIG"}
    return {key: value for key, value in os.environ.items() if key not in foreign}


def summary(outcomes: Sequence[Outcome]) -> str:
    """Return one line for each part, and what failed in the last one."""
    lines = [f"{'ok  ' if one.passed else 'FAIL'} {one.name:<28} {one.took_s:6.1f} s" for one in outcomes]
    failed = [one.name for one in outcomes if not one.passed]
    total_s = sum(one.took_s for one in outcomes)
    last = f"FAILED: {', '.join(failed)}" if failed else f"all {len(outcomes)} parts passed in {total_s:.0f} s"
    return "\n".join(["", "── summary " + "─" * 83, *lines, last])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
