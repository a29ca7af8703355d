"""Taking a text out of the database: rows that are text go, rows that count or cost something stay without it."""

import time
from functools import partial

from tasks.database import Connection
from tasks.database.engine import Writer
from tasks.errors import StoreBusy
from tasks.retention.plan import Plan
from tasks.rollups import DAY, HOUR
from tasks.transcripts.purged import purged_name

#: Rows looked at in one transaction. The file is rewritten in the end: to look at all of them costs little beside that.
WINDOW = 2000
#: Seconds between two transactions: whoever waits for the write lock looks for it every 2 ms.
YIELD = 0.003
#: Slots of file_rollup in one transaction.
SLOTS = 200
#: Seconds to wait for a reader that keeps the write-ahead log from being cut.
LOG_TIMEOUT = 10.0

_OURS = (
    "(session_uuid IN (SELECT id FROM temp.purged_sessions) OR {table}.task_id IN (SELECT id FROM temp.purged_tasks))"
)

#: table → (its key, what happens to a row, whether a row needs it)
_BY_KEY = {
    # Numbers that readers follow by must not be given again: the newest event stays, without its text.
    "events": ("seq", "DELETE FROM events", "seq < (SELECT max(seq) FROM events)"),
    "tool_usage": (
        "id",
        "UPDATE tool_usage SET parameters = NULL, error = NULL, screenshot_path = NULL",
        "coalesce(parameters, error, screenshot_path) IS NOT NULL",
    ),
    "files": ("id", "DELETE FROM files", "true"),
    "agent_status": ("id", "DELETE FROM agent_status", "true"),
    "verdicts": ("id", "UPDATE verdicts SET message = '', workspace = ''", "message || workspace <> ''"),
}

_OF_SESSIONS = "session_uuid IN (SELECT id FROM temp.purged_sessions)"
#: Small tables, each in one statement.
_AT_ONCE = (
    f"UPDATE events SET body = NULL WHERE seq = (SELECT max(seq) FROM events) AND ({_OURS} OR timestamp < :before)".format(
        table="events"
    ),
    f"DELETE FROM file_use WHERE {_OF_SESSIONS} OR last_at < :before",
    f"DELETE FROM guarded_sessions WHERE {_OF_SESSIONS} OR updated_at < :before",
    f"DELETE FROM expected_calls WHERE {_OF_SESSIONS} OR called_at < :before",
    f"UPDATE error_kinds SET message = NULL, session_uuid = NULL WHERE {_OF_SESSIONS} OR last_seen < :before",
    "UPDATE subagents SET detail = NULL WHERE ended_at < :before",
    # A worktree that is still there needs to know where it belongs.
    """
    UPDATE tasks SET description = '', result = NULL, error = NULL, activity_log = '[]', hold_reason = NULL, merge_paths = NULL,
        merge_detail = CASE WHEN merge_detail IS NOT NULL THEN '' END,
        workspace = CASE WHEN worktree IS NOT NULL THEN workspace END,
        base_branch = CASE WHEN worktree IS NOT NULL THEN base_branch END
    WHERE task_id IN (SELECT id FROM temp.purged_tasks)
    """,
    # What is left of it: subagents, calls in flight, changes of status go with it.
    f"DELETE FROM sessions WHERE {_OF_SESSIONS}",
)

_PROJECTS = f"""
UPDATE transcripts SET project = '' WHERE {_OF_SESSIONS} AND project <> '' AND NOT EXISTS (
    SELECT 1 FROM transcripts AS other
    WHERE other.project = transcripts.project AND other.session_uuid NOT IN (SELECT id FROM temp.purged_sessions))
"""
_SUMS = ("messages", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens",
         "web_searches", "cost", "unpriced")  # fmt: skip
_NAMELESS = "dimension = 'project' AND value <> '' AND value NOT IN (SELECT project FROM transcripts)"
_MOVE_COSTS = f"""
INSERT INTO cost_rollup (dimension, grain, slot, value, model, {", ".join(_SUMS)})
SELECT dimension, grain, slot, '', model, {", ".join(f"sum({name})" for name in _SUMS)} FROM cost_rollup
WHERE {_NAMELESS} GROUP BY dimension, grain, slot, model
ON CONFLICT (dimension, grain, slot, value, model) DO UPDATE SET {", ".join(f"{n} = {n} + excluded.{n}" for n in _SUMS)}
"""


