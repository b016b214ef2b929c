"""What each role can do, and what the server itself refuses it: every act is tried against a real server."""

import asyncio
import contextlib
import uuid
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest

from podium import names
from podium.clock import SystemClock
from podium.eventlog import layout
from podium.eventlog.blobs import BlobStore
from podium.eventlog.connection import EventLog, LogSettings
from podium.eventlog.directory import RunnerDirectory
from podium.eventlog.jetstream import store
from podium.eventlog.link import ApiError, Denied, Link
from podium.eventlog.native import NativeLog
from podium.eventlog.roles import Role
from podium.eventlog.server import EmbeddedServer
from podium.eventlog.wakes import WakeQueue
from podium.v1.runner_pb2 import ModelCatalog, Runner

Connect = Callable[[Role], AbstractAsyncContextManager[Link]]
SESSION = str(uuid.UUID(int=7))
EVENT_SUBJECT = f"events.{names.partition(SESSION)}.{SESSION}"
G, R, I, O = Role.GATEWAY, Role.RUNNER, Role.INDEXER, Role.OPERATOR  # noqa: E741 - a table's heads

FORBIDDEN_PUBLISHES: dict[str, tuple[str, tuple[Role, ...]]] = {
    "append a fact": (EVENT_SUBJECT, (I, O)),
    "fake what was stored": (f"live.{SESSION}", (G, R, I, O)),
    "say what a model says": (f"delta.{SESSION}", (G, I, O)),
    "ask an owner to yield": (f"yield.{SESSION}", (R, I, O)),
    "wake a runner": (f"wake.default.host.{SESSION}", (R, I, O)),
    "write native records": (f"native.{SESSION}.1", (G, I, O)),
    "pose as a runner": ("$KV.runners.r1", (G, I, O)),
    "write a catalog": ("$KV.catalogs.r1.claude", (G, I, O)),
    "upload": ("$O.blobs.C.x", (I, O)),
    "answer another role": ("_INBOX_gateway.x", (G, R, I, O)),
    "make a stream": ("$JS.API.STREAM.CREATE.MINE", (G, R, I)),
    "change the log": ("$JS.API.STREAM.UPDATE.EVENTS", (G, R, I)),
    "delete the log": ("$JS.API.STREAM.DELETE.EVENTS", (G, R, I)),
    "purge the log": ("$JS.API.STREAM.PURGE.EVENTS", (G, R, I)),
    "delete one fact": ("$JS.API.STREAM.MSG.DELETE.EVENTS", (G, R, I)),
    "copy the log": ("$JS.API.STREAM.SNAPSHOT.EVENTS", (G, R, I)),
    "put a log in place": ("$JS.API.STREAM.RESTORE.EVENTS", (G, R, I)),
    "purge the blobs": ("$JS.API.STREAM.PURGE.OBJ_blobs", (G, R, I)),
    "list the streams": ("$JS.API.STREAM.NAMES", (G, R, I)),
    "follow all facts": ("$JS.API.CONSUMER.CREATE.EVENTS.c.events.>", (R,)),
    "read native records": ("$JS.API.DIRECT.GET.NATIVE", (G, R, I)),
    "take wakes": ("$JS.API.CONSUMER.MSG.NEXT.WAKES.default+host", (G, I)),
    "settle wakes": ("$JS.ACK.WAKES.default+host.1.1.1.1.0", (G, I)),
    "move the log's leader": ("$JS.API.STREAM.LEADER.STEPDOWN.EVENTS", (G, R, I)),
    "speak for the system": ("$SYS.REQ.SERVER.PING", (G, R, I, O)),
}
FORBIDDEN_SUBSCRIPTIONS: dict[str, tuple[str, tuple[Role, ...]]] = {
    "everything": (">", (G, R, I, O)),
    "facts as they are appended": ("events.>", (G, R, I, O)),
    "all inboxes": ("_INBOX.>", (G, R, I, O)),
    "the gateway's answers": ("_INBOX_gateway.>", (R, I, O)),
    "the runners' answers": ("_INBOX_runner.>", (G, I, O)),
    "the operator's answers": ("_INBOX_operator.>", (G, R, I)),
    "who asks owners to yield": ("yield.>", (G, I, O)),
    "JetStream's requests": ("$JS.API.>", (G, R, I, O)),
    "native records": ("native.>", (G, R, I, O)),
    "what models say": ("delta.>", (R, I)),
}


@pytest.mark.parametrize("role", list(Role))
async def test_forbidden_acts_are_denied_with_the_reason(connect: Connect, role: Role) -> None:
    """One server and one connection a role: each act is tried, and the server's own word is what counts."""
    forbidden = {subject: what for what, (subject, roles) in FORBIDDEN_PUBLISHES.items() if role in roles}
    async with connect(role) as link:
        for subject in forbidden:
            await link.publish(subject, b"{}")
        await link.settle()
        # The client library tells errors in lower case.
        denied = {denial.lower() for denial in link.denials}
        missing = {what for subject, what in forbidden.items() if f"publish to {subject}".lower() not in denied}
        assert not missing
        heard = {subject: what for what, (subject, roles) in FORBIDDEN_SUBSCRIPTIONS.items() if role in roles}
        for subject in heard:
            with contextlib.suppress(Denied):
                async with link.subscribe(subject, lambda _: None):
                    pass
        denied = {denial.lower() for denial in link.denials}
        assert not {what for subject, what in heard.items() if f"subscription to {subject}".lower() not in denied}


async def test_a_denied_request_says_so_at_once_instead_of_timing_out(runner_link: Link) -> None:
    async with asyncio.timeout(2):
        with pytest.raises(Denied, match="may not publish"):
            await runner_link.api("STREAM.PURGE.EVENTS", timeout_s=60)


