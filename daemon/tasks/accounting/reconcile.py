"""Matching what transcripts tell of tool calls with what hooks reported of them."""

import json
import os.path
from dataclasses import dataclass

from tasks.categories.fingerprints import fingerprint
from tasks.database import ERROR_KIND, Connection
from tasks.rollups import rows_since
from tasks.words import FILE_TOOLS, ErrorCategory

#: Calls that one `reconcile` settles at most: a transaction of some tens of milliseconds.
LIMIT = 1000
#: Milliseconds after which a call without an answer, in a transcript that nobody writes to any more, will get none.
ABANDONED = 86_400_000
#: Milliseconds after the end of a session in which its last lines may still come.
OVER = 60_000

_NO_ANSWER = "The transcript ends without a result of this call"

#: What this turn settles. `how`: seen, added, or without an answer.
_TAKEN = """
CREATE TEMP TABLE IF NOT EXISTS settled_calls (
    session_uuid  TEXT NOT NULL,
    tool_use_id   TEXT NOT NULL,
    usage_id      INTEGER,
    how           TEXT NOT NULL,
    PRIMARY KEY (session_uuid, tool_use_id)
) WITHOUT ROWID
"""

# Whoever reported a call, reported it: at once. One that nobody reported, or whose end was only concluded, has to wait. While
# files are read, answers may be in what is not read yet, and the folder of a session in its main agent's file.
_TAKE = """
INSERT INTO temp.settled_calls (session_uuid, tool_use_id, usage_id, how)
SELECT e.session_uuid, e.tool_use_id, u.id,
       CASE WHEN e.answered_at IS NULL THEN 'unanswered'
            WHEN u.id IS NULL OR u.source = 'inferred' THEN 'added'
            ELSE iif(u.source = 'transcript', 'added', 'seen') END
FROM expected_calls AS e
LEFT JOIN tool_usage AS u ON u.session_uuid = e.session_uuid AND u.tool_use_id = e.tool_use_id
WHERE CASE WHEN e.answered_at IS NOT NULL
           THEN (u.source IN ('hook', 'batch', 'api', 'transcript') OR (e.read_at <= :before AND e.answered_at <= :before))
                AND (NOT :reading OR EXISTS (SELECT 1 FROM sessions AS o
                                             WHERE o.session_uuid = e.session_uuid AND o.cwd IS NOT NULL))
           ELSE NOT :reading AND e.read_at <= :before
                AND (e.called_at <= :abandoned
                     AND NOT EXISTS (SELECT 1 FROM transcripts AS t
                                     WHERE t.transcript_id = e.transcript_id AND t.last_at > :abandoned)
                     OR EXISTS (SELECT 1 FROM sessions AS o
                                WHERE o.session_uuid = e.session_uuid AND o.events > 0 AND o.status IN ('ended', 'lost')
                                  AND o.status_since BETWEEN e.called_at AND :over)) END
LIMIT :limit
"""

_REPLACE = """
UPDATE tool_usage
SET timestamp = e.answered_at, success = e.success, error = e.error, error_category = e.error_category,
    fingerprint = e.fingerprint, source = 'transcript', parameters = coalesce(tool_usage.parameters, {parameters})
FROM temp.settled_calls AS s JOIN expected_calls AS e USING (session_uuid, tool_use_id)
WHERE tool_usage.id = s.usage_id AND s.how = 'added' AND tool_usage.source = 'inferred' AND tool_usage.duration_ms IS NULL
"""

# Before the rows are inserted that have theirs from the beginning.
_MODEL = """
UPDATE tool_usage SET model = coalesce(e.model, '')
FROM temp.settled_calls AS s JOIN expected_calls AS e USING (session_uuid, tool_use_id)
WHERE tool_usage.id = s.usage_id
"""

_ADD = """
INSERT INTO tool_usage (timestamp, session_uuid, task_id, agent_id, agent_type, prompt_id, tool_use_id, tool_name, parameters,
                        success, error, error_category, source, model, fingerprint)
SELECT coalesce(e.answered_at, e.called_at), e.session_uuid, coalesce(t.task_id, o.task_id), t.agent_id,
       CASE WHEN t.agent_id IS NOT NULL THEN nullif(t.agent_type, '') END, e.prompt_id, e.tool_use_id, e.tool_name,
       {parameters}, coalesce(e.success, 0), iif(e.answered_at IS NULL, :no_answer, e.error),
       iif(e.answered_at IS NULL, 'interrupted', e.error_category), iif(e.answered_at IS NULL, 'inferred', 'transcript'),
       coalesce(e.model, ''), e.fingerprint
FROM temp.settled_calls AS s JOIN expected_calls AS e USING (session_uuid, tool_use_id)
LEFT JOIN transcripts AS t USING (transcript_id)
LEFT JOIN sessions AS o ON o.session_uuid = e.session_uuid
WHERE s.usage_id IS NULL
ORDER BY 1
"""

#: At the lowest privacy level only the name of the file is noted, as a JSON string: see `expected`.
_PARAMETERS = "CASE WHEN json_valid(e.parameters) AND json_type(e.parameters) = 'text' THEN NULL ELSE e.parameters END"

_UNANSWERED = """
SELECT e.tool_name, min(e.session_uuid), min(e.called_at), max(e.called_at)
FROM temp.settled_calls AS s JOIN expected_calls AS e USING (session_uuid, tool_use_id)
WHERE s.how = 'unanswered' AND s.usage_id IS NULL GROUP BY e.tool_name
"""

_KIND = """
UPDATE expected_calls SET fingerprint = ?
WHERE tool_name = ? AND (session_uuid, tool_use_id) IN (SELECT session_uuid, tool_use_id FROM temp.settled_calls
                                                        WHERE how = 'unanswered' AND usage_id IS NULL)
"""

