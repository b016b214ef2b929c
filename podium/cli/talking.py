"""One turn as a command sees it: asked for, followed, and its end as an exit code."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from podium import names
from podium.cli import output, shapes
from podium.cli.answering import Approve
from podium.cli.client import Client, request_id
from podium.cli.failures import Exit, exit_code_of_turn
from podium.cli.following import Turn, View, follow
from podium.cli.keyboard import keyboard
from podium.cli.person import SHORT_ID, PersonView
from podium.cli.program import ProgramView
from podium.v1 import session_pb2
from podium.v1 import session_service_pb2 as api


@asynccontextmanager
async def view_of(
    client: Client, session: str, *, approve: Approve, as_json: bool, details: bool = False
) -> AsyncIterator[View]:
    """Yield what the session is shown on, with the keyboard when a person sits there and shall be asked."""
    if as_json:
        yield ProgramView(client, session, approve=approve)
        return
    async with keyboard() as keys:
        yield PersonView(output.console(), client, session, approve=approve, keys=keys, details=details)


async def started(client: Client, session: str, turn: api.TurnInput) -> api.StartTurnResponse:
    """Ask for a turn of a session that is there."""
    request = api.StartTurnRequest(request_id=request_id(), session=session, turn=turn)
    return await client.call(client.sessions.StartTurn, request)


async def say(client: Client, session: str, turn: api.TurnInput, view: View) -> Exit:
    """Ask for a turn of a session that is there and follow it; return the exit code that tells how it ended."""
    asked = await started(client, session, turn)
    if asked.turns_before:
        view.notice(f"turns before this one: {asked.turns_before}")
    return await followed(client, Turn(session, asked.turn_id), asked.revision - 1, view)


async def followed(client: Client, turn: Turn, after_revision: int, view: View) -> Exit:
    """Follow a turn to its end and return the exit code that tells how it ended."""
    await follow(client, turn, after_revision, view)
    if turn.left:
        short = names.session_id(turn.session)[:SHORT_ID]
        view.notice(f"left; the turn goes on: podium watch {short}, podium stop {short}")
    return exit_code_of_turn(turn.status)


def detached(session: str, turn_id: str, *, as_json: bool) -> Exit:
    """Say what was started, and leave it alone."""
    session_id = names.session_id(session)
    if as_json:
        output.write_json({"session_id": session_id, "turn_id": turn_id})
    else:
        output.console().print(session_id)
        output.console(stderr=True).print(
            f"[detail]podium: it runs; `podium watch {session_id[:SHORT_ID]}` shows it[/]"
        )
    return Exit.OK


def header(session: session_pb2.Session) -> str:
    """Return one line that says which session this is."""
    session_id = names.session_id(session.name)
    place = session.directory or session.workspace
    parts = [session.provider, session.model or session.resolved_model, session.effort, place]
    mode = shapes.word(session_pb2.PermissionMode.DESCRIPTOR, session.permission_mode)
    if mode not in (None, "default"):
        parts.append(f"permission mode {mode}")
    return f"session {session_id[:SHORT_ID]} · " + " · ".join(filter(None, parts))
