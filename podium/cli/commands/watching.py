"""`watch` and `stop`: a session that somebody else may have started."""

from typing import Annotated

import typer

from podium.cli import client as clients
from podium.cli import output, shapes, talking
from podium.cli.answering import Approve
from podium.cli.client import Client, request_id
from podium.cli.failures import Exit, exit_code_of_turn
from podium.cli.observing import observe
from podium.cli.options import ApproveOption, Data, Json, SessionArgument
from podium.v1 import session_service_pb2 as api


def watch(
    session: SessionArgument,
    from_revision: Annotated[
        int | None,
        typer.Option("--from", metavar="REV", min=0, help="Begin after this revision; 0 = all.", show_default=False),
    ] = None,
    until_idle: Annotated[
        bool,
        typer.Option("--until-idle", help="End when no turn runs or waits; the exit code tells how the last one did."),
    ] = False,
    approve: ApproveOption = Approve.ASK,
    as_json: Json = False,
    data: Data = None,
) -> None:
    r"""Show a session as it goes on, answering its questions if you like; Ctrl-C leaves it to itself.

    Without --from it begins with the turn that runs, or with what comes next.

    \b
    podium watch last
    podium watch 01f2 --from 0 --until-idle
    """
    output.json_mode(as_json)

    async def work(client: Client) -> Exit:
        name = await client.session_name(session)
        told = await client.call(client.sessions.GetSession, api.GetSessionRequest(name=name))
        async with talking.view_of(client, name, approve=approve, as_json=as_json, details=True) as view:
            view.notice(talking.header(told.session))
            status = await observe(client, told, view, after_revision=from_revision, until_idle=until_idle)
            view.close()
        return exit_code_of_turn(status) if status else Exit.OK

    raise typer.Exit(clients.run(data, work))


def stop(
    session: SessionArgument,
    turn_only: Annotated[bool, typer.Option("--turn", help="Only interrupt the running turn.")] = False,
    reason: Annotated[str, typer.Option("--reason", help="Why, for those who read the log.", show_default=False)] = "",
    as_json: Json = False,
    data: Data = None,
) -> None:
    r"""Stop a session: interrupts its turn, drops what waits, ends its process. It can go on later.

    \b
    podium stop last
    podium stop 01f2 --turn --reason "wrong branch"
    """
    output.json_mode(as_json)

    async def work(client: Client) -> tuple[str, shapes.Json]:
        name = await client.session_name(session)
        if turn_only:
            asked = api.InterruptTurnRequest(request_id=request_id(), session=name, reason=reason)
            effect = await client.call(client.sessions.InterruptTurn, asked)
            interrupting = effect.effect == api.INTERRUPT_EFFECT_INTERRUPTING
            return ("the running turn is asked to stop" if interrupting else "no turn runs"), shapes.plain(effect)
        request = api.StopSessionRequest(request_id=request_id(), session=name, reason=reason)
        stopped = await client.call(client.sessions.StopSession, request)
        return _told(stopped), shapes.plain(stopped)

    text, value = clients.run(data, work)
    if as_json:
        output.write_json(value)
    else:
        output.console().print(text)


def _told(stopped: api.StopSessionResponse) -> str:
    parts = ["the running turn is interrupted"] if stopped.interrupted_turn_id else []
    if stopped.cancelled_turn_ids:
        parts.append(f"waiting turns dropped: {len(stopped.cancelled_turn_ids)}")
    if stopped.process_ending:
        parts.append("its process ends")
    return "; ".join(parts) or "nothing ran"
