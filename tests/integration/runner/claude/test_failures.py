"""Whatever goes wrong, the turn ends with a typed problem and the session can go on."""

import asyncio
import shlex
import signal
import subprocess
import sys

import pytest

from podium.clock import ManualClock
from podium.scripted_model import (
    Attempts,
    Drop,
    HttpError,
    Pace,
    Reply,
    Script,
    ScriptedModel,
    Stall,
    StreamError,
    ToolCall,
)
from podium.v1 import event_pb2, session_pb2
from runner.providers import problems
from runner.providers.claude.probe import find_executable
from runner.providers.claude.turn import Limits
from runner.providers.port import ProviderFailed
from tests.integration.runner.claude.claude_rig import ALLOW, RecordingOutbox, Rig, code, resumed, turn

pytestmark = pytest.mark.claude

FAILED = session_pb2.TURN_STATUS_FAILED
LONG = "abcd" * 100

BROKEN: dict[str, tuple[list[HttpError | Reply], str, event_pb2.NoticeClass.ValueType]] = {
    "401": ([HttpError(status=401)], problems.NOT_LOGGED_IN, event_pb2.NOTICE_CLASS_AUTH),
    "429": ([HttpError(status=429, retry_after_s=0)], problems.RATE_LIMITED, event_pb2.NOTICE_CLASS_RATE_LIMIT),
    "500": ([HttpError(status=500)], problems.OVERLOADED, event_pb2.NOTICE_CLASS_RETRY),
    "529": ([HttpError(status=529)], problems.OVERLOADED, event_pb2.NOTICE_CLASS_RETRY),
    "dropped": (
        [Reply(text=LONG, ends=Drop(after_pieces=5))],
        problems.CONNECTION_LOST,
        event_pb2.NOTICE_CLASS_TRANSPORT,
    ),
}


@pytest.mark.parametrize("case", BROKEN)
async def test_a_failing_model_ends_the_turn_and_not_the_session(rig: Rig, case: str) -> None:
    steps, expected, notice_class = BROKEN[case]
    outbox = RecordingOutbox()
    script = Script([Reply(text="well")], scenarios={"bad": steps})
    async with ScriptedModel(script) as model, rig.driver(model, outbox) as driver:
        bad = await driver.run_turn(turn("[[scenario:bad]]"))
        notices = outbox.all(event_pb2.Notice)
        good = await driver.run_turn(turn("again"))
    assert (bad.status, code(bad)) == (FAILED, expected)
    assert notices[0].code == "api_retry"
    assert notices[0].notice_class == notice_class
    assert notices[0].retry_at.seconds > 0
    assert notices[-1].severity == event_pb2.SEVERITY_ERROR
    assert good.status == session_pb2.TURN_STATUS_COMPLETED
    assert outbox.said[-1] == "well"
    assert not outbox.all(event_pb2.UnreadableRecord)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (HttpError(status=400, message="no such thing"), problems.REQUEST_REFUSED),
        (HttpError(status=400, message="prompt is too long: 9 tokens > 8 maximum"), problems.CONTEXT_FULL),
        (HttpError(status=404, message="model: nothing"), problems.MODEL_UNKNOWN),
        (Reply(text=LONG, ends=StreamError(after_pieces=5)), problems.OVERLOADED),
    ],
    ids=["refused", "too long", "no such model", "error in the stream"],
)
async def test_a_refused_request_is_told_apart(rig: Rig, error: HttpError | Reply, expected: str) -> None:
    outbox = RecordingOutbox()
    async with ScriptedModel(Script([error])) as model, rig.driver(model, outbox) as driver:
        ended = await driver.run_turn(turn())
    assert (ended.status, code(ended)) == (FAILED, expected)


async def test_what_was_said_before_the_connection_broke_is_kept_as_partial(rig: Rig) -> None:
    # Text that comes slowly reaches the client's reader before the connection breaks.
    slow = Reply(text=LONG, pace=Pace(piece_chars=40, delay_s=0.05), ends=Drop(after_pieces=5))
    outbox = RecordingOutbox()
    async with ScriptedModel(Script([slow])) as model, rig.driver(model, outbox) as driver:
        await driver.run_turn(turn())
    partial = [message for message in outbox.messages() if message.partial]
    assert partial
    assert LONG.startswith(partial[0].content[0].text.text)
    assert {usage.accuracy for usage in outbox.all(event_pb2.Usage)} <= {event_pb2.USAGE_ACCURACY_LOWER_BOUND}


