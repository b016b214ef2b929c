"""Asks the person at the terminal what the agent asks: yes, no, other arguments, always, or answers to questions."""

import asyncio
import os
import shlex
import tempfile
from dataclasses import dataclass
from pathlib import Path

import orjson
from rich.console import Console
from rich.markup import escape

from podium.cli import tools
from podium.cli.keyboard import Keyboard
from podium.v1 import event_pb2, session_pb2
from podium.v1 import session_service_pb2 as api


@dataclass(frozen=True, slots=True)
class Reply:
    """What the person decided."""

    decision: api.ApprovalDecision.ValueType
    updated_input_json: str = ""
    message: str = ""
    remember_json: str = ""


YES = Reply(api.APPROVAL_DECISION_ALLOW)


async def ask(console: Console, keys: Keyboard, request: event_pb2.ApprovalRequested) -> Reply | None:
    """Return the person's answer, None when they leave it open (Ctrl-D). May be cancelled at any time."""
    if request.kind == session_pb2.APPROVAL_KIND_QUESTION:
        return await _answers(console, keys, request)
    return await _permission(console, keys, request)


async def _permission(console: Console, keys: Keyboard, request: event_pb2.ApprovalRequested) -> Reply | None:
    rules = tools.options(request)
    choices = ["[bold]y[/]es", "[bold]n[/]o", "[bold]e[/]dit"]
    if rules:
        choices.append(f"[bold]a[/]lways ({escape(tools.option(rules[0]))})")
    while True:
        typed = await keys.line(console, f"    {', '.join(choices)}: ")
        if typed is None:
            console.print("    [detail]left open; `podium approvals` shows it[/]")
            return None
        match typed.lower():
            case "y" | "yes":
                return YES
            case "a" | "always" if rules:
                return Reply(api.APPROVAL_DECISION_ALLOW, remember_json=orjson.dumps(rules[0]).decode())
            case "n" | "no":
                why = await keys.line(console, "    why (the agent reads it; Enter for nothing): ")
                return Reply(api.APPROVAL_DECISION_DENY, message=why or "")
            case "e" | "edit":
                edited = await _edited(console, keys, request.input_json)
                if edited is not None:
                    return Reply(api.APPROVAL_DECISION_ALLOW, updated_input_json=edited)
            case _:
                console.print("    [detail]y = let it run, n = refuse, e = change its arguments first[/]")


async def _answers(console: Console, keys: Keyboard, request: event_pb2.ApprovalRequested) -> Reply | None:
    """Ask each question: numbers choose options (several with commas where allowed), anything else is the answer."""
    answers: dict[str, str] = {}
    for asked in tools.questions(request):
        labels = [str(option.get("label", "")) for option in asked.get("options") or []]
        several = ", several with commas" if asked.get("multiSelect") else ""
        hint = f"1 to {len(labels)}{several}, or your own words" if labels else "your answer"
        typed = await keys.line(console, f"    {escape(str(asked.get('header') or 'answer'))} [dim]({hint})[/]: ")
        if typed is None:
            return None
        answers[str(asked.get("question", ""))] = chosen(typed, labels)
    given = {**tools.arguments(request.input_json), "answers": answers}
    return Reply(api.APPROVAL_DECISION_ALLOW, updated_input_json=orjson.dumps(given).decode())


def chosen(typed: str, labels: list[str]) -> str:
    """Return the labels that numbers stand for, or the text as it was typed."""
    parts = [part.strip() for part in typed.split(",")]
    if labels and all(part.isdecimal() and 1 <= int(part) <= len(labels) for part in parts):
        return ", ".join(labels[int(part) - 1] for part in parts)
    return typed


async def _edited(console: Console, keys: Keyboard, input_json: str) -> str | None:
    """Return the arguments as the person changed them in an editor, None when they are no JSON object."""
    with tempfile.TemporaryDirectory(prefix="podium-edit-") as folder:
        file = Path(folder) / "arguments.json"
        file.write_bytes(orjson.dumps(tools.arguments(input_json), option=orjson.OPT_INDENT_2))
        editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
        keys.rest()
        try:
            process = await asyncio.create_subprocess_exec(*shlex.split(editor), str(file))
            await process.wait()
        except OSError as error:
            console.print(f"    [bad]{escape(editor)} cannot be run: {escape(str(error))}; set EDITOR[/]")
            return None
        finally:
            keys.listen()
        edited = file.read_text(encoding="utf-8")
    if not isinstance(tools.parsed(edited), dict):
        console.print("    [bad]that is no JSON object; nothing was answered[/]")
        return None
    return edited