def scrub(writer: Writer, plan: Plan) -> dict[str, int]:
    """Take everything of the plan out of the rows; table → rows changed. May be done any number of times.

    Short transactions: a daemon goes on beside it. The bytes are gone only after `rewrite`.
    """
    writer.outside_transaction(partial(_prepare, plan), "cannot purge")
    # All time: nothing is before it.
    values = {"before": plan.before if plan.before is not None else -(1 << 62)}
    writer.run(_roll_files)
    changed: dict[str, int] = {}
    for table, (key, change, needs) in _BY_KEY.items():
        statement = (
            f"{change} WHERE {key} BETWEEN :first AND :last AND {needs} "
            f"AND ({_OURS.format(table=table)} OR timestamp < :before)"
        )
        first, last = writer.run(partial(_ends, table, key))
        changed[table] = 0
        for position in range(first, last + 1, WINDOW):
            window = {**values, "first": position, "last": position + WINDOW - 1}
            changed[table] += writer.run(partial(_execute, statement, window))
            time.sleep(YIELD)
    for statement in _AT_ONCE:
        writer.run(partial(_execute, statement, values))
    writer.run(_forget_transcripts)
    _forget_paths(writer)
    return changed


def rewrite(writer: Writer) -> None:
    """Write the file anew without gaps, so that nothing deleted is left in it, and cut the log.

    Raises StoreBusy when a reader keeps the log for too long, StoreUnavailable when the disk has no room for it.
    """
    writer.outside_transaction(_vacuum, "cannot rewrite")
    deadline = time.monotonic() + LOG_TIMEOUT
    while not writer.outside_transaction(_cut_log, "cannot cut the log of"):
        if time.monotonic() > deadline:
            raise StoreBusy(
                f"a program that reads {writer.path} keeps its log: close it, then run `tasksd purge` again"
            )
        time.sleep(0.05)


def _prepare(plan: Plan, connection: Connection) -> None:
    connection.execute("PRAGMA secure_delete = ON")
    for table, ids in (("purged_sessions", plan.sessions), ("purged_tasks", plan.tasks)):
        connection.execute(f"CREATE TEMP TABLE IF NOT EXISTS {table} (id TEXT PRIMARY KEY) WITHOUT ROWID")
        connection.execute(f"DELETE FROM temp.{table}")
        connection.executemany(f"INSERT OR IGNORE INTO temp.{table} VALUES (?)", [(one,) for one in ids])


def _roll_files(connection: Connection) -> None:
    """Into the roll-ups, so that what other sessions did with the same files stays counted as it was."""
    connection.execute("INSERT INTO rolling_files (upto) SELECT coalesce(max(id), 0) FROM files")


def _ends(table: str, key: str, connection: Connection) -> tuple[int, int]:
    first, last = connection.execute(f"SELECT min({key}), max({key}) FROM {table}").fetchone()
    return (first, last) if first is not None else (0, -1)


def _execute(statement: str, values: dict[str, int], connection: Connection) -> int:
    return connection.execute(statement, values).rowcount


def _forget_transcripts(connection: Connection) -> None:
    """Their paths name folders of the user's. A project that other sessions belong to keeps its name, and its costs."""
    rows = connection.execute(
        f"SELECT transcript_id, path FROM transcripts WHERE {_OF_SESSIONS} AND path NOT LIKE 'purged:%' "
        "AND path NOT LIKE 'run:%'"
    ).fetchall()
    connection.executemany(
        "UPDATE transcripts SET path = ? WHERE transcript_id = ?", [(purged_name(path), id_) for id_, path in rows]
    )
    connection.execute(_PROJECTS)
    connection.execute(_MOVE_COSTS)
    connection.execute(f"DELETE FROM cost_rollup WHERE {_NAMELESS}")


def _forget_paths(writer: Writer) -> None:
    """Files that nobody is known to have touched any more have no statistics either."""
    for grain in (HOUR, DAY):
        first, last = writer.run(partial(_slots, grain))
        for slot in range(first, last + 1, SLOTS):
            writer.run(partial(_forget_slots, grain, slot))
            time.sleep(YIELD)


def _slots(grain: int, connection: Connection) -> tuple[int, int]:
    row = connection.execute("SELECT min(slot), max(slot) FROM file_rollup WHERE grain = ?", (grain,)).fetchone()
    return (row[0], row[1]) if row[0] is not None else (0, -1)


def _forget_slots(grain: int, slot: int, connection: Connection) -> None:
    connection.execute(
        "DELETE FROM file_rollup WHERE grain = ? AND slot BETWEEN ? AND ? "
        "AND NOT EXISTS (SELECT 1 FROM file_use AS u WHERE u.path = file_rollup.path)",
        (grain, slot, slot + SLOTS - 1),
    )


def _vacuum(connection: Connection) -> None:
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute("VACUUM")


def _cut_log(connection: Connection) -> bool:
    return bool(connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0)