async def test_a_stream_dropped_once_is_tried_again(rig: Rig) -> None:
    drop = Reply(text=LONG, ends=Drop(after_pieces=5))
    outbox = RecordingOutbox()
    async with (
        ScriptedModel(Script([Attempts(drop, Reply(text="whole"))])) as model,
        rig.driver(model, outbox) as driver,
    ):
        ended = await driver.run_turn(turn())
    assert ended.status == session_pb2.TURN_STATUS_COMPLETED
    assert outbox.said[-1] == "whole"


async def test_without_a_key_the_turn_says_so(rig: Rig) -> None:
    outbox = RecordingOutbox()
    async with ScriptedModel(Script([])) as model:
        async with rig.driver(model, outbox, environment={"ANTHROPIC_API_KEY": None}) as driver:
            ended = await driver.run_turn(turn())
        assert not model.requests
    assert (ended.status, code(ended)) == (FAILED, problems.NOT_LOGGED_IN)


async def test_without_a_client_no_session_opens(rig: Rig) -> None:
    with pytest.raises(ProviderFailed) as failed:
        async with rig.driver(None, RecordingOutbox(), executable=rig.folder / "nothing"):
            pass
    assert failed.value.problem.code == problems.NOT_INSTALLED


async def test_a_client_that_does_not_run_fails_the_turn(rig: Rig) -> None:
    broken = rig.folder / "broken"
    broken.write_text("#!/nowhere/interpreter\n")
    broken.chmod(0o755)
    async with rig.driver(None, RecordingOutbox(), executable=broken) as driver:
        ended = await driver.run_turn(turn())
    assert (ended.status, code(ended)) == (FAILED, problems.NOT_INSTALLED)


async def test_a_lost_session_fails_one_turn_and_the_next_starts_anew(rig: Rig) -> None:
    lost = "11111111-2222-4333-8444-555555555555"
    outbox = RecordingOutbox()
    script = Script([Reply(text="new")])
    async with ScriptedModel(script) as model, rig.driver(model, outbox, provider_session_id=lost) as driver:
        first = await driver.run_turn(turn())
        second = await driver.run_turn(turn())
    assert (first.status, code(first)) == (FAILED, problems.SESSION_LOST)
    assert second.status == session_pb2.TURN_STATUS_COMPLETED
    assert [bound.provider_session_id for bound in outbox.all(event_pb2.ProviderBound)] == ["", rig.session_id]


async def test_a_transcript_without_a_conversation_does_not_block_the_session(rig: Rig) -> None:
    """An earlier start of ours got no further than to its name."""
    rig.transcript.parent.mkdir(parents=True)
    rig.transcript.write_text('{"type": "mode", "mode": "normal"}\n')
    outbox = RecordingOutbox()
    async with ScriptedModel(Script([Reply(text="new")])) as model, rig.driver(model, outbox) as driver:
        ended = await driver.run_turn(turn())
    assert ended.status == session_pb2.TURN_STATUS_COMPLETED
    assert outbox.said == ["new"]
    (bound,) = outbox.all(event_pb2.ProviderBound)
    assert bound.provider_session_id not in ("", rig.session_id)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_killed_client_fails_the_turn_and_the_next_one_resumes(rig: Rig, number: signal.Signals) -> None:
    stalled = Reply(text=LONG, pace=Pace(piece_chars=4), ends=Stall(after_pieces=5))
    script = Script([lambda said: Reply(text=f"first was {said.prompts[0]}")], scenarios={"stall": [stalled]})
    outbox = RecordingOutbox()
    async with ScriptedModel(script) as model, rig.driver(model, outbox) as driver:
        await driver.run_turn(turn("hello"))
        running = asyncio.create_task(driver.run_turn(turn("[[scenario:stall]]")))
        await outbox.until(lambda: len(outbox.deltas) >= 6)
        rig.kill_client(number)
        killed = await running
        after = await driver.run_turn(turn("more"))
    assert (killed.status, code(killed)) == (FAILED, problems.PROCESS_DIED)
    assert killed.problem is not None
    assert killed.problem.retryable
    assert after.status == session_pb2.TURN_STATUS_COMPLETED
    assert outbox.said == ["first was hello", "abcd" * 5, "first was hello"]
    assert [message.partial for message in outbox.messages(event_pb2.ROLE_ASSISTANT)] == [False, True, False]