def log_settings(server: EmbeddedServer, role: Role) -> LogSettings:
    return LogSettings(servers=(server.url,), password=server.credentials.password(role))


@pytest.mark.parametrize("role", [Role.GATEWAY, Role.RUNNER, Role.INDEXER])
async def test_a_service_checks_the_streams_it_uses_but_cannot_make_them(server: EmbeddedServer, role: Role) -> None:
    async with EventLog.connect(log_settings(server, role), role) as log:
        await log.check_streams()
        assert not log.link.denials


async def test_the_gateway_can_do_its_work(server: EmbeddedServer, gateway_link: Link, runner_link: Link) -> None:
    clock = SystemClock()
    await store(gateway_link, EVENT_SUBJECT, b"x", expected=0)
    await WakeQueue(gateway_link).publish("default", "host", SESSION)
    await gateway_link.publish(f"yield.{SESSION}")
    runners = RunnerDirectory(runner_link, clock)
    await runners.put_catalog("r1", ModelCatalog(provider="claude"))
    await runners.beat(Runner(id="r1"))
    directory = RunnerDirectory(gateway_link, clock)
    assert [runner.id for runner in await directory.runners()] == ["r1"]
    assert (await directory.catalogs()).keys() == {("r1", "claude")}
    async with asyncio.timeout(5), directory.watch() as watch:
        assert (await anext(watch)).runner.id == "r1"
    blobs = BlobStore(gateway_link, clock)
    assert await blobs.get(await blobs.put(b"prompt", "text/plain")) == b"prompt"
    for subject in (f"live.{SESSION}", "live.*", "delta.*"):
        async with gateway_link.subscribe(subject, lambda _: None):
            pass
    async with EventLog.connect(log_settings(server, Role.GATEWAY), Role.GATEWAY) as log:
        assert await log.last_position() == 1
        async with asyncio.timeout(5), log.feed(after_position=0) as feed:
            assert [message.position for message in await anext(feed)] == [1]
        await log.check_streams(*layout.streams(layout.Limits()).keys() - {"NATIVE"})
        assert not log.link.denials
    await gateway_link.settle()
    assert not gateway_link.denials


async def test_the_runner_can_do_its_work(gateway_link: Link, runner_link: Link) -> None:
    clock = SystemClock()
    await store(runner_link, EVENT_SUBJECT, b"x", expected=0)
    await WakeQueue(gateway_link).publish("default", "host", SESSION)
    async with asyncio.timeout(5), contextlib.aclosing(WakeQueue(runner_link).consume("default", "host")) as wakes:
        await (await anext(wakes)).ack()
    directory = RunnerDirectory(runner_link, clock)
    await directory.beat(Runner(id="r1"))
    await directory.beat(Runner(id="r1", busy=1))
    await directory.leave()
    blobs = BlobStore(runner_link, clock)
    assert await blobs.get(await blobs.put(b"x" * 200_000, "text/plain")) == b"x" * 200_000
    async with NativeLog(runner_link, blobs) as native:
        native.publish(SESSION, 1, b"{}", provider="claude")
        assert await native.flush(5)
        assert (native.written, native.failed) == (1, 0)
    await runner_link.publish(f"delta.{SESSION}", b"x")
    for subject in (f"live.{SESSION}", f"yield.{SESSION}"):
        async with runner_link.subscribe(subject, lambda _: None):
            pass
    await runner_link.settle()
    assert not runner_link.denials


async def test_the_indexer_can_do_its_work(server: EmbeddedServer, runner_link: Link) -> None:
    blob = await BlobStore(runner_link, SystemClock()).put(b"long text", "text/plain")
    await store(runner_link, EVENT_SUBJECT, b"x", expected=0)
    async with EventLog.connect(log_settings(server, Role.INDEXER), Role.INDEXER) as log:
        assert await BlobStore(log.link, SystemClock()).get(blob) == b"long text"
        assert await log.last_position() == 1
        async with asyncio.timeout(5), log.feed(after_position=0) as feed:
            assert [message.position for message in await anext(feed)] == [1]
        assert not log.link.denials


@pytest.mark.parametrize("rollup", ["sub", "all"])
async def test_a_writer_cannot_empty_a_stream_with_a_header(runner_link: Link, rollup: str) -> None:
    """Publishing is all it takes where a stream allows roll-ups: no permission on the API would help."""
    for subject in ("$KV.runners.r1", "$KV.catalogs.r1.claude", "$O.blobs.M.x", EVENT_SUBJECT, f"native.{SESSION}.1"):
        with pytest.raises(ApiError, match="rollup"):
            await store(runner_link, subject, b"", headers={"Nats-Rollup": rollup})


async def test_facts_cannot_be_given_a_time_to_live(runner_link: Link) -> None:
    with pytest.raises(ApiError, match="TTL"):
        await store(runner_link, EVENT_SUBJECT, b"", ttl_s=1)


async def test_the_operator_can_erase_and_collect(operator_link: Link, runner_link: Link) -> None:
    await store(runner_link, EVENT_SUBJECT, b"x", expected=0)
    assert (await operator_link.api("STREAM.PURGE.EVENTS", {"filter": EVENT_SUBJECT}))["purged"] == 1
    assert not operator_link.denials


async def test_what_one_role_asks_another_cannot_hear(gateway_link: Link, runner_link: Link) -> None:
    heard: list[object] = []
    async with runner_link.subscribe("_INBOX_runner.spy", heard.append):
        answer = await gateway_link.api("STREAM.INFO.EVENTS")
        await runner_link.settle()
    assert answer["config"]["name"] == "EVENTS"
    assert gateway_link.new_inbox().startswith("_INBOX_gateway.")
    assert not heard
