"""Questions about the whole history, answered from the roll-ups.

The functions take the `query` of a Reader, so that the API, the CLI beside a stopped daemon and AnalyticsDB share them.
"""

import os

from tasks.analytics.errors import error_rates
from tasks.analytics.span import Query, since
from tasks.config import load
from tasks.database import Reader

__all__ = ["AnalyticsDB", "Query", "error_rates", "since"]


class AnalyticsDB:
    """High-level questions, synchronous and read-only, without a daemon and beside one.

    `data_dir` is where tasks.db lies (default: as for the daemon). Raises StoreUnavailable when there is none yet. Spans are
    the last `days`, to the millisecond; None is all time. Every method raises ValueError unless its span is above 0.
    """

    def __init__(self, data_dir: str | os.PathLike[str] | None = None) -> None:
        self._settings = load(data_dir=data_dir)
        self._reader = Reader(self._settings.database_file)
        self._query = self._reader.query

    # Errors.

    def get_error_rates(self, days: float = 7) -> dict[str, int]:
        """Failed calls by error category, the most frequent first."""
        return error_rates(self._query, since=since(days=days))

    def close(self) -> None:
        self._reader.close()
