"""The row of one session: its folded state as the newest append carries it. Pure."""

from indexer.projection import words
from indexer.projection.carry import Carry
from indexer.projection.facts import micros
from indexer.projection.rows import SessionRow
from podium import names
from podium.v1.session_pb2 import SessionState, TokenTotals


def session_row(state: SessionState, position: int, carry: Carry) -> SessionRow:
    """Return the session after the append at `position`."""
    session = state.session
    tokens = session.tokens
    problem = session.problem if session.HasField("problem") else None
    return SessionRow(
        id=session.name.removeprefix("sessions/"),
        title=session.title,
        provider=session.provider,
        vendor=session.vendor or None,
        model=session.model or None,
        resolved_model=session.resolved_model or None,
        effort=session.effort or None,
        permission_mode=words.PERMISSION_MODE[session.permission_mode] or "default",
        workspace=session.workspace or None,
        pool=session.pool or None,
        labels=sorted(session.labels.items()),
        status=words.SESSION_STATUS[session.status],
        waiting_on=words.WAITING_ON[session.waiting_on],
        problem_code=problem.code if problem else None,
        problem_message=problem.message if problem else None,
        context_used_percent=session.context_used_percent if session.HasField("context_used_percent") else None,
        jsonl_path=session.jsonl_path or None,
        provider_session_id=session.provider_session_id or None,
        client_version=session.client_version or None,
        runner=session.runner or None,
        host=session.host or None,
        parent_session_id=names.session_id(session.parent) if session.parent else None,
        origin=words.ORIGIN[session.origin],
        archived=session.archived,
        message_count=session.message_count,
        turn_count=session.turn_count,
        queued_turns=session.queued_turns,
        input_tokens=tokens.input_tokens,
        cache_read_input_tokens=tokens.cache_read_input_tokens,
        cache_creation_input_tokens=tokens.cache_creation_input_tokens,
        uncached_input_tokens=tokens.uncached_input_tokens,
        output_tokens=tokens.output_tokens,
        reasoning_tokens=tokens.reasoning_tokens,
        provider_cost_microusd=tokens.provider_cost_microusd if _cost_is_known(tokens) else None,
        revision=session.revision,
        position=position,
        created_at=micros(session.created_at),
        updated_at=micros(session.updated_at),
        # Deterministic: equal sessions are equal bytes, maps included, so that a rebuild gives equal hashes.
        session=session.SerializeToString(deterministic=True),
        first_position=carry.first_position,
        running_turn_id=carry.turn_id or None,
        turn_tokens=carry.tokens.SerializeToString() if carry.tokens is not None else None,
        turn_model=carry.model or None,
    )


def _cost_is_known(tokens: TokenTotals) -> bool:
    return tokens.HasField("provider_cost_microusd")
