"""A stack in a terminal: says how it comes up, where it is and what happens to it, and ends it on Ctrl-C."""

import asyncio
import contextlib
import signal

from rich.console import Console
from rich.markup import escape

from podium.cli import home
from podium.cli.stack.stack import Stack, StackOptions
from podium.v1 import provider_pb2


async def serve(folder: home.DataFolder, options: StackOptions, console: Console, *, verbose: bool) -> None:
    """Run a stack until it is told to stop; the first signal lets running turns end, the second one does not wait.

    Raises PodiumError when it cannot be started or kept running.
    """

    def notice(text: str) -> None:
        console.print(f"[detail]podium: {escape(text)}[/]")

    def on_line(service: str, line: str) -> None:
        if verbose:
            console.print(f"[detail]{service:>8} │[/] {escape(line)}", soft_wrap=True)

    stack = Stack(folder, options, notice=notice, on_line=on_line)
    work = asyncio.create_task(_run(stack, console), name="podium up")
    endings: list[asyncio.Task[None]] = []

    def told_to_stop() -> None:
        if not work.cancelling():
            notice(f"stopping; running turns have {options.drain_s:.0f} s (Ctrl-C again: stop at once)")
            work.cancel()
        elif not endings:
            notice("stopping at once")
            endings.append(asyncio.create_task(stack.kill()))

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, told_to_stop)
    with contextlib.suppress(asyncio.CancelledError):
        await work
    await asyncio.gather(*endings)
    notice("stopped")


async def _run(stack: Stack, console: Console) -> None:
    async with stack:
        _welcome(stack, console)
        await stack.watch()


def _welcome(stack: Stack, console: Console) -> None:
    """Say where everything is and what to type next."""
    folder = stack.folder
    console.print(f"\n[good]✔[/] [bold]Podium is ready[/] at [id]{stack.address}[/]\n")
    for name, value in (("data", folder.path), ("token", folder.token_file), ("logs", folder.logs)):
        console.print(f"  {name:6} {escape(str(value))}", soft_wrap=True)
    console.print("  agents " + ", ".join(_told(provider) for provider in stack.runner.providers))
    for provider in stack.runner.providers:
        if provider.hint:
            console.print(f"         [warn]{escape(provider.display_name)}: {escape(provider.hint)}[/]", soft_wrap=True)
    console.print('\nIn another terminal:  [bold]podium run "explain this repo"[/]')
    console.print("[detail]Ctrl-C here ends Podium; sessions go on when it is started again.[/]\n")


def _told(provider: provider_pb2.Provider) -> str:
    if not provider.installed:
        return f"[bad]{escape(provider.display_name)} (not installed)[/]"
    told = f"{escape(provider.display_name)} {escape(provider.version)}"
    if provider.authentication == provider_pb2.AUTHENTICATION_ABSENT:
        return f"[warn]{told} (not logged in)[/]"
    return told