async def test_a_client_that_ignores_an_interrupt_is_ended(rig: Rig) -> None:
    stalled = Reply(text=LONG, pace=Pace(piece_chars=4), ends=Stall(after_pieces=5))
    outbox = RecordingOutbox()
    limits = Limits(interrupt_s=0.5)
    script = Script([Reply(text="well")], scenarios={"stall": [stalled]})
    async with ScriptedModel(script) as model, rig.driver(model, outbox, limits=limits) as driver:
        running = asyncio.create_task(driver.run_turn(turn("[[scenario:stall]]")))
        await outbox.until(lambda: len(outbox.deltas) >= 5)
        rig.kill_client(signal.SIGSTOP)
        asking = asyncio.create_task(driver.interrupt())
        ended = await running
        await asking
        after = await driver.run_turn(turn("more"))
    assert ended.status == session_pb2.TURN_STATUS_INTERRUPTED
    assert after.status == session_pb2.TURN_STATUS_COMPLETED


async def test_a_silent_client_is_ended(rig: Rig) -> None:
    stalled = Reply(text=LONG, pace=Pace(piece_chars=4), ends=Stall(after_pieces=5))
    outbox, clock = RecordingOutbox(), ManualClock()
    script = Script([Reply(text="well")], scenarios={"stall": [stalled]})
    async with ScriptedModel(script) as model, rig.driver(model, outbox, clock=clock) as driver:
        running = asyncio.create_task(driver.run_turn(turn("[[scenario:stall]]")))
        await outbox.until(lambda: len(outbox.deltas) >= 5)
        clock.advance(Limits().silence_s + 1)
        silent = await running
        after = await driver.run_turn(turn("more"))
    assert (silent.status, code(silent)) == (FAILED, problems.SILENT)
    assert after.status == session_pb2.TURN_STATUS_COMPLETED
    assert outbox.said == ["abcd" * 5, "well"]


async def test_a_person_may_take_longer_than_the_silence_limit(rig: Rig) -> None:
    outbox, clock = RecordingOutbox(lambda _: None), ManualClock()
    call = ToolCall("Bash", {"command": "touch x"})
    script = Script([Reply(tool=call), Reply(text="done")])
    async with ScriptedModel(script) as model, rig.driver(model, outbox, clock=clock) as driver:
        running = asyncio.create_task(driver.run_turn(turn()))
        await outbox.until(lambda: outbox.questions)
        clock.advance(Limits().silence_s + 1)
        done, _ = await asyncio.wait((running,), timeout=1.0)  # four looks at the clock
        assert not done
        outbox.answer(ALLOW)
        ended = await running
    assert ended.status == session_pb2.TURN_STATUS_COMPLETED


async def test_an_unwritable_home_is_told_and_the_turn_goes_on(rig: Rig) -> None:
    (rig.folder / "file").write_text("")
    outbox = RecordingOutbox()
    changes = {"HOME": str(rig.folder / "file" / "home"), "CLAUDE_CONFIG_DIR": str(rig.folder / "file" / "config")}
    async with (
        ScriptedModel(Script([Reply(text="a")])) as model,
        rig.driver(model, outbox, environment=changes) as driver,
    ):
        ended = await driver.run_turn(turn())
    assert ended.status == session_pb2.TURN_STATUS_COMPLETED
    assert "transcript_not_written" in [notice.code for notice in outbox.all(event_pb2.Notice)]


async def test_an_unwritable_session_folder_fails_the_start(rig: Rig) -> None:
    rig.state.write_text("a file where the folder should be")
    async with ScriptedModel(Script([])) as model, rig.driver(model, RecordingOutbox()) as driver:
        ended = await driver.run_turn(turn())
    assert (ended.status, code(ended)) == (FAILED, problems.START_FAILED)


async def test_a_missing_workspace_fails_the_start(rig: Rig) -> None:
    gone = rig.folder / "gone"
    async with rig.driver(None, RecordingOutbox(), workspace=gone) as driver:
        ended = await driver.run_turn(turn())
    assert (ended.status, code(ended)) == (FAILED, problems.START_FAILED)


