"""Tokens, once for each call to the model, and what the client counted beyond the calls it showed. Pure.

The client repeats a call's usage on every content block with the output count of its start (1), so those are
never summed. A streamed call is exact when its `message_delta` came. Calls of sub-agents are not streamed: they
count as a lower bound, and the rest comes with the turn's result, whose `model_usage_since_last_result` is the
client's own count over everything. Source: docs/providers.md#claude-usage.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from podium.v1 import event_pb2
from runner.providers.claude.records import JsonObject, mapping, number, objects, text

_SEEN_MAX: Final = 4096
"""Message ids remembered; a call's records follow one another closely."""

Buckets = tuple[int, int, int, int, int, int]
"""Uncached input, cache read, 5 minute and 1 hour cache writes, output, reasoning (part of output)."""

NOTHING: Final[Buckets] = (0, 0, 0, 0, 0, 0)


@dataclass(slots=True)
class _Call:
    message_id: str
    model: str
    usage: dict[str, object]
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Counted:
    """A usage fact and the tool call whose sub-agent made it, or empty."""

    usage: event_pb2.Usage
    parent_tool_use_id: str = ""


@dataclass(slots=True)
class UsageMeter:
    """The usage of one client process."""

    _open: _Call | None = None
    _seen: OrderedDict[str, None] = field(default_factory=OrderedDict)
    _balance: dict[str, Buckets] = field(default_factory=dict)
    _was_cut: bool = False
    context_tokens: int = 0
    """What the last call of the main agent sent and got: what its next call will send at least."""

    def start(self, message: JsonObject) -> Iterator[Counted]:
        """Take a `message_start`; yields the call before it when that never closed."""
        yield from self.cut()
        self._open = _Call(text(message, "id"), text(message, "model"), dict(mapping(message, "usage")))

    def update(self, usage: JsonObject) -> None:
        """Take a `message_delta`: its numbers are totals of the call and replace those of its start."""
        if self._open is not None:
            self._open.usage |= {key: value for key, value in usage.items() if value is not None}

    def close(self, *, complete: bool) -> Iterator[Counted]:
        """Take a `message_stop`; `complete` when the service said why the answer ended."""
        call, self._open = self._open, None
        if call is None:
            return
        self._remember(call.message_id)
        self._was_cut = self._was_cut or not complete
        buckets = _buckets(call.usage)
        self.context_tokens = sum(buckets[:5])
        yield Counted(self._count(call, buckets, exact=complete))

    def cut(self) -> Iterator[Counted]:
        """The open call, if any, will not close any more."""
        yield from self.close(complete=False)

    def shown(self, message: JsonObject, parent: str, request_id: str) -> Iterator[Counted]:
        """Take an assistant record; yields its usage when the call is not streamed and was not counted yet."""
        message_id = text(message, "id")
        if self._open is not None and self._open.message_id == message_id:
            self._open.request_id = request_id or self._open.request_id
            return
        if not message_id or message_id in self._seen:
            return
        self._remember(message_id)
        call = _Call(message_id, text(message, "model"), dict(mapping(message, "usage")), request_id)
        buckets = _buckets(call.usage)
        if not parent:
            self.context_tokens = sum(buckets[:5])
        yield Counted(self._count(call, buckets, exact=bool(message.get("stop_reason"))), parent)

    def settle(self, result: JsonObject) -> Iterator[Counted]:
        """Take a turn's result; yields what the client counted for each model beyond what was yielded before."""
        counted_by_client = mapping(result, "model_usage_since_last_result")
        for model in counted_by_client:
            self._balance[model] = _plus(self._balance.get(model, NOTHING), _client_buckets(counted_by_client, model))
        if not set(self._balance) <= set(counted_by_client):
            # A model the client counts under another name: only the sum over all can be compared.
            self._balance = {"": _sum(self._balance.values())}
        for model, balance in self._balance.items():
            if self._was_cut:
                # The client guesses the output of a call that was cut short (50 for 27): not a number to keep.
                balance = (*balance[:4], 0, 0)
            rest = _positive(balance)
            # What is below zero is a call that still runs: the client counts it when it ends.
            self._balance[model] = _minus(balance, rest)
            if rest != NOTHING:
                yield Counted(_usage(rest, model=model, scope=event_pb2.USAGE_SCOPE_TURN, exact=True))
        self._was_cut = False

    def _count(self, call: _Call, buckets: Buckets, *, exact: bool) -> event_pb2.Usage:
        self._balance[call.model] = _minus(self._balance.get(call.model, NOTHING), buckets)
        usage = _usage(buckets, model=call.model, scope=event_pb2.USAGE_SCOPE_API_MESSAGE, exact=exact)
        usage.api_message_id = call.message_id
        usage.api_request_id = call.request_id
        return usage

    def _remember(self, message_id: str) -> None:
        self._seen[message_id] = None
        while len(self._seen) > _SEEN_MAX:
            self._seen.popitem(last=False)


