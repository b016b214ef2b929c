"""`podium up`: all of Podium on this machine, until Ctrl-C."""

import asyncio
import contextlib
import signal
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from podium.cli import home, output
from podium.cli.stack import settings
from podium.cli.stack.stack import Stack, StackOptions
from podium.v1 import provider_pb2


def up(
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            envvar="PODIUM_DATA",
            metavar="DIR",
            help="Folder for everything: log, tables, secrets. [dim]default: ~/.local/state/podium[/]",
            show_default=False,
        ),
    ] = None,
    listen: Annotated[
        str, typer.Option("--listen", metavar="HOST:PORT", help="Where the API answers; port 0 takes a free one.")
    ] = "127.0.0.1:7460",
    slots: Annotated[
        int | None, typer.Option("--slots", min=1, max=256, help="Turns that may run at once.", show_default=False)
    ] = None,
    root: Annotated[
        list[Path] | None,
        typer.Option(
            "--root", metavar="DIR", help="Folder that workspaces may lie in; repeat for more. [dim]default: home[/]"
        ),
    ] = None,
    allow_bypass: Annotated[
        bool, typer.Option("--allow-bypass", help="Let sessions use the permission mode `bypass`: no questions at all.")
    ] = False,
    drain: Annotated[
        float, typer.Option("--drain", metavar="SECONDS", min=0, help="Time that running turns have at the end.")
    ] = 10.0,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show what the services say.")] = False,
) -> None:
    r"""Start Podium on this machine and keep it running; Ctrl-C ends it.

    NATS, gateway, indexer and runner run as child processes; all they write is in one data folder.

    \b
    podium up                                   # then, in another terminal:
    podium run "explain this repo"
    podium up --data /srv/podium --listen 127.0.0.1:7470 --root /srv/repos
    """
    console = output.console(stderr=True)
    options = StackOptions(
        listen=listen,
        runner_settings=settings.runner_options(slots=slots, roots=root or [], allow_bypass=allow_bypass),
        drain_s=drain,
    )
    asyncio.run(_serve(home.data_folder(data), options, console, verbose=verbose))


async def _serve(folder: home.DataFolder, options: StackOptions, console: Console, *, verbose: bool) -> None:
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
