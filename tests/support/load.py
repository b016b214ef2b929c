"""A process that owns sessions as a runner does and writes numbered events: `python -m tests.support.load`.

Every event says `{epoch}:{number}:{time_ns}`; numbers begin at 1 with every epoch. It attaches, says `attached` on
standard error, writes until its time is over or SIGTERM, flushes, and says `done` with what it has done.
"""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterable

import orjson
import structlog

from podium import telemetry
from podium.clock import SystemClock
from podium.drafts import Author, Draft, stamp
from podium.eventlog import EventLog, Role, SessionWriter, Tail, UnacknowledgedBudget, attach
from podium.eventlog.access import log_settings
from podium.names import new_id
from podium.settings import ServiceSettings, load
from podium.v1 import content_pb2 as c
from podium.v1 import event_pb2 as e
from podium.v1 import session_pb2 as s
from runner.providers.claude.normalise import Normaliser
from tests.support.orders import Ledger, Orders

RUNNER, HOST = "load", "h-load"
AHEAD_BATCHES = 2
"""Batches that may wait for the log while it takes one, per session, when it is written as fast as it goes."""
UNACKNOWLEDGED_MAX = 2_000

_log = structlog.get_logger()
_clock = SystemClock()


class Speaker:
    """Writes one session."""

    def __init__(self, orders: Orders, ledger: Ledger, writer: SessionWriter) -> None:
        self._orders, self._ledger, self.writer = orders, ledger, writer
        self.written, self.queued, self.acknowledged = 0, 0, 0
        self.late_s_max = 0.0
        self._normaliser = Normaliser(lambda native: f"/nowhere/{native}")
        self._padding = "." * max(0, orders.event_bytes - envelope_bytes(writer))
        self._prepared = list(self._batch()) if orders.prepared else None

    async def speak(self, stop: asyncio.Event, interval_s: float) -> None:
        """Write a batch every `interval_s` seconds (0 = as fast as it goes) until told to stop."""
        due = time.monotonic()
        while not stop.is_set():
            batch = self._prepared or list(self._batch())
            await self.writer.write(batch)
            self.queued += len(batch)
            self.note_acknowledged()
            if interval_s:
                due += interval_s
                left = due - time.monotonic()
                self.late_s_max = max(self.late_s_max, -left)
                await asyncio.sleep(max(0.0, left))
            elif self.writer.unacknowledged >= AHEAD_BATCHES * self._orders.batch:
                await self.writer.flush()
        await self.writer.flush()
        self.note_acknowledged()

    def note_acknowledged(self) -> None:
        # Never too many: what is just being queued counts as not acknowledged.
        acknowledged = self.queued - self.writer.unacknowledged
        if acknowledged > self.acknowledged:
            self.acknowledged = acknowledged
            self._ledger.note("a", self.writer.session_id, self.writer.epoch, acknowledged)

    def _batch(self) -> Iterable[Draft]:
        last = self.written + self._orders.batch
        self._ledger.note("w", self.writer.session_id, self.writer.epoch, last)
        while self.written < last:
            self.written += 1
            text = f"{self.writer.epoch}:{self.written}:{time.time_ns()}{self._padding}"
            yield from self._spoken(text) if self._orders.spoken else (said(text),)

    def _spoken(self, text: str) -> Iterable[Draft]:
        """Return what a line of the client means, as the driver hears it."""
        message = {"id": f"msg_{self.written}", "role": "assistant", "model": "m", "content": [_text(text)]}
        line = orjson.dumps({"type": "assistant", "message": message, "session_id": "n", "uuid": str(self.written)})
        return (draft for draft in self._normaliser.feed(line, time.time_ns()).drafts if is_message(draft))


def _text(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def said(text: str) -> Draft:
    block = c.ContentBlock(text=c.TextBlock(text=text))
    return Draft(e.Message(role=e.ROLE_ASSISTANT, content=[block]), source=e.SOURCE_PROVIDER)


def is_message(draft: Draft) -> bool:
    return isinstance(draft.body, e.Message)


def envelope_bytes(writer: SessionWriter) -> int:
    """Return what an event takes beside its text."""
    author = Author(writer.session_id, new_id, RUNNER, writer.epoch)
    events, _ = stamp(
        writer.state,
        [said(f"{writer.epoch}:{1_000}:{time.time_ns()}")],
        author,
        now_ns=time.time_ns(),
        after_position=1_000,
    )
    return events[0].ByteSize()


async def take(log: EventLog, session_id: str, host: str = HOST) -> Tail:
    """Attach to a session, whoever had it before."""

    def claim(state: s.SessionState | None) -> e.RunnerAttached:
        if state is None:
            raise LookupError(f"no session {session_id}")
        return e.RunnerAttached(runner=RUNNER, host=host, epoch=state.epoch + 1)

    return (await attach(log, session_id, claim, clock=_clock, deadline_s=60)).tail


async def run(orders: Orders, settings: ServiceSettings) -> None:
    """Attach, wait to be told, write, flush."""
    stop, go = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGUSR1, go.set)
    ledger, budget = Ledger(orders.ledger), UnacknowledgedBudget()
    async with contextlib.AsyncExitStack() as around:
        connecting = EventLog.connect(log_settings(settings, Role.RUNNER), Role.RUNNER)
        log = await around.enter_async_context(connecting)
        tails = await asyncio.gather(*(take(log, session_id) for session_id in orders.sessions))
        speakers = [_speaker(log, tail, orders, ledger, budget) for tail in tails]
        await asyncio.gather(*(around.enter_async_context(speaker.writer) for speaker in speakers))
        _log.info("attached", pid=os.getpid())
        if orders.waits:
            await go.wait()
        if orders.seconds:
            loop.call_later(orders.seconds, stop.set)
        begun, cpu = time.monotonic(), time.process_time()
        _log.info("begun", at_ns=time.time_ns())
        async with asyncio.TaskGroup() as tasks:
            for number, speaker in enumerate(speakers):
                tasks.create_task(_after(number / len(speakers), speaker, stop, orders))
        _log.info(
            "done",
            events=sum(speaker.acknowledged for speaker in speakers),
            seconds=time.monotonic() - begun,
            cpu_s=time.process_time() - cpu,
            position=max(speaker.writer.position for speaker in speakers),
            late_s_max=max(speaker.late_s_max for speaker in speakers),
        )


async def _after(share: float, speaker: Speaker, stop: asyncio.Event, orders: Orders) -> None:
    """Let the sessions speak one after the other within an interval, not all at once."""
    interval_s = len(orders.sessions) * orders.batch / orders.events_per_s if orders.events_per_s else 0.0
    await asyncio.sleep(share * interval_s)
    await speaker.speak(stop, interval_s)


def _speaker(log: EventLog, tail: Tail, orders: Orders, ledger: Ledger, budget: UnacknowledgedBudget) -> Speaker:
    assert tail.state is not None
    writer = SessionWriter(
        log,
        tail.state.session.name.removeprefix("sessions/"),
        runner=RUNNER,
        epoch=tail.state.epoch,
        tail=tail,
        clock=_clock,
        budget=budget,
        on_change=lambda _: speaker.note_acknowledged(),
    )
    speaker = Speaker(orders, ledger, writer)
    return speaker


def main() -> int:
    settings = load(ServiceSettings)
    telemetry.configure(service="load")
    asyncio.run(run(Orders.received(os.environ), settings))
    return 0


if __name__ == "__main__":
    sys.exit(main())
