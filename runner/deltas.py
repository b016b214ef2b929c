"""Text while it is being said: joined, sent at most 20 times a second, forgotten when the message is there."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Self

from podium.v1.runner_pb2 import Delta

INTERVAL_S = 0.05
PENDING_BYTES_MAX = 256 * 1024
"""What comes above this before the next sending is dropped; the message brings it."""


class DeltaStream:
    """The deltas of one session; an async context manager that owns the sending task."""

    def __init__(self, session_id: str, publish: Callable[[Delta], Awaitable[object]]) -> None:
        """Take where deltas go; publishing may drop them."""
        self._session_id = session_id
        self._publish = publish
        self._pending: list[Delta] = []
        self._pending_bytes = 0
        self._arrived = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._send(), name=f"deltas of {self._session_id}")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    def add(self, delta: Delta, turn_id: str) -> None:
        """Take the next piece; pieces that follow each other in one block become one."""
        if self._pending_bytes + len(delta.text) > PENDING_BYTES_MAX:
            return
        last = self._pending[-1] if self._pending else None
        if last is not None and _follows(last, delta):
            last.text += delta.text
        else:
            taken = Delta()
            taken.CopyFrom(delta)
            taken.session_id, taken.turn_id = self._session_id, turn_id
            self._pending.append(taken)
        self._pending_bytes += len(delta.text)
        self._arrived.set()

    def forget(self) -> None:
        """Drop what was not sent: the message itself is on its way."""
        self._pending, self._pending_bytes = [], 0

    async def _send(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            pending, self._pending, self._pending_bytes = self._pending, [], 0
            for delta in pending:
                await self._publish(delta)
            await asyncio.sleep(INTERVAL_S)


def _follows(last: Delta, delta: Delta) -> bool:
    same = (last.item_id, last.block, last.kind) == (delta.item_id, delta.block, delta.kind)
    return same and last.offset + len(last.text) == delta.offset
