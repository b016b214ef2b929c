"""Requests that wait for their answers: one inbox for all of them, a number for each, a deadline for every wait.

nats-py's own `request` leaves a caller waiting for its timeout when the connection breaks or a permission is missing,
and `publish_async` never fails a future and leaks its place (nats-py #985).

    LinkError
    ├── NotConnected   nothing was sent
    ├── NoAnswer       it may have arrived: no answer in time, or the connection broke
    ├── NoResponders   nobody listens there now (no leader, no such stream)
    ├── Denied         the role may not do that
    └── ApiError       JetStream's own refusal, with its err_code
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from nats.aio.msg import Msg

NO_RESPONDERS = 503
IsLast: TypeAlias = Callable[[Msg], bool]


class LinkError(Exception):
    """The server did not do what was asked."""


class NotConnected(LinkError):
    """There is no connection now; nothing was sent."""


class NoAnswer(LinkError):
    """No answer came; what was sent may have arrived."""


class NoResponders(LinkError):
    """Nobody listens on the subject now."""


class Denied(LinkError):
    """The role's permissions do not allow it."""


class ApiError(LinkError):
    """JetStream refused."""

    def __init__(self, code: int, err_code: int, description: str) -> None:
        """Take the three fields of JetStream's `error` object."""
        super().__init__(f"{description} (code {code}, err_code {err_code})")
        self.code, self.err_code, self.description = code, err_code, description


def status_of(message: Msg) -> int:
    """Return the status of a message that the server itself made (404, 408, 409, 503 …), 0 for all others."""
    if not message.headers:
        return 0
    return int(message.headers.get("Status", 0))


@dataclass(eq=False, slots=True)
class _Exchange:
    """A request on its way: ends with its first answer, or with the one that `is_last` accepts."""

    subject: str
    done: asyncio.Future[list[Msg]]
    is_last: IsLast | None
    answers: list[Msg] = field(default_factory=list)

    def take(self, message: Msg) -> None:
        self.answers.append(message)
        last = self.is_last is None or self.is_last(message) or status_of(message) == NO_RESPONDERS
        if last and not self.done.done():
            self.done.set_result(self.answers)

    def fail(self, error: LinkError) -> None:
        if not self.done.done():
            self.done.set_exception(error)


class Exchanges:
    """All requests of a connection that have no answer yet; the answers come in on `{inbox}.*`."""

    def __init__(self) -> None:
        """`inbox` is set once there is a connection."""
        self.inbox = ""
        self._numbers = itertools.count(1)
        self._open: dict[str, _Exchange] = {}

    async def run(
        self, subject: str, send: Callable[[str], Awaitable[None]], *, timeout_s: float, is_last: IsLast | None
    ) -> list[Msg]:
        """Return the answers to what `send` sends with the reply subject it is given. Raises LinkError."""
        loop = asyncio.get_running_loop()
        exchange = _Exchange(subject, loop.create_future(), is_last)
        number = str(next(self._numbers))
        self._open[number] = exchange
        late = NoAnswer(f"no answer from {subject} within {timeout_s} s")
        timer = loop.call_later(timeout_s, exchange.fail, late)
        try:
            await send(f"{self.inbox}.{number}")
            answers = await exchange.done
        finally:
            timer.cancel()
            del self._open[number]
            if exchange.done.done() and not exchange.done.cancelled():
                exchange.done.exception()  # Seen: a caller that was cancelled never asks for it.
        if not answers[-1].data and status_of(answers[-1]) == NO_RESPONDERS:
            raise NoResponders(f"nobody listens on {subject} now")
        return answers

    def answered(self, message: Msg) -> None:
        """Take an answer; one whose asker has given up is dropped."""
        exchange = self._open.get(message.subject[len(self.inbox) + 1 :])
        if exchange is not None:
            exchange.take(message)

    def fail_all(self, error: LinkError) -> None:
        """Tell everybody who waits."""
        for exchange in list(self._open.values()):
            exchange.fail(error)

    def fail_denied(self, subject: str) -> None:
        """Tell who asked on a subject that the role may not publish; the server reports it in lower case."""
        for exchange in list(self._open.values()):
            if exchange.subject.lower() == subject.lower():
                exchange.fail(Denied(f"this role may not publish to {exchange.subject}"))
