"""`run`, `send` and `resume`: turns are asked for and followed."""

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from podium.cli import client as clients
from podium.cli import output, prompts, talking
from podium.cli.answering import Approve
from podium.cli.client import Client, request_id
from podium.cli.failures import Exit
from podium.cli.flow import MARK
from podium.cli.following import Turn
from podium.cli.keyboard import Keyboard, is_terminal, keyboard
from podium.cli.observing import show_last_turn
from podium.cli.options import ApproveOption, Data, Json, SessionArgument
from podium.cli.person import PersonView
from podium.v1 import session_pb2
from podium.v1 import session_service_pb2 as api

Prompt: TypeAlias = Annotated[
    str | None,
    typer.Argument(metavar="PROMPT", help="What to say; `-` or nothing reads standard input.", show_default=False),
]
Model: TypeAlias = Annotated[
    str, typer.Option("--model", "-m", help="Model; the provider that has it is found.", show_default=False)
]
Effort: TypeAlias = Annotated[str, typer.Option("--effort", "-e", help="low, medium, high …", show_default=False)]
Detach: TypeAlias = Annotated[bool, typer.Option("--detach", "-d", help="Do not wait for the end.")]
Schema: TypeAlias = Annotated[
    Path | None,
    typer.Option("--schema", metavar="FILE", help="JSON Schema the final answer must follow.", show_default=False),
]


def run(
    prompt: Prompt = None,
    *,
    model: Model = "",
    effort: Effort = "",
    provider: Annotated[str, typer.Option("--provider", "-p", help="claude …", show_default=False)] = "",
    workspace: Annotated[
        str,
        typer.Option(
            "--workspace",
            "-w",
            metavar="DIR|NAME",
            help="Folder to work in, or the name of one. [dim]default: this folder[/]",
            show_default=False,
        ),
    ] = "",
    permission_mode: Annotated[
        str,
        typer.Option(
            "--permission-mode",
            help="What the agent may do unasked: default, accept-edits, plan, bypass, deny.",
            show_default=False,
        ),
    ] = "",
    label: Annotated[
        list[str] | None, typer.Option("--label", "-l", metavar="KEY=VALUE", help="Label of the session; may repeat.")
    ] = None,
    title: Annotated[
        str, typer.Option("--title", "-t", help="Title. [dim]default: the prompt's beginning[/]", show_default=False)
    ] = "",
    approve: ApproveOption = Approve.ASK,
    schema: Schema = None,
    detach: Detach = False,
    as_json: Json = False,
    data: Data = None,
) -> None:
    r"""Start a session in this folder and show what the agent does.

    Ctrl-C interrupts the turn, a second Ctrl-C leaves it to itself. The exit code tells how the turn ended:
    0 completed, 1 failed or lost, 3 cancelled, 4 goes on without you, 130 interrupted.

    \b
    podium run "explain this repo"
    podium run --model opus --effort high --label team=infra "find the race in the cache"
    (echo "Review this change:"; git diff) | podium run --approve none -
    podium run --detach --title nightly "update the dependencies"; podium watch last
    """
    output.json_mode(as_json)
    turn = prompts.turn_input(prompt, model=model, effort=effort, schema=schema)
    session = session_pb2.Session(
        title=title,
        provider=provider,
        permission_mode=prompts.permission_mode(permission_mode),
        labels=prompts.labels(label),
    )
    prompts.choose_workspace(session, workspace)

    async def work(client: Client) -> Exit:
        request = api.CreateSessionRequest(request_id=request_id(), session=session, turn=turn)
        made = await client.call(client.sessions.CreateSession, request)
        name = made.session.name
        if detach:
            return talking.detached(name, made.turn_id, as_json=as_json)
        async with talking.view_of(client, name, approve=approve, as_json=as_json) as view:
            view.notice(talking.header(made.session))
            return await talking.followed(client, Turn(name, made.turn_id), 0, view)

    raise typer.Exit(clients.run(data, work))


def send(
    session: SessionArgument,
    prompt: Prompt = None,
    *,
    model: Model = "",
    effort: Effort = "",
    approve: ApproveOption = Approve.ASK,
    schema: Schema = None,
    detach: Detach = False,
    as_json: Json = False,
    data: Data = None,
) -> None:
    r"""Say something to a session and show what the agent does.

    While a turn runs the new one waits for its end. Ctrl-C and exit codes as for `podium run`.

    \b
    podium send last "now write the tests"
    podium send 01f2 --model haiku "summarize what you did"
    """
    output.json_mode(as_json)
    turn = prompts.turn_input(prompt, model=model, effort=effort, schema=schema)

    async def work(client: Client) -> Exit:
        name = await client.session_name(session)
        if detach:
            asked = await talking.started(client, name, turn)
            return talking.detached(name, asked.turn_id, as_json=as_json)
        async with talking.view_of(client, name, approve=approve, as_json=as_json) as view:
            return await talking.say(client, name, turn, view)

    raise typer.Exit(clients.run(data, work))


def resume(
    session: SessionArgument,
    prompt: Prompt = None,
    model: Model = "",
    effort: Effort = "",
    approve: ApproveOption = Approve.ASK,
    data: Data = None,
) -> None:
    r"""Go on with a session: shows its last turn, then talks, one prompt after the other, until Ctrl-D.

    With a PROMPT, or when standard input is no terminal, it is one turn, as with `podium send`.

    \b
    podium resume last
    podium resume 01f2 "go on"
    """
    given = prompts.turn_input(prompt, model=model, effort=effort) if prompt or not is_terminal() else None

    async def work(client: Client) -> Exit:
        name = await client.session_name(session)
        told = await client.call(client.sessions.GetSession, api.GetSessionRequest(name=name))
        async with keyboard() as keys:
            view = PersonView(output.console(), client, name, approve=approve, keys=keys)
            view.notice(talking.header(told.session))
            await show_last_turn(client, told, view)
            if given is not None:
                return await talking.say(client, name, given, view)
            if told.running_turn_id:
                await talking.followed(client, Turn(name, told.running_turn_id), told.session.revision, view)
            return await _talk(client, name, view, keys, model=model, effort=effort)

    raise typer.Exit(clients.run(data, work))


async def _talk(client: Client, name: str, view: PersonView, keys: Keyboard | None, *, model: str, effort: str) -> Exit:
    """Take prompts until Ctrl-D; return how the last turn ended."""
    console, code = output.console(), Exit.OK
    while keys is not None:
        typed = await keys.line(console, f"\n[prompt]{MARK}[/]")
        if typed is None:
            break
        if typed:
            view.typed(typed)
            code = await talking.say(client, name, prompts.turn_input(typed, model=model, effort=effort), view)
    return code
