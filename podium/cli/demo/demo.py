"""The demo's course: start everything, two turns with an approval, then what the log and the tables know of them."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import orjson
from rich.console import Console
from rich.markup import escape

from podium.cli import queries, tables
from podium.cli.answering import Approve
from podium.cli.client import Client, request_id
from podium.cli.demo import verdict
from podium.cli.demo.folder import own_folder
from podium.cli.demo.model import Model, scripted_model
from podium.cli.demo.verdict import Findings
from podium.cli.failures import CliError
from podium.cli.following import Turn, until_over, watch
from podium.cli.home import DataFolder, Endpoint
from podium.cli.person import PersonView
from podium.cli.prompts import turn_input
from podium.cli.stack.stack import Stack, StackOptions
from podium.errors import PodiumError
from podium.scripted_model import claude_environment
from podium.scripted_model.scenarios import DEMO_FILE
from podium.v1 import analytics_service_pb2, session_pb2
from podium.v1 import session_service_pb2 as api
from podium.v1.event_pb2 import Event

FIRST_PROMPT = f"Write {DEMO_FILE} with the Bash tool and read it back."
SECOND_PROMPT = "What did I ask you first, and what did you run?"
QUERY = "SELECT prompt, status, resumed, input_tokens, output_tokens FROM turns ORDER BY requested_at"
TURN_S_MAX = 60.0
LAST_LINES = 15


class _Seen(PersonView):
    """Shows the session and keeps its events for the verdict."""

    def __init__(self, console: Console, client: Client, session: str, seen: list[Event]) -> None:
        super().__init__(console, client, session, approve=Approve.ALL, details=True)
        self._seen = seen

    def event(self, event: Event) -> None:
        self._seen.append(event)
        super().event(event)


async def demo(console: Console, *, keep: bool) -> Findings:
    """Run the demo and return what was found. Raises PodiumError, TimeoutError.

    All it writes is in one folder, removed at the end unless `keep`; all it starts is stopped.
    """
    began = time.monotonic()
    findings = Findings()
    with own_folder(keep=keep) as folder:
        console.print(f"[bold]podium demo[/]: everything it writes is in [id]{folder}[/]\n")
        async with scripted_model(folder) as model, _podium(folder, model, console) as stack:
            console.print(f"[good]✔[/] Podium is ready after {time.monotonic() - began:.1f} s")
            console.print(f"[good]✔[/] [bold]{escape(model.label)}[/], at {model.url}")
            try:
                await _show(stack, model, console, findings, folder)
            except (PodiumError, TimeoutError):
                _last_words(stack, model, console)
                raise
            if findings.failed:
                _last_words(stack, model, console)
            console.print()
        console.print(f"[good]✔[/] all processes have ended; the folder is {'kept' if keep else 'removed'}")
    console.print(f"[detail]{time.monotonic() - began:.0f} s in all[/]")
    return findings


@asynccontextmanager
async def _podium(folder: Path, model: Model, console: Console) -> AsyncIterator[Stack]:
    home = folder / "home"
    (folder / "workspace").mkdir()
    home.mkdir()
    options = StackOptions(
        listen="127.0.0.1:0",
        # Not the user's environment: neither their key nor their settings may reach the demo's CLI.
        environment=claude_environment(home, model.url),
        runner_settings={"PODIUM_ROOTS": orjson.dumps([str(folder / "workspace")]).decode(), "PODIUM_SLOTS": "1"},
        drain_s=2.0,
        user="demo",
        announced=False,
    )
    notice = lambda text: console.print(f"[detail]  {escape(text)}[/]")  # noqa: E731 - one line, used once
    async with Stack(DataFolder(folder / "data"), options, notice=notice) as stack:
        yield stack


async def _show(stack: Stack, model: Model, console: Console, findings: Findings, folder: Path) -> None:
    client = Client(Endpoint(stack.address, stack.token, "podium demo"))
    try:
        wanted = session_pb2.Session(title="Demo", directory=str(folder / "workspace"))
        request = api.CreateSessionRequest(request_id=request_id(), session=wanted, turn=turn_input(FIRST_PROMPT))
        made = await client.call(client.sessions.CreateSession, request)
        name = made.session.name
        view = _Seen(console, client, name, findings.events)
        _title(console, "The first turn: thinking, a real Bash tool call, an approval (the demo answers yes)")
        await _turn(client, Turn(name, made.turn_id), 0, view)
        await _end_process(client, name)
        _title(console, "The second turn: the CLI's process was ended; a new one resumes its session")
        again = api.StartTurnRequest(request_id=request_id(), session=name, turn=turn_input(SECOND_PROMPT))
        started = await client.call(client.sessions.StartTurn, again)
        await _turn(client, Turn(name, started.turn_id), started.revision - 1, view)
        await _tell(client, name, console)
        told = await client.call(client.sessions.GetSession, api.GetSessionRequest(name=name))
        agents = await _callers(model, console)
        verdict.check(findings, told.session, agents, folder / "workspace" / DEMO_FILE)
    finally:
        await client.close()


async def _turn(client: Client, turn: Turn, after_revision: int, view: PersonView) -> None:
    try:
        async with asyncio.timeout(TURN_S_MAX):
            await until_over(client, turn, after_revision, view)
    except TimeoutError:
        message = f"the turn was not over after {TURN_S_MAX:.0f} s"
        raise CliError("DEMO_FAILED", message, "What the services said last stands above.") from None
    finally:
        view.close()


async def _end_process(client: Client, name: str) -> None:
    """End the CLI's process, and return when the runner has given the session up."""
    request = api.StopSessionRequest(request_id=request_id(), session=name, reason="the demo shows a resume")
    await client.call(client.sessions.StopSession, request)
    async with asyncio.timeout(TURN_S_MAX), contextlib.aclosing(watch(client, name, 0)) as answers:
        async for answer in answers:
            if any(event.HasField("runner_detached") for event in answer.events):
                return


