"""Questions about the whole history, answered from the roll-ups."""

import math
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from tasks.config import load
from tasks.database import Reader, Row

QUARTER = 900_000  # milliseconds
DAY = 86_400_000  # milliseconds

Query = Callable[[str, Mapping[str, Any]], list[Row]]

_ERROR_RATES = """
SELECT error_category, sum(calls) FROM (
    SELECT error_category, calls FROM error_rollup WHERE quarter BETWEEN :first_quarter AND :last_quarter
    UNION ALL
    SELECT error_category, count(*) FROM tool_usage
    WHERE timestamp >= :since AND timestamp < :first_quarter * 900000 AND success = 0 GROUP BY error_category
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
        return error_rates(self._reader.query, since=now - round(min(days * DAY, now)), until=now)

    def close(self) -> None:
        self._reader.close()


def error_rates(query: Query, *, since: int, until: int) -> dict[str, int]:
    """Failed calls by error category from `since`, exactly, to the end of the quarter hour of `until` (epoch milliseconds)."""
    span = {"since": since, "first_quarter": -(-since // QUARTER), "last_quarter": until // QUARTER}
    return dict(map(tuple, query(_ERROR_RATES, span)))
