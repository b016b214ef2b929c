"""Answers the agent's questions: the person at the keyboard, or nobody but the command's own option."""

from enum import Enum

from podium.cli import asking
from podium.cli.client import Client, request_id
from podium.errors import PodiumError
from podium.v1 import session_service_pb2 as api


class Approve(Enum):
    """Who answers the agent's questions."""

    ASK = "ask"
    ALL = "all"
    NONE = "none"


AUTOMATIC = {
    Approve.ALL: asking.YES,
    Approve.NONE: asking.Reply(api.APPROVAL_DECISION_DENY, message="Nobody is there to allow this."),
}
"""What is answered without asking anybody."""


async def resolve(client: Client, session: str, approval_id: str, reply: asking.Reply) -> api.ResolveApprovalResponse:
    """Send an answer; raises PodiumError, APPROVAL_SETTLED when somebody was faster."""
    request = api.ResolveApprovalRequest(
        request_id=request_id(),
        session=session,
        approval_id=approval_id,
        decision=reply.decision,
        updated_input_json=reply.updated_input_json,
        message=reply.message,
        remember_json=reply.remember_json,
    )
    return await client.call(client.sessions.ResolveApproval, request)


async def resolve_unless_settled(client: Client, session: str, approval_id: str, reply: asking.Reply) -> str:
    """Send an answer; return what went wrong for the person to read, empty when nothing did."""
    try:
        await resolve(client, session, approval_id, reply)
    except PodiumError as error:
        # The events tell who was faster, and how it was settled.
        return "" if error.reason in ("APPROVAL_SETTLED", "APPROVAL_NOT_FOUND") else error.message
    return ""
