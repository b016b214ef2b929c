"""The documented surface of the store: views in schema `main` over the facts in `core`; docs/sql.md describes them.

What spans several events (a turn, a tool call, a question) is joined here, when it is asked for, from facts that never
change: why that and not tables that are updated is in docs/decisions/0004-projection.md.
"""

from collections.abc import Mapping

VIEWS: Mapping[str, str] = {
    "core.spending": """
        SELECT session_id, turn_id, created_at, runner, model, true AS is_call, accuracy,
            uncached_input_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens,
            output_tokens, reasoning_tokens, provider_cost_microusd
        FROM core.usage
        UNION ALL
        SELECT e.session_id, e.turn_id, e.created_at, s.runner, e.resolved_model, false, NULL,
            NULL, NULL, NULL, NULL, NULL, NULL, e.provider_cost_microusd
        FROM core.turn_ends e LEFT JOIN core.turn_starts s USING (session_id, turn_id)
        WHERE e.provider_cost_microusd IS NOT NULL""",
    "core.turn_usage": """
        SELECT session_id, turn_id, count(*) FILTER (is_call) AS calls,
            count(*) FILTER (is_call AND accuracy IS DISTINCT FROM 'exact') AS inexact_calls,
            sum(uncached_input_tokens + cache_read_tokens + cache_write_5m_tokens + cache_write_1h_tokens)::BIGINT
                AS input_tokens,
            sum(output_tokens)::BIGINT AS output_tokens,
            sum(cache_read_tokens)::BIGINT AS cache_read_input_tokens,
            sum(cache_write_5m_tokens + cache_write_1h_tokens)::BIGINT AS cache_creation_input_tokens,
            sum(uncached_input_tokens)::BIGINT AS uncached_input_tokens,
            sum(reasoning_tokens)::BIGINT AS reasoning_tokens,
            sum(provider_cost_microusd)::BIGINT AS provider_cost_microusd,
            min(created_at) AS first_used_at, max(created_at) AS last_used_at
        FROM core.spending GROUP BY session_id, turn_id""",
    "sessions": """
        SELECT id, title, provider, vendor, model, resolved_model, effort, permission_mode, workspace, pool, labels,
            status, waiting_on, problem_code, problem_message, context_used_percent,
            jsonl_path, provider_session_id, client_version, runner, host, parent_session_id, origin, archived,
            message_count, turn_count, queued_turns,
            input_tokens, output_tokens, cache_read_input_tokens, cache_creation_input_tokens,
            uncached_input_tokens, reasoning_tokens,
            (provider_cost_microusd / 1000000)::DECIMAL(18, 6) AS cost_usd,
            created_at, updated_at, revision, "position"
        FROM core.sessions""",
    "session_messages": """
        SELECT id, session_id, role, content, created_at, turn_id, revision, parent_tool_use_id, model
        FROM core.messages WHERE role <> 'system'""",
    "turns": """
        SELECT r.turn_id AS id, r.session_id, coalesce(e.status, if(s.turn_id IS NULL, 'queued', 'running')) AS status,
            r.prompt, coalesce(s.model, r.model) AS model, e.resolved_model, coalesce(s.effort, r.effort) AS effort,
            r.principal, s.runner, s.resumed,
            e.reason, e.problem_code, e.problem_message, e.problem_retryable, e.structured_output,
            r.created_at AS requested_at, s.created_at AS started_at, e.created_at AS ended_at,
            e.queued_ms, e.duration_ms, e.first_token_ms, e.api_duration_ms,
            u.input_tokens, u.output_tokens, u.cache_read_input_tokens, u.cache_creation_input_tokens,
            u.uncached_input_tokens, u.reasoning_tokens,
            (u.provider_cost_microusd / 1000000)::DECIMAL(18, 6) AS cost_usd, r.revision
        FROM core.turn_requests r
        LEFT JOIN core.turn_starts s USING (session_id, turn_id)
        LEFT JOIN core.turn_ends e USING (session_id, turn_id)
        LEFT JOIN core.turn_usage u USING (session_id, turn_id)""",
    "usage": """
        SELECT id, session_id, turn_id, created_at, scope, model, runner, parent_tool_use_id,
            api_message_id, api_request_id, accuracy,
            uncached_input_tokens + cache_read_tokens + cache_write_5m_tokens + cache_write_1h_tokens AS input_tokens,
            output_tokens,
            cache_read_tokens AS cache_read_input_tokens,
            cache_write_5m_tokens + cache_write_1h_tokens AS cache_creation_input_tokens,
            uncached_input_tokens, cache_write_5m_tokens, cache_write_1h_tokens, reasoning_tokens,
            (provider_cost_microusd / 1000000)::DECIMAL(18, 6) AS cost_usd, revision
        FROM core.usage""",
    "usage_by_session": """
        SELECT u.session_id, any_value(s.title) AS title, any_value(s.provider) AS provider,
            any_value(s.workspace) AS workspace, sum(u.calls)::BIGINT AS calls,
            sum(u.inexact_calls)::BIGINT AS inexact_calls, sum(u.input_tokens)::BIGINT AS input_tokens,
            sum(u.output_tokens)::BIGINT AS output_tokens,
            sum(u.cache_read_input_tokens)::BIGINT AS cache_read_input_tokens,
            sum(u.cache_creation_input_tokens)::BIGINT AS cache_creation_input_tokens,
            sum(u.uncached_input_tokens)::BIGINT AS uncached_input_tokens,
            sum(u.reasoning_tokens)::BIGINT AS reasoning_tokens,
            (sum(u.provider_cost_microusd) / 1000000)::DECIMAL(18, 6) AS cost_usd,
            min(u.first_used_at) AS first_used_at, max(u.last_used_at) AS last_used_at
        FROM core.turn_usage u JOIN core.sessions s ON s.id = u.session_id GROUP BY u.session_id""",
    "tool_calls": """
        SELECT u.tool_use_id AS id, u.session_id, u.turn_id, u.name, u.native_name, u.input,
            r.output, r.structured_output, r.is_error,
            u.created_at AS started_at, r.created_at AS ended_at,
            date_diff('millisecond', u.created_at, r.created_at) AS duration_ms, u.parent_tool_use_id, u.revision
        FROM core.tool_uses u LEFT JOIN core.tool_results r USING (session_id, tool_use_id)""",
    "approvals": """
        SELECT q.approval_id AS id, q.session_id, q.turn_id, q.kind, q.tool_name, q.tool_use_id, q.input, q.summary,
            q.options, q.deadline, q.on_deadline,
            coalesce(a.outcome, if(e.turn_id IS NULL, NULL, 'turn_ended')) AS outcome,
            a.principal AS resolved_by, a.updated_input, a.message, a.remember,
            q.created_at AS requested_at, coalesce(a.created_at, e.created_at) AS resolved_at, q.revision
        FROM (
            SELECT * FROM core.approval_requests
            QUALIFY row_number() OVER (PARTITION BY session_id, approval_id ORDER BY revision) = 1
        ) q
        LEFT JOIN (
            SELECT * FROM core.approval_resolutions
            QUALIFY row_number() OVER (PARTITION BY session_id, approval_id ORDER BY revision) = 1
        ) a USING (session_id, approval_id)
        LEFT JOIN core.turn_ends e ON e.session_id = q.session_id AND e.turn_id = q.turn_id""",
    "runners": """
        SELECT a.runner AS id, arg_max(a.host, a.created_at) AS host, coalesce(any_value(o.sessions), 0) AS sessions,
            count(*) FILTER (a.attached) AS attachments,
            count(*) FILTER (a.attached AND a.reason = 'taken_over') AS takeovers,
            min(a.created_at) AS first_seen_at, max(a.created_at) AS last_seen_at
        FROM core.attachments a
        LEFT JOIN (SELECT runner, count(*) AS sessions FROM core.sessions GROUP BY runner) o ON o.runner = a.runner
        GROUP BY a.runner""",
    "workspaces": """
        SELECT workspace AS name, count(*) AS sessions, count(*) FILTER (status = 'running') AS running_sessions,
            sum(message_count)::BIGINT AS message_count, sum(turn_count)::BIGINT AS turn_count,
            sum(input_tokens)::BIGINT AS input_tokens, sum(output_tokens)::BIGINT AS output_tokens,
            (sum(provider_cost_microusd) / 1000000)::DECIMAL(18, 6) AS cost_usd,
            min(created_at) AS created_at, max(updated_at) AS updated_at
        FROM core.sessions WHERE workspace IS NOT NULL GROUP BY workspace""",
}
"""View -> its SELECT, each only over what stands before it."""

RELATIONS: Mapping[str, str | None] = {
    "sessions": "id",
    "session_messages": "id",
    "turns": "id",
    "usage": "id",
    "usage_by_session": "session_id",
    "tool_calls": None,
    "approvals": "id",
    "runners": "id",
    "workspaces": "name",
}
"""The public views and the column that identifies a row; a tool's call id is unique within its session only."""


def ddl() -> list[str]:
    """Return the statements that make the views."""
    return [f"CREATE VIEW {name} AS {select}" for name, select in VIEWS.items()]
