"""What tool calls add up to, by tool and by what they belong to."""

from collections.abc import Iterable, Sequence
from typing import Literal

from typing_extensions import TypedDict

from tasks.analytics.span import Query, settled
from tasks.database import Row
from tasks.rollups import (
    COARSE_GRAINS,
    DURATION_GRAINS,
    GRAINS,
    HOUR,
    MINUTE,
    UNROLLED_CALLS,
    cover,
    histogram_percentile,
    percentile,
    span_clause,
)

#: What calls belong to. '' is a value too: of agent_type the main agent of a task without one, of model "not known (yet)".
Dimension = Literal["workflow", "agent_type", "model", "session", "task"]
#: Those that can be asked about for a span of time; the calls of a session or task are kept over all time.
DATED: tuple[Dimension, ...] = ("workflow", "agent_type", "model")
#: Percentiles that are given unless others are asked for.
QUANTILES = (0.5, 0.9, 0.95, 0.99)
#: Up to this many timed calls percentiles are exact; beyond, they come from the histogram (steps of 26 %, interpolated).
EXACT_LIMIT = 5_000


class ToolUse(TypedDict):
    tool_name: str
    #: calls
    count: int
    #: milliseconds, of the calls whose duration is known; None when that is none
    avg_duration: float | None
    #: 0 to 1
    success_rate: float
    failures: int


class ValueUse(ToolUse):
    """Use of a tool by one workflow, agent type or model."""

    value: str


class UseStats(TypedDict):
    """What the calls of one workflow, agent type, model or session add up to."""

    value: str
    calls: int
    failures: int
    #: 0 to 1
    error_rate: float
    #: milliseconds, of the calls whose duration is known; None when that is none
    avg_duration: float | None
    #: different ones
    tools: int


class ToolDurations(TypedDict):
    """Milliseconds. Of `calls` calls, `timed` have a known duration."""

    tool_name: str
    calls: int
    timed: int
    avg_duration: float
    max_duration: float
    #: "p50" → milliseconds
    percentiles: dict[str, float]


_VALUES: dict[Dimension, str] = {
    "workflow": "(SELECT workflow FROM tasks WHERE task_id = u.task_id)",
    "agent_type": "coalesce(nullif(u.agent_type, ''), (SELECT agent_type FROM tasks WHERE task_id = u.task_id), '')",
    "model": "coalesce(u.model, '')",
    "session": "u.session_uuid",
    "task": "u.task_id",
}

# Slots come from the roll-ups, the part of an hour before the first of them and what is not rolled up yet from the rows.
_USES = """
WITH span (grain, first, last) AS (VALUES {span})
SELECT value, tool_name, sum(calls), sum(failures), sum(timed), sum(duration_sum) FROM (
    SELECT value, tool_name, calls, iif(error_category = '', 0, calls) AS failures, timed, duration_sum
    FROM span JOIN use_rollup AS r
         ON r.dimension = :dimension AND {slots} {chosen}
    UNION ALL
    SELECT value, tool_name, count(*), sum(success = 0), count(duration_ms), total(duration_ms)
    FROM (SELECT {value} AS value, tool_name, success, duration_ms
          FROM tool_usage AS u WHERE timestamp >= :since AND timestamp < :start
          UNION ALL
          SELECT {value}, tool_name, success, duration_ms
          FROM tool_usage AS u WHERE {unrolled} AND +timestamp >= :start)
    WHERE value IS NOT NULL {chosen} GROUP BY 1, 2
) GROUP BY value, tool_name ORDER BY sum(calls) DESC, value, tool_name
"""

_TOOLS = """
WITH span (grain, first, last) AS (VALUES {span})
SELECT tool_name, sum(calls), sum(failures), sum(timed), sum(duration_sum), max(duration_max) FROM (
    SELECT tool_name, calls, calls - successes AS failures, timed, duration_sum, duration_max
    FROM span JOIN tool_rollup AS r ON r.grain = span.grain AND r.slot BETWEEN span.first AND span.last
    UNION ALL
    SELECT tool_name, count(*), sum(success = 0), count(duration_ms), total(duration_ms), max(duration_ms)
    FROM tool_usage WHERE timestamp >= :since AND timestamp < :start GROUP BY tool_name
    UNION ALL
    SELECT tool_name, count(*), sum(success = 0), count(duration_ms), total(duration_ms), max(duration_ms)
    FROM tool_usage WHERE {unrolled} AND +timestamp >= :start GROUP BY tool_name
) GROUP BY tool_name ORDER BY sum(calls) DESC, tool_name
"""

