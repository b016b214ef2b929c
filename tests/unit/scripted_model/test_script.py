"""Which answer a request gets follows from its history alone."""

import pytest

from podium.scripted_model.script import (
    Attempts,
    Conversation,
    HttpError,
    Message,
    Pace,
    Reply,
    Script,
    ToolCall,
    ToolResult,
    Turns,
    settle,
)

CALL = ToolCall("Bash", {"command": "ls"}, "toolu_1")
RESULT = Message(role="user", tool_results=(ToolResult(tool_use_id="toolu_1", text="file"),))


def said(text: str = "", *calls: ToolCall) -> Message:
    return Message(role="assistant", text=text, tool_calls=calls)


def asked(*prompts: str) -> Message:
    return Message(role="user", prompts=prompts)


def conversation(*messages: Message) -> Conversation:
    return Conversation(model="m", messages=messages)


def test_a_step_is_the_number_of_answers_since_the_last_prompt() -> None:
    assert conversation(asked("a")).step == 0
    assert conversation(asked("a"), said("", CALL), RESULT).step == 1
    assert conversation(asked("a"), said("", CALL), RESULT, said("done"), asked("b")).step == 0


def test_a_turn_is_the_number_of_prompts_before_the_last_one() -> None:
    assert conversation(asked("a")).turn == 0
    assert conversation(asked("a"), said("x"), asked("b")).turn == 1
    # An unanswered prompt and the next one come in one message.
    assert conversation(asked("a", "b")).turn == 1
    assert conversation(asked("a", "b")).last_prompt == "b"


def test_the_marker_of_the_last_prompt_picks_the_scenario() -> None:
    script = Script([Reply(text="default")], scenarios={"one": [Reply(text="one")]})
    marked = asked("do [[scenario:one]] now")
    assert script.choose(conversation(marked)).answer == Reply(text="one")
    assert script.choose(conversation(marked, said("one"), asked("more"))).answer == Reply(text="default")


def test_steps_are_taken_in_order_and_begin_again_with_each_prompt() -> None:
    script = Script([Reply(tool=CALL), Reply(text="done")])
    first = script.choose(conversation(asked("a")))
    second = script.choose(conversation(asked("a"), said("", CALL), RESULT))
    again = script.choose(conversation(asked("a"), said("", CALL), RESULT, said("done"), asked("b")))
    assert [choice.step for choice in (first, second, again)] == [0, 1, 0]
    assert second.answer == Reply(text="done")
    assert again.answer == first.answer


def test_turns_differ_and_the_last_one_stays() -> None:
    script = Script(Turns([Reply(text="first")], [Reply(text="later")]))
    later = [asked("a"), said("first"), asked("b")]
    assert script.choose(conversation(asked("a"))).answer == Reply(text="first")
    assert script.choose(conversation(*later)).answer == Reply(text="later")
    assert script.choose(conversation(*later, said("later"), asked("c"))).answer == Reply(text="later")


@pytest.mark.parametrize(
    ("prompt", "message"),
    [("a", "the script is over"), ("[[scenario:gone]]", "the script has no scenario 'gone'; it has default")],
)
def test_a_request_without_an_answer_is_refused_with_the_reason(prompt: str, message: str) -> None:
    answer = Script([]).choose(conversation(asked(prompt))).answer
    assert isinstance(answer, HttpError)
    assert answer.status == 400
    assert message in answer.message


def test_attempts_give_one_outcome_each_and_the_last_for_ever() -> None:
    answer = Attempts(HttpError(status=529), Reply(text="now"))
    outcomes = [settle(answer, conversation(asked("a")), attempt=attempt) for attempt in range(3)]
    assert outcomes == [HttpError(status=529), Reply(text="now"), Reply(text="now")]


def test_a_function_answers_from_the_history() -> None:
    history = conversation(asked("a"), said("", CALL), RESULT)
    assert settle(lambda c: Reply(text=c.tool_results[0].text), history, attempt=0) == Reply(text="file")


def test_what_makes_no_sense_is_refused_when_it_is_written() -> None:
    with pytest.raises(ValueError, match="piece_chars"):
        Pace(piece_chars=0)
    with pytest.raises(ValueError, match="400 to 599"):
        HttpError(status=200)
    with pytest.raises(ValueError, match="at least one"):
        Attempts()
    with pytest.raises(ValueError, match="at least one"):
        Turns()
