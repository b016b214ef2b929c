"""Tool calls, their results and questions in a few lines for people. Pure."""

from typing import Any

import orjson

from podium.v1 import content_pb2, event_pb2

CALL_LINES_MAX = 8
RESULT_LINES_MAX = 8
LINE_LENGTH_MAX = 400
OPTION_LENGTH_MAX = 60
_TELLING = ("command", "file_path", "notebook_path", "path", "pattern", "query", "url", "plan", "prompt", "description")
"""Which argument tells most about a call, best first."""


def arguments(json_text: str) -> dict[str, Any]:
    """Return a call's arguments; empty for what is no JSON object."""
    value = parsed(json_text)
    return value if isinstance(value, dict) else {}


def parsed(json_text: str) -> Any:
    """Return JSON text as a value, None when it is none."""
    try:
        return orjson.loads(json_text)
    except orjson.JSONDecodeError:
        return None


def call(use: content_pb2.ToolUseBlock) -> str:
    """Return what a call is about: its most telling argument, else all of them, in at most CALL_LINES_MAX lines."""
    return about(arguments(use.input_json))


def about(given: dict[str, Any]) -> str:
    """Return the most telling argument of a call, else all of them."""
    for key in _TELLING:
        if isinstance(given.get(key), str) and given[key]:
            return shortened(given[key], CALL_LINES_MAX)
    return shortened(" ".join(f"{key}={orjson.dumps(value).decode()}" for key, value in given.items()), CALL_LINES_MAX)


def result(block: content_pb2.ToolResultBlock) -> str:
    """Return what a tool answered, in at most RESULT_LINES_MAX lines."""
    text = block.text.strip("\n")
    if not text and block.attachments:
        text = ", ".join(f"{blob.media_type}, {blob.size_bytes:,} bytes" for blob in block.attachments)
    return shortened(text, RESULT_LINES_MAX) or "(no output)"


def shortened(text: str, lines_max: int) -> str:
    """Return the first lines of a text, long ones cut, and how many were left out."""
    lines = text.splitlines()
    kept = [line if len(line) <= LINE_LENGTH_MAX else line[: LINE_LENGTH_MAX - 1] + "…" for line in lines[:lines_max]]
    if len(lines) > lines_max:
        kept.append(f"… {len(lines) - lines_max} more lines")
    return "\n".join(kept)


def options(request: event_pb2.ApprovalRequested) -> list[dict[str, Any]]:
    """Return the rules that the provider could remember with an answer."""
    value = parsed(request.options_json)
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def option(rule: dict[str, Any]) -> str:
    """Return one rule in words, as far as its form is known, e.g. `allow Bash(ls:*)`."""
    told = _option(rule)
    return told if len(told) <= OPTION_LENGTH_MAX else told[: OPTION_LENGTH_MAX - 1] + "…"


def _option(rule: dict[str, Any]) -> str:
    rules = rule.get("rules")
    if isinstance(rules, list) and rules:
        named = [f"{one.get('toolName', '')}({one.get('ruleContent') or ''})" for one in rules if isinstance(one, dict)]
        return f"{rule.get('behavior', 'allow')} {', '.join(name.removesuffix('()') for name in named)}"
    if rule.get("mode"):
        return f"mode {rule['mode']}"
    if isinstance(rule.get("directories"), list):
        return "folder " + ", ".join(map(str, rule["directories"]))
    return orjson.dumps(rule).decode()


def questions(request: event_pb2.ApprovalRequested) -> list[dict[str, Any]]:
    """Return the agent's questions: [{"question", "header", "options": [{"label", "description"}], "multiSelect"}]."""
    asked = arguments(request.input_json).get("questions")
    return [one for one in asked if isinstance(one, dict)] if isinstance(asked, list) else []
