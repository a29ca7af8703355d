"""What transcripts told of sessions: how many calls, whether hooks reported them too, how many answers of the API."""

import json
from collections.abc import Iterable

from tasks.history.records import DAY, Query, Record

#: Days that count as now.
RECENT = 7

_CALLS = """
SELECT total(r.expected), total(r.seen), total(r.added)
FROM sessions AS s JOIN reconciliations AS r USING (session_uuid) WHERE s.last_event_at >= ?
"""
_MESSAGES = "SELECT total(messages), total(unpriced) FROM cost_rollup WHERE dimension = 'all' AND grain = ?"

_HOOKED = f"{_CALLS} AND s.events > 0"
_SILENT = """
SELECT count(*) FROM sessions AS s JOIN reconciliations AS r USING (session_uuid)
WHERE s.last_event_at >= ? AND s.events = 0 AND r.expected > 0
"""
#: Which event would have reported what was added, by how the call went.
_MISSED = """
SELECT CASE WHEN u.success = 1 THEN 'PostToolUse'
            WHEN u.error_category IN ('stale_edit', 'invalid_input', 'blocked', 'user_rejected') THEN 'PostToolBatch'
            ELSE 'PostToolUseFailure' END AS event, count(*)
FROM tool_usage AS u JOIN sessions AS s USING (session_uuid)
WHERE u.timestamp >= ? AND u.source = 'transcript' AND s.events > 0
GROUP BY event ORDER BY count(*) DESC, event
"""

TOKENS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens")
_SPENT = f"""
SELECT total(cost) / 1e12, {", ".join(f"coalesce(sum({name}), 0)" for name in ("messages", "unpriced", *TOKENS))}
FROM cost_rollup WHERE dimension IN ('session', 'task') AND dimension = ? AND value = ? AND grain = {DAY}
"""

_SPENT_BY = f"""
SELECT value, total(cost) / 1e12, sum(messages), sum(unpriced) FROM cost_rollup
WHERE dimension IN ('session', 'task') AND dimension = :dimension AND grain = {DAY}
  AND value IN (SELECT value FROM json_each(:values)) GROUP BY value
"""

_SESSION = "SELECT expected, seen, added FROM reconciliations WHERE session_uuid = ?"


def accounting(query: Query, *, now: int) -> Record:
    """`expected`, `seen` and `added` calls of the sessions of the last RECENT days; `messages` and, of these, `unpriced`
    ones of all time.
    """
    expected, seen, added = query(_CALLS, [now - RECENT * DAY])[0]
    messages, unpriced = query(_MESSAGES, [DAY])[0]
    numbers = {"expected": expected, "seen": seen, "added": added, "messages": messages, "unpriced": unpriced}
    return {name: int(number) for name, number in numbers.items()}


def unreported(query: Query, *, now: int) -> Record:
    """Of the last RECENT days: `expected` and `seen` calls of sessions that hooks told of; `missed`, which event would have
    reported the others → how many; `silent`, sessions with calls that no hook told of.
    """
    since = [now - RECENT * DAY]
    expected, seen, _ = query(_HOOKED, since)[0]
    return {
        "expected": int(expected),
        "seen": int(seen),
        "missed": dict(map(tuple, query(_MISSED, since))),
        "silent": query(_SILENT, since)[0][0],
    }


def session_calls(query: Query, session_uuid: str) -> Record:
    """`expected`, `seen` and `added` calls of one session."""
    found = query(_SESSION, [session_uuid])
    return dict(zip(("expected", "seen", "added"), found[0] if found else (0, 0, 0), strict=True))


def spent(query: Query, dimension: str, value: str) -> Record:
    """What transcripts tell of the money of one `session` or `task`: `cost` in dollars, of the `messages` that are not
    `unpriced`; tokens by kind.
    """
    return dict(zip(("cost", "messages", "unpriced", *TOKENS), query(_SPENT, [dimension, value])[0], strict=True))


def spent_by(query: Query, dimension: str, values: Iterable[str]) -> dict[str, Record]:
    """The same in short for several `session`s or `task`s: value → `cost`, `messages`, `unpriced`; only those with messages."""
    rows = query(_SPENT_BY, {"dimension": dimension, "values": json.dumps(list(values))})
    return {
        value: {"cost": cost, "messages": messages, "unpriced": unpriced} for value, cost, messages, unpriced in rows
    }
