"""`podium up`: all of Podium on this machine, until Ctrl-C."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from podium.cli import home, output


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
    # What the other commands do not need takes half a second to import.
    from podium.cli.stack import foreground, settings  # noqa: PLC0415
    from podium.cli.stack.stack import StackOptions  # noqa: PLC0415

    console = output.console(stderr=True)
    options = StackOptions(
        listen=listen,
        runner_settings=settings.runner_options(slots=slots, roots=root or [], allow_bypass=allow_bypass),
        drain_s=drain,
    )
    asyncio.run(foreground.serve(home.data_folder(data), options, console, verbose=verbose))
