"""A session as people read it: events and deltas become lines that are written once and never again.

Text shows while it comes. The message that follows completes it: what was already shown is not shown twice, what was
lost on the way is made up for.
"""

from collections import defaultdict
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from podium.cli import facts, tools
from podium.cli.flow import MARK, Flow
from podium.session import add_usage
from podium.v1 import content_pb2, event_pb2, runner_pb2, session_pb2
from podium.v1.event_pb2 import Event

_STYLES = {"text": "", "thinking": "thinking"}
_DELTAS = {runner_pb2.DELTA_KIND_TEXT: "text", runner_pb2.DELTA_KIND_THINKING: "thinking"}
_ENDS = {
    session_pb2.TURN_STATUS_COMPLETED: ("good", "✔ completed"),
    session_pb2.TURN_STATUS_FAILED: ("bad", "✗ failed"),
    session_pb2.TURN_STATUS_INTERRUPTED: ("warn", "■ interrupted"),
    session_pb2.TURN_STATUS_CANCELLED: ("warn", "■ cancelled"),
    session_pb2.TURN_STATUS_LOST: ("bad", "✗ lost"),
}
_FINISHED_MESSAGES_MAX = 64


@dataclass(slots=True)
class _Streaming:
    """The block that is being said."""

    item_id: str
    block: int
    kind: str
    flow: Flow
    shown: str = ""
    has_hole: bool = False


