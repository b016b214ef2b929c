"""The gateway and the providers mean the same when they speak of permission modes."""

import pytest

from gateway.catalog import Catalog
from gateway.decide import Asked, decide
from podium.errors import FailedPrecondition
from podium.v1 import event_pb2, provider_pb2, runner_pb2, session_pb2
from podium.v1 import session_service_pb2 as api
from runner.providers.claude.capabilities import CAPABILITIES, PERMISSION_MODES

ASKED = Asked(session_id="x", principal="ana", request_id="r", fingerprint=1)


def catalog(capabilities: provider_pb2.Capabilities) -> Catalog:
    provider = provider_pb2.Provider(name="claude", capabilities=capabilities)
    return Catalog([runner_pb2.Runner(id="r1", providers=[provider])], [])


@pytest.mark.parametrize("mode", PERMISSION_MODES)
def test_the_gateway_takes_every_mode_that_claude_tells_of(mode: session_pb2.PermissionMode.ValueType) -> None:
    catalog(CAPABILITIES).check_permission_mode("claude", mode)


def test_a_mode_that_nobody_offers_is_refused() -> None:
    offered = provider_pb2.Capabilities(permission_modes=["default", "plan"])
    with pytest.raises(FailedPrecondition, match="has no permission mode bypass here; it has default, plan"):
        catalog(offered).check_permission_mode("claude", session_pb2.PERMISSION_MODE_BYPASS)


def test_a_session_can_be_renamed_though_its_mode_is_not_offered_any_more() -> None:
    session = session_pb2.Session(provider="claude", permission_mode=session_pb2.PERMISSION_MODE_BYPASS)
    rename = api.UpdateSessionRequest(session=session_pb2.Session(title="Cache race"))
    rename.update_mask.paths.append("title")

    decision = decide(
        session_pb2.SessionState(session=session),
        rename,
        ASKED,
        catalog(provider_pb2.Capabilities(permission_modes=["default"])),
    )

    (draft,) = decision.drafts
    assert isinstance(draft.body, event_pb2.SessionUpdated)
    assert draft.body.title == "Cache race"
