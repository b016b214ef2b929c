"""`python -m bench [figure ...]`: measures the figures and stores them in bench/results."""

import argparse
import asyncio
import sys
import tempfile
import time
import traceback
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

from bench import figures
from bench.figures import Figure, Run

TITLES = {
    "1": ("throughput", "Events from a runner's publisher to committed rows in DuckDB"),
    "2": ("latency", "From a provider's line to a watching client"),
    "3": ("watchers", "100 watchers of one busy session"),
    "4": ("commands", "Commands, and the interrupt of a real agent"),
    "5": ("turns", "A turn beside the bare SDK"),
    "6": ("long_session", "A session of 3,106 messages"),
    "7": ("kills", "Kills of every process under load"),
}


def main() -> int:
    """Measure what was asked for; return 1 when something could not be measured."""
    options = arguments()
    measured = []
    for name in options.figures or TITLES:
        figure = asyncio.run(measure(name, quick=options.quick))
        measured.append(figure)
        print(figures.as_text(figure), file=sys.stderr if options.json else sys.stdout, flush=True)
    about = {**figures.facts(), "at": datetime.now(UTC).isoformat(timespec="seconds"), "quick": options.quick}
    if options.json:
        print(figures.as_json(measured, about))
    if options.store:
        print(f"stored in {store(measured, about)}", file=sys.stderr)
    return 1 if any(figure.problem for figure in measured) else 0


def arguments() -> argparse.Namespace:
    listed = "\n".join(f"    {name}  {title}" for name, (_, title) in TITLES.items())
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=listed, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("figures", nargs="*", choices=[*TITLES, []], help="which figures; default: all")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    parser.add_argument("--quick", action="store_true", help="a fraction of the time: to see that it works")
    parser.add_argument(
        "--store", action=argparse.BooleanOptionalAction, default=None, help="write bench/results; default: a full run"
    )
    options = parser.parse_args()
    if options.store is None:
        options.store = not options.quick and not options.figures
    return options


async def measure(name: str, *, quick: bool) -> Figure:
    """Measure one figure; what goes wrong is told in it, so that the others are still measured."""
    module, title = TITLES[name]
    figure = Figure(name, title, load_before=figures.load_average())
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="podium-bench-") as folder:
        try:
            figure.lines = await import_module(f"bench.{module}").measure(Run(Path(folder), quick))
        except Exception as error:  # noqa: BLE001 - told in the results
            traceback.print_exc()
            figure.problem = f"{type(error).__name__}: {error}"
    figure.seconds, figure.load_after = time.monotonic() - begun, figures.load_average()
    return figure


def store(measured: list[Figure], about: dict[str, object]) -> Path:
    """Write the results beside those of other days; the same day's are replaced."""
    figures.RESULTS.mkdir(exist_ok=True)
    path = figures.RESULTS / f"{str(about['at'])[:10]}.md"
    path.write_text(figures.as_markdown(measured, about))
    path.with_suffix(".json").write_text(figures.as_json(measured, about))
    return path


if __name__ == "__main__":
    sys.exit(main())
