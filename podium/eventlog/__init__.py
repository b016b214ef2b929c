"""The event log: append (guarded), read, feed, live. The one place that knows NATS.

    async with EventLog.connect(settings, Role.GATEWAY) as log:
        result = await command(log, session_id, decide, clock=clock)

What raises what: `podium.errors.Unavailable` when the log cannot be reached or did not confirm in time,
`LogUnusable` when its streams are not what they must be, `Conflict` inside this package only.
"""

from podium.eventlog.appends import Conflict, InDoubt
from podium.eventlog.blobs import BlobError, BlobStore
from podium.eventlog.budget import UnacknowledgedBudget
from podium.eventlog.commands import CommandResult, Decide, attach, command
from podium.eventlog.connection import EventLog, LogSettings
from podium.eventlog.directory import Appeared, Changed, Gone, RunnerDirectory, RunnerReplaced, Watch
from podium.eventlog.feed import Feed
from podium.eventlog.layout import Limits, LogUnusable
from podium.eventlog.live import LiveSubscription
from podium.eventlog.native import NativeLog
from podium.eventlog.owner import SessionWriter
from podium.eventlog.roles import Role
from podium.eventlog.stored import AppendMalformed, AppendTooLarge, StoredAppend, Tail
from podium.eventlog.wakes import Wake, WakeQueue

__all__ = [
    "Appeared",
    "AppendMalformed",
    "AppendTooLarge",
    "BlobError",
    "BlobStore",
    "Changed",
    "CommandResult",
    "Conflict",
    "Decide",
    "EventLog",
    "Feed",
    "Gone",
    "InDoubt",
    "Limits",
    "LiveSubscription",
    "LogSettings",
    "LogUnusable",
    "NativeLog",
    "Role",
    "RunnerDirectory",
    "RunnerReplaced",
    "SessionWriter",
    "StoredAppend",
    "Tail",
    "UnacknowledgedBudget",
    "Wake",
    "WakeQueue",
    "Watch",
    "attach",
    "command",
]
