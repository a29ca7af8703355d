"""How long agents were in which state: working, waiting for a permission or for input, idle."""

from collections.abc import Iterable
from typing import Any

from typing_extensions import TypedDict

from tasks.analytics.span import Query, now_ms
from tasks.rollups import COARSE_GRAINS, HOUR, LONGEST_STATE, cover, span_clause
from tasks.words import SessionStatus

#: States that time passes in; a session that is over is in none of them.
LIVE = tuple(status for status in SessionStatus if not status.is_over)

_LIVE = ", ".join(f"'{status}'" for status in LIVE)


class StateTime(TypedDict):
    #: summed over sessions that were in the state at once
    seconds: float
    #: of the time in all states, 0 to 1
    share: float


_CLOSED = """
WITH span (grain, first, last) AS (VALUES {span})
SELECT status, sum(ms) FROM span JOIN state_rollup AS r ON r.grain = span.grain AND r.slot BETWEEN span.first AND span.last
GROUP BY status
"""

# The states that sessions are in now are in no roll-up yet.
_OPEN = f"""
SELECT status, sum(max(0, :now - max(status_since, :since))) FROM sessions
WHERE status IN ({_LIVE}) AND :now - status_since <= {LONGEST_STATE} AND (:session IS NULL OR session_uuid = :session)
GROUP BY status
"""

# States that ended, as intervals of the sessions that lived in [begin, end). A state ends with the next change.
_INTERVALS = f"""
SELECT status, timestamp AS began, lead(timestamp) OVER (PARTITION BY session_uuid ORDER BY id) AS ended
FROM agent_status
WHERE agent_id IS NULL AND session_uuid IN (
    SELECT session_uuid FROM sessions
    WHERE started_at < :end AND (status IN ({_LIVE}) OR status_since > :begin)
      AND (:session IS NULL OR session_uuid = :session))
"""

_PART = f"""
SELECT status, sum(max(0, min(ended, :end) - max(began, :begin))), sum(max(0, min(ended, :end) - max(began, :since)))
FROM ({_INTERVALS}) WHERE status IN ({_LIVE}) AND ended > began AND ended - began <= {LONGEST_STATE} GROUP BY status
"""

_SLOT = "SELECT status, ms FROM state_rollup WHERE grain = :grain AND slot = :slot"


def agent_time(query: Query, *, since: int = 0, now: int | None = None) -> dict[str, StateTime]:
    """Time that main agents spent in each state since `since` (epoch milliseconds); every state that is not the end is named.

    The states that sessions are in now count up to `now`.
    """
    current = now_ms() if now is None else now
    start, slots = cover(since, None, COARSE_GRAINS)
    parts: list[Iterable[Iterable[Any]]] = [
        query(_CLOSED.format(span=span_clause(slots)), {}),
        query(_OPEN, {"since": since, "now": current, "session": None}),
    ]
    if start > since:
        parts.append(_edge(query, since, start))
    return _times(pair for part in parts for pair in part)


def session_time(query: Query, session_uuid: str, *, now: int | None = None) -> dict[str, StateTime]:
    """Time that the main agent of one session spent in each state, as far as its changes of status are still stored."""
    current = now_ms() if now is None else now
    named = {"session": session_uuid, "since": 0, "now": current}
    closed = query(_PART, named | {"begin": 0, "end": max(current, 1 << 62)})
    return _times([*((status, ms) for status, ms, _ in closed), *query(_OPEN, named)])


def _edge(query: Query, since: int, end: int) -> Iterable[tuple[str, int]]:
    """The part of an hour from `since`, of states that ended; the whole hour when changes of status in it were deleted."""
    begin = end - HOUR
    rows = query(_PART, {"session": None, "begin": begin, "since": since, "end": end})
    told = {status: (whole, part) for status, whole, part in rows}
    kept = dict(map(tuple, query(_SLOT, {"grain": HOUR, "slot": begin // HOUR})))
    if any(ms > told.get(status, (0, 0))[0] for status, ms in kept.items()):
        return kept.items()
    return [(status, part) for status, (_, part) in told.items()]


def _times(parts: Iterable[Iterable[Any]]) -> dict[str, StateTime]:
    sums = dict.fromkeys(map(str, LIVE), 0)
    for status, ms in parts:
        sums[status] += ms
    total = sum(sums.values())
    return {status: StateTime(seconds=ms / 1000, share=ms / total if total else 0.0) for status, ms in sums.items()}
