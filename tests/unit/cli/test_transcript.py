"""A transcript shows everything once, whatever of the live text is lost, late or repeated."""

import io

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from podium.cli import output
from podium.cli.transcript import Transcript
from podium.v1 import content_pb2 as c
from podium.v1 import event_pb2 as e
from podium.v1 import runner_pb2
from podium.v1 import session_pb2 as s

TURN = "t1"


class Screen:
    """A transcript and what it has written."""

    def __init__(self, *, details: bool = False) -> None:
        self._file = io.StringIO()
        console = Console(file=self._file, theme=output.THEME, width=120)
        self.transcript = Transcript(console, details=details)

    @property
    def text(self) -> str:
        return self._file.getvalue()

    @property
    def lines(self) -> list[str]:
        return [line for line in self.text.splitlines() if line.strip()]


def delta(text: str, *, offset: int = 0, block: int = 0, item: str = "m1", thinking: bool = False) -> runner_pb2.Delta:
    kind = runner_pb2.DELTA_KIND_THINKING if thinking else runner_pb2.DELTA_KIND_TEXT
    return runner_pb2.Delta(turn_id=TURN, item_id=item, block=block, kind=kind, offset=offset, text=text)


def said(
    *blocks: c.ContentBlock, item: str = "m1", role: e.Role.ValueType = e.ROLE_ASSISTANT, parent: str = ""
) -> e.Event:
    message = e.Message(role=role, content=blocks, api_message_id=item if role == e.ROLE_ASSISTANT else "")
    return e.Event(turn_id=TURN, message=message, parent_tool_use_id=parent)


def text(words: str) -> c.ContentBlock:
    return c.ContentBlock(text=c.TextBlock(text=words))


def ended(status: s.TurnStatus.ValueType, **given: object) -> e.Event:
    return e.Event(turn_id=TURN, turn_ended=e.TurnEnded(status=status, **given))  # type: ignore[arg-type]


def test_text_shows_while_it_comes_and_once() -> None:
    screen = Screen()
    screen.transcript.delta(delta("Hello, "))
    assert screen.lines == ["  Hello,"]
    screen.transcript.delta(delta("world", offset=7))
    screen.transcript.event(said(text("Hello, world, and all")))
    assert screen.lines == ["  Hello, world, and all"]


def test_what_was_lost_on_the_way_is_made_up_for() -> None:
    screen = Screen()
    screen.transcript.delta(delta("one "))
    screen.transcript.delta(delta("three ", offset=8))
    screen.transcript.event(said(text("one two three four")))
    assert screen.lines == ["  one two three four"]


def test_text_that_is_late_is_not_shown_again() -> None:
    screen = Screen()
    screen.transcript.event(said(text("all of it")))
    screen.transcript.delta(delta("all of it"))
    assert screen.lines == ["  all of it"]


def test_text_after_the_end_of_the_turn_is_not_shown() -> None:
    screen = Screen()
    screen.transcript.event(ended(s.TURN_STATUS_INTERRUPTED))
    screen.transcript.delta(delta("too late", item="m2"))
    assert screen.lines == ["■ interrupted"]


def test_something_else_in_between_does_not_repeat_the_text() -> None:
    screen = Screen()
    screen.transcript.delta(delta("one "))
    screen.transcript.event(e.Event(turn_id=TURN, notice=e.Notice(severity=e.SEVERITY_WARNING, message="slow")))
    screen.transcript.event(said(text("one two")))
    assert screen.lines == ["  one", "  ! slow", "  two"]


def test_a_text_too_long_for_the_log_is_not_shown_twice() -> None:
    screen = Screen()
    screen.transcript.delta(delta("a long text"))
    block = text("a long")
    block.full.size_bytes = 11
    screen.transcript.event(said(block))
    assert screen.lines == ["  a long text", "  (shortened; all 11 bytes are kept beside the log)"]


