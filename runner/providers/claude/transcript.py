"""The client's transcript on disk: where it is, its running totals, and a call left open in it for later.

Source: docs/providers.md#claude-transcript (Claude Code 2.1.330, checked 2026-11-22).
"""

import os
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from podium import names
from podium.clock import to_timestamp
from runner.providers.claude.records import JsonObject, NotARecord, mapping, number, objects, parse, text

_FOLDER_LENGTH_MAX: Final = 200
_TAIL_BYTES: Final = 1024 * 1024
"""The client itself looks for a deferred call in the last MiB."""

_CONVERSATION: Final = ("user", "assistant", "attachment", "system")
_COPIED: Final = ("isSidechain", "userType", "entrypoint", "cwd", "sessionId", "version", "gitBranch")
_MARK: Final = "podium"
_MS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Totals:
    """What the client has counted for a session over all its processes."""

    cost_usd: float = 0.0
    api_ms: int = 0


@dataclass(frozen=True, slots=True)
class OpenCall:
    """A tool call that waits for its permission."""

    tool_use_id: str
    tool_name: str
    input: Mapping[str, object]
    mode: str


class NotDeferrable(Exception):
    """The call is not the transcript's to leave open."""


def path_of(configuration: Path, workspace: Path, native_id: str) -> Path:
    """Return where the session's transcript is, or will be."""
    folder = unicodedata.normalize("NFC", os.path.realpath(workspace))
    slug = re.sub(r"[^a-zA-Z0-9]", "-", folder)
    expected = configuration / "projects" / slug[:_FOLDER_LENGTH_MAX] / f"{native_id}.jsonl"
    if len(slug) <= _FOLDER_LENGTH_MAX:
        return expected
    # A long name ends in a hash of the client's own making: found by looking.
    found = sorted((configuration / "projects").glob(f"{slug[:_FOLDER_LENGTH_MAX]}-*/{native_id}.jsonl"))
    return found[0] if found else expected


def totals(path: Path) -> Totals:
    """Return what the client will go on counting from when it resumes `path`."""
    for row in _rows_from_end(path):
        if text(row, "type") == "cost-state":
            cost = row.get("totalCostUSD")
            return Totals(float(cost) if isinstance(cost, int | float) else 0.0, number(row, "totalAPIDuration"))
    return Totals()


def size_bytes(path: Path) -> int:
    """Return the transcript's size, 0 when there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def leave_open(path: Path, call: OpenCall, now_ns: int) -> None:
    """Make the client ask for `call` again when it resumes, without a prompt.

    Appends the row that the client writes itself when a PreToolUse hook answers `defer`. The hook is of no use
    here: it runs before the client knows whether the call needs a person, and works for single calls only.
    The client must have ended. Raises NotDeferrable when the call is not open in this transcript, OSError.
    """
    rows = list(_rows_from_end(path))
    leaf = next((row for row in rows if text(row, "uuid") and row.get("type") in _CONVERSATION), None)
    if leaf is None or not _is_open(rows, call.tool_use_id):
        why = "a sub-agent's question cannot outlive its process"
        raise NotDeferrable(f"call {call.tool_use_id} is not open in the main conversation {path}; {why}")
    row = {
        "parentUuid": leaf["uuid"],
        **{key: leaf[key] for key in _COPIED if key in leaf},
        "attachment": {
            "type": "hook_deferred_tool",
            "toolUseID": call.tool_use_id,
            "toolName": call.tool_name,
            "toolInput": call.input,
            "hookName": _MARK,
            "hookEvent": "PreToolUse",
            "permissionMode": call.mode,
        },
        "type": "attachment",
        "uuid": names.new_id(now_ns),
        "timestamp": to_timestamp(now_ns // _MS * _MS).ToJsonString(),
    }
    with path.open("ab") as transcript:
        transcript.write(orjson.dumps(row) + b"\n")
        transcript.flush()
        os.fsync(transcript.fileno())


def open_call(path: Path, mode: str) -> OpenCall | None:
    """Return the first call of the newest answer that has no result, None when all have one."""
    answered: set[str] = set()
    calls: list[JsonObject] = []
    answer_id = ""
    for row in _rows_from_end(path):
        message = mapping(row, "message")
        blocks = objects(message.get("content"))
        answered.update(text(block, "tool_use_id") for block in blocks)
        if row.get("type") != "assistant":
            continue
        if answer_id and text(message, "id") != answer_id:
            break
        answer_id = text(message, "id")
        calls += [block for block in blocks if block.get("type") == "tool_use"]
    unanswered = [call for call in reversed(calls) if text(call, "id") not in answered]
    if not unanswered:
        return None
    call = unanswered[0]
    return OpenCall(text(call, "id"), text(call, "name"), mapping(call, "input"), mode)


def is_left_open(path: Path) -> bool:
    """Whether the client will ask again when it resumes `path`."""
    rows = []
    for row in _rows_from_end(path):
        rows.append(row)
        attachment = mapping(row, "attachment")
        if attachment.get("type") == "hook_deferred_tool":
            return not any(_names(later, text(attachment, "toolUseID")) for later in rows[:-1])
    return False


def take_back(path: Path) -> bool:
    """Remove the row of `leave_open` when it is the last one; return whether it was."""
    try:
        with path.open("r+b") as transcript:
            size = transcript.seek(0, os.SEEK_END)
            transcript.seek(max(0, size - _TAIL_BYTES))
            tail = transcript.read()
            start = tail.rstrip(b"\n").rfind(b"\n") + 1
            if not _is_mark(tail[start:]):
                return False
            transcript.truncate(size - len(tail) + start)
    except FileNotFoundError:
        return False
    return True


def _is_mark(line: bytes) -> bool:
    try:
        attachment = mapping(parse(line), "attachment")
    except NotARecord:
        return False
    return attachment.get("type") == "hook_deferred_tool" and attachment.get("hookName") == _MARK


def _is_open(rows: list[JsonObject], tool_use_id: str) -> bool:
    """Whether the newest row that names the call is the one that makes it."""
    named = next((row for row in rows if _names(row, tool_use_id)), None)
    return named is not None and named.get("type") == "assistant"


def _names(row: JsonObject, tool_use_id: str) -> bool:
    blocks = objects(mapping(row, "message").get("content"))
    return any(tool_use_id in (block.get("id"), block.get("tool_use_id")) for block in blocks)


def _rows_from_end(path: Path) -> Iterator[JsonObject]:
    """Yield the rows in the last MiB, newest first; what cannot be read is left out."""
    try:
        with path.open("rb") as transcript:
            size = transcript.seek(0, os.SEEK_END)
            transcript.seek(max(0, size - _TAIL_BYTES))
            lines = transcript.read().split(b"\n")
    except OSError:
        return
    for line in reversed(lines):
        try:
            if line:
                yield parse(line)
        except NotARecord:
            continue
