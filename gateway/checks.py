"""Checks a request's own fields and fills in what the gateway's settings say. No state of a session is needed here."""

import re
from collections.abc import MutableMapping
from pathlib import PurePosixPath

from gateway import limits
from gateway.catalog import Catalog
from gateway.decide import UPDATABLE
from gateway.settings import GatewaySettings
from podium import names
from podium.errors import InvalidArgument
from podium.v1 import session_pb2 as s
from podium.v1 import session_service_pb2 as api

APPROVAL_WAIT_S_MAX = 30 * 86_400


def create_session(request: api.CreateSessionRequest, settings: GatewaySettings, catalog: Catalog) -> None:
    """Check a CreateSession and complete it: provider, vendor, workspace, pool, approval policy."""
    session = request.session
    session.title = limits.title(session.title)
    for name, value in (("model", session.model), ("effort", session.effort)):
        limits.text(value, f"session.{name}", 128)
    session.pool = names.token(session.pool or settings.default_pool, "session.pool")
    _workspace(session, settings.default_workspace)
    _replace(session.labels, limits.labels(session.labels, "session.labels"))
    _replace(session.runner_labels, limits.labels(session.runner_labels, "session.runner_labels"))
    limits.text(session.system_prompt_addition, "session.system_prompt_addition", limits.SYSTEM_PROMPT_BYTES_MAX)
    if session.provider:
        names.token(session.provider, "session.provider")
    _approval_policy(session.approval_policy, settings)
    if request.HasField("turn"):
        limits.turn_input(request.turn)
        session.model = request.turn.model or session.model
        session.effort = request.turn.effort or session.effort
    catalog.settle(session, settings.default_provider)


def turn(request: api.StartTurnRequest) -> None:
    """Check a StartTurn."""
    limits.turn_input(request.turn)


def update_session(request: api.UpdateSessionRequest) -> None:
    """Check an UpdateSession; without a mask all fields that are set are meant."""
    mask = request.update_mask
    unknown = sorted(set(mask.paths) - set(UPDATABLE))
    if unknown:
        raise InvalidArgument("update_mask", found=unknown[0], expected=f"some of {', '.join(UPDATABLE)}")
    if not mask.paths:
        given = {field.name for field, _ in request.session.ListFields()}
        mask.paths.extend(path for path in UPDATABLE if path in given)
    if not mask.paths:
        raise InvalidArgument("update_mask", found="", expected=f"some of {', '.join(UPDATABLE)}")
    session = request.session
    session.title = limits.title(session.title)
    for name, value in (("model", session.model), ("effort", session.effort)):
        limits.text(value, f"session.{name}", 128)
    _replace(session.labels, limits.labels(session.labels, "session.labels"))
    if "permission_mode" in mask.paths and not session.permission_mode:
        raise InvalidArgument("session.permission_mode", found="", expected="a permission mode")


def approval(request: api.ResolveApprovalRequest) -> None:
    """Check a ResolveApproval."""
    names.bare_uuid(request.approval_id, "approval_id")
    limits.json_object(request.updated_input_json, "updated_input_json")
    limits.text(request.message, "message", 8 * limits.TEXT_LENGTH_MAX)
    limits.text(request.remember_json, "remember_json", limits.JSON_BYTES_MAX)


def _workspace(session: s.Session, default: str) -> None:
    if not session.directory:
        session.workspace = names.token(session.workspace or default, "session.workspace")
        return
    limits.text(session.directory, "session.directory", limits.PATH_LENGTH_MAX)
    path = PurePosixPath(session.directory)
    if not path.is_absolute():
        raise InvalidArgument(
            "session.directory", found=session.directory, expected="an absolute path on the runner's host"
        )
    named_after = re.sub(r"[^a-z0-9._-]+", "-", path.name.lower()).strip("-._")[:63].replace("..", ".")
    session.workspace = names.token(session.workspace or named_after or default, "session.workspace")


def _approval_policy(policy: s.ApprovalPolicy, settings: GatewaySettings) -> None:
    for name, value in (("deadline_s", policy.deadline_s), ("defer_after_s", policy.defer_after_s)):
        if not 0 <= value <= APPROVAL_WAIT_S_MAX:
            expected = f"0 to {APPROVAL_WAIT_S_MAX} seconds"
            raise InvalidArgument(f"session.approval_policy.{name}", found=value, expected=expected)
    policy.deadline_s = policy.deadline_s or settings.approval_deadline_s
    policy.on_deadline = policy.on_deadline or s.DEADLINE_ACTION_DENY


def _replace(target: MutableMapping[str, str], values: dict[str, str]) -> None:
    target.clear()
    target.update(values)
