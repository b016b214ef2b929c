"""The command line: which commands there are, in the order in which people meet them."""

import typer

from podium.cli.commands import demo, turns, up, watching

app = typer.Typer(
    name="podium",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_PANELS = {
    "Start": {"up": up.up, "demo": demo.demo},
    "Talk": {
        "run": turns.run,
        "send": turns.send,
        "resume": turns.resume,
        "watch": watching.watch,
        "stop": watching.stop,
    },
}
for _panel, _commands in _PANELS.items():
    for _name, _command in _commands.items():
        app.command(_name, rich_help_panel=_panel)(_command)


@app.callback()
def main() -> None:
    """Run coding agents as durable sessions, and ask SQL about all they did.

    `podium up` in one terminal, `podium run "explain this repo"` in another; `podium demo` shows it all.
    """
