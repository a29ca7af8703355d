"""What was recorded of sessions: how they are, their events, the calls that failed."""

import json
from collections.abc import Collection

from tasks.database import Row
from tasks.errors import TasksError
from tasks.history.accounting import session_calls, spent
from tasks.history.records import DAY, Query, Record, beginning, records
from tasks.words import SessionStatus

SESSION_FIELDS = (
    "session_uuid", "status", "status_since", "status_detail", "task_id", "origin", "parent_uuid", "cwd", "model",
    "pid", "started_at", "last_event_at", "ended_at", "end_reason", "events", "prompts",
)  # fmt: skip
RUNNING_FIELDS = ("tool_use_id", "tool_name", "started_at", "agent_id", "parameters")
CHANGE_FIELDS = ("timestamp", "agent_id", "status", "previous", "cause", "detail")
SUBAGENT_FIELDS = ("agent_id", "agent_type", "status", "started_at", "ended_at", "detail")
EVENT_FIELDS = (
    "seq", "timestamp", "session_uuid", "kind", "task_id", "agent_id", "tool_name", "tool_use_id", "flags", "body",
    "parameters", "error_category", "error",
)  # fmt: skip
FAILURE_FIELDS = (
    "timestamp", "session_uuid", "task_id", "agent_id", "tool_name", "error_category", "error", "parameters",
)  # fmt: skip

_SESSIONS = f"SELECT {', '.join(SESSION_FIELDS)} FROM sessions"

_FOLLOWS = """
last_event_at <= (SELECT last_event_at FROM sessions WHERE session_uuid = :before)
AND (last_event_at < (SELECT last_event_at FROM sessions WHERE session_uuid = :before) OR session_uuid > :before)
"""

_OVER = "('ended', 'failed', 'lost')"
_LIVE = "('starting', 'working', 'waiting_permission', 'waiting_input', 'idle')"
# Two ranges of one index: the sessions of all time are many.
_SESSION_COUNTS = f"""
SELECT status, count(*) FROM sessions WHERE status IN {_LIVE} GROUP BY status
UNION ALL
SELECT status, count(*) FROM sessions WHERE status IN {_OVER} AND last_event_at >= :yesterday GROUP BY status
"""

# What a call was asked to do is stored once, with the call.
_EVENTS = """
SELECT e.seq, e.timestamp, e.session_uuid, e.kind, e.task_id, e.agent_id, e.tool_name, e.tool_use_id, e.flags, e.body,
       coalesce(u.parameters, r.parameters),
       CASE e.kind WHEN 'PostToolUseFailure' THEN u.error_category END,
       CASE e.kind WHEN 'PostToolUseFailure' THEN u.error END
FROM events AS e
LEFT JOIN tool_usage AS u ON u.session_uuid = e.session_uuid AND u.tool_use_id = e.tool_use_id
LEFT JOIN tool_running AS r ON r.session_uuid = e.session_uuid AND r.tool_use_id = e.tool_use_id
WHERE (:session IS NULL OR e.session_uuid = :session) AND (:kind IS NULL OR e.kind = :kind)
"""
_EVENTS_AFTER = f"{_EVENTS} AND e.seq > :after ORDER BY e.seq LIMIT :limit"
_LATEST_EVENTS = f"{_EVENTS} ORDER BY e.seq DESC LIMIT :limit"

_FAILURES = f"""
SELECT {", ".join(FAILURE_FIELDS)} FROM tool_usage
WHERE success = 0 AND (:since IS NULL OR timestamp >= :since)
  AND (:category IS NULL OR error_category = :category) AND (:tool IS NULL OR tool_name = :tool)
ORDER BY timestamp DESC LIMIT :limit
"""


class NoSuchSession(TasksError):
    """No session has that id, or several begin with it; `tasksd sessions` lists them."""


def session_counts(query: Query, *, now: int) -> dict[str, int]:
    """Sessions by status, every status named; of those that are over, the ones of the last 24 hours."""
    found = dict(map(tuple, query(_SESSION_COUNTS, {"yesterday": now - DAY})))
    return {status: found.get(status, 0) for status in SessionStatus}


