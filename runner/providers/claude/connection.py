"""One connected client: a process, the SDK's control protocol on top of it, and bounds on every wait.

The one file besides transport.py that imports claude_agent_sdk; it is imported when a client is first started.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, TypeVar, cast

from claude_agent_sdk import (
    ClaudeAgentOptions,
    ClaudeSDKClient,
    CLIConnectionError,
    PermissionMode,
    PermissionResultAllow,
    PermissionResultDeny,
    PermissionUpdate,
    ToolPermissionContext,
)

from runner.providers.child import Child, Line
from runner.providers.claude.approvals import Reply
from runner.providers.claude.errors import ClientError, Gone
from runner.providers.claude.records import JsonObject
from runner.providers.claude.transport import ClientTransport

_T = TypeVar("_T")

_IDLE_GRACE_S: Final = 1.5
"""An idle client leaves within 80 ms of the end of its input."""
_LAST_WORDS_S: Final = 0.5
"""What an ended process had written is in the pipe; a log that is away must not hold up the end."""
_CONTROL_S: Final = 10.0
"""A control request is answered within milliseconds, also in mid-turn; this is for a machine that swaps."""


class Asked:
    """A permission request, without the SDK's types."""

    def __init__(self, native_name: str, arguments: dict[str, Any], context: ToolPermissionContext) -> None:
        """Take what the SDK hands to can_use_tool."""
        self.native_name: Final = native_name
        self.arguments: Final = arguments
        self.tool_use_id: Final = context.tool_use_id or ""
        self.agent_id: Final = context.agent_id or ""
        self.said: Final = context.title or context.description or ""
        self.suggestions: Final[list[JsonObject]] = [update.to_dict() for update in context.suggestions]


class Connection:
    """A client that has said hello. Not for reuse after `close`."""

    def __init__(
        self,
        start: Callable[[], Awaitable[Child]],
        on_line: Callable[[Line], Awaitable[JsonObject | None]],
        on_end: Callable[[], Awaitable[None]],
        answer: Callable[[Asked], Awaitable[Reply]],
    ) -> None:
        """Take what starts the process, what hears it, and what answers its questions."""

        async def can_use_tool(
            name: str, arguments: dict[str, Any], context: ToolPermissionContext
        ) -> PermissionResultAllow | PermissionResultDeny:
            return _result(await answer(Asked(name, arguments, context)))

        self.transport: Final = ClientTransport(start, on_line, on_end)
        options = ClaudeAgentOptions(can_use_tool=can_use_tool, forward_subagent_text=True)
        self._client: Final = ClaudeSDKClient(options, transport=self.transport)

    async def open(self, timeout_s: float) -> JsonObject:
        """Start the process and shake hands; return what the client says of itself.

        Raises Gone, ClientError, TimeoutError, and OSError or ValueError from the start.
        """
        async with asyncio.timeout(timeout_s):
            await self._translated(self._client.connect())
        return await self._client.get_server_info() or {}

    async def say(self, content: list[dict[str, Any]]) -> None:
        """Send a prompt as content blocks. Raises Gone."""

        async def prompt() -> AsyncIterator[dict[str, Any]]:
            yield {"type": "user", "message": {"role": "user", "content": content}, "parent_tool_use_id": None}

        await self._translated(self._client.query(prompt()))

    async def interrupt(self) -> None:
        """Ask the client to stop its turn. Raises Gone, ClientError."""
        await self._controlled(self._client.interrupt())

    async def set_model(self, model: str) -> None:
        """Use `model` from the next call on. Raises Gone, ClientError."""
        await self._controlled(self._client.set_model(model))

    async def set_permission_mode(self, native_mode: str) -> None:
        """Use the mode from now on. Raises Gone, ClientError."""
        await self._controlled(self._client.set_permission_mode(cast("PermissionMode", native_mode)))

    async def set_effort(self, effort: str) -> None:
        """Use `effort` from the next call on, the model's default when empty. Raises Gone, ClientError.

        The SDK has no method for it; `apply_flag_settings` is the request the client's own `/effort` uses.
        """
        request: dict[str, object] = {"subtype": "apply_flag_settings", "settings": {"effortLevel": effort or None}}
        await self._controlled(self.transport.control(request))

    async def close(self, *, busy: bool) -> None:
        """End the process, a busy one at once; what it still says is heard. Bounded, may run twice."""
        child = self.transport.child
        if child is not None:
            await child.end(grace_s=0.0 if busy else _IDLE_GRACE_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LAST_WORDS_S):
                    await self.transport.has_ended.wait()
        await self._client.disconnect()

    async def _controlled(self, request: Awaitable[_T]) -> _T:
        try:
            async with asyncio.timeout(_CONTROL_S):
                return await self._translated(request)
        except TimeoutError:
            raise ClientError(f"the client did not answer a control request within {_CONTROL_S} s") from None

    async def _translated(self, request: Awaitable[_T]) -> _T:
        try:
            return await self._unless_gone(request)
        except CLIConnectionError as gone:
            raise Gone(str(gone)) from gone
        except (Gone, ClientError, TimeoutError, OSError, ValueError):
            raise
        except Exception as wrong:
            # The SDK raises bare Exception for what the client answers with an error.
            raise ClientError(str(wrong)) from wrong

    async def _unless_gone(self, request: Awaitable[_T]) -> _T:
        """Return what `request` returns; the SDK would wait for an answer of an ended process."""
        asked = asyncio.ensure_future(request)
        ended = asyncio.create_task(self.transport.has_ended.wait())
        try:
            await asyncio.wait((asked, ended), return_when=asyncio.FIRST_COMPLETED)
            if not asked.done():
                raise Gone("the client's process has ended")
            return asked.result()
        finally:
            ended.cancel()
            if not asked.done():
                asked.cancel()
                await asyncio.wait((asked,))


def _result(reply: Reply) -> PermissionResultAllow | PermissionResultDeny:
    if reply.input is None:
        return PermissionResultDeny(message=reply.message)
    remember = [PermissionUpdate.from_dict(dict(reply.remember))] if reply.remember else None
    return PermissionResultAllow(updated_input=reply.input, updated_permissions=remember)
