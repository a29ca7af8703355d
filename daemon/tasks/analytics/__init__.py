"""Questions about the whole history, answered from the roll-ups."""

import math
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from tasks.config import load
from tasks.database import Reader, Row
from tasks.rollups import DAY, UNROLLED_CALLS, cover, end_of, span_clause

Query = Callable[[str, Mapping[str, Any]], list[Row]]

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


class AnalyticsDB:
    """High-level questions, synchronous and read-only, without a daemon and beside one.

    `data_dir` is where tasks.db lies (default: as for the daemon). Raises StoreUnavailable when there is none yet.
    """

    def __init__(self, data_dir: str | os.PathLike[str] | None = None) -> None:
        self._reader = Reader(load(data_dir=data_dir).database_file)

    def get_error_rates(self, days: float = 7) -> dict[str, int]:
        """Failed calls by error category over the last `days`, the most frequent first. Raises ValueError unless `days` is
        above 0.
        """
        if not 0 < days < math.inf:
            raise ValueError(f"days = {days}: a number above 0 is needed")
        now = time.time_ns() // 1_000_000
        return error_rates(self._reader.query, since=now - round(min(days * DAY, now)))

    def close(self) -> None:
        self._reader.close()


def error_rates(query: Query, *, since: int, until: int | None = None) -> dict[str, int]:
    """Failed calls by error category from `since` to the end of the minute of `until` (epoch milliseconds; None: no end)."""
    start, slots = cover(since, until)
    statement = _ERROR_RATES.format(span=span_clause(slots), unrolled=UNROLLED_CALLS)
    rows = query(statement, {"since": since, "start": start, "end": end_of(until)})
    return dict(map(tuple, rows))
