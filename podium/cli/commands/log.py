"""`log tail`: the events themselves."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated

import typer

from podium.cli import client as clients
from podium.cli import output, shapes
from podium.cli.client import Client
from podium.cli.following import watch
from podium.cli.options import Data
from podium.errors import InvalidArgument
from podium.v1 import session_service_pb2 as api
from podium.v1.event_pb2 import Event

HEARTBEAT_S = 1
KINDS = [field.name for field in Event.DESCRIPTOR.oneofs_by_name["body"].fields]

log = typer.Typer(no_args_is_help=True, help="Read the log.", context_settings={"help_option_names": ["-h", "--help"]})


@log.callback()
def _log() -> None:
    """Read the log itself: what happened, in order, as JSON."""


@log.command()
def tail(
    session: Annotated[
        str, typer.Option("--session", "-s", metavar="SESSION", help="Only of this session.", show_default=False)
    ] = "",
    from_position: Annotated[
        int | None,
        typer.Option(
            "--from",
            metavar="POS",
            min=0,
            help="Begin after this position, with --session after this revision; 0 = the start. [dim]default: now[/]",
            show_default=False,
        ),
    ] = None,
    kind: Annotated[
        list[str] | None, typer.Option("--kind", "-k", metavar="KIND", help="Only this kind of event; may repeat.")
    ] = None,
    follow: Annotated[bool, typer.Option(" /--no-follow", help="End when all that is there was printed.")] = True,
    data: Data = None,
) -> None:
    r"""Print events as they happen, one JSON object a line; Ctrl-C ends it.

    The last event of each piece carries `position`: give it to --from to go on after it.

    \b
    podium log tail
    podium log tail --session last --from 0 --no-follow
    podium log tail --kind approval_requested | while read -r event; do notify "$event"; done
    """
    output.json_mode(True)
    kinds = kind or []
    for word in kinds:
        if word not in KINDS:
            raise InvalidArgument("--kind", found=word, expected=f"some of {', '.join(KINDS)}")

    async def work(client: Client) -> None:
        if session:
            name = await client.session_name(session)
            await _session(client, name, from_position, frozenset(kinds), follow=follow)
        else:
            await _all(client, -1 if from_position is None else from_position, kinds, follow=follow)

    clients.run(data, work)


async def _session(client: Client, name: str, after: int | None, kinds: frozenset[str], *, follow: bool) -> None:
    if after is None:
        told = await client.call(client.sessions.GetSession, api.GetSessionRequest(name=name))
        after = told.session.revision
    async with aclosing(watch(client, name, after, deltas=False)) as answers:
        async for answer in answers:
            for event in answer.events:
                if not kinds or event.WhichOneof("body") in kinds:
                    output.write_json(shapes.event(event), lines=True)
            if answer.heartbeat.live and not follow:
                return


async def _all(client: Client, after: int, kinds: list[str], *, follow: bool) -> None:
    if after < 0 and not follow:
        return
    request = api.WatchEventsRequest(after_position=after, kinds=kinds, heartbeat_s=HEARTBEAT_S)
    answers: AsyncIterator[api.WatchEventsResponse] = client.stream(client.sessions.WatchEvents, request)
    async for answer in answers:
        for place, event in enumerate(answer.events, start=1):
            last = {"position": answer.position} if place == len(answer.events) else {}
            output.write_json(shapes.event(event) | last, lines=True)
        if answer.heartbeat.live and not follow:
            return
