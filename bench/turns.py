"""Figure 5: a turn through Podium beside the same turn of the bare SDK: same CLI, same scripted model, turn about.

Both clients stay connected between turns. Podium's turn is RunTurn as a gRPC client sees it: request on the log, wake,
turn started, said, ended, all of it acknowledged by the log, with the answer read back by the gateway.
"""

import signal
import time

from bench import bare_turns
from bench.figures import Line, Run, against, median, percentile
from podium.scripted_model import Pace, Reply, Script, ScriptedModel, claude_environment
from podium.v1 import content_pb2 as c
from podium.v1 import session_pb2 as s
from podium.v1 import session_service_pb2 as api
from tests.support.stage import Client, Part, Stage, stage

AIM = 1.1
ANSWER = "Every word of this answer was scripted. " * 12
SCENARIOS = {
    "at-once": "an answer that comes at once",
    "paced": "an answer that takes a second to say",
}
SCRIPT = Script(
    scenarios={
        "at-once": [Reply(text=ANSWER)],
        "paced": [Reply(text=ANSWER, pace=Pace(piece_chars=16, delay_s=16 / len(ANSWER)))],
    }
)
WARM_UP = 2


async def measure(run: Run) -> list[Line]:
    """Measure both kinds of answers."""
    lines = []
    async with stage(run.folder) as whole, ScriptedModel(SCRIPT) as model, whole.client() as client:
        await whole.gateway()
        await whole.runner("runner", model.url)
        for scenario, what in SCENARIOS.items():
            lines += await beside(whole, client, model, scenario, what, run.times(30, 3))
    return lines


async def beside(
    whole: Stage, client: Client, model: ScriptedModel, scenario: str, what: str, times: int
) -> list[Line]:
    prompt = f"[[scenario:{scenario}]] go on"
    bare = await bare_client(whole, model, scenario, prompt)
    made = await client.sessions.CreateSession(api.CreateSessionRequest(request_id=scenario))
    bare_ms, podium_ms = [], []
    for number in range(times + WARM_UP):
        bare_ms.append(await bare_turn(bare, number + 1))
        podium_ms.append(await podium_turn(client, made.session.name, prompt, f"{scenario}-{number}"))
    await bare.stop()
    bare_ms, podium_ms = bare_ms[WARM_UP:], podium_ms[WARM_UP:]
    reference = Line(f"reference: bare SDK, {what}, p50", median(bare_ms), "ms", note=f"{times} turns")
    value = median(podium_ms)
    paired = median([ours / theirs for ours, theirs in zip(podium_ms, bare_ms, strict=True)])
    note = f"median of the pairs' ratios {paired:.3f}; "
    note += f"p90 {percentile(podium_ms, 90):.0f} to {percentile(bare_ms, 90):.0f} ms"
    name, ratio = against(value, reference)
    return [
        reference,
        Line(f"Podium, {what}, p50", value, "ms", name, ratio, f"<= {AIM} x", ratio <= AIM, note),
        Line("added to the turn", value - reference.value, "ms"),
    ]


async def bare_client(whole: Stage, model: ScriptedModel, scenario: str, prompt: str) -> Part:
    home, workspace = whole.folder / f"bare-home-{scenario}", whole.folder / f"bare-work-{scenario}"
    home.mkdir()
    workspace.mkdir()
    told = {bare_turns.PROMPT: prompt, bare_turns.WORKSPACE: str(workspace)}
    return await whole.part(
        f"bare-{scenario}", "bench.bare_turns", "connected", **claude_environment(home, model.url), **told
    )


async def bare_turn(bare: Part, number: int) -> float:
    assert bare.service is not None
    bare.service.send(signal.SIGUSR1)
    line = await bare.service.said(f"turn {number}")
    if line["failed"]:
        raise AssertionError(f"the bare client's turn failed: {line}")
    return float(str(line["ms"]))


async def podium_turn(client: Client, name: str, prompt: str, request_id: str) -> float:
    said = api.TurnInput(prompt=[c.ContentBlock(text=c.TextBlock(text=prompt))])
    begun = time.perf_counter()
    answer = await client.sessions.RunTurn(api.RunTurnRequest(request_id=request_id, session=name, turn=said))
    took_ms = (time.perf_counter() - begun) * 1000
    if answer.turn.status != s.TURN_STATUS_COMPLETED:
        raise AssertionError(f"the turn ended {answer.turn.status}: {answer.turn.reason}")
    return took_ms
