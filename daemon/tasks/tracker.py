"""Tool usage: recording calls, and what the stored ones add up to."""

import math
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from pydantic_core import to_json
from typing_extensions import TypedDict

from tasks.categories import categorize
from tasks.categories.fingerprints import fingerprint
from tasks.config import load, secret_key
from tasks.database import ERROR_KIND, Row, SyncDatabase, Write
from tasks.redaction import Redactor
from tasks.rollups import (
    DURATION_GRAINS,
    HOUR,
    UNROLLED_CALLS,
    cover,
    end_of,
    histogram_percentile,
    percentile,
    rows_since,
    span_clause,
    widened,
)
from tasks.words import CallSource, PrivacyLevel

#: Up to this many timed calls percentiles are exact; beyond, they come from the histogram (steps of 26 %, interpolated).
EXACT_LIMIT = 5_000

#: The longest time that a call may claim: a hundred years, in milliseconds.
LONGEST = 3.2e12

Query = Callable[[str, Mapping[str, Any]], list[Row]]

_RECORD = """
INSERT INTO tool_usage (timestamp, session_uuid, task_id, tool_name, parameters, success, error, error_category,
                        duration_ms, tokens, screenshot_path, source, fingerprint)
VALUES (:timestamp, :session_uuid, :task_id, :tool_name, :parameters, :success, :error, :error_category,
        :duration_ms, :tokens, :screenshot_path, :source, :fingerprint)
"""

# Slots come from the roll-ups, the part of a minute before the first of them and what is not rolled yet from the rows.
_CALLS = """
WITH span (grain, first, last) AS (VALUES {span})
SELECT tool_name, sum(calls), sum(successes), sum(timed), sum(duration_sum), max(duration_max) FROM (
    SELECT tool_name, calls, successes, timed, duration_sum, duration_max
    FROM span JOIN tool_rollup AS r ON r.grain = span.grain AND r.slot BETWEEN span.first AND span.last
    UNION ALL
    SELECT tool_name, count(*), sum(success), count(duration_ms), total(duration_ms), max(duration_ms)
    FROM tool_usage WHERE timestamp >= :since AND timestamp < :start GROUP BY tool_name
    UNION ALL
    SELECT tool_name, count(*), sum(success), count(duration_ms), total(duration_ms), max(duration_ms)
    FROM tool_usage WHERE {unrolled} AND +timestamp >= :start AND +timestamp < :end GROUP BY tool_name
) GROUP BY tool_name ORDER BY sum(calls) DESC, tool_name
"""

_ERRORS = """
WITH span (grain, first, last) AS (VALUES {span})
SELECT tool_name, error_category, sum(calls) FROM (
    SELECT tool_name, error_category, calls
    FROM span JOIN error_rollup AS r ON r.grain = span.grain AND r.slot BETWEEN span.first AND span.last
    UNION ALL
    SELECT tool_name, error_category, count(*) FROM tool_usage
    WHERE timestamp >= :since AND timestamp < :start AND success = 0 GROUP BY tool_name, error_category
    UNION ALL
    SELECT tool_name, error_category, count(*) FROM tool_usage
    WHERE {unrolled} AND +timestamp >= :start AND +timestamp < :end AND success = 0 GROUP BY tool_name, error_category
) GROUP BY tool_name, error_category ORDER BY sum(calls) DESC, error_category
"""

_DURATIONS = """
SELECT tool_name, duration_ms FROM tool_usage
WHERE timestamp >= :since AND timestamp < :end AND duration_ms IS NOT NULL
"""

# Of the hour in which the span begins, the part that lies in it counts.
_HISTOGRAM = """
WITH span (grain, first, last) AS (VALUES {span})
SELECT tool_name, bucket, sum(calls) FROM (
    SELECT tool_name, bucket, calls
    FROM span JOIN duration_rollup AS r ON r.grain = span.grain AND r.slot BETWEEN span.first AND span.last
    UNION ALL
    SELECT tool_name, bucket, calls * :part FROM duration_rollup WHERE grain = 3600000 AND slot = :edge
    UNION ALL
    SELECT tool_name, (SELECT bucket FROM duration_bucket WHERE lower_ms <= duration_ms ORDER BY lower_ms DESC LIMIT 1), 1
    FROM tool_usage WHERE {unrolled} AND +timestamp >= :since AND +timestamp < :end AND duration_ms >= 0
) GROUP BY tool_name, bucket ORDER BY tool_name, bucket
"""


class ToolStats(TypedDict):
    """What the calls of one tool add up to. Durations in milliseconds; None when no call was timed."""

    count: int
    #: 0 to 1
    success_rate: float
    #: error category → calls
    errors: dict[str, int]
    avg_duration_ms: float | None
    p50_duration_ms: float | None
    p95_duration_ms: float | None
    max_duration_ms: float | None


