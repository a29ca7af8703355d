"""The span of time that a question is about, and how questions reach the store."""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from tasks.database import Row
from tasks.rollups import DAY, HOUR

#: Asks one statement, with named values: `Reader.query` and its like.
Query = Callable[[str, Mapping[str, Any]], list[Row]]


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def since(*, days: float | None = None, hours: float | None = None, now: int | None = None) -> int:
    """The epoch millisecond that lies so long ago; 0 without either. Raises ValueError for both, and unless above 0."""
    if days is not None and hours is not None:
        raise ValueError(f"days = {days} and hours = {hours}: say one of them")
    name, value, unit = ("hours", hours, HOUR) if hours is not None else ("days", days, DAY)
    if value is None:
        return 0
    if not 0 < value < math.inf:
        raise ValueError(f"{name} = {value}: a number above 0 is needed")
    current = now_ms() if now is None else now
    return max(0, current - round(min(value * unit, current)))


_ROWS = {
    "tool_usage": """
SELECT (SELECT total(calls) FROM tool_rollup WHERE grain = :grain AND slot = :slot)
     > (SELECT count(*) FROM tool_usage WHERE timestamp >= :begin AND timestamp < :end
        AND id <= (SELECT upto FROM rolled WHERE source = 'tool_usage'))
""",
    "files": """
SELECT (SELECT total(accesses) FROM file_rollup WHERE grain = :grain AND slot = :slot)
     > (SELECT count(*) FROM files WHERE timestamp >= :begin AND timestamp < :end
        AND id <= (SELECT upto FROM rolled WHERE source = 'files'))
""",
}


def settled(query: Query, since: int, grain: int, *, source: str = "tool_usage") -> int:
    """`since`; or, when rows of the slot that it lies in were deleted, the beginning of that slot.

    A span begins to the millisecond where its rows are still there to tell. Where they are not, its first slot counts
    whole: rather too much than silently too little.
    """
    slot, into = divmod(since, grain)
    if into == 0:
        return since
    begin = slot * grain
    gone = query(_ROWS[source], {"grain": grain, "slot": slot, "begin": begin, "end": begin + grain})[0][0]
    return begin if gone else since
