"""The runners that live, and the models they know: heartbeats that the server forgets when they are not renewed.

Both lie in key-value buckets (`runners`, `catalogs`), key = runner id. Heartbeats are published raw, with `Nats-TTL`
and the expected sequence: the client library's `update` has no time to live (a renewed heartbeat would be immortal),
and its `create` fails when the server left a marker for an expired one.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final

from podium.clock import Clock, to_ns
from podium.errors import Unavailable
from podium.eventlog.heartbeats import (
    LEAVING,
    Appeared,
    Change,
    Changed,
    Gone,
    Watch,
    heartbeat_subject,
    look_from,
    runner_in,
)
from podium.eventlog.jetstream import NotTheNewest, log_needed, newest, newest_at_leader, store
from podium.eventlog.layout import CATALOGS, RUNNERS
from podium.eventlog.link import Link, LinkError
from podium.eventlog.presence import Look, Presence
from podium.eventlog.subjects import name_of, part
from podium.v1.runner_pb2 import ModelCatalog, Runner

__all__ = ["TTL_S", "Appeared", "Change", "Changed", "Gone", "RunnerDirectory", "RunnerReplaced", "Watch"]

log = logging.getLogger(__name__)

TTL_S = 6
LEFT_MARKER_S = 60
"""How long a runner's leaving can be read; later it is simply absent."""
CATALOG_TTL_S = 7 * 24 * 3600
_BEATS_PER_TTL = 3
_ATTEMPTS_MAX = 5
_RETRY_S = 0.2


class RunnerReplaced(Exception):
    """A newer process with this runner's id is alive; this one must end."""


