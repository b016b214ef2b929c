"""Where a session may run: pool, host of its workspace and transcript, labels, provider. Pure."""

from collections.abc import Iterable
from difflib import get_close_matches

from podium.errors import FailedPrecondition
from podium.v1 import runner_pb2, session_pb2


def eligible(runners: Iterable[runner_pb2.Runner], session: session_pb2.Session) -> list[runner_pb2.Runner]:
    """Return the runners that may take the session, the least busy first.

    A session that has run stays with the host that has its workspace and transcript.
    """
    fitting = [runner for runner in runners if _fits(runner, session)]
    return sorted(fitting, key=lambda runner: (runner.busy / max(runner.slots, 1), runner.load, runner.id))


def why_not(runners: Iterable[runner_pb2.Runner], session: session_pb2.Session) -> str:
    """Return what keeps every runner from taking the session, for people."""
    living = list(runners)
    if not living:
        return "no runner is there"
    asked = f"pool {session.pool}, provider {session.provider}"
    if session.host:
        asked += f", host {session.host} (it has the workspace and the transcript)"
    if session.runner_labels:
        asked += ", labels " + ", ".join(f"{key}={value}" for key, value in sorted(session.runner_labels.items()))
    if not session.directory and session.workspace:
        asked += f", workspace {session.workspace}"
    return f"none of {len(living)} runners fits: {asked}"


def require_workspace(runners: Iterable[runner_pb2.Runner], session: session_pb2.Session) -> None:
    """Raise FailedPrecondition for a workspace that no living runner of the pool knows: most likely a typing error.

    Without a runner in the pool the session waits for one; so it does for labels, which a new runner may bring.
    """
    pool = [runner for runner in runners if runner.pool == session.pool]
    known = sorted({name for runner in pool for name in runner.workspaces})
    if not pool or session.directory or session.workspace in known:
        return
    near = get_close_matches(session.workspace, known, n=3, cutoff=0.4)
    hint = f"; near it: {', '.join(near)}" if near else ""
    message = f"no runner of pool {session.pool} has a workspace {session.workspace!r}{hint}; name a folder instead"
    raise FailedPrecondition("NO_ELIGIBLE_RUNNER", message, workspace=session.workspace, pool=session.pool)


def _fits(runner: runner_pb2.Runner, session: session_pb2.Session) -> bool:
    knows_workspace = bool(session.host or session.directory) or session.workspace in runner.workspaces
    return (
        runner.pool == session.pool
        and not runner.draining
        and session.host in ("", runner.host)
        and knows_workspace
        and any(provider.name == session.provider and provider.installed for provider in runner.providers)
        and all(runner.labels.get(key) == value for key, value in session.runner_labels.items())
    )