class Transcript:
    """Shows one session on a console."""

    def __init__(self, console: Console, *, details: bool = False) -> None:
        """`details`: also show who owns the session and how full its context is."""
        self._console = console
        self._details = details
        self._streaming: _Streaming | None = None
        self._blocks: dict[str, int] = defaultdict(int)
        """How many blocks of an API message have arrived."""
        self._over: set[str] = set()
        self._typed = ""
        self._tokens: dict[str, session_pb2.TokenTotals] = defaultdict(session_pb2.TokenTotals)

    def event(self, event: Event) -> None:
        """Show one event."""
        kind = event.WhichOneof("body")
        if kind == "message":
            self._message(event)
        elif kind == "usage":
            add_usage(self._tokens[event.turn_id], event.usage)
        elif kind == "turn_ended":
            self._turn_ended(event)
        elif kind == "turn_cancelled":
            self._over.add(event.turn_id)
            self._end(session_pb2.TURN_STATUS_CANCELLED, [event.turn_cancelled.reason])
        else:
            self._facts(facts.lines(event, details=self._details), spaced=kind == "approval_requested")

    def delta(self, delta: runner_pb2.Delta) -> None:
        """Show the next piece of what is being said, unless it is known already or a piece before it is missing."""
        kind = _DELTAS.get(delta.kind)
        if kind is None or delta.turn_id in self._over or delta.block < self._blocks.get(delta.item_id, 0):
            return
        streaming = self._streaming
        if streaming is None or (streaming.item_id, streaming.block) != (delta.item_id, delta.block):
            if delta.offset:
                return
            streaming = self._begin(delta, kind)
        new = delta.text[max(0, len(streaming.shown) - delta.offset) :]
        streaming.has_hole = streaming.has_hole or delta.offset > len(streaming.shown)
        if new and not streaming.has_hole:
            streaming.shown += new
            streaming.flow.write(new)

    def typed(self, prompt: str) -> None:
        """Leave out the next prompt if it is this one: the person has just typed it."""
        self._typed = prompt

    def line(self, text: str, style: str = "") -> None:
        """Show a line of the command's own."""
        self._interrupt_line()
        indent = " " * (len(text) - len(text.lstrip()))
        self._write(text.lstrip(), style, first=indent, indent=indent + "  ")

    def space(self) -> None:
        """Leave a line free."""
        self._interrupt_line()
        self._console.print()

    def _interrupt_line(self) -> None:
        """Something else is shown now; the block that is being said goes on in a new line."""
        if self._streaming is not None:
            self._streaming.flow.finish()

    def _begin(self, delta: runner_pb2.Delta, kind: str) -> _Streaming:
        self.space()
        self._streaming = _Streaming(delta.item_id, delta.block, kind, self._flow(kind))
        return self._streaming

    def _flow(self, kind: str, indent: str = "  ") -> Flow:
        return Flow(self._console, style=_STYLES[kind], first=indent, indent=indent)

    def _message(self, event: Event) -> None:
        message = event.message
        indent = "      " if event.parent_tool_use_id else "  "
        for block in message.content:
            if not event.parent_tool_use_id and message.api_message_id:
                self._blocks[message.api_message_id] += 1
            self._block(message, block, indent)
            if block.HasField("full"):
                self.line(f"{indent}(shortened; all {block.full.size_bytes:,} bytes are kept beside the log)", "detail")
        while len(self._blocks) > _FINISHED_MESSAGES_MAX:
            del self._blocks[next(iter(self._blocks))]

    def _block(self, message: event_pb2.Message, block: content_pb2.ContentBlock, indent: str) -> None:
        match block.WhichOneof("block"):
            case "text" if message.role == event_pb2.ROLE_USER and indent == "  ":
                self._prompt(block.text.text)
            case "text":
                self._said("text", block.text.text, message, indent)
            case "thinking" if block.thinking.redacted:
                self._paragraph("(the provider does not show this thinking)", "thinking", indent)
            case "thinking":
                self._said("thinking", block.thinking.thinking, message, indent)
            case "tool_use":
                self._call(block.tool_use, indent)
            case "tool_result":
                self._result(block.tool_result, indent)
            case "attachment":
                title = block.attachment.title or block.attachment.blob.media_type
                self._paragraph(f"▢ {title}, {block.attachment.blob.size_bytes:,} bytes", "detail", indent)
            case _:
                self._paragraph("(something that this version of podium does not know)", "detail", indent)

    def _prompt(self, text: str) -> None:
        typed, self._typed = self._typed, ""
        if typed == text:
            return
        self.space()
        self._write(text, "prompt", first=MARK, indent="  ")

    def _said(self, kind: str, text: str, message: event_pb2.Message, indent: str) -> None:
        """Show the whole of a block, or what is missing of it."""
        streaming, self._streaming = self._streaming, None
        if streaming is not None and (streaming.item_id, streaming.kind) == (message.api_message_id, kind):
            streaming.flow.write(_rest(text, streaming.shown))
            streaming.flow.finish()
        else:
            self._streaming = streaming
            self._paragraph(text, _STYLES[kind], indent)
        if message.partial:
            self._console.print(Text(indent + "(cut short)", style="warn"))

    def _paragraph(self, text: str, style: str, indent: str) -> None:
        if not text.strip():
            return
        self.space()
        self._write(text, style, first=indent, indent=indent)

    def _write(self, text: str, style: str, *, first: str, indent: str, column: int = 0) -> None:
        flow = Flow(self._console, style=style, first=first, indent=indent, column=column)
        flow.write(text)
        flow.finish()

    def _call(self, use: content_pb2.ToolUseBlock, indent: str) -> None:
        self.space()
        self._console.print(Text.assemble(indent, ("● ", "good"), (use.name, "tool")), end="")
        taken = len(indent) + 2 + cell_len(use.name)
        self._write(tools.call(use), "detail", first="  ", indent=indent + "    ", column=taken)

    def _result(self, result: content_pb2.ToolResultBlock, indent: str) -> None:
        style, mark = ("bad", "✗ ") if result.is_error else ("detail", "⎿ ")
        for number, told in enumerate(tools.result(result).splitlines()):
            self.line(f"{indent}  {mark if number == 0 else '  '}{told}", style)

    def _facts(self, told: list[facts.Line], *, spaced: bool) -> None:
        if told and spaced:
            self.space()
        for text, style in told:
            self.line(text, style)

    def _turn_ended(self, event: Event) -> None:
        ended, tokens = event.turn_ended, self._tokens.pop(event.turn_id, session_pb2.TokenTotals())
        self._over.add(event.turn_id)
        told = [f"{ended.duration_ms / 1000:.1f} s"] if ended.duration_ms else []
        if tokens.input_tokens or tokens.output_tokens:
            cached = f" ({tokens.cache_read_input_tokens:,} cached)" if tokens.cache_read_input_tokens else ""
            told += [f"{tokens.input_tokens:,} tokens in{cached}", f"{tokens.output_tokens:,} out"]
        if ended.HasField("provider_cost_microusd"):
            told.append(f"${ended.provider_cost_microusd / 1_000_000:.4f}")
        self._end(ended.status, told)
        # Of an interrupt the request told why.
        if ended.status in (session_pb2.TURN_STATUS_FAILED, session_pb2.TURN_STATUS_LOST):
            self._paragraph(ended.problem.message or ended.reason, "bad", "  ")
        if ended.problem.code:
            self.line(f"  {ended.problem.code}", "detail")
        if ended.structured_output_json:
            self._paragraph(ended.structured_output_json, "", "  ")

    def _end(self, status: session_pb2.TurnStatus.ValueType, told: list[str]) -> None:
        self._streaming_is_over()
        style, mark = _ENDS.get(status, ("detail", "ended"))
        self.space()
        shown = "  " + " · ".join(filter(None, told)) if any(told) else ""
        self._console.print(Text.assemble((mark, style), (shown, "detail")), soft_wrap=True)

    def _streaming_is_over(self) -> None:
        self._interrupt_line()
        self._streaming = None


def _rest(text: str, shown: str) -> str:
    """Return what of a whole text was not shown yet; all of it when something else was shown."""
    if text.startswith(shown):
        return text[len(shown) :]
    # A text that was too long for the log is shorter there than what was shown while it came.
    return "" if shown.startswith(text) else "\n" + text
