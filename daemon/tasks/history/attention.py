"""What waits for a person."""

import json

from tasks.history.records import Query, Record, records
from tasks.history.work import SHORT

#: Tasks that are listed at most, of each kind.
MOST = 50

_FIELDS = ("task_id", "description", "status", "merge_state", "merge_detail", "merge_paths", "hold_reason", "since")
_UNMERGED = f"""
SELECT task_id, substr(description, 1, {SHORT}), status, merge_state, substr(merge_detail, 1, {SHORT}), merge_paths, NULL,
       coalesce(finished_at, created_at)
FROM tasks WHERE merge_state IN ('conflict', 'kept', 'waiting')
ORDER BY merge_state = 'conflict' DESC, created_at DESC LIMIT {MOST}
"""
_HELD = f"""
SELECT task_id, substr(description, 1, {SHORT}), status, merge_state, NULL, NULL, substr(hold_reason, 1, {SHORT}), created_at
FROM tasks WHERE status = 'queued' AND hold_until > :now ORDER BY created_at LIMIT {MOST}
"""


def attention(query: Query, *, now: int) -> list[Record]:
    """Tasks that do not go on by themselves, conflicts first: merges that conflict, wait for a checkout or are kept, with
    `merge_paths`; and queued ones that something of their own holds. `since` when (epoch milliseconds).
    """
    found = [*records(_FIELDS, query(_UNMERGED, ())), *records(_FIELDS, query(_HELD, {"now": now}))]
    return [one | {"merge_paths": json.loads(one["merge_paths"] or "[]")} for one in found]
