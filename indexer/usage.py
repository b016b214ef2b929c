"""GetUsage: sums over usage facts, by what was asked for; always of facts, never of sums."""

from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from indexer.progress import Progress
from indexer.reads import Reads
from podium import names
from podium.clock import to_ns
from podium.errors import InvalidArgument, ResourceExhausted
from podium.v1 import analytics_service_pb2 as api
from podium.v1.session_pb2 import TokenTotals

ROWS_MAX = 10_000
"""Groups in one answer, about 1 MiB."""

_KEYS = {
    api.USAGE_DIMENSION_MODEL: "u.model",
    api.USAGE_DIMENSION_PROVIDER: "s.provider",
    api.USAGE_DIMENSION_WORKSPACE: "s.workspace",
    api.USAGE_DIMENSION_SESSION: "u.session_id",
    api.USAGE_DIMENSION_TURN: "u.turn_id",
    api.USAGE_DIMENSION_DAY: "strftime(timezone($time_zone, u.created_at), '%Y-%m-%d')",
    api.USAGE_DIMENSION_RUNNER: "u.runner",
    api.USAGE_DIMENSION_PRINCIPAL: "r.principal",
}

# Joined only where a key needs it: a million facts take four times as long with both.
_JOINS = {
    "s.": "LEFT JOIN core.sessions s ON s.id = u.session_id",
    "r.": "LEFT JOIN core.turn_requests r ON r.session_id = u.session_id AND r.turn_id = u.turn_id",
}

# $time_zone stands in every statement, as DuckDB refuses values it has no place for.
_SUMS = """
  SELECT * FROM (
    SELECT {keys} AS keys,
        coalesce(sum(u.cache_read_tokens), 0)::BIGINT,
        coalesce(sum(u.cache_write_5m_tokens + u.cache_write_1h_tokens), 0)::BIGINT,
        coalesce(sum(u.uncached_input_tokens), 0)::BIGINT,
        coalesce(sum(u.output_tokens), 0)::BIGINT AS output,
        coalesce(sum(u.reasoning_tokens), 0)::BIGINT,
        sum(u.provider_cost_microusd)::BIGINT,
        count(*) FILTER (u.is_call),
        count(*) FILTER (u.is_call AND u.accuracy IS DISTINCT FROM 'exact'),
        coalesce(
            sum(u.uncached_input_tokens + u.cache_read_tokens + u.cache_write_5m_tokens + u.cache_write_1h_tokens), 0
        )::BIGINT AS sent
    FROM core.spending u {joins}
    WHERE ($session_id = '' OR u.session_id = $session_id)
        AND ($since IS NULL OR epoch_us(u.created_at) >= $since)
        AND ($until IS NULL OR epoch_us(u.created_at) < $until)
        AND $time_zone <> ''
    GROUP BY {grouping}
  ) ORDER BY {day} sent + output DESC, keys LIMIT $rows"""


class UsageSums:
    """Answers GetUsage."""

    def __init__(self, reads: Reads, progress: Progress) -> None:
        """Take what reads the store, and how far it is."""
        self._reads, self._progress = reads, progress

    async def get(self, request: api.GetUsageRequest, context: Any) -> api.GetUsageResponse:
        """Return the sums, most tokens first, days oldest first. Raises PodiumError."""
        session_id = names.session_id(request.session) if request.session else ""
        sql = statement(list(request.group_by))
        parameters = {
            "session_id": session_id,
            "since": to_ns(request.since) // 1000 if request.HasField("since") else None,
            "until": to_ns(request.until) // 1000 if request.HasField("until") else None,
            "time_zone": _time_zone(request.time_zone),
            "rows": ROWS_MAX + 1,
        }
        await self._reads.reached(request.at_least_position, context)
        if session_id:
            await self._reads.span(session_id, context)
        # Taken before: what is read then has at least this.
        position = self._progress.position
        rows = await self._reads.rows(sql, parameters, context)
        if len(rows) > ROWS_MAX:
            raise ResourceExhausted(
                "QUERY_TOO_LARGE", f"more than {ROWS_MAX} groups; group by less, or narrow the time", limit=ROWS_MAX
            )
        return api.GetUsageResponse(rows=[_row(row) for row in rows], position=position)


def statement(group_by: list[api.UsageDimension.ValueType]) -> str:
    """Return the SELECT for these dimensions; without any it has one row. Raises InvalidArgument for an unknown one."""
    keys = [_KEYS.get(dimension) for dimension in group_by]
    if None in keys or len(set(keys)) != len(keys):
        expected = "dimensions of UsageDimension, each once"
        raise InvalidArgument("group_by", found=[int(dimension) for dimension in group_by], expected=expected)
    listed = ", ".join(f"coalesce({expression}, '')" for expression in keys)
    joins = " ".join(join for alias, join in _JOINS.items() if any(str(key).startswith(alias) for key in keys))
    day = f"keys[{group_by.index(api.USAGE_DIMENSION_DAY) + 1}]," if api.USAGE_DIMENSION_DAY in group_by else ""
    return _SUMS.format(keys=f"[{listed}]::VARCHAR[]", joins=joins, grouping="ALL" if keys else "()", day=day)


def _time_zone(name: str) -> str:
    try:
        ZoneInfo(name or "UTC")
    except (ZoneInfoNotFoundError, ValueError, OSError):
        expected = "an IANA time zone such as Europe/Zurich"
        raise InvalidArgument("time_zone", found=name, expected=expected) from None
    return name or "UTC"


def _row(row: tuple[Any, ...]) -> api.UsageRow:
    keys, cache_read, cache_write, uncached, output, reasoning, cost, calls, inexact, sent = row
    tokens = TokenTotals(
        input_tokens=sent,
        cache_read_input_tokens=cache_read,
        cache_creation_input_tokens=cache_write,
        uncached_input_tokens=uncached,
        output_tokens=output,
        reasoning_tokens=reasoning,
        provider_cost_microusd=cost,
    )
    return api.UsageRow(keys=keys, tokens=tokens, calls=calls, inexact_calls=inexact)
