"""The SDK's way to the client's process: our own child, whose records go to us and whose control frames go to the SDK.

The SDK's own transport merges this process's environment into the child's, drops lines that are no JSON, dies of a
line that is broken JSON, and queues messages apart from permission requests, so that a question could overtake the
call it is about. Here every line is on the log before the next one is read.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import orjson
from claude_agent_sdk import CLIConnectionError, Transport

from runner.providers.child import Child, Line
from runner.providers.claude.errors import ClientError
from runner.providers.claude.records import JsonObject, mapping, text

_OWN_PREFIX: Final = "podium-"


class ClientTransport(Transport):
    """One process for one connection."""

    def __init__(
        self,
        start: Callable[[], Awaitable[Child]],
        on_line: Callable[[Line], Awaitable[JsonObject | None]],
        on_end: Callable[[], Awaitable[None]],
    ) -> None:
        """Take what starts the process and what hears it.

        Args:
            start: starts the child; what it raises comes out of the SDK's connect().
            on_line: takes a line, and returns its record when it is a control frame.
            on_end: called once when no further line comes.
        """
        self._start: Final = start
        self._on_line: Final = on_line
        self._on_end: Final = on_end
        self._ids: Final = itertools.count(1)
        self._asked: Final[dict[str, asyncio.Future[JsonObject]]] = {}
        self._child: Child | None = None
        self.has_ended: Final = asyncio.Event()
        """Set when no further line will be heard."""

    @property
    def child(self) -> Child | None:
        """The process, None before connect()."""
        return self._child

    async def connect(self) -> None:
        """Start the process."""
        self._child = await self._start()

    async def write(self, data: str) -> None:
        """Write what the SDK says to the client. Raises CLIConnectionError when it does not listen any more."""
        if self._child is None:
            raise CLIConnectionError("the client was not started")
        try:
            await self._child.write(data.encode("utf-8", "replace"))
        except OSError as gone:
            raise CLIConnectionError(f"the client does not listen any more: {gone}") from gone

    async def read_messages(self) -> AsyncIterator[dict[str, Any]]:
        """Hand every record to `on_line`, and yield the control frames that are for the SDK."""
        assert self._child is not None
        try:
            async for line in self._child.lines():
                record = await self._on_line(line)
                if record is not None and not self._is_own(record):
                    yield dict(record)
            await self._on_end()
        finally:
            self.has_ended.set()

    async def control(self, request: dict[str, object]) -> JsonObject:
        """Send a control request that the SDK has no method for; return the answer. Raises ClientError."""
        request_id = f"{_OWN_PREFIX}{next(self._ids)}"
        answer = self._asked[request_id] = asyncio.get_running_loop().create_future()
        frame = {"type": "control_request", "request_id": request_id, "request": request}
        try:
            await self.write(orjson.dumps(frame).decode() + "\n")
            response = await answer
        finally:
            del self._asked[request_id]
        if response.get("subtype") == "error":
            raise ClientError(text(response, "error"))
        return mapping(response, "response")

    async def close(self) -> None:
        """End the process within child.py's bounds."""
        if self._child is not None:
            await self._child.end()

    def is_ready(self) -> bool:
        """Whether the process runs."""
        return self._child is not None and self._child.exit_code is None

    async def end_input(self) -> None:
        """Close the client's input."""
        if self._child is not None:
            self._child.close_input()

    def _is_own(self, record: JsonObject) -> bool:
        response = mapping(record, "response")
        request_id = text(response, "request_id")
        if not request_id.startswith(_OWN_PREFIX):
            return False
        asked = self._asked.get(request_id)
        if asked is not None and not asked.done():
            asked.set_result(response)
        return True
