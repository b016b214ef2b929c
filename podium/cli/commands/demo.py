"""`podium demo`: all of Podium for one minute, with the real CLI and a scripted model."""

import asyncio
import signal
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from podium.cli import output
from podium.cli.failures import CliError, Exit

if TYPE_CHECKING:
    from podium.cli.demo.verdict import Findings

DEMO_S_MAX = 180.0


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave the folder with log, tables and transcripts.")] = False,
) -> None:
    r"""Show everything in a minute: real services, the real Claude Code CLI, a scripted model. Costs nothing.

    Starts NATS, gateway, indexer and runner in a folder of its own, plays two turns with a tool call and an
    approval, shows what the log and the tables know, stops everything and removes the folder.

    \b
    podium demo
    podium demo --keep
    """
    console = output.console()
    try:
        findings = asyncio.run(_bounded(keep=keep))
    except TimeoutError:
        message = f"the demo was not done after {DEMO_S_MAX:.0f} s"
        raise CliError("DEMO_TIMED_OUT", message, "Try again on a machine that is less busy.") from None
    except asyncio.CancelledError:
        raise typer.Exit(Exit.INTERRUPTED) from None
    if findings.failed:
        for promise in findings.failed:
            console.print(f"[bad]✗[/] this did not hold: {escape(promise)}")
        raise typer.Exit(Exit.FAILED)
    console.print(
        "\n[good]✔ everything held.[/] Next: [bold]podium up[/], then [bold]podium run[/] in another terminal."
    )


async def _bounded(*, keep: bool) -> "Findings":
    # What the other commands do not need takes half a second to import.
    from podium.cli.demo.demo import demo as run_demo  # noqa: PLC0415

    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    async with asyncio.timeout(DEMO_S_MAX):
        return await run_demo(output.console(), keep=keep)