class ToolUsageTracker:
    """Records tool calls and answers what they add up to; synchronous, without a daemon and beside one.

    `data_dir` is where tasks.db lies (default: as for the daemon); it is created when missing. Thread-safe.
    Raises StoreUnavailable, StoreBusy or StoreCorrupt when the store cannot do it.
    """

    def __init__(self, data_dir: str | os.PathLike[str] | None = None) -> None:
        settings = load(data_dir=data_dir)
        self._database = SyncDatabase(settings.database_file)
        self._redactor = Redactor(secret_key(settings), settings.privacy.level)

    def record_tool_usage(
        self,
        task_id: str | None = None,
        tool_name: str = "",
        duration_ms: float | None = None,
        success: bool = True,
        error: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        *,
        tokens: int | None = None,
        screenshot_path: str | os.PathLike[str] | None = None,
        session_uuid: str | None = None,
    ) -> None:
        """Store one finished call; durable when this returns.

        `parameters` is anything that JSON can hold; secrets in it and in `error` are redacted. A failed call gets its
        error category from `error`. Raises ValueError for a missing tool name and for impossible numbers.
        """
        if not isinstance(tool_name, str) or not tool_name:
            raise ValueError("record_tool_usage needs a tool_name")
        if duration_ms is not None and not 0 <= duration_ms <= LONGEST:
            raise ValueError(f"duration_ms = {duration_ms}: milliseconds of 0 or more are needed")
        if tokens is not None and not (isinstance(tokens, int) and 0 <= tokens < 1 << 63):
            raise ValueError(f"tokens = {tokens}: a count of 0 or more is needed")
        category = None if success else categorize(error or "", tool_name=tool_name)
        row = {
            "timestamp": time.time_ns() // 1_000_000,
            "session_uuid": session_uuid,
            "task_id": task_id,
            "tool_name": tool_name,
            "parameters": self._json(parameters),
            "success": int(bool(success)),
            "error": None if success or error is None else self._text(error),
            "error_category": category,
            "duration_ms": None if duration_ms is None else float(duration_ms),
            "tokens": tokens,
            "screenshot_path": None if screenshot_path is None else os.fspath(screenshot_path),
            "source": CallSource.API,
            "fingerprint": None,
        }
        writes = []
        if category is not None:
            kind = fingerprint(tool_name, category, self._redactor.ends(error or ""))
            message = None if self._redactor.level is PrivacyLevel.MINIMAL else kind.message or None
            row["fingerprint"] = kind.id
            at = row["timestamp"]
            writes.append(Write.one(ERROR_KIND, (kind.id, tool_name, category, message, session_uuid, at, at)))
        self._database.apply([Write.one(_RECORD, row), *writes])

    def get_tool_stats(self, hours: float = 24) -> dict[str, ToolStats]:
        """Statistics by tool over the last `hours`, the most used tool first. Raises ValueError unless `hours` is above 0."""
        if not 0 < hours < math.inf:
            raise ValueError(f"hours = {hours}: a number above 0 is needed")
        now = time.time_ns() // 1_000_000
        return tool_stats(self._database.query, since=now - round(min(hours * HOUR, now)))

    def close(self) -> None:
        self._database.close()

    def _json(self, value: Mapping[str, Any] | None) -> str | None:
        if value is None or self._redactor.level is PrivacyLevel.MINIMAL:
            return None
        # Text first, then redaction: what an object says of itself may hold a secret.
        return to_json(self._redactor.value(_plain(dict(value))), inf_nan_mode="strings").decode()

    def _text(self, value: str) -> str | None:
        return None if self._redactor.level is PrivacyLevel.MINIMAL else self._redactor.text(value)


def _plain(value: Any) -> Any:
    """`value` in the types of JSON; what has none becomes its text."""
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, bytes | bytearray):
        return value.decode("utf-8", "replace")
    return value if value is None or isinstance(value, str | int | float) else str(value)


def tool_stats(query: Query, *, since: int, until: int | None = None) -> dict[str, ToolStats]:
    """Statistics by tool from `since` to the end of the minute of `until` (epoch milliseconds; None: no end).

    The cost grows with the span, not with the calls. Where the rows are pruned, `since` is the beginning of its minute, and
    percentiles come from the histogram.
    """
    kept = rows_since(lambda statement: query(statement, {}))
    asked, since = since, widened(since, kept)
    start, slots = cover(since, until)
    span = span_clause(slots)
    edge = {"since": since, "start": start, "end": end_of(until)}
    calls = query(_CALLS.format(span=span, unrolled=UNROLLED_CALLS), edge)
    errors: dict[str, dict[str, int]] = {}
    for tool, category, count in query(_ERRORS.format(span=span, unrolled=UNROLLED_CALLS), edge):
        errors.setdefault(tool, {})[category] = count
    few = asked >= kept and sum(row[3] for row in calls) <= EXACT_LIMIT
    percentiles = (_exact if few else _estimated)(query, since, until)
    stats: dict[str, ToolStats] = {}
    for tool, count, successes, timed, total, longest in calls:
        p50, p95 = percentiles.get(tool, (None, None))
        stats[tool] = ToolStats(
            count=count,
            success_rate=successes / count,
            errors=errors.get(tool, {}),
            avg_duration_ms=total / timed if timed else None,
            p50_duration_ms=_at_most(p50, longest),
            p95_duration_ms=_at_most(p95, longest),
            max_duration_ms=longest,
        )
    return stats


def _exact(query: Query, since: int, until: int | None) -> dict[str, tuple[float, float]]:
    durations: dict[str, list[float]] = {}
    for tool, duration in query(_DURATIONS, {"since": since, "end": end_of(until)}):
        durations.setdefault(tool, []).append(duration)
    return {tool: (percentile(sorted(all_), 0.5), percentile(sorted(all_), 0.95)) for tool, all_ in durations.items()}


def _estimated(query: Query, since: int, until: int | None) -> dict[str, tuple[float, float]]:
    start, slots = cover(since, until, DURATION_GRAINS)
    edge = {"since": since, "end": end_of(until, HOUR), "edge": start // HOUR - 1, "part": (start - since) / HOUR}
    histograms: dict[str, list[tuple[int, float]]] = {}
    for tool, bucket, count in query(_HISTOGRAM.format(span=span_clause(slots), unrolled=UNROLLED_CALLS), edge):
        histograms.setdefault(tool, []).append((bucket, count))
    return {tool: (histogram_percentile(h, 0.5), histogram_percentile(h, 0.95)) for tool, h in histograms.items()}


def _at_most(value: float | None, longest: float | None) -> float | None:
    return None if value is None else min(value, longest) if longest is not None else value
