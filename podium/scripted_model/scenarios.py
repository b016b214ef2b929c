"""The scripts that come with the endpoint: `demo`, which `podium demo` plays, and short ones for trying a client."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from podium.scripted_model.script import Conversation, HttpError, Pace, Reply, Script, Stall, ToolCall, Turns, Usage

SCRIPTED: Final = "(scripted answer, no real model)"

# A file name and content that a test can look for in the workspace.
DEMO_FILE: Final = "hello-podium.txt"
DEMO_COMMAND: Final = f"echo 'written by the real Bash tool' > {DEMO_FILE} && ls -l {DEMO_FILE} && cat {DEMO_FILE}"

# About as fast as a person reads along: 12 characters every 40 ms.
READABLE: Final = Pace(piece_chars=12, delay_s=0.04)


def demo() -> Script:
    """Turn 1 thinks, writes a file with Bash (which asks for approval) and reports; turn 2 shows what it remembers."""
    return Script(Turns([_demo_tool, _demo_report], [_demo_memory]))


def _demo_tool(conversation: Conversation) -> Reply:
    return Reply(
        thinking=f"The user asks: {conversation.last_prompt!r}. I will write a file in the workspace and read it back.",
        text=f"{SCRIPTED} I will write {DEMO_FILE} and read it back.",
        tool=ToolCall("Bash", {"command": DEMO_COMMAND, "description": f"Write and list {DEMO_FILE}"}),
        pace=READABLE,
        usage=Usage(uncached_input_tokens=1200, cache_write_5m_tokens=800, output_tokens=96),
    )


def _demo_report(conversation: Conversation) -> Reply:
    result = conversation.tool_results[-1]
    said = "The tool was refused or failed" if result.is_error else "Done. The tool printed"
    return Reply(
        text=f"{SCRIPTED} {said}:\n{result.text}",
        pace=READABLE,
        usage=Usage(uncached_input_tokens=150, cache_read_tokens=2000, output_tokens=64),
    )


def _demo_memory(conversation: Conversation) -> Reply:
    """Made from the history that the client sent, so it can be right only if the session was resumed."""
    ran = "; ".join(str(call.input.get("command", call.name)) for call in conversation.tool_calls)
    return Reply(
        text=(
            f"{SCRIPTED} I remember. Your first prompt was {conversation.prompts[0]!r}. "
            f"I ran: {ran or 'no tool'}. The last result was: {_last_result(conversation)}"
        ),
        pace=READABLE,
        usage=Usage(uncached_input_tokens=180, cache_read_tokens=2200, output_tokens=72),
    )


def _last_result(conversation: Conversation) -> str:
    results = conversation.tool_results
    return results[-1].text.strip() if results else "none"


def samples() -> Script:
    """One scenario per behaviour, picked by `[[scenario:NAME]]` in the prompt; without a marker, an echo."""
    return Script(
        [_echo],
        scenarios={
            "demo": Turns([_demo_tool, _demo_report], [_demo_memory]),
            "stall": [Reply(text="one two three " * 20, ends=Stall(after_pieces=3))],
            "silent": [Reply(text="never sent", pace=Pace(first_byte_after_s=math.inf))],
            "fast": [Reply(text=("word " * 8) * 1000, pace=Pace(piece_chars=40, delay_s=0.001))],
            "rate-limited": [HttpError(status=429, retry_after_s=1)],
            "overloaded": [HttpError(status=529)],
        },
    )


def _echo(conversation: Conversation) -> Reply:
    return Reply(text=f"{SCRIPTED} You said: {conversation.last_prompt}")


SCENARIOS: Final[dict[str, Callable[[], Script]]] = {"demo": demo, "samples": samples}
