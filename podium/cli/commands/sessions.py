"""`ls`, `show`, `rename`, `archive`: sessions as things that are there."""

from datetime import UTC, datetime
from typing import Annotated

import typer
from google.protobuf.field_mask_pb2 import FieldMask

from podium.cli import client as clients
from podium.cli import output, prompts, records, shapes, tables, talking
from podium.cli.answering import Approve
from podium.cli.client import Client, request_id
from podium.cli.observing import history
from podium.cli.options import Data, Json, SessionArgument
from podium.errors import InvalidArgument
from podium.v1 import session_pb2
from podium.v1 import session_service_pb2 as api

PAGE_SIZE_MAX = 1000


def ls(
    *,
    status: Annotated[
        list[str] | None, typer.Option("--status", "-s", help="Only these: idle, running, error; may repeat.")
    ] = None,
    provider: Annotated[str, typer.Option("--provider", "-p", help="Only this provider.", show_default=False)] = "",
    workspace: Annotated[str, typer.Option("--workspace", "-w", help="Only this workspace.", show_default=False)] = "",
    label: Annotated[
        list[str] | None, typer.Option("--label", "-l", metavar="KEY=VALUE", help="With this label.")
    ] = None,
    unfinished: Annotated[bool, typer.Option("--unfinished", help="Only with a turn that runs or waits.")] = False,
    archived: Annotated[bool, typer.Option("--archived", help="Archived ones too.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many.")] = 50,
    as_json: Json = False,
    data: Data = None,
) -> None:
    r"""List sessions, newest first.

    \b
    podium ls
    podium ls --status running --label team=infra
    podium ls --json --limit 1000 | jq -r .[].id
    """
    output.json_mode(as_json)
    request = api.ListSessionsRequest(
        statuses=[_status(word) for word in status or []],
        provider=provider,
        workspace=workspace,
        labels=prompts.labels(label),
        unfinished=unfinished,
        include_archived=archived,
    )

    async def work(client: Client) -> list[session_pb2.Session]:
        request.at_least_position = await client.log_position()
        return await _listed(client, request, limit)

    listed = clients.run(data, work)
    if as_json:
        output.write_json([shapes.plain(session) for session in listed])
    else:
        tables.show(output.console(), tables.sessions(listed, now=datetime.now(UTC)), empty="no session")


def show(
    session: SessionArgument,
    at_revision: Annotated[
        int | None, typer.Option("--at", metavar="REV", min=1, help="As it was at this revision.", show_default=False)
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="The events themselves, one JSON object a line.")] = False,
    as_json: Json = False,
    data: Data = None,
) -> None:
    r"""Show a session from its first event on: what was said, done, asked and spent.

    Reads the log itself, so it is never behind.

    \b
    podium show last
    podium show 01f2 --at 120
    podium show 01f2 --raw | jq 'select(.kind == "usage")'
    """
    output.json_mode(as_json or raw)

    async def work(client: Client) -> None:
        name = await client.session_name(session)
        told = await client.call(client.sessions.GetSession, api.GetSessionRequest(name=name))
        if raw:
            await history(client, name, records.Raw(), at_revision=at_revision)
        elif as_json:
            collected = records.Messages()
            await history(client, name, collected, at_revision=at_revision)
            output.write_json({"session": shapes.plain(told.session), "messages": collected.messages})
        else:
            async with talking.view_of(client, name, approve=Approve.ASK, as_json=False, details=True) as view:
                view.notice(talking.header(told.session))
                await history(client, name, view, at_revision=at_revision)
                view.close()

    clients.run(data, work)


def rename(session: SessionArgument, title: str, as_json: Json = False, data: Data = None) -> None:
    r"""Give a session another title.

    \b
    podium rename last "Cache race"
    """
    output.json_mode(as_json)
    _updated(data, session, session_pb2.Session(title=title), "title", as_json=as_json, done=f"renamed to {title!r}")


def archive(
    session: SessionArgument,
    undo: Annotated[bool, typer.Option("--undo", help="Take it back.")] = False,
    as_json: Json = False,
    data: Data = None,
) -> None:
    r"""Put a session away: lists leave it out, nothing of it is lost.

    \b
    podium archive 01f2
    podium archive 01f2 --undo
    """
    output.json_mode(as_json)
    done = "taken back" if undo else "archived"
    _updated(data, session, session_pb2.Session(archived=not undo), "archived", as_json=as_json, done=done)


def _updated(data: Data, typed: str, wanted: session_pb2.Session, path: str, *, as_json: bool, done: str) -> None:
    async def work(client: Client) -> session_pb2.Session:
        wanted.name = await client.session_name(typed)
        request = api.UpdateSessionRequest(request_id=request_id(), session=wanted, update_mask=FieldMask(paths=[path]))
        answer: api.UpdateSessionResponse = await client.call(client.sessions.UpdateSession, request)
        return answer.session

    session = clients.run(data, work)
    if as_json:
        output.write_json(shapes.plain(session))
    else:
        output.console().print(f"{session.name.removeprefix('sessions/')[:8]} {done}", markup=False)


async def _listed(client: Client, request: api.ListSessionsRequest, limit: int) -> list[session_pb2.Session]:
    listed: list[session_pb2.Session] = []
    while True:
        request.page_size = min(PAGE_SIZE_MAX, limit - len(listed))
        page = await client.call(client.sessions.ListSessions, request)
        listed.extend(page.sessions)
        request.page_token = page.next_page_token
        if not page.next_page_token or len(listed) >= limit:
            return listed


def _status(word: str) -> session_pb2.SessionStatus.ValueType:
    number = shapes.number(session_pb2.SessionStatus.DESCRIPTOR, word)
    if number is None:
        known = ", ".join(shapes.words(session_pb2.SessionStatus.DESCRIPTOR))
        raise InvalidArgument("--status", found=word, expected=f"one of {known}")
    return session_pb2.SessionStatus.ValueType(number)
