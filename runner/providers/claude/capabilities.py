"""What Claude Code can do, as data; tests hold the driver to it."""

from typing import Final

from podium.v1 import provider_pb2, session_pb2

NAME: Final = "claude"
DISPLAY_NAME: Final = "Claude Code"
VENDOR: Final = "anthropic"

PERMISSION_MODES: Final = {
    session_pb2.PERMISSION_MODE_DEFAULT: "default",
    session_pb2.PERMISSION_MODE_ACCEPT_EDITS: "acceptEdits",
    session_pb2.PERMISSION_MODE_PLAN: "plan",
    session_pb2.PERMISSION_MODE_BYPASS: "bypassPermissions",
    session_pb2.PERMISSION_MODE_DENY: "dontAsk",
}
"""Podium's permission modes and the client's words for them."""

CAPABILITIES: Final = provider_pb2.Capabilities(
    resume=True,
    interrupt=True,
    steer=False,
    approvals=True,
    deferred_approvals=True,
    questions=True,
    partial_text=True,
    thinking=True,
    usage_per_call=True,
    model_per_turn=True,
    effort_per_turn=True,
    structured_output=True,
    images=False,
    permission_modes=[
        session_pb2.PermissionMode.Name(mode).removeprefix("PERMISSION_MODE_").lower() for mode in PERMISSION_MODES
    ],
    fork=False,
    sub_agents=True,
)


def native_mode(mode: session_pb2.PermissionMode.ValueType) -> str:
    """Return the client's word for `mode`; an unknown or unspecified one is the default mode."""
    return PERMISSION_MODES.get(mode, "default")
