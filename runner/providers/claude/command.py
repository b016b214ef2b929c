"""How the client is started: its arguments and its environment. Pure.

Source: `claude --help` of 2.1.330 and the transport of claude-agent-sdk 0.2.187, read 2026-11-22.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from podium.v1 import session_pb2
from runner.providers.claude.capabilities import native_mode
from runner.providers.port import SessionSpec

_ARGUMENT_BYTES_MAX: Final = 120 * 1024
"""The kernel takes 128 KiB for one argument, its end included."""

CLIENT_ENVIRONMENT: Final = {
    "CLAUDE_CODE_ENTRYPOINT": "sdk-py",
    # `session_state_changed` records: they tell whether a background agent will still wake the session.
    "CLAUDE_CODE_SDK_READS_SESSION_STATE": "1",
    # Else sub-agents go on after the turn's result and the client takes turns of its own between ours, which an
    # idle client that is ended to free its slot would lose.
    "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",
}
"""What the SDK's own transport sets for the client, and what Podium adds; a runner's settings can overrule it."""


@dataclass(frozen=True, slots=True)
class Start:
    """One start of the client."""

    native_id: str
    resumes: bool
    model: str = ""
    effort: str = ""
    mode: session_pb2.PermissionMode.ValueType = session_pb2.PERMISSION_MODE_DEFAULT
    schema_json: str = ""
    addition: Path | None = None
    """File with the text to add to the system prompt: it may be too long for an argument."""
    allow_bypass: bool = False
    keeps_transcript: bool = True


def arguments(start: Start) -> list[str]:
    """Return the client's arguments. Raises ValueError for a schema that does not fit one."""
    words = ["--output-format", "stream-json", "--input-format", "stream-json", "--verbose"]
    words += ["--include-partial-messages", "--permission-prompt-tool", "stdio"]
    words += ["--permission-mode", native_mode(start.mode)]
    # The equals form binds values that begin with a dash.
    if start.native_id:
        words.append(f"--resume={start.native_id}" if start.resumes else f"--session-id={start.native_id}")
    if start.model:
        words.append(f"--model={start.model}")
    if start.effort:
        words.append(f"--effort={start.effort}")
    if start.addition is not None:
        words.append(f"--append-system-prompt-file={start.addition}")
    if start.allow_bypass:
        words.append("--allow-dangerously-skip-permissions")
    if not start.keeps_transcript:
        words.append("--no-session-persistence")
    if start.schema_json:
        if len(start.schema_json.encode()) > _ARGUMENT_BYTES_MAX:
            raise ValueError(f"the output schema is longer than {_ARGUMENT_BYTES_MAX} bytes")
        words += ["--json-schema", start.schema_json]
    return words


def environment(spec: SessionSpec, sdk_version: str) -> dict[str, str]:
    """Return all that the client's process will see."""
    return {**CLIENT_ENVIRONMENT, "CLAUDE_AGENT_SDK_VERSION": sdk_version, **spec.environment}


def configuration_folder(environment: Mapping[str, str]) -> Path:
    """Return where the client keeps its settings and transcripts."""
    own = environment.get("CLAUDE_CONFIG_DIR")
    return Path(own) if own else Path(environment.get("HOME", "/")) / ".claude"
