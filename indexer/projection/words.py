"""The words that SQL shows for the contract's enums: the value's name without its prefix, in lower case."""

from google.protobuf.descriptor import EnumDescriptor

from podium.v1 import event_pb2, session_pb2


class Words(dict[int, str | None]):
    """Number -> word. 0, "not said", is None; a number of a newer contract is `unknown_{number}`."""

    def __missing__(self, number: int) -> str:
        return f"unknown_{number}"


def words(enum: EnumDescriptor) -> Words:
    """Return the words of one enum."""
    prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
    named = ((value.number, value.name.removeprefix(prefix).lower()) for value in enum.values)
    return Words((number, word if number else None) for number, word in named)


def numbers(table: Words) -> dict[str | None, int]:
    """Return word -> number."""
    return {word: number for number, word in table.items()}


SOURCE = words(event_pb2.Source.DESCRIPTOR)
DELIVERY = words(event_pb2.Delivery.DESCRIPTOR)
ATTACH_REASON = words(event_pb2.AttachReason.DESCRIPTOR)
DETACH_REASON = words(event_pb2.DetachReason.DESCRIPTOR)
APPROVAL_KIND = words(session_pb2.ApprovalKind.DESCRIPTOR)
APPROVAL_OUTCOME = words(session_pb2.ApprovalOutcome.DESCRIPTOR)
DEADLINE_ACTION = words(session_pb2.DeadlineAction.DESCRIPTOR)
USAGE_SCOPE = words(event_pb2.UsageScope.DESCRIPTOR)
USAGE_ACCURACY = words(event_pb2.UsageAccuracy.DESCRIPTOR)
TURN_STATUS = words(session_pb2.TurnStatus.DESCRIPTOR)
SESSION_STATUS = words(session_pb2.SessionStatus.DESCRIPTOR)
WAITING_ON = words(session_pb2.WaitingOn.DESCRIPTOR)
PERMISSION_MODE = words(session_pb2.PermissionMode.DESCRIPTOR)
ORIGIN = words(session_pb2.Origin.DESCRIPTOR)
