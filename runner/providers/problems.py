"""Every typed problem with which a turn ends: the one place of their codes and what to do.

`session_pb2.Problem.code` is one of these; docs/errors.md is made from them.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from podium.v1 import session_pb2

NOT_INSTALLED: Final = "PROVIDER_NOT_INSTALLED"
NOT_LOGGED_IN: Final = "PROVIDER_NOT_LOGGED_IN"
NOT_ALLOWED: Final = "PROVIDER_NOT_ALLOWED"
START_FAILED: Final = "PROVIDER_START_FAILED"
SESSION_LOCKED: Final = "PROVIDER_SESSION_LOCKED"
SESSION_LOST: Final = "PROVIDER_SESSION_LOST"
PROCESS_DIED: Final = "PROVIDER_PROCESS_DIED"
SILENT: Final = "PROVIDER_SILENT"
RATE_LIMITED: Final = "PROVIDER_RATE_LIMITED"
QUOTA_USED_UP: Final = "PROVIDER_QUOTA_USED_UP"
OVERLOADED: Final = "PROVIDER_OVERLOADED"
MODEL_UNKNOWN: Final = "PROVIDER_MODEL_UNKNOWN"
CONNECTION_LOST: Final = "PROVIDER_CONNECTION_LOST"
REQUEST_REFUSED: Final = "PROVIDER_REQUEST_REFUSED"
CONTEXT_FULL: Final = "PROVIDER_CONTEXT_FULL"
OUTPUT_NOT_STRUCTURED: Final = "PROVIDER_OUTPUT_NOT_STRUCTURED"
PROMPT_NOT_SUPPORTED: Final = "PROVIDER_PROMPT_NOT_SUPPORTED"
DEFER_FAILED: Final = "PROVIDER_DEFER_FAILED"
TURN_FAILED: Final = "PROVIDER_TURN_FAILED"

PROBLEMS: Final[Mapping[str, str]] = MappingProxyType(
    {
        NOT_INSTALLED: "Install the provider's client on the runner; `podium doctor` says how.",
        NOT_LOGGED_IN: "Log the client in on the runner, or give the runner its key.",
        NOT_ALLOWED: "Choose another permission mode, or allow this one in the runner's settings.",
        START_FAILED: "Look at the message; it ends with what the client said.",
        SESSION_LOCKED: "Another process runs this session; try again when it has ended.",
        SESSION_LOST: "The client has lost the session; the next turn starts a new one without its context.",
        PROCESS_DIED: "Send the prompt again; the session goes on where it was.",
        SILENT: "The client said nothing for too long and was stopped; send the prompt again.",
        RATE_LIMITED: "Wait a little and send the prompt again.",
        QUOTA_USED_UP: "Wait until the account's allowance is renewed, or use another account.",
        OVERLOADED: "The model's service fails or is overloaded; try again later.",
        MODEL_UNKNOWN: "Choose a model from ListModels.",
        CONNECTION_LOST: "Check the network between the runner and the model's service; then try again.",
        REQUEST_REFUSED: "The model's service refused the request; the message says why.",
        CONTEXT_FULL: "The conversation does not fit the model any more; start a new session or compact this one.",
        OUTPUT_NOT_STRUCTURED: "The model did not follow the schema; simplify it or try again.",
        PROMPT_NOT_SUPPORTED: "Leave out what the provider does not take; the message names it.",
        DEFER_FAILED: "The question could not be kept for later; send the prompt again.",
        TURN_FAILED: "Look at the message; it is the client's.",
    }
)
"""Each code of a provider with what a person can do."""

RUNNER_PROBLEMS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "PATH_OUTSIDE_WORKSPACE": "Copy the file into the workspace, or ask the agent to read it: that asks a person.",
        "PROMPT_LOST": "The prompt's content is not in the object store any more; send it again.",
        "PROVIDER_UNKNOWN": "Start a runner that has the session's provider; PODIUM_PROVIDERS says what one offers.",
        "RUNNER_DRAINED": "The runner shut down before the turn was over; send the prompt again.",
        "RUNNER_FAULT": "A fault in Podium: look at the runner's log; the session goes on with the next prompt.",
        "RUNNER_LOST": "The runner is gone; send the prompt again, the session goes on from what was said.",
        "WORKSPACE_MISSING": "Make the workspace's folder on the runner's host, or name another one.",
        "WORKSPACE_NAME_TAKEN": "Choose another workspace name: this one stands for another folder on the host.",
        "WORKSPACE_OUTSIDE_ROOTS": "Choose a folder under the runner's roots, or add its root to PODIUM_ROOTS.",
        "WORKSPACE_UNKNOWN": "Name the folder once (`podium run --workspace DIR`); the runner then knows the name.",
    }
)
"""Each code of the runner itself with what a person can do."""

RETRYABLE: Final = frozenset({PROCESS_DIED, SILENT, RATE_LIMITED, OVERLOADED, CONNECTION_LOST, SESSION_LOCKED})
"""Codes of a provider of which the same prompt may succeed a little later."""

RUNNER_RETRYABLE: Final = frozenset({"RUNNER_DRAINED", "RUNNER_LOST"})
"""Codes of the runner of which the same prompt may succeed a little later."""

MESSAGE_LENGTH_MAX: Final = 1000


def problem(code: str, message: str) -> session_pb2.Problem:
    """Return the problem `code` with what was found; long messages are cut."""
    return session_pb2.Problem(code=code, message=message[:MESSAGE_LENGTH_MAX], retryable=code in RETRYABLE)
