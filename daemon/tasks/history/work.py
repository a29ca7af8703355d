"""What was recorded of tasks: where they stand, their runs, verdicts and activity, what their agents did."""

import json
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from tasks.errors import NoSuchTask
from tasks.history.accounting import spent
from tasks.history.records import DAY, Query, Record, beginning, records
from tasks.words import FileAction, MergeState, TaskPriority, TaskStatus

#: What both the list and the details have.
TASK_FIELDS = (
    "task_id", "user_id", "description", "status", "priority", "agent_type", "workflow", "model", "workspace", "isolate",
    "hold_reason", "hold_until", "attempt", "session_uuid", "pid", "worktree", "branch", "base_branch", "commits",
    "merge_state", "merge_detail", "merge_commit", "failure", "error", "turns", "input_tokens", "output_tokens",
    "cache_read_tokens", "cache_write_tokens", "cost_usd", "created_at", "started_at", "finished_at",
)  # fmt: skip
DETAIL_FIELDS = ("budget_usd", "max_turns", "host", "base_commit", "merge_paths", "result")
RUN_FIELDS = (
    "attempt", "session_uuid", "resumed", "started_at", "finished_at", "exit_status", "outcome", "turns",
    "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "cost_usd",
)  # fmt: skip
VERDICT_FIELDS = ("timestamp", "stage", "mode", "passed", "message", "workspace")
CALL_FIELDS = ("tool_use_id", "tool_name", "started_at", "agent_id", "parameters")

#: Characters of a long text in lists; the details have all of it.
SHORT = 500
_LONG = ("description", "error", "merge_detail", "hold_reason")
#: Held tasks that are named.
MOST_HELD = 1000
#: Runs and verdicts of one task, the latest.
NEWEST = 100

# Of a task that is not over: its last activity says what it is doing.
_LISTED = f"""
SELECT {", ".join(f"substr({name}, 1, {SHORT})" if name in _LONG else name for name in TASK_FIELDS)},
       CASE WHEN finished_at IS NULL THEN json_extract(activity_log, '$[#-1]') END
FROM tasks
"""

# The first comparison lets an index begin at the place.
_FOLLOWS = """
created_at <= (SELECT created_at FROM tasks WHERE task_id = :before)
AND (created_at < (SELECT created_at FROM tasks WHERE task_id = :before) OR task_id > :before)
"""

# Of those that are over, the ones of the last 24 hours; none of them was created more than 30 days before.
_COUNTS = """
SELECT status, count(*) FROM tasks WHERE status IN ('pending', 'queued', 'running') GROUP BY status
UNION ALL
SELECT status, count(*) FROM tasks
WHERE created_at >= :month AND finished_at >= :yesterday AND status IN ('completed', 'failed', 'stopped') GROUP BY status
"""
_MERGES = """
SELECT merge_state, count(*) FROM tasks WHERE merge_state IN ('waiting', 'merging', 'conflict', 'kept') GROUP BY merge_state
"""
# Not all that is over: where a task ended comes last in a row that can be long.
_ENDED = """
SELECT task_id FROM (
    SELECT task_id, finished_at FROM tasks WHERE created_at >= :since AND status IN ('completed', 'failed', 'stopped')
    ORDER BY created_at DESC LIMIT 200)
ORDER BY finished_at DESC LIMIT :limit
"""
_HELD = "status = 'queued' AND hold_until > :now"
_CONFLICTS = "SELECT task_id FROM tasks WHERE merge_state = 'conflict' ORDER BY created_at LIMIT 5"


def tasks(
    query: Query,
    *,
    statuses: Collection[str] = (),
    workflow: str | None = None,
    user: int | None = None,
    agent_type: str | None = None,
    workspace: str | None = None,
    since: int | None = None,
    before: str | None = None,
    limit: int,
) -> list[Record]:
    """Tasks in one of `statuses` (none named: all), the latest created first, with their last activity while not over; with
    `before`, those that follow the task of that id in this order.
    """
    # Only what is asked for, so that an index can serve it.
    conditions, values = [], {"limit": limit}
    filters = {"user_id =": user, "workflow =": workflow, "agent_type =": agent_type, "workspace =": workspace}
    for number, (comparison, value) in enumerate((filters | {"created_at >=": since}).items()):
        if value is not None:
            conditions.append(f"{comparison} :value{number}")
            values[f"value{number}"] = value  # type: ignore[assignment]
    if before is not None:
        conditions.append(_FOLLOWS)
        values["before"] = before  # type: ignore[assignment]
    if statuses:
        conditions.append(f"status IN ({', '.join(repr(str(TaskStatus(one))) for one in statuses)})")
    where = f"WHERE {' AND '.join(conditions)} " if conditions else ""
    rows = query(f"{_LISTED} {where}ORDER BY created_at DESC, task_id LIMIT :limit", values)
    return [
        _task(one) | {"last_activity": _parsed(one["last_activity"], None)}
        for one in records((*TASK_FIELDS, "last_activity"), rows)
    ]


