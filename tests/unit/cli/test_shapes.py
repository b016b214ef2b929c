"""JSON for programs has the names of SQL, and every message of the contract has a form."""

import orjson
import pytest
from google.protobuf.descriptor import Descriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp

from podium.cli import shapes
from podium.v1 import (
    analytics_service_pb2,
    content_pb2,
    event_pb2,
    provider_pb2,
    runner_pb2,
    session_pb2,
    session_service_pb2,
)

FILES = [
    analytics_service_pb2,
    content_pb2,
    event_pb2,
    provider_pb2,
    runner_pb2,
    session_pb2,
    session_service_pb2,
]
MESSAGES = [message for file in FILES for message in file.DESCRIPTOR.message_types_by_name.values()]
ID = "019bb8ca-471d-76a2-ba3c-3c9ce69b5fca"


@pytest.mark.parametrize("descriptor", MESSAGES, ids=lambda descriptor: descriptor.name)
def test_every_message_of_the_contract_is_json(descriptor: Descriptor) -> None:
    orjson.dumps(shapes.plain(GetMessageClass(descriptor)()))


def test_a_session_has_the_names_of_the_sessions_table() -> None:
    session = session_pb2.Session(
        name=f"sessions/{ID}",
        parent=f"sessions/{ID}",
        status=session_pb2.SESSION_STATUS_IDLE,
        waiting_on=session_pb2.WAITING_ON_APPROVAL,
        labels={"team": "infra"},
        tokens=session_pb2.TokenTotals(input_tokens=7, output_tokens=3, provider_cost_microusd=1_500_000),
        created_at=Timestamp(seconds=1, nanos=2_000),
    )
    value = shapes.plain(session)
    assert value["id"] == ID
    assert value["parent_session_id"] == ID
    assert (value["status"], value["waiting_on"], value["origin"]) == ("idle", "approval", None)
    assert (value["input_tokens"], value["output_tokens"], value["cost_usd"]) == (7, 3, 1.5)
    assert value["labels"] == {"team": "infra"}
    assert value["created_at"] == "1970-01-01T00:00:01.000002Z"
    assert value["updated_at"] is None
    assert (value["problem_code"], value["problem_message"]) == (None, None)
    assert value["context_used_percent"] is None


def test_an_unknown_cost_is_null_and_not_nothing() -> None:
    assert shapes.plain(session_pb2.Session())["cost_usd"] is None


def test_an_approval_carries_its_arguments_as_json() -> None:
    approval = session_service_pb2.Approval(
        id=ID,
        session=f"sessions/{ID}",
        request=event_pb2.ApprovalRequested(input_json='{"command": "ls"}', options_json="not json"),
    )
    value = shapes.plain(approval)
    assert value["session_id"] == ID
    assert value["request"]["input"] == {"command": "ls"}
    assert value["request"]["options"] == "not json"
    assert value["resolution"] is None


def test_an_event_names_its_kind_and_holds_one_body() -> None:
    event = event_pb2.Event(session_id=ID, turn_started=event_pb2.TurnStarted(model="opus"))
    value = shapes.event(event)
    assert value["kind"] == "turn_started"
    assert value["turn_started"]["model"] == "opus"
    assert "message" not in value


def test_an_event_of_a_newer_contract_is_shown() -> None:
    assert shapes.event(event_pb2.Event(session_id=ID))["kind"] == "unknown"


def test_usage_has_its_keys_under_the_names_of_the_dimensions() -> None:
    row = analytics_service_pb2.UsageRow(keys=["2026-11-22", "opus"], calls=2)
    assert shapes.usage_row(["day", "model"], row) | {} == {
        "day": "2026-11-22",
        "model": "opus",
        "input_tokens": 0,
        "cache_read_input_tokens": 0,
        "cache_creation_input_tokens": 0,
        "uncached_input_tokens": 0,
        "output_tokens": 0,
        "reasoning_tokens": 0,
        "cost_usd": None,
        "calls": 2,
        "inexact_calls": 0,
    }


def test_words_and_numbers_are_inverse() -> None:
    enum = session_pb2.PermissionMode.DESCRIPTOR
    assert shapes.words(enum) == ["default", "accept_edits", "plan", "bypass", "deny"]
    assert shapes.number(enum, "accept-edits") == session_pb2.PERMISSION_MODE_ACCEPT_EDITS
    assert shapes.number(enum, "sudo") is None
    assert shapes.word(enum, 99) == "unknown_99"


def test_durations_are_seconds() -> None:
    told = analytics_service_pb2.GetProjectionResponse(lag=Duration(seconds=1, nanos=500_000_000))
    assert shapes.plain(told)["lag"] == 1.5