def sessions(query: Query, *, statuses: Collection[str], before: str | None = None, limit: int) -> list[Record]:
    """Sessions in one of `statuses`, the latest active first, each with its calls in flight (`running`); with `before`,
    those that follow the session of that id in this order.
    """
    marks = ", ".join(repr(str(SessionStatus(one))) for one in statuses)
    follows = "" if before is None else f"AND {_FOLLOWS}"
    # Nearly all sessions are over: then the latest ones are found by their time, not by sorting all of a status.
    column = "+status" if any(SessionStatus(one).is_over for one in statuses) else "status"
    rows = query(
        f"{_SESSIONS} WHERE {column} IN ({marks}) {follows} ORDER BY last_event_at DESC, session_uuid LIMIT :limit",
        {"limit": limit} | ({} if before is None else {"before": before}),
    )
    return _with_running(query, rows)


def whole_session_id(query: Query, id_: str) -> str:
    """The session whose id is, or alone begins with, `id_`. Raises NoSuchSession."""
    rows = query(
        "SELECT session_uuid FROM sessions WHERE session_uuid LIKE ? ESCAPE '\\' ORDER BY session_uuid = ? DESC LIMIT 2",
        [beginning(id_), id_],
    )
    if rows and rows[0][0] == id_:
        rows = rows[:1]
    if len(rows) != 1:
        raise NoSuchSession(f"several session ids begin with {id_}" if rows else f"no session has the id {id_}")
    return str(rows[0][0])


def known_sessions(query: Query, ids: Collection[str]) -> set[str]:
    """Those of `ids` that something is stored of."""
    marks = ", ".join("?" for _ in ids)
    return {row[0] for row in query(f"SELECT session_uuid FROM sessions WHERE session_uuid IN ({marks})", list(ids))}


def session(query: Query, id_: str) -> Record:
    """The session whose id is, or alone begins with, `id_`: with `changes` of status, `subagents`, `calls` by tool as [all,
    failed], how many calls its transcripts told of (`expected`, `seen`, `added`), and what it `spent`. Raises NoSuchSession.
    """
    rows = query(f"{_SESSIONS} WHERE session_uuid = ?", [whole_session_id(query, id_)])
    found = _with_running(query, rows)[0]
    key = {"session": found["session_uuid"]}
    changes = query(
        f"SELECT {', '.join(CHANGE_FIELDS)} FROM agent_status WHERE session_uuid = :session"
        " ORDER BY timestamp, id LIMIT 1000",
        key,
    )
    subagents = query(
        f"SELECT {', '.join(SUBAGENT_FIELDS)} FROM subagents WHERE session_uuid = :session ORDER BY started_at", key
    )
    calls = query(
        "SELECT tool_name, count(*), sum(success = 0) FROM tool_usage WHERE session_uuid = :session"
        " AND tool_use_id IS NOT NULL GROUP BY tool_name ORDER BY count(*) DESC, tool_name",
        key,
    )
    return (
        found
        | {
            "changes": records(CHANGE_FIELDS, changes),
            "subagents": records(SUBAGENT_FIELDS, subagents),
            "calls": {tool: (count, failed) for tool, count, failed in calls},
            "spent": spent(query, "session", found["session_uuid"]),
        }
        | session_calls(query, found["session_uuid"])
    )


def events(
    query: Query, *, session: str | None = None, kind: str | None = None, after: int | None = None, limit: int
) -> list[Record]:
    """The latest `limit` events, or with `after` the first `limit` that arrived after that seq; in order of arrival."""
    filters = {"session": session, "kind": kind, "limit": limit}
    latest = after is None
    rows = query(_LATEST_EVENTS, filters)[::-1] if latest else query(_EVENTS_AFTER, filters | {"after": after})
    return [
        one | {name: json.loads(one[name]) if one[name] else None for name in ("body", "parameters")}
        for one in records(EVENT_FIELDS, rows)
    ]


def failures(
    query: Query, *, since: int | None = None, category: str | None = None, tool: str | None = None, limit: int
) -> list[Record]:
    """Failed calls, newest first."""
    rows = query(_FAILURES, {"since": since, "category": category, "tool": tool, "limit": limit})
    return records(FAILURE_FIELDS, rows)


def _with_running(query: Query, rows: list[Row]) -> list[Record]:
    ids = [row[0] for row in rows]
    calls = query(
        f"SELECT session_uuid, {', '.join(RUNNING_FIELDS)} FROM tool_running"
        f" WHERE session_uuid IN ({', '.join('?' for _ in ids)}) ORDER BY started_at",
        ids,
    )
    running: dict[str, list[Row]] = {}
    for id_, *call in calls:
        running.setdefault(id_, []).append(tuple(call))
    return [
        one | {"running": records(RUNNING_FIELDS, running.get(one["session_uuid"], []))}
        for one in records(SESSION_FIELDS, rows)
    ]
