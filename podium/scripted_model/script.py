"""What the scripted model says: a small typed vocabulary, and the choice of one answer for one request.

Nothing here knows a wire format or does I/O. A script is chosen by the request's own history (its last
prompt, how many prompts came before, how many model answers came since), so a retry or a resume in
another process gets the same answer. The one exception, `Attempts`, says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

JsonObject = Mapping[str, Any]

# A prompt that contains [[scenario:NAME]] is answered by the scenario of that name.
MARKER: Final = re.compile(r"\[\[scenario:([A-Za-z0-9_.-]+)\]\]")

DEFAULT_SCENARIO: Final = "default"
ERROR_STATUSES: Final = range(400, 600)


# --- what the model is asked ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResult:
    """What the client's tool said, as the next model step sees it."""

    tool_use_id: str
    text: str
    is_error: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message of the history, stripped of the notes that the client itself writes into it."""

    role: str  # "user" or "assistant"
    prompts: tuple[str, ...] = ()  # what a person (or a parent agent) asked; more than one if left unanswered
    text: str = ""  # what the model said
    tool_calls: tuple[ToolCall, ...] = ()
    tool_results: tuple[ToolResult, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """One request to the model, whatever its wire format: who asks and all that was said before."""

    model: str
    messages: tuple[Message, ...]
    session: str = ""  # the client's own session id; empty if it sends none
    agent: str = ""  # set when a sub-agent asks, else empty
    effort: str = ""  # as sent; empty if none was sent

    @property
    def prompts(self) -> tuple[str, ...]:
        """All prompts, oldest first."""
        return tuple(prompt for message in self.messages for prompt in message.prompts)

    @property
    def last_prompt(self) -> str:
        """The prompt that is being answered; empty if there is none."""
        return next((message.prompts[-1] for message in reversed(self.messages) if message.prompts), "")

    @property
    def turn(self) -> int:
        """How many prompts came before the last one."""
        return max(len(self.prompts) - 1, 0)

    @property
    def step(self) -> int:
        """How many model answers came since the last prompt: 0 for the first request of a turn."""
        answers = 0
        for message in reversed(self.messages):
            if message.prompts:
                break
            answers += message.role == "assistant"
        return answers

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """All tool calls of the history, oldest first."""
        return tuple(call for message in self.messages for call in message.tool_calls)

    @property
    def tool_results(self) -> tuple[ToolResult, ...]:
        """All tool results of the history, oldest first."""
        return tuple(result for message in self.messages for result in message.tool_results)


# --- what the model answers ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """The tokens a reply claims. The buckets are disjoint: what was sent is the sum of the first four."""

    uncached_input_tokens: int = 11
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    output_tokens: int = 27


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call the model asks for. Without an id the endpoint makes one that is unique in the session."""

    name: str
    input: JsonObject = field(default_factory=dict)
    id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How a reply is cut into pieces (one delta each) and how fast the pieces go out.

    `delay_s` is the time from one piece to the next, kept on a schedule: pieces that are late go out
    together, so the mean rate holds. `first_byte_after_s` may be `math.inf`: no byte, ever.
    """

    piece_chars: int = 40
    delay_s: float = 0.0
    first_byte_after_s: float = 0.0

    def __post_init__(self) -> None:
        if self.piece_chars < 1 or self.delay_s < 0 or self.first_byte_after_s < 0:
            raise ValueError(f"a pace needs piece_chars >= 1 and times >= 0, got {self!r}")


@dataclass(frozen=True, slots=True)
class Stall:
    """Say nothing more after that many pieces and keep the connection open until the client closes it."""

    after_pieces: int


@dataclass(frozen=True, slots=True)
class Drop:
    """Close the connection after that many pieces, in the middle of the answer."""

    after_pieces: int


@dataclass(frozen=True, slots=True)
class StreamError:
    """After that many pieces send an error inside the stream, as an overloaded model does."""

    after_pieces: int
    kind: str = "overloaded_error"
    message: str = "scripted: overloaded in mid-stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One model step: thinking, then text, then tool calls, each left out when empty.

    `text` as a tuple gives the exact pieces; as a string it is cut by `pace`. `stop_reason` follows
    from the content (`tool_use` or `end_turn`) unless given. `ends` None means a complete answer.
    """

    text: str | tuple[str, ...] = ""
    thinking: str = ""
    signature: str = ""  # of the thinking; made from the text if empty
    tool: ToolCall | None = None
    tools: tuple[ToolCall, ...] = ()  # several calls in one answer: the client runs them in parallel
    usage: Usage = Usage()
    stop_reason: str = ""
    pace: Pace = Pace()
    ends: Stall | Drop | StreamError | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """`tool` and `tools` as one."""
        return (self.tool, *self.tools) if self.tool else self.tools


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpError:
    """An answer with an error status. `kind` is the wire format's own name for it, found from the status if empty."""

    status: int
    message: str = ""
    kind: str = ""
    retry_after_s: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.status not in ERROR_STATUSES:
            raise ValueError(f"an HttpError has a status from 400 to 599, got {self.status}")


