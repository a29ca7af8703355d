"""The SQL of the ingester. Every insert is idempotent by its natural key."""

from tasks.ingest.sessions import CALL_COLUMNS, COLUMNS

EVENT = """
INSERT INTO events (event_id, timestamp, session_uuid, kind, task_id, agent_id, prompt_id, tool_name, tool_use_id, pid,
                    flags, body)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (event_id) DO NOTHING
"""

SESSION = f"""
INSERT INTO sessions ({", ".join(COLUMNS)}) VALUES ({", ".join("?" * len(COLUMNS))})
ON CONFLICT (session_uuid) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in COLUMNS[1:])}
"""

STATUS_CHANGE = """
INSERT INTO agent_status (timestamp, session_uuid, task_id, agent_id, status, previous, cause, detail)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""

TIME_SPENT = """
INSERT INTO state_rollup (grain, slot, status, ms) VALUES (?, ?, ?, ?)
ON CONFLICT (grain, slot, status) DO UPDATE SET ms = ms + excluded.ms
"""

#: A row of a stronger source replaces one of a weaker source; nothing else ever changes a stored call.
TOOL_USAGE = """
INSERT INTO tool_usage (timestamp, session_uuid, task_id, agent_id, agent_type, prompt_id, tool_use_id, tool_name,
                        parameters, success, error, error_category, duration_ms, tokens, background, fingerprint, source)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (session_uuid, tool_use_id) WHERE tool_use_id IS NOT NULL DO UPDATE SET
    timestamp = excluded.timestamp, success = excluded.success, error = excluded.error,
    error_category = excluded.error_category, duration_ms = excluded.duration_ms, tokens = excluded.tokens,
    background = excluded.background, fingerprint = excluded.fingerprint, source = excluded.source,
    task_id = coalesce(excluded.task_id, task_id),
    parameters = coalesce(excluded.parameters, parameters)
WHERE (tool_usage.source = 'inferred' AND excluded.source IN ('batch', 'hook'))
   OR (tool_usage.source = 'transcript' AND excluded.source IN ('batch', 'hook'))
   OR (tool_usage.source = 'batch' AND excluded.source = 'hook')
"""

#: Before the one above, for hooks' rows: a call that was taken over from the transcript was reported after all.
REPORTED_LATE = """
UPDATE reconciliations SET seen = seen + 1, added = added - 1
WHERE session_uuid = ?1 AND added > 0
  AND EXISTS (SELECT 1 FROM tool_usage WHERE session_uuid = ?1 AND tool_use_id = ?2 AND source = 'transcript')
"""

#: A start that arrives after its end is no call in flight.
CALL_OPENED = f"""
INSERT INTO tool_running ({", ".join(CALL_COLUMNS)})
SELECT {", ".join(f":{name}" for name in CALL_COLUMNS)}
WHERE NOT EXISTS (SELECT 1 FROM tool_usage WHERE session_uuid = :session_uuid AND tool_use_id = :tool_use_id)
ON CONFLICT (session_uuid, tool_use_id) DO UPDATE SET
    permission_requested = excluded.permission_requested, answered_at = excluded.answered_at, answer = excluded.answer,
    answer_category = excluded.answer_category
"""

CALL_CLOSED = "DELETE FROM tool_running WHERE session_uuid = ? AND tool_use_id = ?"

FILE_TOUCHED = """
INSERT INTO files (timestamp, path, action, session_uuid, task_id, agent_id, tool_use_id) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (session_uuid, tool_use_id) DO NOTHING
"""

SUBAGENT_STARTED = """
INSERT INTO subagents (session_uuid, agent_id, agent_type, status, started_at) VALUES (?, ?, ?, 'working', ?)
ON CONFLICT (session_uuid, agent_id) DO UPDATE SET
    agent_type = coalesce(excluded.agent_type, agent_type), started_at = coalesce(started_at, excluded.started_at)
"""

SUBAGENT_ENDED = """
INSERT INTO subagents (session_uuid, agent_id, agent_type, status, ended_at, detail) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (session_uuid, agent_id) DO UPDATE SET
    agent_type = coalesce(excluded.agent_type, agent_type), status = excluded.status, ended_at = excluded.ended_at,
    detail = excluded.detail
"""

#: What still worked when its session ended, ended with it.
SUBAGENTS_OF_ENDED = """
UPDATE subagents SET status = ?, ended_at = ? WHERE session_uuid = ? AND status = 'working'
"""

COUNT = """
INSERT INTO counters (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value
"""