async def _tell(client: Client, name: str, console: Console) -> None:
    """Show the session's row, its usage and one SQL answer, all of them at or after the last fact."""
    position = (await client.call(client.sessions.GetSession, api.GetSessionRequest(name=name))).position
    _title(console, "The session's row: podium ls")
    listed = await client.call(client.sessions.ListSessions, api.ListSessionsRequest(at_least_position=position))
    console.print(tables.sessions(listed.sessions, now=datetime.now(UTC)))
    _title(console, "Its usage: podium usage --by model --session last")
    by_model = analytics_service_pb2.GetUsageRequest(
        session=name, group_by=[analytics_service_pb2.USAGE_DIMENSION_MODEL], at_least_position=position
    )
    usage = await client.call(client.analytics.GetUsage, by_model)
    console.print(tables.usage(["model"], usage.rows))
    _title(console, f'SQL: podium sql "{QUERY}"')
    request = analytics_service_pb2.QueryRequest(sql=QUERY, at_least_position=position)
    async with queries.answered(client, request) as (_, reader):
        queries.show(reader, console)


async def _callers(model: Model, console: Console) -> set[str]:
    """Show and return who called the model."""
    asked = [one for one in await model.requests() if one["method"] == "POST"]
    agents = {str(one["headers"].get("user-agent", "")) for one in asked}
    _title(console, "Who called the scripted model")
    console.print(f"{len(asked)} calls, all by {', '.join(sorted(agents))}", soft_wrap=True)
    return agents


def _title(console: Console, text: str) -> None:
    console.print()
    console.rule(f"[bold]{escape(text)}[/]", align="left", style="dim")


def _last_words(stack: Stack, model: Model, console: Console) -> None:
    for name, said in {**stack.last_words(), model.process.name: model.process.said()}.items():
        if said:
            console.print(f"\n[bold]{name} said last:[/]")
            console.print(escape("\n".join(said.splitlines()[-LAST_LINES:])), soft_wrap=True)
