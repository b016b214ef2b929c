"""What a session or a turn may ask of the client. Pure."""

from collections.abc import Sequence
from typing import Any

from podium.v1 import content_pb2, session_pb2
from runner.providers import problems
from runner.providers.port import ProviderFailed


def require_allowed(mode: session_pb2.PermissionMode.ValueType, *, allow_bypass: bool) -> None:
    """Raise ProviderFailed when this runner forbids `mode`."""
    if mode == session_pb2.PERMISSION_MODE_BYPASS and not allow_bypass:
        raise ProviderFailed(problems.NOT_ALLOWED, "this runner does not allow PERMISSION_MODE_BYPASS")


def prompt_content(prompt: Sequence[content_pb2.ContentBlock]) -> list[dict[str, Any]]:
    """Return a prompt as the client takes it. Raises ProviderFailed for what it does not take."""
    kinds = [block.WhichOneof("block") or "empty" for block in prompt]
    if wrong := sorted(set(kinds) - {"text"}):
        raise ProviderFailed(problems.PROMPT_NOT_SUPPORTED, f"a prompt is text; found {', '.join(wrong)}")
    if not any(block.text.text for block in prompt):
        raise ProviderFailed(problems.PROMPT_NOT_SUPPORTED, "the prompt is empty")
    return [{"type": "text", "text": block.text.text} for block in prompt if block.text.text]
