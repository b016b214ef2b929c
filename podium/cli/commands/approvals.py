"""`approvals`, `approve`, `deny`: questions of agents, answered from anywhere."""

from datetime import UTC, datetime
from typing import Annotated, TypeAlias

import orjson
import typer
from rich.markup import escape
from rich.text import Text

from podium import names
from podium.cli import asking, output, shapes, tables, tools
from podium.cli import client as clients
from podium.cli.answering import resolve
from podium.cli.client import Client
from podium.cli.flow import printable
from podium.cli.options import Data, Json
from podium.errors import FailedPrecondition, InvalidArgument, NotFound
from podium.v1 import session_pb2
from podium.v1 import session_service_pb2 as api

PAGE_SIZE = 1000
PREFIX_LENGTH_MIN = 4

Approval: TypeAlias = Annotated[
    str, typer.Argument(metavar="ID", help="The question's id, or a unique beginning of it.", show_default=False)
]


def approvals(
    session: Annotated[
        str, typer.Option("--session", "-s", metavar="SESSION", help="Only of this session.", show_default=False)
    ] = "",
    settled: Annotated[bool, typer.Option("--all", "-a", help="Settled ones too.")] = False,
    as_json: Json = False,
    data: Data = None,
) -> None:
    r"""List what agents ask, oldest first.

    \b
    podium approvals
    podium approvals --session last --all
    """
    output.json_mode(as_json)

    async def work(client: Client) -> list[api.Approval]:
        name = await client.session_name(session) if session else ""
        return await _listed(client, name, settled=settled)

    listed = clients.run(data, work)
    if as_json:
        output.write_json([shapes.plain(approval) for approval in listed])
        return
    made = tables.table("id", "session", "kind", "asks", "asked", "settled", keep=("id", "session", "kind", "asked"))
    now = datetime.now(UTC)
    for one in listed:
        made.add_row(
            Text(one.id[: tables.SHORT_ID], style="id"),
            names.session_id(one.session)[: tables.SHORT_ID],
            shapes.word(session_pb2.ApprovalKind.DESCRIPTOR, one.request.kind),
            Text(printable(one.request.summary or one.request.tool_name)),
            tables.ago(one.requested_at, now),
            _outcome(one),
        )
    tables.show(output.console(), made, empty="nothing is asked")


def approve(
    approval: Approval,
    input_json: Annotated[
        str, typer.Option("--input", metavar="JSON", help="Arguments to use instead.", show_default=False)
    ] = "",
    remember: Annotated[bool, typer.Option("--remember", help="Let the provider remember its first rule.")] = False,
    message: Annotated[str, typer.Option("--message", help="Your answer, to a question.", show_default=False)] = "",
    as_json: Json = False,
    data: Data = None,
) -> None:
    r"""Say yes to a question of an agent.

    \b
    podium approve 8f3a
    podium approve 8f3a --input '{"command": "ls"}'
    podium approve 8f3a --message "the blue one"
    """
    output.json_mode(as_json)

    async def work(client: Client) -> api.ResolveApprovalResponse:
        found = await _found(client, approval)
        rules = tools.options(found.request)
        if remember and not rules:
            raise InvalidArgument("--remember", found=approval, expected="a question with a rule to remember")
        rule = orjson.dumps(rules[0]).decode() if remember else ""
        reply = asking.Reply(api.APPROVAL_DECISION_ALLOW, input_json, message, rule)
        return await resolve(client, found.session, found.id, reply)

    _told(clients.run(data, work), as_json=as_json)


def deny(
    approval: Approval,
    message: Annotated[
        str, typer.Option("--message", "-m", help="Why not; the agent reads it.", show_default=False)
    ] = "",
    as_json: Json = False,
    data: Data = None,
) -> None:
    r"""Say no to a question of an agent; its turn goes on.

    \b
    podium deny 8f3a --message "not on main"
    """
    output.json_mode(as_json)

    async def work(client: Client) -> api.ResolveApprovalResponse:
        found = await _found(client, approval)
        return await resolve(client, found.session, found.id, asking.Reply(api.APPROVAL_DECISION_DENY, message=message))

    _told(clients.run(data, work), as_json=as_json)


def _told(answer: api.ResolveApprovalResponse, *, as_json: bool) -> None:
    if as_json:
        output.write_json(shapes.plain(answer))
    else:
        output.console().print(shapes.word(session_pb2.ApprovalOutcome.DESCRIPTOR, answer.outcome))


def _outcome(approval: api.Approval) -> str:
    if not approval.HasField("resolution"):
        return ""
    outcome = shapes.word(session_pb2.ApprovalOutcome.DESCRIPTOR, approval.resolution.outcome) or ""
    return escape(f"{outcome} by {approval.resolved_by}" if approval.resolved_by else outcome)


async def _found(client: Client, typed: str) -> api.Approval:
    """Return the open question that is meant.

    Raises NotFound, InvalidArgument when several begin so, FailedPrecondition when it is settled.
    """
    text = typed.lower()
    if len(text) < PREFIX_LENGTH_MIN:
        raise InvalidArgument("ID", found=typed, expected=f"at least {PREFIX_LENGTH_MIN} characters of a question's id")
    # Settled ones too: who comes late shall read how it was settled, not that there is no such question.
    found: list[api.Approval] = []
    for settled in (False, True):
        found = found or [one for one in await _listed(client, "", settled=settled) if one.id.startswith(text)]
    if not found:
        raise NotFound("APPROVAL_NOT_FOUND", f"no question begins with {typed!r}", approval=typed)
    if len(found) > 1:
        several = ", ".join(one.id for one in found[:5])
        raise InvalidArgument("ID", found=typed, expected=f"one question; {len(found)} begin so: {several}")
    if found[0].HasField("resolution"):
        message = f"the question was settled before: {_outcome(found[0])}"
        raise FailedPrecondition("APPROVAL_SETTLED", message, approval=found[0].id)
    return found[0]


async def _listed(client: Client, session: str, *, settled: bool) -> list[api.Approval]:
    request = api.ListApprovalsRequest(
        session=session,
        include_resolved=settled,
        page_size=PAGE_SIZE,
        at_least_position=await client.log_position(),
    )
    listed: list[api.Approval] = []
    while True:
        page = await client.call(client.sessions.ListApprovals, request)
        listed.extend(page.approvals)
        request.page_token = page.next_page_token
        if not page.next_page_token:
            return listed
