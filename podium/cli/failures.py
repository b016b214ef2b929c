"""How a command fails: exit codes, the errors that only the CLI knows, and the one place that shows an error."""

import json
import sys
from enum import IntEnum

from rich.console import Console
from rich.markup import escape

from podium.errors import FailedPrecondition, PodiumError
from podium.v1 import session_pb2


class Exit(IntEnum):
    """Exit codes; docs/cli.md explains them."""

    OK = 0
    FAILED = 1
    USAGE = 2
    CANCELLED = 3
    GOES_ON = 4
    REFUSED = 5
    UNREACHABLE = 69
    NOT_ALLOWED = 77
    INTERRUPTED = 130


_BY_CODE = {
    "INVALID_ARGUMENT": Exit.USAGE,
    "UNAVAILABLE": Exit.UNREACHABLE,
    "DEADLINE_EXCEEDED": Exit.UNREACHABLE,
    "UNAUTHENTICATED": Exit.NOT_ALLOWED,
    "PERMISSION_DENIED": Exit.NOT_ALLOWED,
}

_BY_TURN = {
    session_pb2.TURN_STATUS_COMPLETED: Exit.OK,
    session_pb2.TURN_STATUS_FAILED: Exit.FAILED,
    session_pb2.TURN_STATUS_LOST: Exit.FAILED,
    session_pb2.TURN_STATUS_CANCELLED: Exit.CANCELLED,
    session_pb2.TURN_STATUS_INTERRUPTED: Exit.INTERRUPTED,
}


class CliError(FailedPrecondition):
    """Something the CLI itself finds wrong, with the advice that goes with it."""

    def __init__(self, reason: str, message: str, advice: str, *, exit_code: Exit = Exit.FAILED, **facts: str) -> None:
        """Take what is wrong and what to do."""
        super().__init__(reason, message, **facts)
        self._advice = advice
        self.exit_code = exit_code

    @property
    def advice(self) -> str:
        """Return what the caller can do."""
        return self._advice


def exit_code(error: PodiumError) -> Exit:
    """Return the exit code for an error."""
    if isinstance(error, CliError):
        return error.exit_code
    return _BY_CODE.get(error.code, Exit.REFUSED)


def exit_code_of_turn(status: session_pb2.TurnStatus.ValueType) -> Exit:
    """Return the exit code that tells how a turn ended; a turn that has not ended goes on."""
    return _BY_TURN.get(status, Exit.GOES_ON)


def show(error: PodiumError, *, as_json: bool) -> None:
    """Print an error on standard error: for people in three lines, for programs as one JSON object."""
    if as_json:
        told = {
            "code": error.code,
            "reason": error.reason,
            "message": error.message,
            "advice": error.advice,
            "metadata": error.metadata,
        }
        sys.stderr.write(json.dumps({"error": told}, ensure_ascii=False) + "\n")
        return
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(f"[bold red]podium:[/] {escape(error.message)}")
    if error.advice:
        console.print(f"  {escape(error.advice)}")
    console.print(f"[dim]  reason {escape(error.reason)}[/]")
