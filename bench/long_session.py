"""Figure 6: a session of 3,106 messages: show it, watch it from the start, and go on with it.

The messages are written by an owner, two to a record, as a client writes them; then the owner leaves. Going on is
StartTurn with a real runner and the real Claude Code CLI, until a client that watches from the newest revision sees
the first event of the turn. The reference is the same on a session of one message, or the plain read of the log.
"""

import asyncio
import time

from bench.figures import Line, Run, against, median
from podium.clock import SystemClock
from podium.drafts import Draft
from podium.eventlog import EventLog, Role, SessionWriter, UnacknowledgedBudget
from podium.scripted_model import Reply, Script, ScriptedModel
from podium.v1 import analytics_service_pb2 as analytics
from podium.v1 import content_pb2 as c
from podium.v1 import event_pb2 as e
from podium.v1 import session_service_pb2 as api
from tests.support.load import RUNNER, said, take
from tests.support.stage import RUNNER_HOST, Client, Stage, stage, until

MESSAGES, TEXT_LENGTH = 3_106, 600
PAIRS = 3
"""Sessions of each length: a first turn can be measured once in each."""
PAGE_SIZE = 1_000
TURN_S_MAX = 60


async def measure(run: Run) -> list[Line]:
    """Write both sessions, then read and go on with them by turns."""
    times = run.times(15, 3)
    async with stage(run.folder) as whole, whole.client() as client, whole.connect(Role.RUNNER) as log:
        await whole.gateway()
        await whole.indexer()
        warm, *sessions = await client.make_sessions(1 + 2 * PAIRS, prefix="long")
        shorts, longs = sessions[:PAIRS], sessions[PAIRS:]
        await asyncio.gather(*(written(log, session, MESSAGES) for session in longs))
        await asyncio.gather(*(written(log, session, 1) for session in (warm, *shorts)))
        await until(lambda: caught_up(client))
        lines = await read(client, log, longs[0], times)
        lines += await got(client, longs[0], shorts[0], run.times(200, 20))
        lines += await gone_on(whole, client, warm, list(zip(shorts, longs, strict=True)), times)
    return lines


async def written(log: EventLog, session: str, messages: int) -> None:
    # The runner that goes on must be on the host that has the session.
    tail = await take(log, session, RUNNER_HOST)
    assert tail.state is not None
    own = SessionWriter(
        log,
        session,
        runner=RUNNER,
        epoch=tail.state.epoch,
        tail=tail,
        clock=SystemClock(),
        budget=UnacknowledgedBudget(),
    )
    async with own:
        for number in range(0, messages, 2):
            await own.write([said(f"{number + each} ".ljust(TEXT_LENGTH, "x")) for each in range(min(2, messages))])
            await own.flush()
        await own.write([Draft(e.RunnerDetached(runner=RUNNER, epoch=tail.state.epoch, reason=e.DETACH_REASON_IDLE))])
        await own.flush()


async def caught_up(client: Client) -> bool:
    projection = await client.analytics.GetProjection(analytics.GetProjectionRequest())
    return projection.position >= projection.log_position


async def read(client: Client, log: EventLog, session: str, times: int) -> list[Line]:
    history = Line(
        "reference: the log's history, read and not parsed", await p50(times, lambda: history_of(log, session)), "ms"
    )
    shown = await p50(times, lambda: show(client, session))
    watched = await p50(times, lambda: watch_all(client, session))
    return [
        history,
        Line(f"show: ListMessages of all {MESSAGES:,}, p50", shown, "ms", *against(shown, history)),
        Line("watch from the start until it is live, p50", watched, "ms", *against(watched, history)),
    ]


async def got(client: Client, long: str, short: str, times: int) -> list[Line]:
    """Read the session itself, which no length may make slower."""
    taken: dict[str, list[float]] = {long: [], short: []}
    for _ in range(times):
        for session, into in taken.items():
            begun = time.perf_counter()
            await client.sessions.GetSession(api.GetSessionRequest(name=f"sessions/{session}"))
            into.append((time.perf_counter() - begun) * 1000)
    reference = Line("reference: GetSession of a session of one message, p50", median(taken[short]), "ms")
    value = median(taken[long])
    return [reference, Line("GetSession, p50", value, "ms", *against(value, reference))]


async def p50(times: int, call: object) -> float:
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        await call()  # type: ignore[operator]  # a function that returns an awaitable
        taken.append((time.perf_counter() - begun) * 1000)
    return median(taken)


async def history_of(log: EventLog, session: str) -> None:
    messages = [stored async for stored in log.history(session)]
    assert messages[-1].last_revision >= MESSAGES


async def show(client: Client, session: str) -> None:
    found, token = 0, ""
    while True:
        page = await client.sessions.ListMessages(
            api.ListMessagesRequest(session=f"sessions/{session}", page_size=PAGE_SIZE, page_token=token)
        )
        found, token = found + len(page.messages), page.next_page_token
        if not token:
            break
    assert found == MESSAGES, found


async def watch_all(client: Client, session: str) -> None:
    call = client.sessions.WatchSession(api.WatchSessionRequest(session=f"sessions/{session}"))
    revision = 0
    async for response in call:
        for event in response.events:
            assert event.revision == revision + 1
            revision = event.revision
        if response.HasField("heartbeat"):
            break
    call.cancel()
    assert revision >= MESSAGES


async def gone_on(whole: Stage, client: Client, warm: str, pairs: list[tuple[str, str]], times: int) -> list[Line]:
    """Ask for turns, a short session's and a long one's by turns; the first turn of each session attaches the runner.

    Before all, a session warms the runner up.
    """
    first: tuple[list[float], list[float]] = [], []
    later: tuple[list[float], list[float]] = [], []
    async with ScriptedModel(Script([Reply(text="Done.")])) as model:
        await whole.runner("runner", model.url)
        await turn(client, warm, "warm")
        for number in range(1 + times // PAIRS):
            for pair in pairs:
                for session, into in zip(pair, later if number else first, strict=True):
                    into.append(await turn(client, session, f"{session}-{number}"))
        await whole.parts["runner"].stop()
    return [*beside("first turn", *first), *beside("a later turn", *later)]


def beside(what: str, short_ms: list[float], long_ms: list[float]) -> list[Line]:
    reference = Line(f"reference: {what} of a session of one message, p50", median(short_ms), "ms")
    name, value = f"resume: StartTurn to the turn's first event, {what}, p50", median(long_ms)
    return [reference, Line(name, value, "ms", *against(value, reference), note=f"{len(long_ms)} samples")]


async def turn(client: Client, session: str, request_id: str) -> float:
    """Ask for a turn; return how long it took until a watcher saw its first event, ms. Waits for its end."""
    name = f"sessions/{session}"
    revision = (await client.sessions.GetSession(api.GetSessionRequest(name=name))).session.revision
    call = client.sessions.WatchSession(api.WatchSessionRequest(session=name, after_revision=revision))
    responses = aiter(call)
    while not (await anext(responses)).HasField("heartbeat"):
        pass
    prompt = api.TurnInput(prompt=[c.ContentBlock(text=c.TextBlock(text="go on"))])
    begun = time.perf_counter()
    await client.sessions.StartTurn(api.StartTurnRequest(request_id=request_id, session=name, turn=prompt))
    took_ms, ended = 0.0, False
    async with asyncio.timeout(TURN_S_MAX):
        while not ended:
            for event in (await anext(responses)).events:
                if event.HasField("turn_started"):
                    took_ms = (time.perf_counter() - begun) * 1000
                ended = ended or event.HasField("turn_ended")
    call.cancel()
    return took_ms
