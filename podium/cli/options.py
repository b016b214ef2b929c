"""The options that many commands share."""

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from podium.cli.answering import Approve

Data: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--data",
        envvar="PODIUM_DATA",
        metavar="DIR",
        help="Data folder of the `podium up` to use; without it PODIUM_ADDRESS, else the one started last.",
        show_default=False,
        rich_help_panel="Connection",
    ),
]
Json: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print JSON for programs (docs/cli.md); errors too.", show_default=False)
]
SessionArgument: TypeAlias = Annotated[
    str, typer.Argument(metavar="SESSION", help="Session id, a unique beginning of it, or `last`.", show_default=False)
]
ApproveOption: TypeAlias = Annotated[
    Approve,
    typer.Option("--approve", help="Who answers the agent's questions: ask = you, all = always yes, none = always no."),
]
