"""docs/cli.md names every command, every option and every exit code there is, and no other."""

import re
from pathlib import Path

from typer.main import get_command

from podium.cli.app import app
from podium.cli.failures import Exit

PAGE = (Path(__file__).parents[3] / "docs" / "cli.md").read_text(encoding="utf-8")


def options(command: object) -> set[str]:
    """The long form of every option, `--help` aside; of a pair of flags the one that is not the default."""
    names: set[str] = set()
    for parameter in command.params:  # type: ignore[attr-defined]  # typer's own command class
        if parameter.param_type_name == "option" and "--help" not in parameter.opts:
            spoken = [name for name in (*parameter.opts, *parameter.secondary_opts) if name.strip().startswith("--")]
            names.add(spoken[0].strip())
    return names


def commands() -> dict[str, set[str]]:
    root = get_command(app)
    found: dict[str, set[str]] = {}
    for name, command in root.commands.items():  # type: ignore[attr-defined]
        if hasattr(command, "commands"):
            found |= {f"{name} {inner}": options(below) for inner, below in command.commands.items()}
        else:
            found[name] = options(command)
    return found


def test_every_command_stands_there_with_all_its_options() -> None:
    rows = re.findall(r"^\| `podium ([a-z]+(?: tail)?)[^`]*` \| (.*) \|$", PAGE, re.MULTILINE)
    documented = {name: set(re.findall(r"`(--[a-z-]+)`", listed)) for name, listed in rows}
    found = commands()
    documented["up"] = set(re.findall(r"`(--[a-z-]+)`", PAGE.split("\nOptions: ")[1].split("\n\n")[0]))
    assert documented == found


def test_every_exit_code_stands_there() -> None:
    rows = re.findall(r"^\| (\d+) \| ", PAGE, re.MULTILINE)
    assert [int(code) for code in rows] == sorted(Exit)


def test_every_command_teaches_by_example() -> None:
    root = get_command(app)
    for name, command in root.commands.items():  # type: ignore[attr-defined]
        below = command.commands.values() if hasattr(command, "commands") else [command]
        for one in below:
            assert f"podium {name}" in one.help, name


def test_the_reasons_of_the_command_line_stand_there() -> None:
    folder = Path(__file__).parents[3] / "podium" / "cli"
    sources = "\n".join(path.read_text(encoding="utf-8") for path in folder.rglob("*.py"))
    raised = set(re.findall(r'CliError\(\s*"([A-Z_]+)"', sources))
    paragraph = PAGE.split("Reasons that only the command line has: ")[1].split("\n\n")[0]
    assert set(re.findall(r"`([A-Z_]+)`", paragraph)) == raised
