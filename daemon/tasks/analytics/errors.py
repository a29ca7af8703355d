"""Why calls failed."""

from tasks.analytics.span import Query
from tasks.rollups import UNROLLED_CALLS, cover, end_of, span_clause

_ERROR_RATES = """
WITH span (grain, first, last) AS (VALUES {span})
SELECT error_category, sum(calls) FROM (
    SELECT error_category, calls
    FROM span JOIN error_rollup AS r ON r.grain = span.grain AND r.slot BETWEEN span.first AND span.last
    UNION ALL
    SELECT error_category, count(*) FROM tool_usage
    WHERE timestamp >= :since AND timestamp < :start AND success = 0 GROUP BY error_category
    UNION ALL
    SELECT error_category, count(*) FROM tool_usage
    WHERE {unrolled} AND +timestamp >= :start AND +timestamp < :end AND success = 0 GROUP BY error_category
) GROUP BY error_category ORDER BY sum(calls) DESC, error_category
"""


def error_rates(query: Query, *, since: int, until: int | None = None) -> dict[str, int]:
    """Failed calls by error category from `since` to the end of the minute of `until` (epoch milliseconds; None: no end)."""
    start, slots = cover(since, until)
    statement = _ERROR_RATES.format(span=span_clause(slots), unrolled=UNROLLED_CALLS)
    rows = query(statement, {"since": since, "start": start, "end": end_of(until)})
    return dict(map(tuple, rows))
