"""The scripted model endpoint: listens on loopback, plays a script to whoever asks, records every request."""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

import orjson

from podium.scripted_model.anthropic import AnthropicMessages
from podium.scripted_model.http import Exchange, HttpConnection, listen, loopback_address
from podium.scripted_model.player import Player
from podium.scripted_model.requests import RecordedRequest, RequestLog
from podium.scripted_model.script import Choice, HttpError, Script, settle
from podium.scripted_model.wire import Call, Encoded, Plain, WireFormat

LABEL: Final = "scripted model endpoint, not a real model"
LABEL_HEADER: Final = "x-podium-scripted"
REQUESTS_PATH: Final = "/_podium/requests"

WIRE_FORMATS: Final[tuple[WireFormat, ...]] = (AnthropicMessages(),)

# Steps whose attempts are counted at the same time; the oldest is forgotten first.
KEEP_ATTEMPTS: Final = 4096
KEEP_FAILURES: Final = 16
CLOSE_DEADLINE_S: Final = 5.0

AttemptKey = tuple[str, str, str, int, int]


class ScriptedModel:
    """An HTTP endpoint that stands in for the paid model; an async context manager.

        async with ScriptedModel(Script([Reply(text="hello")])) as endpoint:
            run_client(endpoint.url)
            await endpoint.wait_for(lambda request: request.closed_early, deadline_s=5)

    Leaving it closes every connection, also those that stall, within CLOSE_DEADLINE_S; it raises an
    ExceptionGroup of what went wrong in answering (a script's own function, a bug here).

    Args:
        script: who is told what.
        host: a loopback address; anything else is a ValueError.
        port: 0 picks a free one.
    """

    def __init__(self, script: Script, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self._script: Final = script
        self._host: Final = loopback_address(host)
        self._port = port
        self._log: Final = RequestLog()
        self._attempts: Final[OrderedDict[AttemptKey, int]] = OrderedDict()
        self._connections: Final[set[HttpConnection]] = set()
        # Not a TaskGroup: a pytest fixture may enter and leave this in different tasks.
        self._tasks: Final[set[asyncio.Task[None]]] = set()
        self._failures: Final[list[Exception]] = []
        self._server: asyncio.Server | None = None
        # In every response id, so that ids stay unique when a session meets a second endpoint.
        self._run: Final = secrets.token_hex(6)

    @property
    def url(self) -> str:
        """The base URL, without a slash at the end."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    @property
    def requests(self) -> tuple[RecordedRequest, ...]:
        """What was asked, oldest first; the last few hundred requests."""
        return self._log.all()

    async def wait_for(self, predicate: Callable[[RecordedRequest], bool], deadline_s: float = 10.0) -> RecordedRequest:
        """The first request for which `predicate` holds. Raises TimeoutError with what was recorded instead."""
        return await self._log.wait_for(predicate, deadline_s)

    async def __aenter__(self) -> Self:
        self._server = await listen(self._host, self._port, lambda: HttpConnection(self._handle, self._connections))
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
        if self._failures and error is None:
            raise ExceptionGroup("the scripted model failed to answer", self._failures)

    async def close(self) -> None:
        """Stop listening, close every connection, end every answer. May be called again."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        for connection in tuple(self._connections):
            connection.abort()
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_DEADLINE_S)
        if server is not None:
            async with asyncio.timeout(CLOSE_DEADLINE_S):
                await server.wait_closed()

    # --- answering

    def _handle(self, exchange: Exchange) -> asyncio.Task[None]:
        record = self._log.open(
            method=exchange.method, path=exchange.target, headers=exchange.headers, body=exchange.body
        )
        exchange.on_client_closed = lambda at_s: self._note_closed(record, at_s)
        task = asyncio.create_task(self._answer(exchange, record), name=f"scripted-model-{record.number}")
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._ended(done, exchange))
        return task

    def _note_closed(self, record: RecordedRequest, at_s: float) -> None:
        record.closed_s = at_s
        record.closed_early = record.finished_s is None
        self._log.changed()

    def _ended(self, task: asyncio.Task[None], exchange: Exchange) -> None:
        self._tasks.discard(task)
        failure = None if task.cancelled() else task.exception()
        if failure is None or isinstance(failure, ConnectionResetError):
            return
        exchange.drop()  # the client must not wait for an answer that will never come
        if isinstance(failure, Exception) and len(self._failures) < KEEP_FAILURES:
            self._failures.append(failure)

    async def _answer(self, exchange: Exchange, record: RecordedRequest) -> None:
        player = Player(exchange, record, self._log)
        path = urlsplit(exchange.target).path
        for wire in WIRE_FORMATS:
            asked = wire.read(exchange.method, path, exchange.headers, exchange.body)
            if isinstance(asked, Call):
                await self._play(player, record, asked, wire)
                return
            if isinstance(asked, Plain):
                await player.whole(_json(asked.status, asked.payload))
                return
        await player.whole(self._own_answer(exchange.method, path))

    async def _play(self, player: Player, record: RecordedRequest, call: Call, wire: WireFormat) -> None:
        conversation = call.conversation
        choice = self._script.choose(conversation)
        record.session, record.agent = conversation.session, conversation.agent
        record.prompt = conversation.last_prompt
        record.scenario, record.turn, record.step = choice.scenario, choice.turn, choice.step
        record.attempt = self._count_attempt((record.session, record.agent, *_place(choice)))
        self._log.changed()
        outcome = settle(choice.answer, conversation, attempt=record.attempt)
        response_id = f"scripted{self._run}{record.number:06d}"
        if isinstance(outcome, HttpError):
            await player.whole(wire.error(outcome, response_id))
        else:
            await player.reply(outcome, call, wire, response_id)

    def _count_attempt(self, key: AttemptKey) -> int:
        attempt = self._attempts.pop(key, -1) + 1
        self._attempts[key] = attempt
        if len(self._attempts) > KEEP_ATTEMPTS:
            self._attempts.popitem(last=False)
        return attempt

    def _own_answer(self, method: str, path: str) -> Encoded:
        """Probes, the demo's view of the record, and a 404 that names what there is."""
        if method in ("GET", "HEAD") and path == "/":
            return _json(200, {"podium": LABEL})
        if method == "GET" and path == REQUESTS_PATH:
            views = [record.view() for record in self._log.all() if not record.path.startswith(REQUESTS_PATH)]
            return _json(200, {"podium": LABEL, "requests": views})
        routes = [*(route for wire in WIRE_FORMATS for route in wire.routes), f"GET {REQUESTS_PATH}"]
        message = f"{LABEL}: no {method} {path} here; it serves {', '.join(routes)}"
        return _json(404, {"type": "error", "error": {"type": "not_found_error", "message": message}})


def _place(choice: Choice) -> tuple[str, int, int]:
    return choice.scenario, choice.turn, choice.step


def _json(status: int, payload: Mapping[str, Any]) -> Encoded:
    headers = {"content-type": "application/json", LABEL_HEADER: LABEL}
    return Encoded(status=status, headers=headers, body=orjson.dumps(payload))
