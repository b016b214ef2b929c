"""The history in an Anthropic request, read into the script's own terms and held to the real API's rules.

Source: requests recorded from Claude Code 2.1.330 on loopback, 2026-11-22. What it writes into user
messages besides the prompt, each as its own text block: `<system-reminder>` notes (environment, model,
tools, tokens left, background tasks), and `[Request interrupted by user]`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from podium.scripted_model.script import Message, ToolCall, ToolResult

# Text blocks that start like this come from the client itself, not from a person.
CLIENT_NOTES: Final = (
    "<system-reminder>",
    "[Request interrupted by user",
    "<local-command-caveat>",
    "<task-notification>",
    "Output token limit hit. Resume directly",  # it asks again by itself after stop_reason max_tokens
    "Your response above was stopped by a safety classifier",  # and once after stop_reason refusal
)


class HistoryError(ValueError):
    """The real API refuses this history with 400; the text is the message it would send, or near to it."""


def read_messages(messages: object) -> tuple[Message, ...]:
    """The messages in order. Raises HistoryError for a history that the real API refuses."""
    if not isinstance(messages, list) or not messages:
        raise HistoryError("messages: at least one message is required")
    try:
        read = tuple(_message(message, index) for index, message in enumerate(messages))
    except KeyError as missing:
        raise HistoryError(f"messages: a content block lacks {missing}") from missing
    _check_pairs(read)
    return read


def _message(message: object, index: int) -> Message:
    if not isinstance(message, dict) or message.get("role") not in ("user", "assistant", "system"):
        raise HistoryError(f"messages.{index}.role: expected 'user' or 'assistant'")
    blocks = _blocks(message.get("content"), index)
    texts = [block["text"] for block in blocks if block.get("type") == "text"]
    role = message["role"]
    return Message(
        role=role,
        prompts=_prompts(texts) if role == "user" else (),
        text="".join(texts) if role == "assistant" else "",
        tool_calls=tuple(
            ToolCall(block["name"], block["input"], block["id"]) for block in blocks if block.get("type") == "tool_use"
        ),
        tool_results=tuple(_tool_result(block) for block in blocks if block.get("type") == "tool_result"),
    )


def _blocks(content: object, index: int) -> list[dict[str, Any]]:
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    if not isinstance(content, list) or not content:
        raise HistoryError(f"messages.{index}: content must be non-empty")
    return content


def _prompts(texts: Iterable[str]) -> tuple[str, ...]:
    """Neighbouring blocks are one prompt; a note between them (an interrupt) makes them two."""
    prompts: list[str] = []
    open_prompt = False
    for text in texts:
        if text.lstrip().startswith(CLIENT_NOTES):
            open_prompt = False
        elif open_prompt:
            prompts[-1] += "\n" + text
        else:
            prompts.append(text)
            open_prompt = True
    return tuple(prompts)


def _tool_result(block: dict[str, Any]) -> ToolResult:
    content = block.get("content", "")
    if isinstance(content, list):
        content = "\n".join(part["text"] for part in content if part.get("type") == "text")
    text = content.split("\n\n<system-reminder>", 1)[0]
    return ToolResult(tool_use_id=block["tool_use_id"], text=text, is_error=bool(block.get("is_error")))


def _check_pairs(messages: tuple[Message, ...]) -> None:
    """Every tool call is answered in the very next message, and nothing else is."""
    for index, message in enumerate(messages):
        before = messages[index - 1] if index else None
        asked = {call.id for call in before.tool_calls} if before else set()
        answered = {result.tool_use_id for result in message.tool_results}
        if stray := answered - asked:
            raise HistoryError(
                f"messages.{index}.content: unexpected `tool_use_id` found in `tool_result` blocks: "
                f"{', '.join(sorted(stray))}. Each `tool_result` block must have a corresponding `tool_use` "
                "block in the previous message."
            )
        if missing := asked - answered:
            raise HistoryError(
                f"messages.{index - 1}: `tool_use` ids were found without `tool_result` blocks immediately after: "
                f"{', '.join(sorted(missing))}."
            )
    if messages[-1].tool_calls:
        raise HistoryError("the last message must not end with an unanswered `tool_use`")