def ended(query: Query, *, since: int, limit: int) -> list[Record]:
    """Of the latest tasks that were handed over `since` (epoch milliseconds) and are over, those that ended last, as in
    `tasks`.
    """
    rows = query(f"{_LISTED} WHERE task_id IN ({_ENDED}) ORDER BY finished_at DESC", {"since": since, "limit": limit})
    return [_task(one) | {"last_activity": None} for one in records((*TASK_FIELDS, "last_activity"), rows)]


def task(query: Query, id_: str) -> Record:
    """The task whose id is, or alone begins with, `id_`: with `activity`, `runs`, `verdicts`, its agent's `calls` by
    tool as [all, failed], how many were `denied`, those in flight (`running`), and how many `files` they read, wrote
    and edited; and what it `spent` by its transcripts.

    Raises NoSuchTask.
    """
    key = {"task": whole_task_id(query, id_)}
    fields = (*TASK_FIELDS, *DETAIL_FIELDS)
    rows = query(f"SELECT {', '.join(fields)}, activity_log FROM tasks WHERE task_id = :task", key)
    if not rows:
        raise NoSuchTask(f"no task has the id {id_}")
    (found,) = records((*fields, "activity"), rows)
    verdicts = query(
        f"SELECT {', '.join(VERDICT_FIELDS)} FROM verdicts WHERE task_id = :task ORDER BY id DESC LIMIT {NEWEST}", key
    )
    calls = query(
        "SELECT tool_name, count(*), sum(success = 0) FROM tool_usage WHERE task_id = :task"
        " GROUP BY tool_name ORDER BY count(*) DESC, tool_name",
        key,
    )
    denied = query("SELECT count(*) FROM tool_usage WHERE task_id = :task AND error_category = 'blocked'", key)
    running = query(f"SELECT {', '.join(CALL_FIELDS)} FROM tool_running WHERE task_id = :task ORDER BY started_at", key)
    files = query("SELECT action, count(DISTINCT path) FROM files WHERE task_id = :task GROUP BY action", key)
    return _task(found) | {
        "merge_paths": _parsed(found["merge_paths"], []),
        "activity": _numbered(_parsed(found["activity"], [])),
        "runs": runs(query, key["task"]),
        "verdicts": [one | {"passed": bool(one["passed"])} for one in records(VERDICT_FIELDS, verdicts[::-1])],
        "calls": {tool: (count, failed) for tool, count, failed in calls},
        "denied": denied[0][0],
        "running": records(CALL_FIELDS, running),
        "spent": spent(query, "task", key["task"]),
        "files": dict.fromkeys(map(str, FileAction), 0) | dict(map(tuple, files)),
    }


def held(query: Query, *, now: int) -> list[Record]:
    """Queued tasks that are not even in the line, with `reason` and `until`; the one looked at next first."""
    fields = ("task_id", "priority", "reason", "until")
    rows = query(
        "SELECT task_id, priority, hold_reason, hold_until FROM tasks"
        f" WHERE {_HELD} ORDER BY hold_until, created_at LIMIT {MOST_HELD}",
        {"now": now},
    )
    return [one | {"priority": TaskPriority(one["priority"]).name.lower()} for one in records(fields, rows)]


def whole_task_id(query: Query, id_: str) -> str:
    """The id of the one task whose id is, or begins with, `id_`. Raises NoSuchTask."""
    rows = query(
        "SELECT task_id FROM tasks WHERE task_id LIKE ? ESCAPE '\\' ORDER BY task_id = ? DESC LIMIT 2",
        [beginning(id_), id_],
    )
    if rows and rows[0][0] == id_:
        rows = rows[:1]
    if not id_ or len(rows) != 1:
        raise NoSuchTask(f"several task ids begin with {id_}" if rows and id_ else f"no task has the id {id_}")
    return str(rows[0][0])


