"""Why calls failed: by category, by who called, by kind of error, and how that changes."""

import json
import math
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Literal

from typing_extensions import TypedDict

from tasks.analytics import tools
from tasks.analytics.days import QUARTER, Day, Period, local_days
from tasks.analytics.span import Query, now_ms, settled
from tasks.rollups import COARSE_GRAINS, DAY, HOUR, MINUTE, UNROLLED_CALLS, Slots, cover, end_of, span_clause

#: What failures can be divided by.
By = Literal["category", "tool", "agent_type", "workflow", "model"]

#: Days that `daily` goes back, and that a trend is judged by.
DAILY, JUDGED = 90, 30

_RATES = """
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

_KINDS = """
WITH span (grain, first, last) AS (VALUES {span}),
counted AS (
    SELECT value, sum(calls) AS calls FROM (
        SELECT value, tool_name, error_category, calls
        FROM span JOIN use_rollup AS r
             ON r.dimension = 'fingerprint' AND r.grain = span.grain AND r.slot BETWEEN span.first AND span.last
        UNION ALL
        SELECT fingerprint, tool_name, error_category, 1 FROM tool_usage
        WHERE timestamp >= :since AND timestamp < :start AND success = 0 AND fingerprint IS NOT NULL
        UNION ALL
        SELECT fingerprint, tool_name, error_category, 1 FROM tool_usage
        WHERE {unrolled} AND +timestamp >= :start AND success = 0 AND fingerprint IS NOT NULL
    ) {chosen} GROUP BY value
),
chosen AS (SELECT *, sum(calls) OVER () AS total FROM counted ORDER BY calls DESC, value LIMIT :limit)
SELECT value, coalesce(tool_name, ''), coalesce(error_category, ''), message, calls, total, first_seen, last_seen, session_uuid
FROM chosen LEFT JOIN error_kinds ON fingerprint = value ORDER BY calls DESC, value
"""

# Of a few kinds: each looked up in each slot, instead of all kinds of all slots.
_BY_DAY = f"""
WITH chosen (value) AS MATERIALIZED (SELECT value FROM json_each(:values)),
slots (grain, slot) AS MATERIALIZED (
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(:slots)
)
SELECT value, day, sum(calls) FROM (
    SELECT r.value, slots.grain * slots.slot / {DAY} AS day, r.calls
    FROM slots CROSS JOIN chosen CROSS JOIN use_rollup AS r
         ON r.dimension = 'fingerprint' AND r.grain = slots.grain AND r.slot = slots.slot AND r.value = chosen.value
    UNION ALL
    SELECT fingerprint, timestamp / {DAY}, 1 FROM tool_usage
    WHERE timestamp >= :since AND timestamp < :start AND success = 0 AND fingerprint IN (SELECT value FROM chosen)
    UNION ALL
    SELECT fingerprint, timestamp / {DAY}, 1 FROM tool_usage
    WHERE {UNROLLED_CALLS} AND +timestamp >= :start AND success = 0 AND fingerprint IN (SELECT value FROM chosen)
) GROUP BY value, day
"""

_FIRST_DAY = f"SELECT min(slot) FROM tool_rollup WHERE grain = {DAY}"

_TREND = f"""
WITH span (day, grain, first, last) AS MATERIALIZED (
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'), json_extract(value, '$[3]')
    FROM json_each(:spans)
),
days (day, start, end) AS MATERIALIZED (
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]') FROM json_each(:days)
)
SELECT day, error_category, sum(calls) FROM (
    SELECT day, '' AS error_category, calls
    FROM span CROSS JOIN tool_rollup AS r ON r.grain = span.grain AND r.slot BETWEEN span.first AND span.last
    UNION ALL
    SELECT day, error_category, calls
    FROM span CROSS JOIN error_rollup AS r ON r.grain = span.grain AND r.slot BETWEEN span.first AND span.last
    UNION ALL
    SELECT day, '', 1 FROM tool_usage CROSS JOIN days ON timestamp >= start AND timestamp < end WHERE {UNROLLED_CALLS}
    UNION ALL
    SELECT day, error_category, 1 FROM tool_usage CROSS JOIN days ON timestamp >= start AND timestamp < end
    WHERE {UNROLLED_CALLS} AND success = 0
) GROUP BY day, error_category
"""


class FailureRate(TypedDict):
    """Failed calls of one category, tool, agent type, workflow or model."""

    value: str
    #: all calls of it; for a category all calls of the span
    calls: int
    failures: int
    #: of `calls`, 0 to 1
    rate: float
    #: of all failed calls that are divided here, 0 to 1
    share: float


class ErrorKind(TypedDict):
    """Failed calls that said the same, but for paths, numbers, ids and the like."""

    fingerprint: str
    tool_name: str
    error_category: str
    #: None: not stored at this privacy level, or purged
    message: str | None
    calls: int
    #: of the failed calls that were asked about, 0 to 1
    share: float
    #: epoch milliseconds, over all time
    first_seen: int | None
    last_seen: int | None
    #: one in which it was seen
    session_uuid: str | None
    #: new, rising, steady or falling: see `trend_of`
    trend: Literal["new", "rising", "steady", "falling"]
    #: calls by day (UTC), the last one today; the first one is `daily_from`
    daily: list[int]
    #: YYYY-MM-DD
    daily_from: str


class DailyErrors(TypedDict):
    #: local, YYYY-MM-DD
    date: str
    calls: int
    failures: int
    #: 0 to 1; None without calls
    rate: float | None
    #: category → failed calls
    categories: dict[str, int]


def error_rates(query: Query, *, since: int, until: int | None = None) -> dict[str, int]:
    """Failed calls by error category from `since` to the end of the minute of `until` (epoch milliseconds; None: no end)."""
    since = settled(query, since, MINUTE)
    start, slots = cover(since, until)
    statement = _RATES.format(span=span_clause(slots), unrolled=UNROLLED_CALLS)
    rows = query(statement, {"since": since, "start": start, "end": end_of(until)})
    return dict(map(tuple, rows))


def failure_rates(query: Query, by: By, *, since: int = 0) -> list[FailureRate]:
    """How many calls failed by `by` since `since`, most failures first; what never failed comes last."""
    if by == "category":
        calls = sum(one["count"] for one in tools.tool_usage(query, since=since))
        counts = [(value, calls, failures) for value, failures in error_rates(query, since=since).items()]
    elif by == "tool":
        counts = [(one["tool_name"], one["count"], one["failures"]) for one in tools.tool_usage(query, since=since)]
    else:
        counts = [(one["value"], one["calls"], one["failures"]) for one in tools.stats_by(query, by, since=since)]
    total = sum(failures for _, _, failures in counts)
    rows = [
        FailureRate(
            value=value, calls=calls, failures=failures, rate=failures / max(calls, 1), share=failures / max(total, 1)
        )
        for value, calls, failures in counts
    ]
    return sorted(rows, key=lambda one: (-one["failures"], -one["calls"], one["value"]))


def error_kinds(
    query: Query,
    *,
    since: int = 0,
    limit: int = 20,
    tool: str | None = None,
    category: str | None = None,
    now: int | None = None,
) -> list[ErrorKind]:
    """The kinds of errors with the most calls since `since`, of one tool or category if one is named.

    Failed calls that were stored before errors had kinds are in none.
    """
    now = now_ms() if now is None else now
    since = settled(query, since, HOUR)
    start, slots = cover(since, None, COARSE_GRAINS)
    filters = [f"{column} = :{name}" for column, name, value in
               (("tool_name", "tool", tool), ("error_category", "category", category)) if value is not None]  # fmt: skip
    chosen = f"WHERE {' AND '.join(filters)}" if filters else ""
    statement = _KINDS.format(span=span_clause(slots), unrolled=UNROLLED_CALLS, chosen=chosen)
    named = {"since": since, "start": start, "limit": limit, "tool": tool, "category": category}
    rows = query(statement, named)
    values = [row[0] for row in rows]
    first = max(since // DAY, now // DAY - DAILY + 1)
    daily = _by_day(query, values, max(since, first * DAY), now)
    judged = _judged_since(query, since, now)
    recent_since = now - max((now - judged) // 3, 1)
    recent, window = (_sums(_by_day(query, values, begin, now)) for begin in (recent_since, judged))
    return [
        ErrorKind(
            fingerprint=value, tool_name=tool_name, error_category=error_category, message=message, calls=calls,
            share=calls / total, first_seen=first_seen, last_seen=last_seen, session_uuid=session_uuid,
            trend="new" if first_seen is not None and first_seen >= recent_since and judged < recent_since
            else trend_of(recent.get(value, 0), window.get(value, 0)),
            daily=[daily.get((value, day), 0) for day in range(first, now // DAY + 1)],
            daily_from=datetime.fromtimestamp(first * DAY / 1000, UTC).date().isoformat(),
        )
        for value, tool_name, error_category, message, calls, total, first_seen, last_seen, session_uuid in rows
    ]  # fmt: skip


def trend_of(recent: int, calls: int) -> Literal["rising", "steady", "falling"]:
    """Whether `recent` of `calls`, those in the last third of a span, are more or less than chance explains.

    Were calls as frequent all the time, each would be in the last third with a probability of 1/3; two standard deviations
    of that are taken for chance. The span is that of the question, at most the last 30 days and not longer than there are
    calls. Kinds that were first seen in the last third are new.
    """
    deviation = 2 * math.sqrt(calls * 2 / 9)
    if recent > calls / 3 + deviation:
        return "rising"
    return "falling" if recent < calls / 3 - deviation else "steady"


def error_trend(query: Query, period: Period) -> list[DailyErrors]:
    """Calls, failures and their categories of every local day of the period, in order."""
    days = local_days(period.first, period.last, period.zone)
    rows = query(_TREND, {"spans": json.dumps(_spans(days)), "days": json.dumps(_borders(days))})
    counts: dict[int, dict[str, int]] = {}
    for number, category, calls in rows:
        counts.setdefault(number, {})[category] = calls
    return [_of_day(day.date, counts.get(number, {})) for number, day in enumerate(days)]


def _of_day(day: date, counts: dict[str, int]) -> DailyErrors:
    calls = counts.pop("", 0)
    failures = sum(counts.values())
    return DailyErrors(
        date=day.isoformat(), calls=calls, failures=failures, rate=failures / calls if calls else None,
        categories=dict(sorted(counts.items(), key=lambda one: (-one[1], one[0]))),
    )  # fmt: skip


def _spans(days: Sequence[Day]) -> list[tuple[int, int, int, int]]:
    grains = (QUARTER, HOUR, 6 * HOUR, DAY)
    return [(number, *slots) for number, day in enumerate(days) for slots in cover(day.start, day.end - 1, grains)[1]]


def _borders(days: Sequence[Day]) -> list[tuple[int, int, int]]:
    return [(number, day.start, day.end) for number, day in enumerate(days)]


def _judged_since(query: Query, since: int, now: int) -> int:
    """Where the span begins that trends are judged by: not before there were calls."""
    oldest = query(_FIRST_DAY, {})[0][0]
    return min(max(since, now - JUDGED * DAY, 0 if oldest is None else oldest * DAY), now)


def _by_day(query: Query, values: Sequence[str], since: int, now: int) -> dict[tuple[str, int], int]:
    """(fingerprint, day since 1970) → calls since `since`."""
    since = settled(query, since, HOUR)
    start, slots = cover(since, None, COARSE_GRAINS)
    # A clock that was ahead for a while must not make the list of slots endless.
    single = [(grain, slot) for one in slots for grain, slot in _single(one, now // DAY + 2)]
    named = {"values": json.dumps(list(values)), "slots": json.dumps(single), "since": since, "start": start}
    return {(value, day): calls for value, day, calls in query(_BY_DAY, named)}


def _single(slots: Slots, last_day: int) -> list[tuple[int, int]]:
    grain, first, last = slots
    return [(grain, slot) for slot in range(first, min(last, last_day * (DAY // grain)) + 1)]


def _sums(by_day: dict[tuple[str, int], int]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for (value, _), calls in by_day.items():
        sums[value] = sums.get(value, 0) + calls
    return sums
