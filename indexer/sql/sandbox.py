"""What the operating system holds the worker to: memory, files, life and rank. Called once, by the worker itself."""

import contextlib
import ctypes
import os
import resource
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_NICENESS = 5  # other people's questions wait for the projection, not the other way round
_HEADROOM_BYTES = 256 * 1024 * 1024  # stacks, Arrow's batches and the allocator's slack beside DuckDB's memory_limit


def die_with_parent(parent_pid: int) -> None:
    """Have the kernel kill this process when the parent goes (Linux); elsewhere the closed pipe does it."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os._exit(0)  # it went before we asked


def confine(memory_bytes: int) -> None:
    """Allow `memory_bytes` and some headroom beyond what is mapped now, no file writes, no core dumps.

    RLIMIT_AS is what stops `repeat`, which allocates beside DuckDB's own accounting. RLIMIT_FSIZE 0 lets pipes
    through and no byte into a file, should a statement ever slip past the gate.
    """
    _volunteer_for_the_oom_killer()
    os.nice(_NICENESS)
    address_space = _mapped_bytes() + memory_bytes + _HEADROOM_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (address_space, address_space))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # an error instead of a death


def _mapped_bytes() -> int:
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except FileNotFoundError:  # not Linux: address space is not what counts there
        return 1 << 40


def _volunteer_for_the_oom_killer() -> None:
    with contextlib.suppress(OSError):  # not Linux, or not allowed: only a preference
        Path("/proc/self/oom_score_adj").write_text("1000")
