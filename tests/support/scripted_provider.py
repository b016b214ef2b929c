"""A provider that does what the prompt says: for what the real client adds nothing to, or cannot be made to do.

A prompt is lines of one act each, `say hello`, `ask t1`, `hang`; see ACTS.
`python -m tests.support.scripted_provider` is a runner with this provider alone.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from podium.drafts import Draft
from podium.v1 import content_pb2 as c
from podium.v1 import event_pb2 as e
from podium.v1 import provider_pb2, runner_pb2
from podium.v1 import session_pb2 as s
from runner import __main__ as program
from runner.providers.port import (
    Answer,
    AnswerDeferred,
    Outbox,
    ProviderFailed,
    ProviderSettings,
    Registration,
    SessionSpec,
    TurnOutcome,
    TurnSpec,
)

NAME = "scripted"
MARK = "acts.json"


def message(text: str, role: e.Role.ValueType = e.ROLE_ASSISTANT) -> Draft:
    return Draft(e.Message(role=role, content=[c.ContentBlock(text=c.TextBlock(text=text))]), source=e.SOURCE_PROVIDER)


def question(tool_use_id: str, input_json: str = "{}") -> e.ApprovalRequested:
    return e.ApprovalRequested(
        kind=s.APPROVAL_KIND_PERMISSION, tool_name="Bash", tool_use_id=tool_use_id, input_json=input_json
    )


@dataclass
class ScriptedDriver:
    """One client. What it was told is in `turns` and `modes`; `is_open` until it was closed."""

    spec: SessionSpec
    outbox: Outbox
    provider: "ScriptedProvider"
    turns: list[TurnSpec] = field(default_factory=list)
    modes: list[int] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    interrupted: asyncio.Event = field(default_factory=asyncio.Event)
    obeys: bool = True
    closes: int = 0
    emitted: int = 0

    async def run_turn(self, turn: TurnSpec) -> TurnOutcome:
        self.turns.append(turn)
        self.interrupted.clear()
        self.obeys = True
        # A real client has its transcript to go on from.
        kept = self.spec.state_dir / MARK
        if turn.resumes_deferred:
            acts = json.loads(kept.read_text())
        else:
            acts = "\n".join(block.text.text for block in turn.prompt).strip().splitlines()
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(json.dumps(acts))
        await self.outbox.emit([Draft(e.ProviderBound(provider_session_id=f"native-{self.spec.session_id}"))])
        for act in acts:
            word, _, rest = act.partition(" ")
            outcome: TurnOutcome | None = await ACTS[word](self, rest)
            if outcome is not None:
                return outcome
        return TurnOutcome(s.TURN_STATUS_COMPLETED)

    async def interrupt(self) -> None:
        if self.obeys:
            self.interrupted.set()
        elif self.provider.interrupt_hangs:
            await asyncio.Event().wait()

    async def set_permission_mode(self, mode: s.PermissionMode.ValueType) -> None:
        self.modes.append(mode)

    async def close(self) -> None:
        self.closes += 1
        await self.provider.on_close(self)


async def _nothing(_: Any) -> None:
    return None


@dataclass
class ScriptedProvider:
    """The provider; a test looks at `drivers`, and makes it fail by its hooks."""

    settings: ProviderSettings = field(default_factory=ProviderSettings)
    name: str = NAME
    display_name: str = "Scripted"
    vendor: str = "podium"
    capabilities: provider_pb2.Capabilities = field(
        default_factory=lambda: provider_pb2.Capabilities(
            deferred_approvals=True, permission_modes=["default", "accept_edits", "plan"]
        )
    )
    drivers: list[ScriptedDriver] = field(default_factory=list)
    specs: list[SessionSpec] = field(default_factory=list)
    on_open: Callable[[SessionSpec], Awaitable[None]] = _nothing
    on_close: Callable[[ScriptedDriver], Awaitable[None]] = _nothing
    on_probe: Callable[[str], Awaitable[None]] = _nothing
    interrupt_hangs: bool = False

    async def probe(self) -> provider_pb2.Provider:
        await self.on_probe(self.name)
        return provider_pb2.Provider(name=self.name, installed=True, version="1", capabilities=self.capabilities)

    async def models(self) -> list[provider_pb2.Model]:
        return []

    async def open(self, spec: SessionSpec, outbox: Outbox) -> ScriptedDriver:
        self.specs.append(spec)
        await self.on_open(spec)
        driver = ScriptedDriver(spec, outbox, self)
        self.drivers.append(driver)
        return driver

    @property
    def open_drivers(self) -> list[ScriptedDriver]:
        return [driver for driver in self.drivers if not driver.closes]


Act = Callable[[ScriptedDriver, str], Awaitable[TurnOutcome | None]]


async def say(driver: ScriptedDriver, text: str) -> None:
    await driver.outbox.emit([message(text)])


async def many(driver: ScriptedDriver, how_many: str) -> None:
    """Emit so many messages of so many bytes: `many 1000 x 1024`."""
    count, _, size = how_many.partition(" x ")
    for number in range(int(count)):
        await driver.outbox.emit([message(f"{number} ".ljust(int(size), "."))])
        driver.emitted += 1
        # As a reader of a pipe does now and then.
        await asyncio.sleep(0)


async def hang(driver: ScriptedDriver, how: str) -> TurnOutcome:
    """Work until interrupted; `hang deaf` does not obey."""
    driver.obeys = how != "deaf"
    await driver.outbox.emit([message("hanging")])
    await driver.interrupted.wait()
    return TurnOutcome(s.TURN_STATUS_INTERRUPTED, "interrupted")


async def ask(driver: ScriptedDriver, ids: str) -> TurnOutcome | None:
    """Ask one question per id, all at once, and go on when all are answered; says what was answered."""
    asking: asyncio.Future[Any] = asyncio.gather(*(driver.outbox.ask(question(one)) for one in ids.split()))
    stopping: asyncio.Future[Any] = asyncio.ensure_future(driver.interrupted.wait())
    try:
        await asyncio.wait((asking, stopping), return_when=asyncio.FIRST_COMPLETED)
        if not asking.done():
            return TurnOutcome(s.TURN_STATUS_INTERRUPTED, "interrupted")
        answers = asking.result()
    except AnswerDeferred:
        return TurnOutcome(s.TURN_STATUS_RUNNING, deferred=True)
    finally:
        asking.cancel()
        stopping.cancel()
        await asyncio.wait([asking])
    driver.answers += answers
    said = [
        f"{one}:{s.ApprovalOutcome.Name(answer.outcome)}:{answer.message}"
        for one, answer in zip(ids.split(), answers, strict=True)
    ]
    await driver.outbox.emit([message(" ".join(said))])
    return None


async def ask_long(driver: ScriptedDriver, size: str) -> None:
    """Ask with an input of so many bytes."""
    answer = await driver.outbox.ask(question("long", json.dumps({"command": "x" * int(size)})))
    await driver.outbox.emit([message(answer.updated_input_json[:20])])


async def deltas(driver: ScriptedDriver, count: str) -> None:
    """Say so many pieces, one each ms, then the message."""
    text = ""
    for number in range(int(count)):
        piece = f"{number} "
        driver.outbox.delta(runner_pb2.Delta(item_id="m1", offset=len(text), text=piece))
        text += piece
        await asyncio.sleep(0.001)
    await driver.outbox.emit([message(text)])


async def fail(driver: ScriptedDriver, how: str) -> TurnOutcome:
    match how:
        case "raise":
            raise RuntimeError("a bug in the driver")
        case "garbage":
            return "done"  # type: ignore[return-value]
        case "running":
            return TurnOutcome(s.TURN_STATUS_RUNNING)
        case "deferred":
            return TurnOutcome(s.TURN_STATUS_RUNNING, deferred=True)
        case "emit":
            await driver.outbox.emit([Draft("no fact at all")])  # type: ignore[arg-type]
        case "draft":
            await driver.outbox.emit([Draft(e.Message(), turn_id=7)])  # type: ignore[arg-type]
        case "typed":
            raise ProviderFailed("RATE_LIMITED", "come back later", retryable=True)
        case "cancelled":
            await asyncio.shield(cancelled())
        case _:
            raise AssertionError(how)
    return TurnOutcome(s.TURN_STATUS_COMPLETED)


async def cancelled() -> None:
    raise asyncio.CancelledError


async def pause(driver: ScriptedDriver, seconds: str) -> None:
    await asyncio.sleep(float(seconds))


ACTS: dict[str, Any] = {
    "say": say,
    "many": many,
    "hang": hang,
    "ask": ask,
    "ask_long": ask_long,
    "deltas": deltas,
    "fail": fail,
    "pause": pause,
}


def main(arguments: Sequence[str]) -> int:
    program.REGISTRY = {NAME: Registration(ScriptedProvider)}  # type: ignore[attr-defined]
    return program.main()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
