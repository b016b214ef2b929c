"""Sessions for the tests of the projection: stamped like the real ones, as they lie on the log, without a log."""

import itertools
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from podium.clock import NS, to_timestamp
from podium.drafts import Author, Body, Draft, stamp
from podium.eventlog.stored import StoredAppend, encode
from podium.v1 import content_pb2 as c
from podium.v1 import event_pb2 as e
from podium.v1 import session_pb2 as s
from podium.v1.session_pb2 import SessionState

BEGIN_NS = 1_763_800_000 * NS
SESSION = "019bb8ca-471d-76a2-ba3c-3c9ce69b5fca"
TURN_1, TURN_2, TURN_3 = (str(uuid.UUID(int=number)) for number in (1, 2, 3))
APPROVAL_1 = str(uuid.UUID(int=101))


def text(said: str) -> c.ContentBlock:
    return c.ContentBlock(text=c.TextBlock(text=said))


def thinking(thought: str) -> c.ContentBlock:
    return c.ContentBlock(thinking=c.ThinkingBlock(thinking=thought))


def tool_use(call: str, name: str, input_json: str) -> c.ContentBlock:
    return c.ContentBlock(tool_use=c.ToolUseBlock(id=call, name=name, native_name=name, input_json=input_json))


def tool_result(call: str, output: str, *, is_error: bool = False) -> c.ContentBlock:
    return c.ContentBlock(tool_result=c.ToolResultBlock(tool_use_id=call, text=output, is_error=is_error))


def message(role: "e.Role.ValueType", *blocks: c.ContentBlock, model: str = "", **other: str) -> Draft:
    return Draft(e.Message(role=role, content=blocks, model=model), source=e.SOURCE_PROVIDER, **other)  # type: ignore[arg-type]


def user(said: str, **other: str) -> Draft:
    return message(e.ROLE_USER, text(said), **other)


def assistant(*blocks: c.ContentBlock, **other: str) -> Draft:
    return message(e.ROLE_ASSISTANT, *blocks, model="claude-opus-4-5", **other)


def usage(call: str, *, cost: int | None = None, **tokens: int) -> e.Usage:
    return e.Usage(
        scope=e.USAGE_SCOPE_API_MESSAGE,
        api_message_id=call,
        model="claude-opus-4-5",
        accuracy=e.USAGE_ACCURACY_EXACT,
        provider_cost_microusd=cost,
        **tokens,  # type: ignore[arg-type]  # its buckets
    )


@dataclass
class Log:
    """Appends as the log would hold them: positions rise over all sessions."""

    appends: list[StoredAppend] = field(default_factory=list)
    states: dict[str, SessionState] = field(default_factory=dict)
    positions: dict[str, int] = field(default_factory=dict)
    ids: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    runner: str = "runner-1"
    epoch: int = 1

    @property
    def position(self) -> int:
        return self.appends[-1].position if self.appends else 0

    @property
    def events(self) -> list[e.Event]:
        return [event for append in self.appends for event in append.events]

    def append(self, *drafts: Draft | Body, session_id: str = SESSION, turn_id: str = "") -> StoredAppend:
        """Append one message; bodies alone are the runner's, drafts without a turn get `turn_id`."""
        whole = [draft if isinstance(draft, Draft) else Draft(draft, turn_id=turn_id) for draft in drafts]
        by_gateway = any(draft.source == e.SOURCE_GATEWAY for draft in whole)
        author = Author(
            session_id,
            lambda _: str(uuid.UUID(int=next(self.ids) << 64 | 7)),
            runner="" if by_gateway else self.runner,
            epoch=0 if by_gateway else self.epoch,
        )
        now_ns = BEGIN_NS + (self.position + 1) * NS
        before = self.positions.get(session_id, 0)
        events, state = stamp(self.states.get(session_id), whole, author, now_ns=now_ns, after_position=before)
        stored = stored_append(self.position + 1, session_id, events, state, now_ns)
        self.appends.append(stored)
        self.states[session_id], self.positions[session_id] = state, stored.position
        return stored

    def asked(self, body: Body, *, turn_id: str = "", session_id: str = SESSION, request: str = "") -> StoredAppend:
        """Append what a gateway writes for the principal `alice`."""
        draft = Draft(body, turn_id=turn_id, source=e.SOURCE_GATEWAY, principal="alice", causation_id=request)
        return self.append(draft, session_id=session_id)


def stored_append(
    position: int, session_id: str, events: Sequence[e.Event], state: SessionState, stored_at_ns: int = BEGIN_NS
) -> StoredAppend:
    headers, payload = encode(events, state)
    return StoredAppend(position, session_id, headers, payload, stored_at_ns)


def created(title: str = "", **other: object) -> e.SessionCreated:
    fields = {"provider": "claude", "vendor": "anthropic", "workspace": "amarillo", "pool": "default", "model": "opus"}
    return e.SessionCreated(title=title, **(fields | other))  # type: ignore[arg-type]


