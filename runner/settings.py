"""What a runner can be told."""

import os
import socket
from pathlib import Path

from pydantic import Field

from podium.settings import ServiceSettings


def _state_home() -> Path:
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "podium"


class RunnerSettings(ServiceSettings):
    """Settings of `python -m runner`."""

    runner_name: str = Field(default="runner", description="Start of the runner's id; each process adds its own end.")
    host: str = Field(
        default_factory=lambda: socket.gethostname().lower().partition(".")[0] or "localhost",
        description="Name of this machine; sessions stay with the host that has their workspace and transcript.",
    )
    pool: str = Field(default="default", description="The pool it serves.")
    runner_labels: dict[str, str] = Field(default_factory=dict, description="Its labels, a JSON object.")
    slots: int = Field(default=4, ge=1, le=256, description="Turns it runs at once.")
    sessions_max: int = Field(
        default=32, ge=1, le=1024, description="Sessions it owns at once; the longest idle are evicted."
    )
    roots: list[Path] = Field(
        default_factory=lambda: [Path.home()], description="Folders that workspaces may lie in, a JSON list."
    )
    state_dir: Path = Field(
        default_factory=lambda: _state_home() / "runner",
        description="Where it keeps launchers, locks and workspaces; one for all runners of a machine and user.",
    )
    providers: list[str] = Field(default_factory=list, description="Providers to offer, a JSON list; empty = all.")
    child_environment: list[str] = Field(
        default_factory=list, description="Further environment variables that clients may see, a JSON list of names."
    )
    allow_bypass: bool = Field(default=False, description="Let sessions use the permission mode `bypass`.")
    idle_s: float = Field(
        default=600.0, gt=0, description="Seconds without a turn after which a session's client is ended."
    )
    defer_after_s: float = Field(
        default=300.0, gt=0, description="Seconds a question waits before its client is ended; the answer resumes it."
    )
    interrupt_grace_s: float = Field(default=10.0, gt=0, description="Seconds a client has to obey an interrupt.")
    drain_s: float = Field(default=60.0, ge=0, description="Seconds that running turns have after SIGTERM.")
    unacknowledged_bytes_max: int = Field(
        default=64 * 1024 * 1024,
        gt=0,
        description="Bytes of events that may wait for the log before clients are held up.",
    )