async def test_two_clients_cannot_run_one_session(rig: Rig) -> None:
    outbox = RecordingOutbox()
    async with ScriptedModel(Script([Reply(text="a")])) as model, rig.driver(model, outbox) as driver:
        await driver.run_turn(turn())
        async with rig.driver(model, outbox, provider_session_id=rig.session_id) as other:
            ended = await other.run_turn(turn())
    assert (ended.status, code(ended)) == (FAILED, problems.SESSION_LOCKED)


async def test_a_question_that_is_no_longer_open_cannot_be_resumed(rig: Rig) -> None:
    outbox = RecordingOutbox()
    async with ScriptedModel(Script([Reply(text="a")])) as model, rig.driver(model, outbox) as driver:
        await driver.run_turn(turn())
        ended = await driver.run_turn(resumed(turn()))
        after = await driver.run_turn(turn())
    assert (ended.status, code(ended)) == (FAILED, problems.DEFER_FAILED)
    assert after.status == session_pb2.TURN_STATUS_COMPLETED


async def test_lines_that_cannot_be_read_are_kept_and_hurt_nobody(rig: Rig) -> None:
    real = find_executable(None, {})
    noisy = rig.folder / "noisy"
    noise = [
        "not json",
        '{"type": "assis',
        '{"type": "brand_new", "a": 1}',
        "[]",
        '{"type": "assistant", "message": 7}',
    ]
    program = rig.folder / "noisy.py"
    program.write_text(
        "import os, sys\n"
        f"for line in {noise!r}:\n    os.write(1, line.encode() + b'\\n')\n"
        f"os.write(1, b'\\xff\\xfe\\n')\n"
        f"os.execv({str(real)!r}, [{str(real)!r}, *sys.argv[1:]])\n"
    )
    # Not the interpreter's own #! line: its path may have a space.
    noisy.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -IS {shlex.quote(str(program))} "$@"\n')
    noisy.chmod(0o755)
    outbox = RecordingOutbox()
    async with ScriptedModel(Script([Reply(text="a")])) as model, rig.driver(model, outbox, executable=noisy) as driver:
        ended = await driver.run_turn(turn())
    assert ended.status == session_pb2.TURN_STATUS_COMPLETED
    kept = [record.excerpt for record in outbox.all(event_pb2.UnreadableRecord)]
    assert kept[:4] == noise[:4]
    assert len(kept) == 5  # `{"type": "assistant", "message": 7}` says nothing and is a message without content
    assert outbox.said[-1] == "a"


def can_mount() -> bool:
    return subprocess.run(["unshare", "-rm", "true"], check=False).returncode == 0


async def test_a_full_disk_is_told_and_the_turn_goes_on(rig: Rig) -> None:
    """The client itself says so seconds later, when it may have been ended."""
    if not can_mount():
        pytest.skip("needs user namespaces to mount a small file system for the client alone")
    real, full = find_executable(None, {}), rig.folder / "full"
    fill = 'mount -t tmpfs -o size=64k tmpfs "$CLAUDE_CONFIG_DIR" && head -c 99999 /dev/zero >"$CLAUDE_CONFIG_DIR/fill"'
    script = f'({fill}) 2>/dev/null; exec "{real}" "$@"'
    full.write_text(f'#!/bin/sh\nmkdir -p "$CLAUDE_CONFIG_DIR"\nexec unshare -rm sh -c \'{script}\' sh "$@"\n')
    full.chmod(0o755)
    outbox = RecordingOutbox()
    async with ScriptedModel(Script([Reply(text="a")])) as model, rig.driver(model, outbox, executable=full) as driver:
        ended = await driver.run_turn(turn())
    assert ended.status == session_pb2.TURN_STATUS_COMPLETED
    told = {notice.code: notice for notice in outbox.all(event_pb2.Notice)}
    assert told["transcript_not_written"].severity == event_pb2.SEVERITY_WARNING


async def test_a_broken_log_ends_the_turn_with_its_own_error(rig: Rig) -> None:
    class Fenced(Exception):
        pass

    class Broken(RecordingOutbox):
        async def emit(self, drafts: object) -> None:
            raise Fenced

    async with ScriptedModel(Script([Reply(text="a")])) as model, rig.driver(model, Broken()) as driver:
        with pytest.raises(Fenced):
            await driver.run_turn(turn())