# First which sessions, by their number of calls alone; then all about these.
_SESSIONS = """
WITH loose AS MATERIALIZED (
    SELECT session_uuid AS value, tool_name, success, duration_ms FROM tool_usage WHERE {unrolled}
),
more (value, calls) AS MATERIALIZED (SELECT value, count(*) FROM loose GROUP BY value),
chosen AS MATERIALIZED (
    SELECT session_uuid AS value,
           coalesce((SELECT sum(calls) FROM use_rollup
                     WHERE dimension = 'session' AND grain = 0 AND slot = 0 AND value = session_uuid), 0)
           + coalesce((SELECT calls FROM more WHERE value = session_uuid), 0) AS calls
    FROM sessions WHERE last_event_at >= :since AND calls > 0 ORDER BY 2 DESC, 1 LIMIT :limit
)
SELECT value, '', sum(calls), sum(failures), sum(timed), sum(duration_sum), count(DISTINCT tool_name) FROM (
    SELECT value, tool_name, r.calls, iif(error_category = '', 0, r.calls) AS failures, timed, duration_sum
    FROM chosen CROSS JOIN use_rollup AS r USING (value)
    WHERE r.dimension = 'session' AND r.grain = 0 AND r.slot = 0
    UNION ALL
    SELECT value, tool_name, 1, success = 0, duration_ms IS NOT NULL, coalesce(duration_ms, 0.0)
    FROM loose WHERE value IN (SELECT value FROM chosen)
) GROUP BY value ORDER BY sum(calls) DESC, value
"""

_DURATIONS = """
SELECT tool_name, duration_ms FROM tool_usage WHERE timestamp >= :since AND duration_ms IS NOT NULL
"""

_HISTOGRAM = """
WITH span (grain, first, last) AS (VALUES {span}),
loose (tool_name, duration_ms) AS (
    SELECT tool_name, duration_ms FROM tool_usage WHERE timestamp >= :since AND timestamp < :start
    UNION ALL
    SELECT tool_name, duration_ms FROM tool_usage WHERE {unrolled} AND +timestamp >= :start
)
SELECT tool_name, bucket, sum(calls) FROM (
    SELECT tool_name, bucket, calls
    FROM span JOIN duration_rollup AS r ON r.grain = span.grain AND r.slot BETWEEN span.first AND span.last
    UNION ALL
    SELECT tool_name, (SELECT bucket FROM duration_bucket WHERE lower_ms <= duration_ms ORDER BY lower_ms DESC LIMIT 1), 1
    FROM loose WHERE duration_ms >= 0
) GROUP BY tool_name, bucket ORDER BY tool_name, bucket
"""


def tool_usage(query: Query, *, since: int = 0) -> list[ToolUse]:
    """Use of every tool since `since` (epoch milliseconds), the most used first."""
    return [_use(row) for row in _tools(query, since)]


def usage_of(query: Query, dimension: Dimension, value: str, *, since: int = 0) -> list[ToolUse]:
    """Use of the tools by one workflow, agent type, model, session or task, the most used first.

    For sessions and tasks `since` has to be 0: over all time.
    """
    return [_use(row[1:]) for row in _uses(query, dimension, since, value)]


def usage_by(query: Query, dimension: Dimension, *, since: int = 0) -> list[ValueUse]:
    """Use of every tool by every workflow, agent type or model; those with the most calls first."""
    return [ValueUse(value=row[0], **_use(row[1:])) for row in _uses(query, dimension, since)]


def stats_by(query: Query, dimension: Dimension, *, since: int = 0) -> list[UseStats]:
    """Calls and failures of every workflow, agent type or model, the one with the most calls first."""
    tools: dict[str, list[Row]] = {}
    for row in _uses(query, dimension, since):
        tools.setdefault(row[0], []).append(row)
    sums = [
        (value, "", *(sum(row[at] for row in rows) for at in range(2, 6)), len(rows)) for value, rows in tools.items()
    ]
    return _stats(sorted(sums, key=lambda row: (-row[2], row[0])))


