"""The files that the agents of a task read, wrote and edited."""

from tasks.history.records import Query, Record, records

FIELDS = ("path", "reads", "writes", "edits", "last_at")

_OF_TASK = """
SELECT path, sum(action = 'read'), sum(action = 'write'), sum(action = 'edit'), max(timestamp)
FROM files WHERE task_id = :task GROUP BY path
ORDER BY sum(action <> 'read') DESC, count(*) DESC, path LIMIT :limit
"""


def files_of_task(query: Query, task_id: str, *, limit: int) -> list[Record]:
    """Those that were changed most first, then those that were read most. `last_at` in epoch milliseconds."""
    return records(FIELDS, query(_OF_TASK, {"task": task_id, "limit": limit}))
