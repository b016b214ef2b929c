"""The environment that makes a real client talk to the scripted model and to nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Final

# Not a secret: the endpoint takes any key, and tests assert that it saw this one.
DUMMY_KEY: Final = "sk-podium-scripted-model"

PATH: Final = "/usr/local/bin:/usr/bin:/bin"


def claude_environment(home: Path, url: str, *, subscription: bool = False) -> dict[str, str]:
    """The whole environment of a Claude Code process whose model is the endpoint at `url`.

    Everything the client writes stays below `home`, which must exist and belong to this run alone:
    settings and transcripts in `home/.claude`, temporary files in `home/tmp` (made here if missing).
    Give it as the exact environment of the child. claude-agent-sdk merges `os.environ` below
    `ClaudeAgentOptions.env`, so passing it there is clean only from a process that is clean itself.

    With `subscription` the client believes it is logged in to a subscription instead of holding an API
    key; only then does it report rate limits (RateLimitEvent) from the response headers.

    Source: Claude Code 2.1.330, checked 2026-11-22.
    """
    temporary = home / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    return {
        "PATH": PATH,
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "TMPDIR": str(temporary),  # else the CLI writes /tmp/claude-UID and /tmp/cc-socks
        "CLAUDE_CONFIG_DIR": str(home / ".claude"),
        "ANTHROPIC_BASE_URL": url,
        "CLAUDE_CODE_OAUTH_TOKEN" if subscription else "ANTHROPIC_API_KEY": DUMMY_KEY,
        "NO_PROXY": "127.0.0.1,localhost,::1",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "CLAUDE_CODE_MAX_RETRIES": "1",  # the default of 10 makes every scripted failure last minutes
        "DISABLE_AUTOUPDATER": "1",
        "DISABLE_TELEMETRY": "1",
        "DISABLE_ERROR_REPORTING": "1",
        "IS_SANDBOX": "1",  # root may use bypassPermissions only in what says it is a sandbox
    }
