"""Start an agent, show what it does, ask before it acts, print its answer.

All it knows of Podium was generated from proto/podium/v1; README.md says how.
"""

import json
import os
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import grpc

from podium.v1 import content_pb2, event_pb2, session_pb2
from podium.v1 import session_service_pb2 as api
from podium.v1.session_service_pb2_grpc import SessionServiceStub

ADDRESS = os.environ.get("PODIUM_ADDRESS", "127.0.0.1:7460")
TOKEN = (("authorization", f"Bearer {os.environ['PODIUM_TOKEN']}"),)
RECONNECTS_MAX = 20
# Every command carries a request id and has one effect however often it is sent: gRPC itself may try again.
RETRIES = {
    "name": [{"service": "podium.v1.SessionService"}],
    "retryPolicy": {
        "maxAttempts": 5,
        "initialBackoff": "0.2s",
        "maxBackoff": "2s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    },
}


def main(prompt: str) -> int:
    """Run one turn in a new session; return 0 when it completed."""
    with connect() as channel:
        sessions = SessionServiceStub(channel)
        text = content_pb2.ContentBlock(text=content_pb2.TextBlock(text=prompt))
        request = api.CreateSessionRequest(request_id=str(uuid.uuid4()), turn=api.TurnInput(prompt=[text]))
        created = sessions.CreateSession(request, metadata=TOKEN, timeout=30)
        answer = ""
        for event in events(sessions, created.session.name):
            if event.HasField("message"):
                show(event.message)
                texts = [block.text.text for block in event.message.content if block.HasField("text")]
                if event.message.role == event_pb2.ROLE_ASSISTANT and texts:
                    answer = "\n".join(texts)
            elif event.HasField("approval_requested"):
                decide(sessions, created.session.name, event.approval_requested)
            elif event.HasField("turn_ended"):
                print(answer)
                return 0 if event.turn_ended.status == session_pb2.TURN_STATUS_COMPLETED else 1
    return 1


def events(sessions: SessionServiceStub, session: str) -> Iterator[event_pb2.Event]:
    """Yield the session's events, each once: after a broken connection it goes on behind the last one seen."""
    revision = 0
    for _ in range(RECONNECTS_MAX):
        try:
            watch = api.WatchSessionRequest(session=session, after_revision=revision)
            for response in sessions.WatchSession(watch, metadata=TOKEN):
                for event in response.events:
                    revision = event.revision
                    yield event
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.UNAVAILABLE:
                raise
            time.sleep(0.5)
    raise SystemExit(f"{ADDRESS} cannot be reached")


def show(message: event_pb2.Message) -> None:
    """Show what was said and done."""
    for block in message.content:
        if block.HasField("text"):
            print(block.text.text, file=sys.stderr)
        elif block.HasField("tool_use"):
            print(f"-> {block.tool_use.name} {block.tool_use.input_json}", file=sys.stderr)
        elif block.HasField("tool_result"):
            print(f"<- {block.tool_result.text}", file=sys.stderr)


def decide(sessions: SessionServiceStub, session: str, question: event_pb2.ApprovalRequested) -> None:
    """Ask the person in front of the terminal; needs a token with the role `approve`."""
    print(f"?? {question.tool_name} {question.input_json} [y/N] ", end="", file=sys.stderr, flush=True)
    yes = sys.stdin.readline().strip().lower() == "y"
    decision = api.APPROVAL_DECISION_ALLOW if yes else api.APPROVAL_DECISION_DENY
    request = api.ResolveApprovalRequest(
        request_id=str(uuid.uuid4()), session=session, approval_id=question.approval_id, decision=decision
    )
    sessions.ResolveApproval(request, metadata=TOKEN, timeout=30)


def connect() -> grpc.Channel:
    """Return a channel: TLS when PODIUM_CA_FILE names the gateway's CA, plain text for loopback."""
    options = [("grpc.service_config", json.dumps({"methodConfig": [RETRIES]}))]
    ca_file = os.environ.get("PODIUM_CA_FILE")
    if ca_file is None:
        return grpc.insecure_channel(ADDRESS, options)
    return grpc.secure_channel(ADDRESS, grpc.ssl_channel_credentials(Path(ca_file).read_bytes()), options)


if __name__ == "__main__":
    sys.exit(main(" ".join(sys.argv[1:])))
