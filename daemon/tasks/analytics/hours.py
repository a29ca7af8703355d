"""How many calls there were in each of the last hours."""

from typing_extensions import TypedDict

from tasks.analytics.span import Query
from tasks.rollups import HOUR, UNROLLED_CALLS

_HOURS = f"""
SELECT slot, sum(calls), sum(failures) FROM (
    SELECT slot, calls, calls - successes AS failures FROM tool_rollup WHERE grain = {HOUR} AND slot BETWEEN :first AND :last
    UNION ALL
    SELECT timestamp / {HOUR}, 1, success = 0 FROM tool_usage
    WHERE {UNROLLED_CALLS} AND +timestamp >= :first * {HOUR} AND +timestamp < (:last + 1) * {HOUR}
) GROUP BY slot
"""


class HourOfCalls(TypedDict):
    #: where it begins, epoch milliseconds
    start: int
    calls: int
    failures: int


def calls_by_hour(query: Query, *, now: int, hours: int = 24) -> list[HourOfCalls]:
    """The hour of `now` (epoch milliseconds) and those before it, oldest first, also those without a call.

    Read from roll-ups, however many calls there were.
    """
    last = now // HOUR
    first = last - hours + 1
    found = {slot: (calls, failures) for slot, calls, failures in query(_HOURS, {"first": first, "last": last})}
    return [
        HourOfCalls(start=slot * HOUR, calls=calls, failures=failures)
        for slot in range(first, last + 1)
        for calls, failures in [found.get(slot, (0, 0))]
    ]
