"""The client's output lines as drafts and deltas. Pure: no I/O, no clock, no ids made here.

Fed with raw lines rather than the SDK's message objects: those drop unknown fields and kinds, lines on disk have
the same shape, and a recording can be played again without a client.

Source: docs/providers.md#claude-records (Claude Code 2.1.330 through claude-agent-sdk 0.2.187, 2026-11-22).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from podium.drafts import Body, Draft
from podium.v1 import event_pb2, runner_pb2
from runner.providers.claude import notices
from runner.providers.claude.blocks import UnknownBlock, attach_structure, content_blocks
from runner.providers.claude.kinds import NOTICES, QUIET
from runner.providers.claude.records import (
    JsonObject,
    NotARecord,
    happened_at_ns,
    mapping,
    number,
    parse,
    text,
)
from runner.providers.claude.streaming import SpokenMessage
from runner.providers.claude.usage import Counted, UsageMeter, window_tokens
from runner.providers.unreadable import unreadable

SYNTHETIC_MODEL: Final = "<synthetic>"

_UNREADABLE: Final = (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, RecursionError)
"""What a record of unexpected shape raises on the way through the functions here."""


@dataclass(slots=True)
class Fed:
    """What one line means."""

    drafts: list[Draft] = field(default_factory=list)
    deltas: list[runner_pb2.Delta] = field(default_factory=list)
    record: JsonObject = field(default_factory=dict)
    kind: str = ""
    """`type`, or `system/subtype`; empty when the line could not be read."""


@dataclass(slots=True)
class Normaliser:
    """Reads the output of one client process, line by line.

    Attributes:
        jsonl_path: where the transcript of a native session is, by its id.
        turn_id: the turn that runs; stands in every draft. Empty between turns.
        error: the client's word for the last API error of the turn, e.g. `rate_limit`.
        quota_is_used_up: the account's allowance refused a call of the turn.
    """

    jsonl_path: Callable[[str], str]
    turn_id: str = ""
    error: str = ""
    quota_is_used_up: bool = False
    _bound: tuple[str, str] = ("", "")
    _spoken: SpokenMessage | None = None
    _meter: UsageMeter = field(default_factory=UsageMeter)
    _window_tokens: int = 0
    _model: str = ""

    @property
    def is_speaking(self) -> bool:
        """The model is in the middle of a message."""
        return self._spoken is not None

    def begin(self, turn_id: str) -> None:
        """A turn begins."""
        self.turn_id, self.error, self.quota_is_used_up = turn_id, "", False

    def feed(self, line: bytes, now_ns: int) -> Fed:
        """Return what `line` means; a line that cannot be read is an UnreadableRecord draft. Never raises."""
        fed = Fed()
        try:
            fed.record = parse(line)
            fed.kind = _kind(fed.record)
            self._dispatch(fed, now_ns)
        except NotARecord as wrong:
            fed.drafts.append(unreadable(line, str(wrong), self.turn_id))
        except _UNREADABLE as wrong:
            reason = str(wrong) if isinstance(wrong, UnknownBlock) else f"unexpected shape: {wrong!r}"
            fed.drafts.append(unreadable(line, reason, self.turn_id))
        return fed

    def cut_short(self) -> list[Draft]:
        """The process has ended: return what was being said, and the tokens of the call, as far as they are known."""
        drafts = self._unfinished(None)
        return drafts + [self._usage_draft(counted) for counted in self._meter.cut()]

    def _dispatch(self, fed: Fed, now_ns: int) -> None:
        record, kind = fed.record, fed.kind
        match kind:
            case "stream_event":
                self._stream_event(record, fed)
            case "assistant":
                fed.drafts += self._assistant(record)
            case "user":
                fed.drafts += self._user(record)
            case "result":
                fed.drafts += self._result(record)
            case "system/init":
                fed.drafts += self._init(record)
            case "system/api_retry":
                fed.drafts.append(self._draft(notices.api_retry(record, now_ns), record))
            case "auth_status":
                fed.drafts += self._auth_status(record)
            case _ if kind in NOTICES:
                self.quota_is_used_up |= mapping(record, "rate_limit_info").get("status") == "rejected"
                fed.drafts.append(self._draft(NOTICES[kind](record), record))
            case _:
                if kind not in QUIET:
                    raise UnknownBlock(f"unknown record {kind!r}")

    def _init(self, record: JsonObject) -> Iterator[Draft]:
        session_id, model = text(record, "session_id"), text(record, "model")
        if model != self._model:
            self._model, self._window_tokens = model, 0  # told again with the next result
        if self._bound == (session_id, model):
            return
        self._bound = (session_id, model)
        bound = event_pb2.ProviderBound(
            provider_session_id=session_id,
            jsonl_path=self.jsonl_path(session_id),
            client_version=text(record, "claude_code_version"),
            resolved_model=model,
            tools=[tool for tool in record.get("tools", ()) if isinstance(tool, str)],
            capabilities=[name for name in record.get("capabilities", ()) if isinstance(name, str)],
        )
        yield self._draft(bound, record)

    def _stream_event(self, record: JsonObject, fed: Fed) -> None:
        event = mapping(record, "event")
        match text(event, "type"):
            case "message_start":
                message = mapping(event, "message")
                fed.drafts += self._unfinished(None)
                fed.drafts += [self._usage_draft(counted) for counted in self._meter.start(message)]
                self._spoken = SpokenMessage(text(message, "id"), text(message, "model"))
            case "content_block_delta" if self._spoken is not None:
                delta = self._spoken.piece(event)
                fed.deltas += [delta] if delta is not None else []
            case "message_delta":
                self._meter.update(mapping(event, "usage"))
                if self._spoken is not None:
                    self._spoken.has_ended = bool(mapping(event, "delta").get("stop_reason"))
            case "message_stop":
                fed.drafts += self._stopped(record)
            case "error":
                raise UnknownBlock("an error inside the stream")
            case _:
                pass  # content_block_start and _stop say nothing that the pieces and the message do not; ping.

    def _stopped(self, record: JsonObject) -> list[Draft]:
        complete = self._spoken is not None and self._spoken.has_ended
        abandoned = mapping(record, "abandoned_blocks")
        first = number(abandoned, "from_block_index") if abandoned else None
        drafts = [] if complete else self._unfinished(first)
        self._spoken = None
        return drafts + list(self._usage(self._meter.close(complete=complete)))

    def _unfinished(self, from_block: int | None) -> list[Draft]:
        spoken, self._spoken = self._spoken, None
        message = None if spoken is None or spoken.has_ended else spoken.unfinished(from_block)
        return [] if message is None else [self._draft(message, {})]

    def _assistant(self, record: JsonObject) -> Iterator[Draft]:
        message, parent = mapping(record, "message"), text(record, "parent_tool_use_id")
        if text(message, "model") == SYNTHETIC_MODEL:
            yield self._client_said(record, message)
            return
        content = content_blocks(message.get("content"))
        if self._spoken is not None and self._spoken.message_id == text(message, "id"):
            self._spoken.delivered(len(content))
        body = event_pb2.Message(
            native_id=text(record, "uuid"),
            role=event_pb2.ROLE_ASSISTANT,
            content=content,
            model=text(message, "model"),
            api_message_id=text(message, "id"),
            partial=record.get("aborted") is True,
        )
        yield self._draft(body, record, parent)
        yield from self._usage(self._meter.shown(message, parent, text(record, "request_id")))

    def _client_said(self, record: JsonObject, message: JsonObject) -> Draft:
        """The client speaks in the model's place: an API error it gave up on, or a remark of its own."""
        content = content_blocks(message.get("content"))
        parent = text(record, "parent_tool_use_id")
        word = text(record, "error")
        if word or record.get("isApiErrorMessage") is True:
            self.error = word or self.error
            said = "\n".join(block.text.text for block in content if block.HasField("text"))
            status = number(record, "apiErrorStatus") or number(record, "api_error_status") or _status_in(said)
            return self._draft(notices.api_error(word, said, status), record, parent)
        body = event_pb2.Message(native_id=text(record, "uuid"), role=event_pb2.ROLE_SYSTEM, content=content)
        return self._draft(body, record, parent)

    def _user(self, record: JsonObject) -> Iterator[Draft]:
        if record.get("isReplay") is True:
            return  # Our own prompt, told back; the log has it as the turn's request.
        parent = text(record, "parent_tool_use_id")
        content = content_blocks(mapping(record, "message").get("content"))
        attach_structure(content, record.get("tool_use_result"))
        answers = any(block.HasField("tool_result") for block in content)
        # Without a prompt of ours told back, words in the main conversation are the client's own
        # ("[Request interrupted by user]"); in a sub-agent they are what it was asked.
        role = event_pb2.ROLE_USER if answers or parent else event_pb2.ROLE_SYSTEM
        yield self._draft(event_pb2.Message(native_id=text(record, "uuid"), role=role, content=content), record, parent)

    def _result(self, record: JsonObject) -> Iterator[Draft]:
        yield from self.cut_short()
        yield from self._usage(self._meter.settle(record), context=False)
        window = window_tokens(record, self._model)
        if window and window != self._window_tokens and self._meter.context_tokens:
            self._window_tokens = window
            yield self._context()

    def _auth_status(self, record: JsonObject) -> Iterator[Draft]:
        if said := text(record, "error"):
            yield self._draft(notices.api_error("authentication_failed", said, 0), record)

    def _usage(self, facts: Iterator[Counted], *, context: bool = True) -> Iterator[Draft]:
        for counted in facts:
            yield self._usage_draft(counted)
            if context and self._window_tokens and not counted.parent_tool_use_id:
                yield self._context()

    def _usage_draft(self, counted: Counted) -> Draft:
        return self._draft(counted.usage, {}, counted.parent_tool_use_id)

    def _context(self) -> Draft:
        body = event_pb2.Context(
            used_tokens=self._meter.context_tokens, window_tokens=self._window_tokens, window_source="client"
        )
        return self._draft(body, {})

    def _draft(self, body: Body, record: JsonObject, parent: str = "") -> Draft:
        return Draft(
            body,
            turn_id=self.turn_id,
            source=event_pb2.SOURCE_PROVIDER,
            happened_at_ns=happened_at_ns(record),
            parent_tool_use_id=parent or text(record, "parent_tool_use_id"),
        )


def _kind(record: JsonObject) -> str:
    kind = text(record, "type")
    return f"system/{text(record, 'subtype')}" if kind == "system" else kind


def _status_in(said: str) -> int:
    """Return the HTTP status in the client's "API Error: 529 …", 0 when there is none; it has no field for it."""
    words = said.replace("(", " ").replace(")", " ").split()
    found = [int(word) for word in words if word.isascii() and word.isdigit() and len(word) == 3]
    return next((status for status in found if 400 <= status < 600), 0)
