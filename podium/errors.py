"""Every error a caller can meet, in one tree and one table.

    PodiumError
    ├── InvalidArgument              INVALID_ARGUMENT     a field is missing or malformed
    │   └── StatementRefused         …                    a SQL statement outside the documented surface
    ├── Unauthenticated              UNAUTHENTICATED      no token, or one nobody knows
    ├── PermissionDenied             PERMISSION_DENIED    the token's role does not allow it
    ├── NotFound                     NOT_FOUND            no such session, turn, approval …
    ├── AlreadyExists                ALREADY_EXISTS       a request id used again with other content
    ├── FailedPrecondition           FAILED_PRECONDITION  the session's state does not allow it
    ├── OutOfRange                   OUT_OF_RANGE         a resume point that is gone
    ├── ResourceExhausted            RESOURCE_EXHAUSTED   a bound was reached
    ├── Aborted                      ABORTED              lost a race too often; try again
    ├── Unavailable                  UNAVAILABLE          a part of Podium is not there now; try again
    ├── DeadlineExceeded             DEADLINE_EXCEEDED    not done in time
    └── Fenced                       (never leaves a runner) another owner has taken the session

`podium.rpc` is the one place that turns them into gRPC status codes with `google.rpc.ErrorInfo`, and back.
`REASONS` lists every reason with what to do; docs/errors.md is made from it.
"""

from typing import ClassVar

DOMAIN = "podium"
"""`domain` of every ErrorInfo."""

REASONS: dict[str, str] = {
    "INVALID_FIELD": "Correct the field that the message names.",
    "SQL_REFUSED": "Use one SELECT over the views of docs/sql.md.",
    "SQL_FAILED": "Correct the statement; the message is the database's.",
    "EFFORT_NOT_SUPPORTED": "Choose one of the efforts in metadata.supported, or leave it out.",
    "MODEL_UNKNOWN": "Choose a model from ListModels.",
    "PROVIDER_UNKNOWN": "Choose a provider from ListProviders, or start a runner that has it.",
    "PERMISSION_MODE_NOT_SUPPORTED": "Choose one of the provider's permission modes, or change the runner's settings.",
    "TOKEN_MISSING": "Send `authorization: Bearer TOKEN`; `podium` reads PODIUM_TOKEN or the token file.",
    "TOKEN_UNKNOWN": "Use a token from the gateway's token file.",
    "ROLE_TOO_LOW": "Use a token with the role that metadata.needed names.",
    "SESSION_NOT_FOUND": "Check the name; ListSessions shows what there is.",
    "TURN_NOT_FOUND": "Check the id; ListTurns shows what there is.",
    "APPROVAL_NOT_FOUND": "Check the id; ListApprovals shows what there is.",
    "REQUEST_ID_REUSED": "Use a fresh request id for another request.",
    "APPROVAL_SETTLED": "Nothing to do: metadata.outcome says how it was settled.",
    "SESSION_ARCHIVED": "Take it back with UpdateSession(archived=false) first.",
    "NO_ELIGIBLE_RUNNER": "Start a runner with the pool, provider and labels that the message names.",
    "REVISION_GONE": "Watch again from metadata.first_revision; what was before was erased.",
    "REVISION_AHEAD": "Watch again from at most metadata.newest_revision.",
    "QUEUE_FULL": "Wait for a queued turn to start, or cancel one.",
    "PROMPT_TOO_LARGE": "Put long content into a file in the workspace and mention it as @path.",
    "WATCHER_TOO_SLOW": "Watch again from metadata.resume_revision, and read faster.",
    "TOO_MANY_WATCHES": "Close watches that nobody reads.",
    "TOO_MANY_QUERIES": "Wait for a running query to end.",
    "QUERY_TOO_LARGE": "Ask for less: filter, aggregate, or raise the indexer's limits.",
    "SESSION_BUSY": "Try again: the session's facts came faster than this command could join them.",
    "LOG_UNAVAILABLE": "Try again: the NATS server cannot be reached or did not confirm in time.",
    "PROJECTION_UNAVAILABLE": "Try again: the indexer cannot be reached. Commands and GetSession go on without it.",
    "PROJECTION_BEHIND": "Try again: the projection has not seen the position yet.",
    "SHUTTING_DOWN": "Try again at another gateway.",
    "QUERY_TIMED_OUT": "Ask for less, or raise the indexer's time limit.",
    "FENCED": "Nothing: another runner owns the session now.",
}


class PodiumError(Exception):
    """An error with a gRPC code, a stable reason, facts, and a sentence that says what to do."""

    code: ClassVar[str] = "UNKNOWN"

    def __init__(self, reason: str, message: str, **metadata: str | int) -> None:
        """Take a reason from REASONS, a message for people, and the facts as strings."""
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.metadata = {key: str(value) for key, value in metadata.items()}

    @property
    def advice(self) -> str:
        """Return what the caller can do."""
        return REASONS.get(self.reason, "")


class InvalidArgument(PodiumError):
    """A field is missing or malformed."""

    code = "INVALID_ARGUMENT"

    def __init__(
        self, field: str, *, found: object, expected: str, reason: str = "INVALID_FIELD", **facts: str
    ) -> None:
        """Say which field, what was found in it and what was expected."""
        shown = repr(found)
        shown = shown if len(shown) <= 200 else shown[:200] + "…"
        super().__init__(
            reason, f"{field}: found {shown}, expected {expected}", field=field, expected=expected, **facts
        )


class StatementRefused(PodiumError):
    """A SQL statement outside the documented surface, or one the database rejects."""

    code = "INVALID_ARGUMENT"


class Unauthenticated(PodiumError):
    """No token, or one nobody knows."""

    code = "UNAUTHENTICATED"


class PermissionDenied(PodiumError):
    """The token's role does not allow it."""

    code = "PERMISSION_DENIED"


class NotFound(PodiumError):
    """No such session, turn or approval."""

    code = "NOT_FOUND"


class AlreadyExists(PodiumError):
    """A request id was used again with other content."""

    code = "ALREADY_EXISTS"


class FailedPrecondition(PodiumError):
    """The session's state does not allow it."""

    code = "FAILED_PRECONDITION"


class OutOfRange(PodiumError):
    """A resume point that is gone or was never there."""

    code = "OUT_OF_RANGE"


class ResourceExhausted(PodiumError):
    """A bound was reached."""

    code = "RESOURCE_EXHAUSTED"


class Aborted(PodiumError):
    """Lost a race too often."""

    code = "ABORTED"


class Unavailable(PodiumError):
    """A part of Podium is not there now."""

    code = "UNAVAILABLE"


class DeadlineExceeded(PodiumError):
    """Not done in time."""

    code = "DEADLINE_EXCEEDED"


class Fenced(PodiumError):
    """Another owner has taken the session; this one must write nothing more."""

    code = "ABORTED"

    def __init__(self, session_id: str, *, own_epoch: int, epoch: int) -> None:
        """Say which epoch was met."""
        super().__init__(
            "FENCED",
            f"session {session_id} has an owner of epoch {epoch}; this one had {own_epoch}",
            session=session_id,
            own_epoch=own_epoch,
            epoch=epoch,
        )
        self.epoch = epoch


def session_not_found(session_id: str) -> NotFound:
    """Return the error for a session that is not on the log."""
    return NotFound("SESSION_NOT_FOUND", f"there is no session {session_id}", session=session_id)


def log_unavailable(doing: str, why: object) -> Unavailable:
    """Return the error for a log that cannot be reached or did not confirm in time."""
    return Unavailable("LOG_UNAVAILABLE", f"the log is not available while {doing}: {why}", doing=doing)
