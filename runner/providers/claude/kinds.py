"""The kinds of records that become a notice, and those that mean nothing for the log.

Source: docs/providers.md#claude-records (Claude Code 2.1.330, 2026-11-22).
"""

from collections.abc import Callable
from typing import Final

from podium.v1 import event_pb2
from runner.providers.claude import notices
from runner.providers.claude.records import JsonObject

QUIET: Final = frozenset(
    {
        # Bookkeeping between client and SDK.
        "control_request",
        "control_response",
        "control_cancel_request",
        "keep_alive",
        "command_lifecycle",
        "transcript_mirror",
        # Progress of something whose outcome comes as a message.
        "tool_progress",
        "prompt_suggestion",
        "tool_use_summary",
        "system/status",
        "system/thinking_tokens",
        "system/session_state_changed",
        "system/task_started",
        "system/task_progress",
        "system/task_updated",
        "system/background_tasks_changed",
        "system/hook_started",
        "system/hook_progress",
        "system/hook_response",
        "system/files_persisted",
        "system/commands_changed",
        "system/per_turn_effort_changed",
        "system/session_title_changed",
        "system/turn_duration",
        "system/post_turn_summary",
        "system/task_summary",
        "system/task_list_statuses",
        "system/shell_cwd",
        "system/vcs_state_changed",
        "system/memory_recall",
        "system/memory_saved",
    }
)
"""Records that mean nothing for the log; they stay in the native log."""

NOTICES: Final[dict[str, Callable[[JsonObject], event_pb2.Notice]]] = {
    "system/permission_denied": notices.permission_denied,
    "system/compact_boundary": notices.compacted,
    "system/task_notification": notices.task_ended,
    "system/notification": notices.other,
    "system/informational": notices.other,
    "system/local_command_output": notices.other,
    "system/model_fallback": notices.other,
    "system/model_refusal_fallback": notices.other,
    "system/instruction_size_warning": notices.other,
    "system/session_writes_lost": notices.writes_lost,
    "system/mirror_error": notices.other,
    "rate_limit_event": notices.rate_limit,
}
