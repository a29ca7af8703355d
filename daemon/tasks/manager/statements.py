"""The statements of tasks and runs, and the few functions that run them in a transaction."""

from collections.abc import Iterable, Mapping

from tasks.database import Connection, Value
from tasks.errors import NoSuchTask
from tasks.manager.task import COLUMNS, RUN_COLUMNS, USAGE_COLUMNS, Run, Task, Usage

_ALL = ", ".join(COLUMNS)
# A log may have 250 kB: a list of tasks does without.
_BRIEF = ", ".join("'[]'" if name == "activity_log" else name for name in COLUMNS)

GET = f"SELECT {_ALL} FROM tasks WHERE task_id = :task_id"
FIND = "SELECT task_id FROM tasks WHERE task_id >= :low AND task_id < :high ORDER BY task_id LIMIT 6"
COUNTS = "SELECT status, count(*) FROM tasks GROUP BY status"
UNFINISHED = f"""
SELECT {_BRIEF} FROM tasks WHERE status IN ('pending', 'queued', 'running') ORDER BY priority, created_at, task_id
"""
TO_RECOVER = f"""
SELECT {_BRIEF} FROM tasks WHERE task_id IN (
    SELECT task_id FROM tasks WHERE status IN ('pending', 'queued', 'running')
    UNION SELECT task_id FROM runs WHERE finished_at IS NULL
    UNION SELECT task_id FROM tasks
          WHERE merge_state IN ('waiting', 'merging', 'conflict', 'kept') AND merge_state = 'merging'
    UNION SELECT task_id FROM tasks
          WHERE worktree IS NOT NULL AND (merge_state = 'none' OR (merge_state = 'merged' AND merge_detail IS NULL))
) ORDER BY priority, created_at, task_id
"""
# The first condition is that of idx_tasks_merge, word for word: SQLite needs it to see that the index will do.
WAITING_MERGES = f"""
SELECT {_BRIEF} FROM tasks
WHERE merge_state IN ('waiting', 'merging', 'conflict', 'kept') AND merge_state IN ('waiting', 'merging')
ORDER BY finished_at, task_id
"""

INSERT = """
INSERT INTO tasks (task_id, user_id, description, status, priority, agent_type, workflow, model, workspace, isolate, budget_usd,
                   max_turns, created_at)
VALUES (:task_id, :user_id, :description, :status, :priority, :agent_type, :workflow, :model, :workspace, :isolate, :budget_usd,
        :max_turns, :created_at)
ON CONFLICT (task_id) DO NOTHING
"""

# A branch whose base is known was made with a worktree, and both go together, once nothing can be lost.
_OLD = """
SELECT task_id FROM tasks
WHERE status IN ('completed', 'failed', 'stopped') AND finished_at < :before AND worktree IS NULL
  AND (merge_state = 'merged'
       OR (merge_state = 'none' AND (branch IS NULL OR (base_commit IS NOT NULL AND commits = 0))))
"""
OLD = f"SELECT {_BRIEF} FROM tasks WHERE task_id IN ({_OLD}) ORDER BY finished_at, task_id"
_DELETE_OLD = f"DELETE FROM tasks WHERE task_id IN ({_OLD} LIMIT 500) RETURNING {_BRIEF}"

RUNS = f"SELECT {', '.join(RUN_COLUMNS)} FROM runs WHERE task_id = :task_id ORDER BY attempt"
LATEST_RUN = f"SELECT {', '.join(RUN_COLUMNS)} FROM runs WHERE task_id = :task_id ORDER BY attempt DESC LIMIT 1"
_GET_RUN = f"SELECT {', '.join(RUN_COLUMNS)} FROM runs WHERE task_id = :task_id AND attempt = :attempt"
BEGIN_RUN = """
INSERT INTO runs (task_id, attempt, session_uuid, resumed, host, started_at, started_monotonic)
VALUES (:task_id, :attempt, :session_uuid, :resumed, :host, :started_at, :started_monotonic)
"""
RUN_SPAWNED = """
UPDATE runs SET shim_pid = :pid, shim_started = :started, boot = :boot WHERE task_id = :task_id AND attempt = :attempt
"""
END_RUN = f"""
UPDATE runs SET finished_at = :finished_at, exit_status = :exit_status, outcome = :outcome,
                {", ".join(f"{name} = :{name}" for name in USAGE_COLUMNS)}
WHERE task_id = :task_id AND attempt = :attempt
"""

GET_STATE = "SELECT value FROM daemon_state WHERE name = :name"
SET_STATE = """
INSERT INTO daemon_state (name, value) VALUES (:name, :value) ON CONFLICT (name) DO UPDATE SET value = excluded.value
"""
DELETE_STATE = "DELETE FROM daemon_state WHERE name = :name"


def listing(conditions: Iterable[str], *, activity: bool) -> str:
    """The statement for the tasks that meet all `conditions`, newest first, at most :limit."""
    where = " AND ".join(conditions)
    return f"""
SELECT {_ALL if activity else _BRIEF} FROM tasks{f" WHERE {where}" if where else ""}
ORDER BY created_at DESC, task_id DESC LIMIT :limit
"""


def fetch(connection: Connection, task_id: str) -> Task:
    """Raises NoSuchTask."""
    row = connection.execute(GET, {"task_id": task_id}).fetchone()
    if row is None:
        raise no_such_task(task_id)
    return Task.from_row(row)


def fetch_run(connection: Connection, task_id: str, attempt: int) -> Run:
    """Raises NoSuchTask."""
    row = connection.execute(_GET_RUN, {"task_id": task_id, "attempt": attempt}).fetchone()
    if row is None:
        raise NoSuchTask(f"task {task_id} has no run {attempt}; `tasksd show {task_id}` tells of those it has")
    return Run.from_row(row)


def update(connection: Connection, task_id: str, columns: Mapping[str, Value]) -> Task:
    """Give the columns these values; returns the task as it is then."""
    if columns:
        changes = ", ".join(f"{name} = :{name}" for name in columns)
        connection.execute(f"UPDATE tasks SET {changes} WHERE task_id = :task_id", {**columns, "task_id": task_id})
    return fetch(connection, task_id)


def delete_old(connection: Connection, before: Mapping[str, Value]) -> list[Task]:
    """Remove at most 500 tasks that are over since before :before and have nothing left to look at."""
    return [Task.from_row(row) for row in connection.execute(_DELETE_OLD, before).fetchall()]


def sums(task: Task, usage: Usage) -> dict[str, Value]:
    """The task's sums with those of one more run; what was not reported adds nothing."""
    added: dict[str, Value] = {}
    for name in USAGE_COLUMNS:
        before, more = getattr(task, name), getattr(usage, name)
        if more is not None:
            added[name] = (before or 0) + more
    return added


def no_such_task(task_id: str) -> NoSuchTask:
    return NoSuchTask(f"there is no task {task_id[:80]!r}; `tasksd tasks` lists them")
