"""Whether a database agrees with itself."""

import sqlite3
from typing import Any

#: Each pair of questions must have the same answer.
_EQUAL = (
    (
        "SELECT grain, slot, tool_name, calls, successes, timed, duration_sum, duration_max FROM tool_rollup ORDER BY 1, 2, 3",
        "SELECT grain, timestamp / grain, tool_name, count(*), sum(success), count(duration_ms),"
        " coalesce(sum(duration_ms), 0.0), max(duration_ms) FROM tool_usage, rollup_grain GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
    ),
    (
        "SELECT grain, slot, tool_name, error_category, calls FROM error_rollup ORDER BY 1, 2, 3, 4",
        "SELECT grain, timestamp / grain, tool_name, error_category, count(*) FROM tool_usage, rollup_grain"
        " WHERE success = 0 GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4",
    ),
    (
        "SELECT grain, slot, tool_name, sum(calls) FROM duration_rollup GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
        "SELECT grain, timestamp / grain, tool_name, count(*) FROM tool_usage, rollup_grain"
        " WHERE duration_ms >= 0 AND durations GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
    ),
    ("SELECT coalesce(max(value), 0) FROM counters WHERE name = 'events'", "SELECT count(*) FROM events"),
    (
        "SELECT session_uuid, events FROM sessions ORDER BY 1",
        "SELECT session_uuid, count(*) FROM events GROUP BY 1 ORDER BY 1",
    ),
    ("SELECT 0", "SELECT count(*) FROM tool_running JOIN tool_usage USING (session_uuid, tool_use_id)"),
    ("SELECT count(DISTINCT session_uuid || tool_use_id) FROM tool_usage", "SELECT count(*) FROM tool_usage"),
    ("SELECT 'ok'", "PRAGMA integrity_check"),
)


def assert_consistent(connection: sqlite3.Connection) -> None:
    """Roll-ups, counters and rows agree, nothing is there twice, SQLite finds no damage."""
    # In a copy: what rolls up the rest is a write.
    copy = sqlite3.connect(":memory:")
    connection.backup(copy)
    copy.execute("INSERT INTO rolling_calls (upto) SELECT coalesce(max(id), 0) FROM tool_usage")
    connection = copy
    for left, right in _EQUAL:
        assert _answer(connection, left) == _answer(connection, right), (left, right)
    assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    # Every change of status follows from the one before: an event folded twice would break the chain.
    changes = "SELECT session_uuid, status, previous FROM agent_status WHERE agent_id IS NULL ORDER BY session_uuid, id"
    last: dict[str, str] = {}
    for session, status, previous in connection.execute(changes):
        assert previous == last.get(session), f"session {session}: {previous} → {status} after {last.get(session)}"
        last[session] = status


def _answer(connection: sqlite3.Connection, question: str) -> list[tuple[Any, ...]]:
    return connection.execute(question).fetchall()
