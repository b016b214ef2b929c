"""Who is there, judged from looks at the heartbeats: pure, times are handed in.

A runner's heartbeat is gone after its time to live. That alone says little: a server that was away lets all of
them run out at once. A runner counts as gone when its heartbeat was absent for one more full time to live, seen by
somebody who looked all that time without a break, or when the runner itself said that it leaves.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from podium.v1.runner_pb2 import Runner


@dataclass(frozen=True, slots=True)
class Look:
    """One successful look at all heartbeats.

    Attributes:
        asked_s: monotonic seconds just before the question.
        answered_s: monotonic seconds just after the answer; what the answer says was true in between.
        present: the heartbeats found, by runner id.
        left: runners that said they leave.
    """

    asked_s: float
    answered_s: float
    present: Mapping[str, Runner]
    left: frozenset[str] = field(default_factory=frozenset)


class Presence:
    """What one observer knows of the runners; every method costs at most one pass over them."""

    def __init__(self, ttl_s: float) -> None:
        """Know nothing yet; nobody is gone before one full `ttl_s` of looking."""
        self._ttl_s = ttl_s
        self._living: dict[str, Runner] = {}
        self._present: set[str] = set()
        self._left: frozenset[str] = frozenset()
        self._sight_since_s: float | None = None
        # Only of runners that vanished within the present row of looks; for all others that row's beginning counts.
        self._absent_since_s: dict[str, float] = {}
        self._last: Look | None = None

    @property
    def living(self) -> Mapping[str, Runner]:
        """Return the last value of everybody who is not gone, those included whose heartbeat is absent just now."""
        return self._living

    def is_gone(self, runner: str) -> bool:
        """Tell whether a takeover of this runner's sessions may be tried; also for one never seen."""
        if runner in self._left:
            return True
        if runner in self._present or self._last is None or self._sight_since_s is None:
            return False
        absent_since_s = self._absent_since_s.get(runner, self._sight_since_s)
        return self._last.asked_s - absent_since_s >= self._ttl_s

    def saw(self, look: Look) -> None:
        """Take a look's result; a pause since the look before it that was longer than the time to live is a break."""
        if self._last is not None and look.asked_s - self._last.answered_s > self._ttl_s:
            self.lost_sight()
        if self._sight_since_s is None:
            self._sight_since_s = look.answered_s
        for runner in self._present - look.present.keys():
            self._absent_since_s[runner] = look.answered_s
        for runner in look.present:
            self._absent_since_s.pop(runner, None)
        self._last, self._left, self._present = look, look.left, set(look.present)
        self._living.update(look.present)
        for runner in [runner for runner in self._living if self.is_gone(runner)]:
            del self._living[runner]
        # Gone is gone: from here on the row's beginning, which lies before, says so too.
        for runner in [runner for runner in self._absent_since_s if self.is_gone(runner)]:
            del self._absent_since_s[runner]

    def heard(self, runner: Runner) -> None:
        """Take a heartbeat that was heard between two looks."""
        self._present.add(runner.id)
        self._left -= {runner.id}
        self._absent_since_s.pop(runner.id, None)
        self._living[runner.id] = runner

    def lost_sight(self) -> None:
        """Forget how long anybody was absent, and who left: a look failed, or the connection broke."""
        self._sight_since_s = None
        self._left = frozenset()
        self._absent_since_s.clear()
