"""A question of the client on its way to a person and back, while its turn runs."""

import asyncio
from typing import TYPE_CHECKING, Final

from podium.v1 import event_pb2
from runner.providers.claude import approvals
from runner.providers.claude.transcript import OpenCall
from runner.providers.claude.turn import Ending, RunningTurn
from runner.providers.port import Answer, AnswerDeferred, Outbox

if TYPE_CHECKING:
    from runner.providers.claude.connection import Asked

_DRAIN_S: Final = 1.0
"""A question put off so soon is put off because the runner drains."""


async def answer(running: RunningTurn, outbox: Outbox, asked: "Asked", native_mode: str) -> approvals.Reply:
    """Return what to tell the client. Does not return when the question is put off: the turn ends as deferred."""
    question = approvals.question(
        asked.native_name,
        asked.arguments,
        tool_use_id=asked.tool_use_id,
        said=asked.said,
        suggestions=asked.suggestions,
    )
    running.asking += 1
    running.has_begun = True
    try:
        given = await _asked(running, outbox, question, can_defer=not asked.agent_id)
    except AnswerDeferred:
        return await _put_off(running, asked, native_mode)
    except Exception as wrong:
        # This task belongs to the SDK, which would only tell the client: the turn raises it.
        running.fail(wrong)
        raise
    finally:
        running.asking -= 1
        running.heard_now()
    return approvals.reply(given, asked.native_name, asked.arguments)


async def _asked(
    running: RunningTurn, outbox: Outbox, question: event_pb2.ApprovalRequested, *, can_defer: bool
) -> Answer:
    """Return the answer. A sub-agent's question cannot outlive its process: it is asked on, but for a drain."""
    while True:
        asked_s = running.clock.monotonic()
        try:
            return await outbox.ask(question)
        except AnswerDeferred:
            if can_defer or running.clock.monotonic() - asked_s < _DRAIN_S:
                raise


async def _put_off(running: RunningTurn, asked: "Asked", native_mode: str) -> approvals.Reply:
    if running.deferred is None:
        running.deferred = OpenCall(asked.tool_use_id, asked.native_name, asked.arguments, native_mode)
        running.settle(Ending.DEFERRED)
    # No answer to this process: it is about to end.
    unanswered: asyncio.Future[approvals.Reply] = asyncio.get_running_loop().create_future()
    return await unanswered