def begin(log: Log, session_id: str = SESSION, turn_id: str = TURN_1, prompt: str = "Run the tests") -> None:
    """Create a session, ask for its first turn and start it."""
    log.asked(created(labels={"team": "core"}), session_id=session_id)
    log.asked(e.TurnRequested(prompt=[text(prompt)], effort="high"), turn_id=turn_id, session_id=session_id)
    log.append(
        e.RunnerAttached(runner="runner-1", host="host-1", epoch=1, reason=e.ATTACH_REASON_CLAIMED),
        session_id=session_id,
    )
    log.append(
        e.ProviderBound(
            provider_session_id="native-1",
            jsonl_path="/transcripts/native-1.jsonl",
            client_version="2.0.1",
            resolved_model="claude-opus-4-5",
        ),
        session_id=session_id,
    )
    log.append(
        Draft(e.TurnStarted(model="opus", effort="high"), turn_id=turn_id),
        user(prompt, turn_id=turn_id),
        session_id=session_id,
    )


def first_turn(log: Log) -> None:
    """A turn with thinking, an approved tool call, a sub-agent, usage per call, and an end."""
    begin(log)
    log.append(
        assistant(thinking("Let me look."), text("I'll run them."), turn_id=TURN_1),
        assistant(tool_use("call-1", "Bash", '{"command":"pytest -q"}'), turn_id=TURN_1),
        Draft(
            usage("msg-1", uncached_input_tokens=10, cache_read_tokens=100, cache_write_5m_tokens=30, output_tokens=7),
            turn_id=TURN_1,
        ),
        Draft(
            e.ApprovalRequested(
                approval_id=APPROVAL_1,
                kind=s.APPROVAL_KIND_PERMISSION,
                tool_name="Bash",
                tool_use_id="call-1",
                input_json='{"command":"pytest -q"}',
                summary="Run pytest -q",
                deadline=to_timestamp(BEGIN_NS + 3600 * NS),
                on_deadline=s.DEADLINE_ACTION_DENY,
            ),
            turn_id=TURN_1,
        ),
    )
    log.asked(
        e.ApprovalResolved(approval_id=APPROVAL_1, outcome=s.APPROVAL_OUTCOME_ALLOWED, message="go on"), turn_id=TURN_1
    )
    log.append(
        message(e.ROLE_USER, tool_result("call-1", "2 failed", is_error=True), turn_id=TURN_1),
        message(e.ROLE_SYSTEM, text("compacting"), turn_id=TURN_1),
        assistant(text("from the sub-agent"), turn_id=TURN_1, parent_tool_use_id="call-0"),
        assistant(text("Two tests fail."), turn_id=TURN_1),
        Draft(
            usage("msg-2", uncached_input_tokens=5, cache_read_tokens=200, cache_write_1h_tokens=40, output_tokens=3),
            turn_id=TURN_1,
        ),
        Draft(e.Context(used_tokens=50_000, window_tokens=200_000), turn_id=TURN_1),
        Draft(e.Notice(severity=e.SEVERITY_INFO, code="note", message="hello"), turn_id=TURN_1),
    )
    log.append(
        Draft(
            e.TurnEnded(
                status=s.TURN_STATUS_COMPLETED,
                queued_ms=12,
                duration_ms=3_400,
                first_token_ms=250,
                provider_cost_microusd=123_456,
            ),
            turn_id=TURN_1,
        )
    )


def later_turns(log: Log) -> None:
    """A turn that fails without a word, one that is cancelled, a new title, and the runner leaves."""
    log.asked(e.TurnRequested(prompt=[text("Again")]), turn_id=TURN_2)
    log.asked(e.TurnRequested(prompt=[text("And again")]), turn_id=TURN_3)
    log.append(Draft(e.TurnStarted(model="opus"), turn_id=TURN_2))
    log.append(
        Draft(
            e.TurnEnded(
                status=s.TURN_STATUS_FAILED,
                reason="overloaded",
                problem=s.Problem(code="PROVIDER_OVERLOADED", message="529", retryable=True),
                duration_ms=90,
            ),
            turn_id=TURN_2,
        )
    )
    log.asked(e.TurnCancelled(reason="never mind"), turn_id=TURN_3)
    update = e.SessionUpdated(title="Fix the tests", archived=False)
    update.update_mask.paths.append("title")
    log.asked(update)
    log.append(e.RunnerDetached(runner="runner-1", epoch=1, reason=e.DETACH_REASON_IDLE))


def of_the_future(event: e.Event, *, may_ignore: bool) -> e.Event:
    """Return the event as a newer Podium might write it: with a body this one does not know."""
    envelope = e.Event()
    envelope.CopyFrom(event)
    envelope.ClearField("body")
    envelope.may_ignore = may_ignore
    field_100_empty = b"\xa2\x06\x00"
    return e.Event.FromString(envelope.SerializeToString() + field_100_empty)


def whole() -> Log:
    """One session with everything in it."""
    log = Log()
    first_turn(log)
    later_turns(log)
    return log
