"""The command line: which commands there are, in the order in which people meet them."""

from collections.abc import Callable, Mapping

import typer

from podium.cli.commands import analytics, approvals, demo, doctor, inventory, log, sessions, turns, up, watching

app = typer.Typer(
    name="podium",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_PANELS: Mapping[str, Mapping[str, Callable[..., None]]] = {
    "Start": {"up": up.up, "demo": demo.demo, "doctor": doctor.doctor},
    "Talk": {
        "run": turns.run,
        "send": turns.send,
        "resume": turns.resume,
        "watch": watching.watch,
        "stop": watching.stop,
    },
    "Answer": {"approvals": approvals.approvals, "approve": approvals.approve, "deny": approvals.deny},
    "Sessions": {"ls": sessions.ls, "show": sessions.show, "rename": sessions.rename, "archive": sessions.archive},
    "Ask": {
        "usage": analytics.usage,
        "sql": analytics.sql,
        "providers": inventory.providers,
        "models": inventory.models,
        "runners": inventory.runners,
    },
}
for _panel, _commands in _PANELS.items():
    for _name, _command in _commands.items():
        app.command(_name, rich_help_panel=_panel)(_command)
app.add_typer(log.log, name="log", rich_help_panel="Ask")


@app.callback()
def main() -> None:
    """Run coding agents as durable sessions, and ask SQL about all they did.

    `podium up` in one terminal, `podium run "explain this repo"` in another.
    `podium demo` shows everything in a minute.
    """