def window_tokens(result: JsonObject, model: str) -> int:
    """Return the context window that the client's result names for `model`, 0 when it does not."""
    usages = mapping(result, "modelUsage")
    own = mapping(usages, model)
    if not own:
        named = [usage for usage in objects(list(usages.values())) if usage.get("canonicalModel") == model]
        sole = objects(list(usages.values())) if len(usages) == 1 else []
        own = (*named, *sole, own)[0]
    return number(own, "contextWindow")


def _usage(buckets: Buckets, *, model: str, scope: event_pb2.UsageScope.ValueType, exact: bool) -> event_pb2.Usage:
    uncached, read, written_5m, written_1h, output, reasoning = buckets
    return event_pb2.Usage(
        scope=scope,
        model=model,
        uncached_input_tokens=uncached,
        cache_read_tokens=read,
        cache_write_5m_tokens=written_5m,
        cache_write_1h_tokens=written_1h,
        output_tokens=output,
        reasoning_tokens=reasoning,
        accuracy=event_pb2.USAGE_ACCURACY_EXACT if exact else event_pb2.USAGE_ACCURACY_LOWER_BOUND,
    )


def _buckets(usage: JsonObject) -> Buckets:
    """Read the API's usage: `input_tokens` is what came from no cache; the rest are apart from it."""
    written = mapping(usage, "cache_creation")
    written_1h = number(written, "ephemeral_1h_input_tokens")
    return (
        number(usage, "input_tokens"),
        number(usage, "cache_read_input_tokens"),
        max(0, number(usage, "cache_creation_input_tokens") - written_1h),
        written_1h,
        number(usage, "output_tokens"),
        number(mapping(usage, "output_tokens_details"), "thinking_tokens"),
    )


def _client_buckets(usages: JsonObject, model: str) -> Buckets:
    usage = mapping(usages, model)
    written_1h = number(usage, "cacheCreationEphemeral1hInputTokens")
    return (
        number(usage, "inputTokens"),
        number(usage, "cacheReadInputTokens"),
        max(0, number(usage, "cacheCreationInputTokens") - written_1h),
        written_1h,
        number(usage, "outputTokens"),
        number(usage, "thinkingTokens"),
    )


def _plus(one: Buckets, other: Buckets) -> Buckets:
    a, b, c, d, e, f = (x + y for x, y in zip(one, other, strict=True))
    return a, b, c, d, e, f


def _minus(one: Buckets, other: Buckets) -> Buckets:
    a, b, c, d, e, f = (x - y for x, y in zip(one, other, strict=True))
    return a, b, c, d, e, f


def _positive(buckets: Buckets) -> Buckets:
    a, b, c, d, e, f = (max(0, x) for x in buckets)
    return a, b, c, d, e, f


def _sum(all_buckets: Iterable[Buckets]) -> Buckets:
    total = NOTHING
    for buckets in all_buckets:
        total = _plus(total, buckets)
    return total
