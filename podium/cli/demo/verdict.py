"""Whether the demo kept its promises: told from the session's events, its row, its workspace and the endpoint."""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path

from podium.cli import tools
from podium.v1 import session_pb2
from podium.v1.event_pb2 import Event

AGENT = "claude-cli/"


@dataclass(slots=True)
class Findings:
    """The events that were seen, and the promises that did not hold."""

    events: list[Event] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def promise(self, text: str, *, holds: bool) -> None:
        """Note a promise that does not hold."""
        if not holds:
            self.failed.append(text)


def check(findings: Findings, session: session_pb2.Session, agents: AbstractSet[str], file: Path) -> None:
    """Hold what was found to what the demo promises."""
    events = findings.events
    ends = [event.turn_ended.status for event in events if event.HasField("turn_ended")]
    blocks = [block for event in events if event.HasField("message") for block in event.message.content]
    used = [block.tool_use for block in blocks if block.HasField("tool_use")]
    results = [block.tool_result for block in blocks if block.HasField("tool_result")]
    settled = [event.approval_resolved.outcome for event in events if event.HasField("approval_resolved")]
    started = [event.turn_started.resumed for event in events if event.HasField("turn_started")]
    said = [block.text.text for block in blocks if block.HasField("text")]
    first_prompt = said[0] if said else ""
    told = session.tokens
    findings.promise("both turns completed", holds=ends == [session_pb2.TURN_STATUS_COMPLETED] * 2)
    findings.promise("the model's thinking is in the log", holds=any(block.HasField("thinking") for block in blocks))
    ran = [use.name for use in used if "command" in tools.arguments(use.input_json)]
    findings.promise("the Bash tool ran", holds=ran == ["Bash"] and any(not one.is_error for one in results))
    findings.promise("the tool wrote its file into the workspace", holds=file.is_file())
    findings.promise("one approval was asked and allowed", holds=settled == [session_pb2.APPROVAL_OUTCOME_ALLOWED])
    findings.promise("the second turn resumed the first", holds=started == [False, True])
    findings.promise("the second turn knew the first prompt", holds=bool(said) and first_prompt in said[-1])
    findings.promise("tokens were counted", holds=told.input_tokens > 0 and told.output_tokens > 0)
    client = f"{AGENT}{session.client_version}"
    called = bool(session.client_version) and bool(agents) and all(agent.split()[0] == client for agent in agents)
    findings.promise(f"the model was called by {client} and nobody else", holds=called)