_TOUCHED = f"""
SELECT e.answered_at, e.tool_name, e.parameters, e.session_uuid, coalesce(t.task_id, o.task_id), t.agent_id, e.tool_use_id,
       coalesce(o.cwd, t.project)
FROM temp.settled_calls AS s JOIN expected_calls AS e USING (session_uuid, tool_use_id)
LEFT JOIN transcripts AS t USING (transcript_id)
LEFT JOIN sessions AS o ON o.session_uuid = e.session_uuid
WHERE s.how = 'added' AND e.success = 1 AND e.tool_name IN ({", ".join(f"'{name}'" for name in FILE_TOOLS)})
ORDER BY 1
"""

_TOUCH = """
INSERT INTO files (timestamp, path, action, session_uuid, task_id, agent_id, tool_use_id) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (session_uuid, tool_use_id) DO NOTHING
"""

_NOT_RUNNING = """
DELETE FROM tool_running WHERE (session_uuid, tool_use_id) IN (SELECT session_uuid, tool_use_id FROM temp.settled_calls)
"""

_COUNT = """
INSERT INTO reconciliations (session_uuid, expected, seen, added, updated_at)
SELECT session_uuid, count(*), sum(how = 'seen'), sum(how = 'added'), :now FROM temp.settled_calls WHERE how <> 'unanswered'
GROUP BY session_uuid
ON CONFLICT (session_uuid) DO UPDATE SET
    expected = expected + excluded.expected, seen = seen + excluded.seen, added = added + excluded.added,
    updated_at = excluded.updated_at
"""

_SETTLE = """
DELETE FROM expected_calls WHERE (session_uuid, tool_use_id) IN (SELECT session_uuid, tool_use_id FROM temp.settled_calls)
"""


#: Rows that hooks reported were counted before they were pruned: the transcript tells nothing new of them.
_PRUNED = """
DELETE FROM expected_calls
WHERE coalesce(answered_at, called_at) < :kept AND session_uuid IN (SELECT session_uuid FROM sessions WHERE events > 0)
"""


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What one turn did."""

    #: calls that hooks had reported too
    seen: int
    #: calls stored from the transcript alone
    added: int
    #: calls that were given up because no answer will come
    unanswered: int
    #: nothing is left that could be settled now
    done: bool


def reconcile(
    connection: Connection, now: int, grace: float, *, limit: int = LIMIT, reading: bool = False
) -> Reconciled:
    """Settle up to `limit` expected calls; call it again until it is `done`. Runs in the caller's transaction.

    Calls that hooks reported get their model. Others are stored from the transcript once hooks had `grace` seconds to
    report them, and are no calls in flight any more. A call without an answer is not expected yet; one whose session
    is over, or whose transcript was left alone for a day, is stored as interrupted unless hooks told of it. `now`: epoch
    milliseconds. `reading`: more of the same files is about to be read; what that could change waits.
    """
    connection.execute(_TAKEN)
    connection.execute("DELETE FROM temp.settled_calls")
    if kept := rows_since(lambda statement: connection.execute(statement).fetchall()):
        connection.execute(_PRUNED, {"kept": kept})
    before = now - int(grace * 1000)
    until = {"before": before, "abandoned": now - ABANDONED, "over": now - OVER, "reading": reading}
    connection.execute(_TAKE, {**until, "limit": limit})
    counts = dict(connection.execute("SELECT how, count(*) FROM temp.settled_calls GROUP BY how").fetchall())
    if counts:
        connection.execute(_REPLACE.format(parameters=_PARAMETERS))
        connection.execute(_MODEL)
        if "unanswered" in counts:
            _note_kinds(connection)
        connection.execute(_ADD.format(parameters=_PARAMETERS), {"no_answer": _NO_ANSWER})
        connection.executemany(_TOUCH, _touched(connection))
        connection.execute(_NOT_RUNNING)
        connection.execute(_COUNT, {"now": now})
        connection.execute(_SETTLE)
        connection.execute("DELETE FROM temp.settled_calls")
    seen, added, unanswered = (counts.get(how, 0) for how in ("seen", "added", "unanswered"))
    return Reconciled(seen, added, unanswered, done=seen + added + unanswered < limit)


def _note_kinds(connection: Connection) -> None:
    """Of the calls that are given up."""
    for tool_name, session_uuid, first, last in connection.execute(_UNANSWERED).fetchall():
        kind = fingerprint(tool_name, ErrorCategory.INTERRUPTED, _NO_ANSWER)
        connection.execute(_KIND, (kind.id, tool_name))
        row = (kind.id, tool_name, ErrorCategory.INTERRUPTED, kind.message, session_uuid, first, last)
        connection.execute(ERROR_KIND, row)


def _touched(connection: Connection) -> list[tuple[object, ...]]:
    """Rows of `files` for the added calls that read, wrote or edited one."""
    rows: list[tuple[object, ...]] = []
    for at, tool_name, parameters, session_uuid, task_id, agent_id, tool_use_id, folder in connection.execute(_TOUCHED):
        action, parameter = FILE_TOOLS[tool_name]
        if (path := _path(parameters, parameter, folder)) is not None:
            rows.append((at, path, action, session_uuid, task_id, agent_id, tool_use_id))
    return rows


def _path(parameters: str | None, parameter: str, folder: str | None) -> str | None:
    try:
        value = json.loads(parameters or "null")
    except (ValueError, RecursionError):
        return None
    path = value.get(parameter) if isinstance(value, dict) else value
    if not isinstance(path, str) or not path:
        return None
    return path if path[0] == "/" else os.path.normpath(f"{folder or ''}/{path}")
