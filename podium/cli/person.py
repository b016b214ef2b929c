"""A followed session for a person: the transcript as it happens, and questions asked at the keyboard."""

import asyncio
from collections import deque

from rich.console import Console

from podium.cli import asking
from podium.cli.answering import AUTOMATIC, Approve, resolve_unless_settled
from podium.cli.client import Client
from podium.cli.keyboard import Keyboard
from podium.cli.transcript import Transcript
from podium.v1 import event_pb2, runner_pb2
from podium.v1.event_pb2 import Event

SHORT_ID = 8


class PersonView:
    """Shows one session on a console. While a question stands there, what happens besides waits for its answer."""

    def __init__(
        self,
        console: Console,
        client: Client,
        session: str,
        *,
        approve: Approve,
        keys: Keyboard | None = None,
        details: bool = False,
    ) -> None:
        """Without `keys` an open question says how it can be answered from elsewhere."""
        self._console = console
        self._client = client
        self._session = session
        self._approve = approve
        self._keys = keys
        self._transcript = Transcript(console, details=details)
        self._questions: deque[event_pb2.ApprovalRequested] = deque()
        self._held: deque[Event] = deque()
        self._prompt: asyncio.Task[None] | None = None
        self._prompted = ""
        self._answering: set[asyncio.Task[None]] = set()
        self._live = False

    def event(self, event: Event) -> None:
        """Show an event, later when a question stands on the screen; take note of questions and their ends."""
        if self._prompt is not None:
            self._held.append(event)
        else:
            self._transcript.event(event)
        if event.HasField("approval_requested"):
            self._questions.append(event.approval_requested)
        elif event.HasField("approval_resolved"):
            self._settled(event.approval_resolved.approval_id)
        self._next()

    def delta(self, delta: runner_pb2.Delta) -> None:
        """Show what is being said, unless a question stands on the screen: the message that follows has all of it."""
        if self._prompt is None:
            self._transcript.delta(delta)

    def typed(self, prompt: str) -> None:
        """Leave out the next prompt if it is this one: the person has just typed it."""
        self._transcript.typed(prompt)

    def live(self) -> None:
        """All that was there is shown: what is open now is really open."""
        if not self._live:
            self._live = True
            self._next()

    def notice(self, text: str) -> None:
        """Say something of the command's own."""
        if self._prompt is not None:
            self._console.print()
        self._transcript.line(f"podium: {text}", "detail")

    def close(self) -> None:
        """Take back what stands on the screen."""
        self._questions.clear()
        if self._prompt is not None:
            self._prompt.cancel()
        for task in self._answering:
            task.cancel()
        self._release()

    def _settled(self, approval_id: str) -> None:
        self._questions = deque(one for one in self._questions if one.approval_id != approval_id)
        if self._prompt is not None and self._prompted == approval_id:
            self._console.print()
            self._prompt.cancel()
            self._prompt = None
            self._release()

    def _next(self) -> None:
        """Answer the open questions, or ask the first of them."""
        while self._live and self._questions and self._prompt is None:
            question = self._questions.popleft()
            automatic = AUTOMATIC.get(self._approve)
            if automatic is not None:
                task = asyncio.create_task(self._answer(question.approval_id, automatic))
                self._answering.add(task)
                task.add_done_callback(self._answering.discard)
            elif self._keys is None:
                short = question.approval_id[:SHORT_ID]
                self._transcript.line(f"    answer with: podium approve {short}, or: podium deny {short}", "warn")
            else:
                self._prompted = question.approval_id
                self._prompt = asyncio.create_task(self._ask(self._keys, question))
                self._prompt.add_done_callback(self._asked)

    async def _ask(self, keys: Keyboard, question: event_pb2.ApprovalRequested) -> None:
        reply = await asking.ask(self._console, keys, question)
        if reply is not None:
            await self._answer(question.approval_id, reply)

    async def _answer(self, approval_id: str, reply: asking.Reply) -> None:
        wrong = await resolve_unless_settled(self._client, self._session, approval_id, reply)
        if wrong:
            self._transcript.line(f"    not answered: {wrong}", "bad")

    def _asked(self, task: asyncio.Task[None]) -> None:
        if self._prompt is task:
            self._prompt = None
            self._release()
            self._next()
        if not task.cancelled():
            task.result()

    def _release(self) -> None:
        """Show what waited."""
        while self._held:
            self._transcript.event(self._held.popleft())