@given(st.data())
def test_any_loss_and_repeat_of_live_text_ends_in_the_whole_text_once(data: st.DataObject) -> None:
    whole = [data.draw(st.text("abc", min_size=1, max_size=12)) for _ in range(data.draw(st.integers(1, 3)))]
    screen = Screen()
    late: list[runner_pb2.Delta] = []
    for block, words in enumerate(whole):
        cuts = sorted(data.draw(st.sets(st.integers(0, len(words)), max_size=4)) | {0})
        pieces = [
            delta(words[start:end], offset=start, block=block)
            for start, end in zip(cuts, [*cuts[1:], len(words)], strict=True)
        ]
        for piece in pieces:
            for _ in range(data.draw(st.integers(0, 2))):
                screen.transcript.delta(piece)
        screen.transcript.event(said(text(words)))
        late += pieces
    for piece in late:
        screen.transcript.delta(piece)
    assert screen.lines == [f"  {words}" for words in whole]


def test_a_tool_call_and_its_result_are_short() -> None:
    screen = Screen()
    use = c.ToolUseBlock(id="u1", name="Bash", input_json='{"command": "ls", "description": "List"}')
    answer = c.ToolResultBlock(tool_use_id="u1", text="\n".join(f"file {n}" for n in range(20)))
    screen.transcript.event(said(c.ContentBlock(tool_use=use)))
    screen.transcript.event(said(c.ContentBlock(tool_result=answer), role=e.ROLE_USER))
    assert screen.lines[:2] == ["  ● Bash  ls", "    ⎿ file 0"]
    assert screen.lines[-1] == "      … 12 more lines"
    assert len(screen.lines) == 10


def test_what_a_tool_prints_cannot_move_the_cursor() -> None:
    screen = Screen()
    answer = c.ToolResultBlock(tool_use_id="u1", text="\x1b[2J\x1b[1;1Hgone")
    screen.transcript.event(said(c.ContentBlock(tool_result=answer), role=e.ROLE_USER))
    assert "\x1b" not in screen.text


def test_a_prompt_that_the_person_just_typed_is_not_repeated() -> None:
    screen = Screen()
    screen.transcript.typed("hello")
    screen.transcript.event(said(text("hello"), role=e.ROLE_USER))
    screen.transcript.event(said(text("hello"), role=e.ROLE_USER))
    assert screen.lines == ["❯ hello"]  # noqa: RUF001 - the mark of a prompt


def test_a_sub_agent_is_indented() -> None:
    screen = Screen()
    screen.transcript.event(said(text("I look."), parent="u1"))
    assert screen.lines == ["      I look."]


def test_the_end_of_a_turn_says_what_it_used() -> None:
    screen = Screen()
    usage = e.Usage(uncached_input_tokens=1000, cache_read_tokens=500, output_tokens=20)
    screen.transcript.event(e.Event(turn_id=TURN, usage=usage))
    screen.transcript.event(ended(s.TURN_STATUS_COMPLETED, duration_ms=3200, provider_cost_microusd=12_500))
    assert screen.lines == ["✔ completed  3.2 s · 1,500 tokens in (500 cached) · 20 out · $0.0125"]


def test_a_failed_turn_says_why() -> None:
    screen = Screen()
    problem = s.Problem(code="PROVIDER_NOT_LOGGED_IN", message="log in first")
    screen.transcript.event(ended(s.TURN_STATUS_FAILED, problem=problem))
    assert screen.lines == ["✗ failed", "  log in first", "  PROVIDER_NOT_LOGGED_IN"]


@pytest.mark.parametrize("kind", [field.name for field in e.Event.DESCRIPTOR.oneofs_by_name["body"].fields])
def test_every_kind_of_event_can_be_shown(kind: str) -> None:
    event = e.Event(turn_id=TURN, created_at=Timestamp(seconds=1))
    getattr(event, kind).SetInParent()
    Screen(details=True).transcript.event(event)


def test_questions_are_shown_with_their_choices() -> None:
    screen = Screen()
    asked = e.ApprovalRequested(
        kind=s.APPROVAL_KIND_QUESTION,
        input_json='{"questions": [{"question": "Which?", "options": [{"label": "Red", "description": "warm"}]}]}',
    )
    screen.transcript.event(e.Event(turn_id=TURN, approval_requested=asked))
    assert screen.lines == ["  ? the agent asks", "    Which?", "      1  Red: warm"]


def test_answers_name_who_gave_them() -> None:
    screen = Screen()
    resolved = e.ApprovalResolved(outcome=s.APPROVAL_OUTCOME_DENIED, message="not on main")
    screen.transcript.event(e.Event(turn_id=TURN, principal="ana", approval_resolved=resolved))
    assert screen.lines == ["  → denied by ana: not on main"]
