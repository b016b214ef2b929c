"""Paths that a prompt points at with `@`: clients read such files themselves and ask nobody, so they must lie inside.

Without this a token that may only run turns could read what the runner's user can: keys, tokens, passwords.
Checked with Claude Code 2.1.330: `@../x` and `@/x` are attached in every permission mode.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from runner.providers.port import ProviderFailed

MENTIONS_MAX = 10_000
"""Distinct ones in a prompt; looking at each costs some microseconds."""
PATH_LENGTH_MAX = 4096

# More than any client takes for a path: what does not exist is no path, and does no harm.
_MENTION = re.compile(r'(?<![\w@])@(?:"([^"\n]+)"|([^\s"]+))')
_TRAILING = re.compile(r"\W+$")


def require_inside(prompt: str, workspace: Path) -> None:
    """Raise ProviderFailed for a prompt that points at something outside the workspace that is there.

    Blocks for as long as the file system takes.
    """
    seen: set[str] = set()
    for path in _paths(prompt):
        if path in seen:
            continue
        seen.add(path)
        if len(seen) > MENTIONS_MAX:
            raise ProviderFailed("PATH_OUTSIDE_WORKSPACE", f"a prompt may point at {MENTIONS_MAX} paths with @")
        if _is_outside(path, workspace):
            message = f"@{path} is outside the workspace {workspace}; copy it there, or ask the agent to read it"
            raise ProviderFailed("PATH_OUTSIDE_WORKSPACE", message)


def _paths(prompt: str) -> Iterator[str]:
    """Yield every spelling that a client may take for a path: with and without trailing punctuation and line range."""
    for match in _MENTION.finditer(prompt):
        whole = (match[1] or match[2])[:PATH_LENGTH_MAX]
        yield whole
        yield _TRAILING.sub("", whole)
        yield whole.partition("#")[0]


def _is_outside(path: str, workspace: Path) -> bool:
    try:
        there = (workspace / Path(path).expanduser()).resolve()
        return there.exists() and not there.is_relative_to(workspace)
    except (OSError, RuntimeError, ValueError):
        # Too long, a loop of links, an unknown user, a NUL: nothing that could be opened.
        return False
