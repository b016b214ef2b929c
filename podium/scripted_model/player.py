"""Plays one answer onto one exchange (pace, stall, drop, error in mid-stream) and records what happened when."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from typing import Final

from podium.scripted_model.http import Exchange
from podium.scripted_model.requests import RecordedRequest, RequestLog
from podium.scripted_model.script import Drop, HttpError, Reply, Stall, StreamError
from podium.scripted_model.wire import Call, Encoded, Frame, WireFormat

# Frames that are due together go out in one write of about this size, so that a client that does
# not read holds back the player instead of filling this process's memory.
WRITE_BYTES: Final = 64 * 1024


class Player:
    """Sends one answer. Every method raises ConnectionResetError, or is cancelled, once the client is gone."""

    def __init__(self, exchange: Exchange, record: RecordedRequest, log: RequestLog) -> None:
        self._exchange: Final = exchange
        self._record: Final = record
        self._log: Final = log

    async def reply(self, reply: Reply, call: Call, wire: WireFormat, response_id: str) -> None:
        """Send a model step. One that stalls ends only by being cancelled."""
        await _sleep(reply.pace.first_byte_after_s)
        if call.streamed:
            await self._stream(reply, call, wire, response_id)
        else:
            await self._at_once(reply, call, wire, response_id)

    async def whole(self, encoded: Encoded) -> None:
        """Send a body of known length."""
        self._record.status = encoded.status
        self._record.headers_sent_s = self._record.first_byte_s = time.monotonic()
        await self._exchange.send_whole(encoded.status, encoded.headers, encoded.body)
        self._finished()

    async def _stream(self, reply: Reply, call: Call, wire: WireFormat, response_id: str) -> None:
        # All is encoded before the clock of the pace starts: encoding must not show in a bench.
        frames = _played(wire.stream(reply, call, response_id), reply)
        self._record.status = 200
        await self._exchange.send_head(200, wire.stream_headers(reply, response_id))
        self._record.headers_sent_s = time.monotonic()
        self._log.changed()
        await self._frames(frames, reply.pace.delay_s)
        match reply.ends:
            case Stall():
                await _sleep(math.inf)
            case Drop():
                self._drop()
                return
            case StreamError(kind=kind, message=message):
                await self._exchange.send(wire.stream_error(kind, message).data)
            case None:
                pass
        await self._exchange.finish()
        self._finished()

    async def _at_once(self, reply: Reply, call: Call, wire: WireFormat, response_id: str) -> None:
        """The same endings for a client that did not ask for a stream."""
        match reply.ends:
            case Stall():
                await _sleep(math.inf)
            case Drop():
                self._drop()
            case StreamError(kind=kind, message=message):
                await self.whole(wire.error(HttpError(status=529, kind=kind, message=message), response_id))
            case None:
                await self.whole(wire.whole(reply, call, response_id))

    async def _frames(self, frames: Sequence[Frame], delay_s: float) -> None:
        """Send frames; the nth piece is due n delays after the start, late ones go out together."""
        start_s = time.monotonic()
        batch = bytearray()
        pieces, batched_pieces = 0, 0
        for frame in frames:
            due_s = start_s + pieces * delay_s
            is_early = frame.is_piece and time.monotonic() < due_s
            if batch and (is_early or len(batch) >= WRITE_BYTES):
                await self._write(batch, batched_pieces)
                batch, batched_pieces = bytearray(), 0
            if is_early:
                await _sleep(due_s - time.monotonic())
            batch += frame.data
            pieces += frame.is_piece
            batched_pieces += frame.is_piece
        await self._write(batch, batched_pieces)

    async def _write(self, batch: bytearray, pieces: int) -> None:
        await self._exchange.send(bytes(batch))
        if self._record.first_byte_s is None:
            self._record.first_byte_s = time.monotonic()
        self._record.pieces_sent += pieces
        self._log.changed()

    def _drop(self) -> None:
        self._record.dropped = True
        self._exchange.drop()
        self._finished()

    def _finished(self) -> None:
        self._record.finished_s = time.monotonic()
        self._log.changed()


def _played(frames: list[Frame], reply: Reply) -> list[Frame]:
    """The frames that go out before the reply's ending: never the closing ones unless it is complete."""
    if reply.ends is None:
        return frames
    pieces = [index for index, frame in enumerate(frames) if frame.is_piece]
    if reply.ends.after_pieces < len(pieces):
        return frames[: pieces[reply.ends.after_pieces]]
    return frames[: pieces[-1] + 1] if pieces else frames[:1]


async def _sleep(seconds: float) -> None:
    if seconds == math.inf:
        await asyncio.get_running_loop().create_future()
    elif seconds > 0:
        await asyncio.sleep(seconds)
