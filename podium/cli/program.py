"""A followed session for a program: one JSON object a line, in the form of docs/messages.md."""

import asyncio
from typing import Any

from podium import names
from podium.cli import asking, output, records, shapes
from podium.cli.answering import AUTOMATIC, Approve, resolve_unless_settled
from podium.cli.client import Client
from podium.v1 import runner_pb2, session_pb2
from podium.v1.event_pb2 import Event


class ProgramView:
    """Writes messages as they are complete, questions as they are asked, and at the end one `result`."""

    def __init__(self, client: Client, session: str, *, approve: Approve) -> None:
        """With Approve.ASK an open question waits for `podium approve`."""
        self._client = client
        self._session = session
        self._automatic = AUTOMATIC.get(approve)
        self._tokens: dict[str, session_pb2.TokenTotals] = {}
        self._open: dict[str, None] = {}
        self._answering: set[asyncio.Task[None]] = set()
        self._live = False

    def event(self, event: Event) -> None:
        """Write an event that is a message, a question, its answer, a notice, or a turn's end."""
        value = records.message(event, self._tokens)
        if value is not None:
            self._write(value)
            return
        kind = event.WhichOneof("body")
        if kind in ("approval_requested", "approval_resolved", "notice"):
            body = shapes.plain(getattr(event, kind))
            self._write({"type": kind, "session_id": event.session_id, "turn_id": event.turn_id, **body})
        if kind == "approval_requested":
            self._open[event.approval_requested.approval_id] = None
        elif kind == "approval_resolved":
            self._open.pop(event.approval_resolved.approval_id, None)
        self._answer_all()

    def delta(self, delta: runner_pb2.Delta) -> None:
        """Leave it out: the message that follows has all of it."""

    def live(self) -> None:
        """All that was there is written: what is open now is really open."""
        self._live = True
        self._answer_all()

    def notice(self, text: str) -> None:
        """Leave it out."""

    def close(self) -> None:
        """Answer nothing more."""
        for task in self._answering:
            task.cancel()

    def _answer_all(self) -> None:
        if self._automatic is None or not self._live:
            return
        for approval_id in list(self._open):
            del self._open[approval_id]
            task = asyncio.create_task(self._answer(approval_id, self._automatic))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)

    async def _answer(self, approval_id: str, reply: asking.Reply) -> None:
        wrong = await resolve_unless_settled(self._client, self._session, approval_id, reply)
        if wrong:
            self._write({"type": "error", "session_id": names.session_id(self._session), "message": wrong})

    def _write(self, value: dict[str, Any]) -> None:
        output.write_json(value, lines=True)