Outcome = Reply | HttpError


@dataclass(frozen=True, slots=True)
class Attempts:
    """The nth request for the same step gets the nth outcome, the last one for ever after.

    For "fails once, then works". The endpoint counts, per session, agent, scenario, turn and step; a
    new endpoint counts from the start.
    """

    outcomes: tuple[Outcome, ...]

    def __init__(self, *outcomes: Outcome) -> None:
        if not outcomes:
            raise ValueError("Attempts needs at least one outcome")
        object.__setattr__(self, "outcomes", outcomes)


# A function reads the history and answers; use it for answers that show what the client sent.
Answer = Reply | HttpError | Attempts | Callable[[Conversation], Outcome]
Steps = Sequence[Answer]


# --- the choice ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Where a request stands in the script, and the answer that stands there."""

    scenario: str
    turn: int
    step: int
    answer: Answer


class Turns:
    """Steps that differ from turn to turn; turns after the last one get the last one's steps."""

    def __init__(self, *turns: Steps) -> None:
        if not turns:
            raise ValueError("Turns needs the steps of at least one turn")
        self.turns: Final = tuple(tuple(steps) for steps in turns)

    def steps(self, turn: int) -> tuple[Answer, ...]:
        """The steps of turn `turn`, counted from 0."""
        return self.turns[min(turn, len(self.turns) - 1)]


class Script:
    """Answers by scenario.

    Args:
        default: the steps for prompts that name no scenario. Step n answers the nth model request
            since the last prompt.
        scenarios: further steps by name, picked by `[[scenario:NAME]]` in the last prompt.
    """

    def __init__(self, default: Steps | Turns = (), *, scenarios: Mapping[str, Steps | Turns] | None = None) -> None:
        named = {DEFAULT_SCENARIO: default, **(scenarios or {})}
        self._scenarios: Final = {
            name: steps if isinstance(steps, Turns) else Turns(steps) for name, steps in named.items()
        }

    def choose(self, conversation: Conversation) -> Choice:
        """The answer to one request.

        A request the script has no answer for gets an HttpError 400 that says what was asked: a client
        that loops is stopped at once instead of hanging.
        """
        marker = MARKER.search(conversation.last_prompt)
        name = marker.group(1) if marker else DEFAULT_SCENARIO
        turn, step = conversation.turn, conversation.step
        answer = self._answer(name, turn, step)
        return Choice(scenario=name, turn=turn, step=step, answer=answer)

    def _answer(self, name: str, turn: int, step: int) -> Answer:
        turns = self._scenarios.get(name)
        if turns is None:
            known = ", ".join(sorted(self._scenarios))
            return HttpError(status=400, message=f"the script has no scenario {name!r}; it has {known}")
        steps = turns.steps(turn)
        if step >= len(steps):
            where = f"scenario {name!r} has {len(steps)} steps for turn {turn}"
            return HttpError(status=400, message=f"the script is over: {where}, step {step} was asked for")
        return steps[step]


def settle(answer: Answer, conversation: Conversation, *, attempt: int) -> Outcome:
    """What `answer` comes to for this request; `attempt` counts from 0."""
    if isinstance(answer, Reply | HttpError):
        return answer
    if isinstance(answer, Attempts):
        return answer.outcomes[min(attempt, len(answer.outcomes) - 1)]
    return answer(conversation)