def session_stats(query: Query, *, since: int = 0, limit: int = 50) -> list[UseStats]:
    """All calls of each session that was active since `since`, the one with the most calls first."""
    return _stats(query(_SESSIONS.format(unrolled=UNROLLED_CALLS), {"since": since, "limit": limit}))


def tool_durations(query: Query, *, since: int = 0, quantiles: Sequence[float] = QUANTILES) -> list[ToolDurations]:
    """How long the calls of each tool took, the most used tool first. Tools without a timed call are left out.

    Raises ValueError for a quantile that is not between 0 and 1.
    """
    if not all(0 <= one <= 1 for one in quantiles):
        raise ValueError(f"quantiles = {list(quantiles)}: numbers from 0 to 1 are needed")
    calls = [row for row in _tools(query, since) if row[3]]
    timed_calls = sum(row[3] for row in calls)
    found = _exact(query, since, quantiles, timed_calls) if timed_calls <= EXACT_LIMIT else None
    if found is None:
        found = _estimated(query, since, quantiles)
    return [
        ToolDurations(
            tool_name=tool, calls=count, timed=timed, avg_duration=total / timed, max_duration=longest,
            percentiles={
                f"p{part * 100:g}": min(value, longest)
                for part, value in zip(quantiles, found.get(tool) or [longest] * len(quantiles), strict=True)
            },
        )
        for tool, count, _, timed, total, longest in calls
    ]  # fmt: skip


def _tools(query: Query, since: int) -> list[Row]:
    """(tool, calls, failures, timed, sum of durations, longest)."""
    since = settled(query, since, MINUTE)
    start, slots = cover(since, None, GRAINS)
    statement = _TOOLS.format(span=span_clause(slots), unrolled=UNROLLED_CALLS)
    return query(statement, {"since": since, "start": start})


def _uses(query: Query, dimension: Dimension, since: int, value: str | None = None) -> list[Row]:
    """(value, tool, calls, failures, timed, sum of durations)."""
    if dimension in DATED:
        since = settled(query, since, HOUR)
        start, slots = cover(since, None, COARSE_GRAINS)
        within = "r.grain = span.grain AND r.slot BETWEEN span.first AND span.last"
    elif since:
        raise ValueError(f"the calls of a {dimension} are counted over all time, not since {since}")
    else:
        start, slots = 0, [(0, 0, 0)]
        within = "r.grain = 0 AND r.slot = 0"  # not a range: the index goes on with the value
    statement = _USES.format(
        span=span_clause(slots), slots=within, value=_VALUES[dimension], unrolled=UNROLLED_CALLS,
        chosen="" if value is None else "AND value = :value",
    )  # fmt: skip
    return query(statement, {"dimension": dimension, "since": since, "start": start, "value": value})


def _use(row: Row) -> ToolUse:
    tool, count, failures, timed, total, *_ = row
    return ToolUse(
        tool_name=tool, count=count, avg_duration=total / timed if timed else None,
        success_rate=(count - failures) / count, failures=failures,
    )  # fmt: skip


def _stats(rows: Iterable[Row]) -> list[UseStats]:
    return [
        UseStats(
            value=value, calls=calls, failures=failures, error_rate=failures / calls,
            avg_duration=total / timed if timed else None, tools=tools,
        )
        for value, _, calls, failures, timed, total, tools in rows
    ]  # fmt: skip


def _exact(query: Query, since: int, quantiles: Sequence[float], expected: int) -> dict[str, list[float]] | None:
    """None when the rows do not tell: some of the `expected` timed calls were deleted."""
    rows = query(_DURATIONS, {"since": since})
    durations: dict[str, list[float]] = {}
    for tool, duration in rows:
        durations.setdefault(tool, []).append(duration)
    if len(rows) < expected:
        return None
    return {tool: [percentile(sorted(all_), part) for part in quantiles] for tool, all_ in durations.items()}


def _estimated(query: Query, since: int, quantiles: Sequence[float]) -> dict[str, list[float]]:
    since = settled(query, since, HOUR)
    start, slots = cover(since, None, DURATION_GRAINS)
    statement = _HISTOGRAM.format(span=span_clause(slots), unrolled=UNROLLED_CALLS)
    histograms: dict[str, list[tuple[int, float]]] = {}
    for tool, bucket, count in query(statement, {"since": since, "start": start}):
        histograms.setdefault(tool, []).append((bucket, count))
    return {tool: [histogram_percentile(h, part) for part in quantiles] for tool, h in histograms.items()}
