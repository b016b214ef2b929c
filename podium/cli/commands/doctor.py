"""`podium doctor`: what is there, what is missing, what to do."""

import asyncio
import os

import typer
from rich.markup import escape

from podium.cli import output
from podium.cli.failures import Exit
from podium.cli.findings import Finding, Level
from podium.cli.options import Data, Json

_MARKS = {Level.OK: "[good]✔[/]", Level.HINT: "[warn]![/]", Level.BROKEN: "[bad]✗[/]"}


def doctor(as_json: Json = False, data: Data = None) -> None:
    r"""Say what is installed, logged in and reachable, and what to do about the rest.

    Works without a running Podium, calls no model. Exit code 1 when something stands in the way of `podium run`.

    \b
    podium doctor
    """
    output.json_mode(as_json)
    findings = asyncio.run(_findings(data, show=not as_json))
    if as_json:
        output.write_json(
            [
                {"subject": one.subject, "level": one.level.value, "found": one.found, "advice": one.advice or None}
                for one in findings
            ]
        )
    if any(finding.level is Level.BROKEN for finding in findings):
        raise typer.Exit(Exit.FAILED)


async def _findings(data: Data, *, show: bool) -> list[Finding]:
    # What the other commands do not need takes half a second to import.
    from podium.cli.checkup import checkup  # noqa: PLC0415

    console, findings = output.console(), []
    async for finding in checkup(data, dict(os.environ)):
        findings.append(finding)
        if show:
            mark = _MARKS[finding.level]
            console.print(f"{mark} [bold]{escape(finding.subject):12}[/] {escape(finding.found)}", soft_wrap=True)
            if finding.advice:
                console.print(f"  {'':12} [warn]{escape(finding.advice)}[/]", soft_wrap=True)
    return findings
