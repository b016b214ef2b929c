"""The endpoint itself, spoken to in plain HTTP/1.1 over a socket."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from podium.scripted_model import LABEL, Conversation, Pace, Reply, Script, ScriptedModel, Stall, server
from podium.scripted_model import http as http_module
from podium.scripted_model.requests import REDACTED, RequestLog

HELLO = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hello"}]}
DEADLINE_S = 30


@contextlib.asynccontextmanager
async def connection(
    model: ScriptedModel, *, buffer_bytes: int = 1 << 24
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    url = urlsplit(model.url)
    reader, writer = await asyncio.open_connection(url.hostname, url.port, limit=buffer_bytes)
    try:
        async with asyncio.timeout(DEADLINE_S):
            yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def request(method: str = "POST", path: str = "/v1/messages", body: Any = HELLO, **headers: str) -> bytes:
    payload = b"" if body is None else json.dumps(body).encode()
    fields = {"host": "x", "x-api-key": "secret", "content-length": str(len(payload)), **headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + payload


async def fetch(model: ScriptedModel, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
    async with connection(model) as (reader, writer):
        writer.write(request(method, path, body, connection="close"))
        head, _, rest = (await reader.read(-1)).partition(b"\r\n\r\n")
        return int(head.split()[1]), rest


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.1", "8.8.8.8", "example.org", ""])
def test_it_listens_on_loopback_only(host: str) -> None:
    with pytest.raises(ValueError, match=r"loopback|IP address"):
        ScriptedModel(Script(), host=host)


async def test_an_unknown_path_is_refused_by_name_and_recorded() -> None:
    async with ScriptedModel(Script()) as model:
        status, body = await fetch(model, "POST", "/v1/unheard-of?beta=true")
        assert status == 404
        assert "no POST /v1/unheard-of here" in json.loads(body)["error"]["message"]
        assert [(seen.path, seen.status) for seen in model.requests] == [("/v1/unheard-of?beta=true", 404)]


async def test_probes_are_answered_and_say_that_nothing_here_is_real() -> None:
    async with ScriptedModel(Script()) as model:
        assert await fetch(model, "HEAD", "/") == (200, b"")
        assert await fetch(model, "HEAD", "/api/hello") == (200, b"")
        status, body = await fetch(model, "GET", "/")
        assert (status, json.loads(body)) == (200, {"podium": LABEL})


async def test_the_view_shows_who_called_but_no_key() -> None:
    async with ScriptedModel(Script([Reply(text="hi")])) as model:
        await fetch(model, "POST", "/v1/messages", {**HELLO, "stream": False})
        view = json.loads((await fetch(model, "GET", "/_podium/requests"))[1])
    assert view["podium"] == LABEL
    (seen,) = view["requests"]
    assert (seen["path"], seen["status"], seen["prompt"], seen["scenario"]) == ("/v1/messages", 200, "hello", "default")
    assert seen["headers"]["x-api-key"] == REDACTED
    assert "secret" not in json.dumps(view)


async def test_a_connection_serves_one_request_after_the_other() -> None:
    async with ScriptedModel(Script([Reply(text="hi")])) as model, connection(model) as (reader, writer):
        for _ in range(3):
            writer.write(request())
            answer = await reader.readuntil(b"\r\n0\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 200")
            assert b'"text":"hi"' in answer
        assert [seen.attempt for seen in model.requests] == [0, 1, 2]


async def test_the_moment_the_client_leaves_a_stalled_stream_is_recorded() -> None:
    script = Script([Reply(text="a" * 100, pace=Pace(piece_chars=10), ends=Stall(after_pieces=4))])
    async with ScriptedModel(script) as model:
        async with connection(model) as (_, writer):
            writer.write(request())
            stalled = await model.wait_for(lambda seen: seen.pieces_sent == 4)
            assert stalled.closed_s is None
            before_s = time.monotonic()
        seen = await model.wait_for(lambda seen: seen.closed_early)
        assert seen.closed_s is not None
        assert before_s <= seen.closed_s <= time.monotonic()
        assert seen.finished_s is None
        assert seen.received_s <= (seen.headers_sent_s or 0) <= (seen.first_byte_s or 0) <= seen.closed_s


async def test_a_client_that_leaves_after_the_answer_did_not_leave_early() -> None:
    async with ScriptedModel(Script([Reply(text="hi")])) as model:
        async with connection(model) as (reader, writer):
            writer.write(request())
            await reader.readuntil(b"\r\n0\r\n\r\n")
        seen = await model.wait_for(lambda seen: seen.closed_s is not None)
        assert seen.finished_s is not None
        assert not seen.closed_early


async def test_a_fast_stream_keeps_its_rate() -> None:
    pieces = 1000
    reply = Reply(text="0123456789" * pieces, pace=Pace(piece_chars=10, delay_s=0.001))
    async with ScriptedModel(Script([reply])) as model, connection(model) as (reader, writer):
        writer.write(request())
        answer = await reader.readuntil(b"\r\n0\r\n\r\n")
        seen = await model.wait_for(lambda seen: seen.finished_s is not None)
    assert answer.count(b"text_delta") == seen.pieces_sent == pieces
    took_s = (seen.finished_s or 0) - (seen.first_byte_s or 0)
    # Never faster than the pace; a busy machine may be slower, but late pieces go out together.
    assert 0.99 <= took_s < 5.0


async def test_a_client_that_does_not_read_holds_the_player_back() -> None:
    reply = Reply(text="x" * 64_000_000, pace=Pace(piece_chars=10_000))
    async with ScriptedModel(Script([reply])) as model, connection(model, buffer_bytes=1 << 16) as (reader, writer):
        writer.write(request())
        await model.wait_for(lambda seen: seen.pieces_sent > 0)
        (served,) = model._connections
        async with asyncio.timeout(DEADLINE_S):
            while served._writable.is_set():
                await asyncio.sleep(0.001)
        assert served._transport is not None
        assert served._transport.get_write_buffer_size() < 1_000_000
        assert model.requests[0].pieces_sent < 6400
        while len(await reader.read(1 << 20)) > 0 and model.requests[0].finished_s is None:
            pass
        assert model.requests[0].pieces_sent == 6400


async def test_leaving_the_endpoint_ends_stalled_streams_at_once() -> None:
    script = Script([Reply(text="a" * 100, ends=Stall(after_pieces=1))])
    async with contextlib.AsyncExitStack() as stack:
        model = await stack.enter_async_context(ScriptedModel(script))
        clients = [await stack.enter_async_context(connection(model)) for _ in range(5)]
        for _, writer in clients:
            writer.write(request())
        await model.wait_for(lambda seen: seen.number == 5 and seen.pieces_sent == 1)
        start_s = time.monotonic()
        await model.close()
        await model.close()
        assert time.monotonic() - start_s < server.CLOSE_DEADLINE_S
        assert not model._tasks
        assert not any(seen.closed_early for seen in model.requests)  # it was not the clients who closed
        for reader, _ in clients:
            with contextlib.suppress(ConnectionError):
                await reader.read(-1)


async def test_a_script_that_breaks_shows_up_and_does_not_leave_the_client_waiting() -> None:
    def broken(conversation: Conversation) -> Reply:
        raise LookupError(f"nothing for {conversation.last_prompt}")

    with pytest.RaisesGroup(pytest.RaisesExc(LookupError, match="nothing for hello")):
        async with ScriptedModel(Script([broken])) as model, connection(model) as (reader, writer):
            writer.write(request())
            assert await reader.read(-1) == b""


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"NOT HTTP\r\n\r\n", b"HTTP/1.1 400"),
        (b"GET / HTTP/1.1\r\nhost: x\r\nbig: " + b"x" * 100_000, b"HTTP/1.1 431"),
        (request(**{"content-length": str(10**12)}), b""),
    ],
)
async def test_a_broken_request_harms_nobody_else(sent: bytes, answer: bytes) -> None:
    async with ScriptedModel(Script([Reply(text="hi")])) as model:
        async with connection(model) as (reader, writer):
            writer.write(sent)
            writer.write_eof()
            assert (await reader.read(-1)).startswith(answer)
        assert (await fetch(model, "POST", "/v1/messages", HELLO))[0] == 200


async def test_a_body_over_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_module, "MAX_BODY_BYTES", 1000)
    async with ScriptedModel(Script([Reply(text="hi")])) as model, connection(model) as (reader, writer):
        writer.write(request(body={**HELLO, "system": "x" * 1001}))
        assert (await reader.read(-1)).startswith(b"HTTP/1.1 413")
        assert model.requests == ()


async def test_waiting_in_vain_says_what_was_seen_instead() -> None:
    async with ScriptedModel(Script()) as model:
        await fetch(model, "GET", "/else")
        with pytest.raises(TimeoutError, match="#1 GET /else -> 404"):
            await model.wait_for(lambda seen: seen.path == "/wanted", deadline_s=0.01)


def test_the_record_is_bounded_in_number_and_in_bytes() -> None:
    by_number, by_bytes = RequestLog(keep_requests=3), RequestLog(keep_bytes=100)
    for log in (by_number, by_bytes):
        for _ in range(10):
            log.open(method="POST", path="/", headers={}, body=b"x" * 40)
    assert [seen.number for seen in by_number.all()] == [8, 9, 10]
    assert [seen.number for seen in by_bytes.all()] == [9, 10]
    assert by_number.count == 10


async def test_as_a_program_it_says_when_it_is_ready_and_stops_when_told(tmp_path: Path) -> None:
    ready_file = tmp_path / "ready.json"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "podium.scripted_model", "--port", "0"),
        *("--scenario", "demo", "--ready-file", str(ready_file)),
        stdout=asyncio.subprocess.PIPE,
        env={"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(DEADLINE_S):
            ready = json.loads(await process.stdout.readline())
            assert ready["podium"] == LABEL
            url = urlsplit(ready["url"])
            reader, writer = await asyncio.open_connection(url.hostname, url.port)
            writer.write(request("GET", "/_podium/requests", None, connection="close"))
            assert b"200" in await reader.readline()
            writer.close()
            await writer.wait_closed()
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
            assert await process.stdout.read() == b""
        assert json.loads(ready_file.read_text()) == ready
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_as_a_program_it_refuses_other_addresses() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "podium.scripted_model", "--host", "0.0.0.0"),
        stderr=asyncio.subprocess.PIPE,
        env={"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    async with asyncio.timeout(DEADLINE_S):
        _, complaint = await process.communicate()
    assert process.returncode == 2
    assert b"loopback only" in complaint
