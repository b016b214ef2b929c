"""The message that is being said: its pieces as deltas, and its text when it is cut short. Pure."""

from dataclasses import dataclass, field
from typing import Final

from podium.v1 import content_pb2, event_pb2, runner_pb2
from runner.providers.claude.records import JsonObject, mapping, number, text

_PIECES: Final = {
    "text_delta": ("text", runner_pb2.DELTA_KIND_TEXT),
    "thinking_delta": ("thinking", runner_pb2.DELTA_KIND_THINKING),
    "input_json_delta": ("partial_json", runner_pb2.DELTA_KIND_TOOL_INPUT),
}


@dataclass(slots=True)
class _Block:
    kind: runner_pb2.DeltaKind.ValueType
    pieces: list[str] = field(default_factory=list)
    length: int = 0


@dataclass(slots=True)
class SpokenMessage:
    """One message of the main agent as it comes; sub-agents are not streamed."""

    message_id: str
    model: str
    has_ended: bool = False
    """The service said why the answer ended: it is whole."""
    _blocks: dict[int, _Block] = field(default_factory=dict)
    _delivered: int = 0

    def piece(self, event: JsonObject) -> runner_pb2.Delta | None:
        """Return the delta for a `content_block_delta`; None for signatures and the like."""
        delta = mapping(event, "delta")
        known = _PIECES.get(text(delta, "type"))
        if known is None:
            return None
        key, kind = known
        said, index = text(delta, key), number(event, "index")
        block = self._blocks.setdefault(index, _Block(kind))
        offset = block.length
        block.pieces.append(said)
        block.length += len(said)
        return runner_pb2.Delta(item_id=self.message_id, block=index, kind=kind, offset=offset, text=said)

    def delivered(self, blocks: int) -> None:
        """The client handed over that many further blocks as a message."""
        self._delivered += blocks

    def unfinished(self, from_block: int | None = None) -> event_pb2.Message | None:
        """Return the text and thinking that came but were never handed over; None when there is none.

        `from_block`: the first block the client gave up, when it says so.
        """
        first = self._delivered if from_block is None else max(from_block, self._delivered)
        content = [
            self._said(block) for index, block in sorted(self._blocks.items()) if index >= first and block.length
        ]
        kept = [block for block in content if block is not None]
        if not kept:
            return None
        return event_pb2.Message(
            role=event_pb2.ROLE_ASSISTANT,
            content=kept,
            model=self.model,
            api_message_id=self.message_id,
            partial=True,
        )

    @staticmethod
    def _said(block: _Block) -> content_pb2.ContentBlock | None:
        said = "".join(block.pieces)
        if block.kind == runner_pb2.DELTA_KIND_TEXT:
            return content_pb2.ContentBlock(text=content_pb2.TextBlock(text=said))
        if block.kind == runner_pb2.DELTA_KIND_THINKING:
            return content_pb2.ContentBlock(thinking=content_pb2.ThinkingBlock(thinking=said))
        return None  # Half of a tool's arguments is no JSON and was never run; the native log has it.