class RunnerDirectory:
    """The heartbeats and catalogs on one connection; a runner's process beats for one runner only."""

    def __init__(self, link: Link, clock: Clock, *, ttl_s: int = TTL_S) -> None:
        """`ttl_s`: whole seconds, the same for all runners and observers."""
        self.ttl_s: Final = ttl_s
        self._link = link
        self._clock = clock
        self._sequence = 0
        self._beaten: Runner | None = None
        self._soon = asyncio.Event()

    @property
    def interval_s(self) -> float:
        """Return the time between two beats, and between two looks."""
        return self.ttl_s / _BEATS_PER_TTL

    async def beat(self, runner: Runner) -> None:
        """Say that the runner lives.

        Raises RunnerReplaced when a process that started later says the same, Unavailable.
        """
        self._beaten = runner
        with log_needed("renewing the heartbeat"):
            await self._write(runner, runner.SerializeToString(), ttl_s=self.ttl_s)

    async def keep(self, snapshot: Callable[[], Runner]) -> None:
        """Beat three times per time to live, at once after a reconnect, until cancelled or RunnerReplaced.

        While the server is away it goes on trying: whoever comes back first renews first.
        """
        stop_listening = self._link.on_reconnect(self._soon.set)
        try:
            while True:
                wait_s = self.interval_s
                self._soon.clear()
                try:
                    await self.beat(snapshot())
                except Unavailable as error:
                    log.warning("heartbeat not renewed: %s", error)
                    wait_s = min(_RETRY_S, wait_s)
                # Not wait_for: before Python 3.12 it forgets a cancellation that comes together with the event.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await self._soon.wait()
        finally:
            stop_listening()

    def beat_soon(self) -> None:
        """Let `keep` beat now, because what the runner says of itself has changed."""
        self._soon.set()

    async def leave(self) -> None:
        """Say that the runner is gone: nobody waits for its heartbeat to run out. Raises Unavailable."""
        runner, self._beaten = self._beaten, None
        if runner is None:
            return
        with log_needed("leaving"), contextlib.suppress(RunnerReplaced):
            await self._write(runner, b"", headers=LEAVING, ttl_s=LEFT_MARKER_S)

    async def runners(self) -> list[Runner]:
        """Return the runners whose heartbeat is there now, by id. Raises Unavailable."""
        with log_needed("listing runners"):
            look = await self._look()
        return [look.present[runner] for runner in sorted(look.present)]

    @contextlib.asynccontextmanager
    async def watch(self) -> AsyncIterator[Watch]:
        """Keep looking at the heartbeats while the block lasts; see Watch. Raises Unavailable at the beginning."""
        watch = Watch(Presence(self.ttl_s))
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self._link.on_reconnect(watch.look_soon))
            with log_needed("listening to heartbeats"):
                await stack.enter_async_context(self._link.subscribe(f"$KV.{RUNNERS}.*", watch.heard))
            looking = asyncio.create_task(self._keep_looking(watch), name="runner-watch")
            try:
                yield watch
            finally:
                looking.cancel()
                await asyncio.wait([looking])

    async def put_catalog(self, runner: str, catalog: ModelCatalog) -> None:
        """Keep what a runner knows of one provider's models, in place of what it said before. Raises Unavailable."""
        with log_needed("keeping a catalog"):
            await store(
                self._link,
                f"$KV.{CATALOGS}.{part(runner)}.{part(catalog.provider)}",
                catalog.SerializeToString(),
                ttl_s=CATALOG_TTL_S,
            )

    async def catalogs(self, runner: str | None = None) -> dict[tuple[str, str], ModelCatalog]:
        """Return the catalogs by (runner, provider), of one runner or of all. Raises Unavailable."""
        with log_needed("reading catalogs"):
            subject = f"$KV.{CATALOGS}.{part(runner) if runner else '*'}.*"
            found = await newest(self._link, f"KV_{CATALOGS}", [subject])
        catalogs = {}
        for message in found:
            owner = message.subject.removeprefix(f"$KV.{CATALOGS}.").partition(".")[0]
            catalog = ModelCatalog.FromString(message.payload)
            catalogs[name_of(owner), catalog.provider] = catalog
        return catalogs

    async def catalog(self, runner: str, provider: str) -> ModelCatalog | None:
        """Return one catalog, None when there is none. Raises Unavailable."""
        return (await self.catalogs(runner)).get((runner, provider))

    async def _write(
        self, runner: Runner, payload: bytes, *, ttl_s: int, headers: Mapping[str, str] | None = None
    ) -> None:
        for _ in range(_ATTEMPTS_MAX):
            try:
                self._sequence = await store(
                    self._link,
                    heartbeat_subject(runner.id),
                    payload,
                    headers=headers,
                    expected=self._sequence,
                    ttl_s=ttl_s,
                    timeout_s=self.interval_s,
                )
            except NotTheNewest:
                # Expired (with or without a marker), our own whose answer was lost, or another process.
                self._sequence = await self._met(runner)
            else:
                return
        raise Unavailable("LOG_UNAVAILABLE", f"the heartbeat of runner {runner.id} was overtaken {_ATTEMPTS_MAX} times")

    async def _met(self, runner: Runner) -> int:
        """Return the sequence to renew from; raises RunnerReplaced."""
        found = await newest_at_leader(self._link, f"KV_{RUNNERS}", heartbeat_subject(runner.id))
        if found is None:
            return 0
        other = runner_in(found)
        if other is not None and to_ns(other.started_at) > to_ns(runner.started_at):
            raise RunnerReplaced(f"runner {runner.id}: a newer process on {other.host} uses this id")
        return found.sequence

    async def _look(self) -> Look:
        asked_s = self._clock.monotonic()
        found = await newest(self._link, f"KV_{RUNNERS}", [f"$KV.{RUNNERS}.*"])
        return look_from(found, asked_s=asked_s, answered_s=self._clock.monotonic())

    async def _keep_looking(self, watch: Watch) -> None:
        generation = self._link.generation
        try:
            while True:
                watch.soon.clear()
                generation = await self._look_once(watch, generation)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(watch.soon.wait(), self.interval_s)
        except BaseException as error:
            watch.fail(error)
            raise

    async def _look_once(self, watch: Watch, generation: int) -> int:
        """Look, tell the watch, and return the connection's generation that the look belongs to."""
        try:
            look = await self._look()
        except LinkError as error:
            log.debug("looking at the runners failed: %s", error)
            watch.lost_sight()
            return generation
        if generation != self._link.generation:
            watch.lost_sight()
        watch.saw(look)
        return self._link.generation
