"""What the projection remembers of a session between two appends: little, and kept in the session's own row."""

from dataclasses import dataclass, replace

from podium.v1 import event_pb2
from podium.v1.event_pb2 import Usage
from podium.v1.session_pb2 import TokenTotals


@dataclass(slots=True)
class Carry:
    """The end of what is known of a session.

    `revision`: its newest one. `first_position`: of its first append. `turn_id`, `tokens`, `model`: the running turn,
    what it used so far and the model that spoke last in it; the turn's result needs them.
    """

    revision: int = 0
    first_position: int = 0
    turn_id: str = ""
    tokens: TokenTotals | None = None
    model: str = ""

    def copy(self) -> "Carry":
        """Return a carry that can be advanced while this one stays."""
        return replace(self, tokens=_copied(self.tokens))

    def begin_turn(self, turn_id: str | None) -> None:
        """Begin a turn: nothing used and nothing said yet."""
        self.turn_id, self.tokens, self.model = turn_id or "", None, ""

    def end_turn(self, turn_id: str | None) -> TokenTotals:
        """End a turn and return what it used: nothing, when it never began."""
        if turn_id != self.turn_id:
            return TokenTotals()
        used = self.tokens or TokenTotals()
        self.turn_id, self.tokens = "", None
        return used

    def add(self, turn_id: str | None, usage: Usage) -> None:
        """Add a usage fact, when it is of the running turn and tells something."""
        if turn_id != self.turn_id or usage.accuracy == event_pb2.USAGE_ACCURACY_UNAVAILABLE:
            return
        if self.tokens is None:
            self.tokens = TokenTotals()
        tokens = self.tokens
        written = usage.cache_write_5m_tokens + usage.cache_write_1h_tokens
        tokens.input_tokens += usage.uncached_input_tokens + usage.cache_read_tokens + written
        tokens.cache_read_input_tokens += usage.cache_read_tokens
        tokens.cache_creation_input_tokens += written
        tokens.uncached_input_tokens += usage.uncached_input_tokens
        tokens.output_tokens += usage.output_tokens
        tokens.reasoning_tokens += usage.reasoning_tokens


def _copied(tokens: TokenTotals | None) -> TokenTotals | None:
    if tokens is None:
        return None
    twin = TokenTotals()
    twin.CopyFrom(tokens)
    return twin