def runs(query: Query, task_id: str) -> list[Record]:
    """Every start of an agent for the task, oldest first."""
    rows = query(
        f"SELECT {', '.join(RUN_FIELDS)} FROM runs WHERE task_id = ? ORDER BY attempt DESC LIMIT {NEWEST}", [task_id]
    )
    return [one | {"resumed": bool(one["resumed"])} for one in records(RUN_FIELDS, rows[::-1])]


def run_state(query: Query, task_id: str, attempt: int | None) -> tuple[str, int, bool]:
    """(status of the task, number of its latest run or 0, whether run `attempt` (None: the latest) is over).

    Raises NoSuchTask.
    """
    rows = query(
        "SELECT t.status, t.attempt, r.finished_at IS NOT NULL FROM tasks AS t LEFT JOIN runs AS r"
        " ON r.task_id = t.task_id AND r.attempt = coalesce(:attempt, t.attempt) WHERE t.task_id = :task",
        {"task": task_id, "attempt": attempt},
    )
    if not rows:
        raise NoSuchTask(f"no task has the id {task_id}")
    status, latest, over = rows[0]
    return status, latest, bool(over)


def no_output(task_id: str, attempt: int) -> str:
    """Why nothing is there that an agent wrote in run `attempt`; 0: there was none yet."""
    if not attempt:
        return f"task {task_id} has not been started yet"
    return (
        f"there is no output of run {attempt} of task {task_id}: it did not come to that, or `tasksd clean` removed it"
    )


def activity(query: Query, task_id: str) -> tuple[Record, list[Record]]:
    """How the task is (status, merge_state, worktree, finished_at), and its activity, oldest first; each entry with an
    `id` that no other has. Raises NoSuchTask.
    """
    state = ("status", "merge_state", "worktree", "finished_at")
    rows = query(f"SELECT {', '.join(state)}, activity_log FROM tasks WHERE task_id = ?", [task_id])
    if not rows:
        raise NoSuchTask(f"no task has the id {task_id}")
    (found,) = records((*state, "activity"), rows)
    return found, _numbered(_parsed(found.pop("activity"), []))


def news(entries: Sequence[Record], after: str | None) -> Sequence[Record]:
    """What stands behind the entry of the id `after`; when that is gone, what is later than it was."""
    if after is None:
        return entries
    for index in range(len(entries) - 1, -1, -1):
        if entries[index]["id"] == after:
            return entries[index + 1 :]
    at = int(after.partition(".")[0])
    return [one for one in entries if one["at"] > at]


def task_counts(query: Query, *, now: int) -> Record:
    """Tasks by status, every status named (of those that are over, the ones of the last 24 hours); how many of the
    queued are held; merges that are not done, by state; and the ids of the oldest conflicts.
    """
    found = dict(map(tuple, query(_COUNTS, {"yesterday": now - DAY, "month": now - 30 * DAY})))
    merges = dict(map(tuple, query(_MERGES, ())))
    undone = (MergeState.WAITING, MergeState.MERGING, MergeState.CONFLICT, MergeState.KEPT)
    return {
        "statuses": {str(status): found.get(status, 0) for status in TaskStatus},
        "held": query(f"SELECT count(*) FROM tasks WHERE {_HELD}", {"now": now})[0][0],
        "merges": {str(state): merges.get(state, 0) for state in undone},
        "conflicts": [row[0] for row in query(_CONFLICTS, ())],
    }


def _task(one: Record) -> Record:
    return one | {"priority": TaskPriority(one["priority"]).name.lower(), "isolate": bool(one["isolate"])}


def _numbered(entries: Iterable[Record]) -> list[Record]:
    numbered: list[Record] = []
    seen: dict[int, int] = {}
    for one in entries:
        at = one["at"]
        seen[at] = seen.get(at, 0) + 1
        numbered.append({"id": f"{at}.{seen[at]}", "at": at, "message": one["message"]})
    return numbered


def _parsed(text: str | None, missing: Any) -> Any:
    return missing if text is None else json.loads(text)
