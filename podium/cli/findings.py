"""What `podium doctor` finds."""

from dataclasses import dataclass
from enum import Enum


class Level(Enum):
    """How a finding is meant."""

    OK = "ok"
    HINT = "hint"
    """Works, but somebody may want to do something."""
    BROKEN = "broken"
    """`podium up` or `podium run` cannot work like this."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    level: Level
    subject: str
    found: str
    advice: str = ""
