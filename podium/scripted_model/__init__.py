"""The loopback model endpoint of the demo and the tests: it stands in for the paid model and for nothing else."""

from podium.scripted_model.anthropic import rate_limit_headers
from podium.scripted_model.environment import DUMMY_KEY, claude_environment
from podium.scripted_model.requests import RecordedRequest
from podium.scripted_model.script import (
    Attempts,
    Conversation,
    Drop,
    HttpError,
    Message,
    Pace,
    Reply,
    Script,
    Stall,
    StreamError,
    ToolCall,
    ToolResult,
    Turns,
    Usage,
)
from podium.scripted_model.server import LABEL, ScriptedModel

__all__ = [
    "DUMMY_KEY",
    "LABEL",
    "Attempts",
    "Conversation",
    "Drop",
    "HttpError",
    "Message",
    "Pace",
    "RecordedRequest",
    "Reply",
    "Script",
    "ScriptedModel",
    "Stall",
    "StreamError",
    "ToolCall",
    "ToolResult",
    "Turns",
    "Usage",
    "claude_environment",
    "rate_limit_headers",
]
