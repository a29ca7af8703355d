"""Whose work a transcript holds: found out when its row is made, and again when more becomes known."""

from dataclasses import replace

from tasks.accounting.rollup import SLOT, Context, Differences
from tasks.database import Connection
from tasks.transcripts import TranscriptFile

#: Of a row of transcripts, in the order of Context's fields.
CONTEXT_COLUMNS = ("session_uuid", "agent_type", "task_id", "workflow", "project")

#: Scans both tables.
_TASK = """
SELECT task_id FROM (
    SELECT task_id, 1 AS source, started_at AS at FROM runs WHERE session_uuid = :session
    UNION ALL SELECT task_id, 2, created_at FROM tasks WHERE session_uuid = :session)
ORDER BY source, at, task_id LIMIT 1
"""

_MAIN = "SELECT project FROM transcripts WHERE session_uuid = ? AND agent_id IS NULL AND project <> '' ORDER BY path LIMIT 1"

#: Of subagents in another project than the main agent.
_STRAY = f"""
SELECT transcript_id, {", ".join("t." + name for name in CONTEXT_COLUMNS)}
FROM transcripts AS t LEFT JOIN tasks USING (task_id)
WHERE t.session_uuid = ? AND agent_id IS NOT NULL AND project <> ? AND workspace IS NULL
"""

#: Those of which more may be known by now.
_UNSETTLED = f"""
SELECT transcript_id, agent_id, {", ".join(CONTEXT_COLUMNS)} FROM transcripts
WHERE task_id IS NULL AND session_uuid IN (
    SELECT session_uuid FROM runs UNION SELECT session_uuid FROM tasks
    UNION SELECT session_uuid FROM sessions WHERE task_id IS NOT NULL)
LIMIT ?
"""


def find_context(connection: Connection, file: TranscriptFile, cwd: str | None, known: Context | None) -> Context:
    """The context of a file as far as it is known now. `known`: as it is stored (None: not yet); what is known of it stays.

    `cwd`: the first folder that its lines name. The task is that of the hooks' session, else of the run with this session;
    workflow and project are the task's. Without one the project is the folder that the session's main agent began in.
    """
    base = known or Context(file.session_uuid)
    if base.task_id is None and (task_id := _task_of(connection, file.session_uuid, thorough=known is None)):
        base = replace(base, task_id=task_id)
    return _settled(connection, file.agent_id, file.agent_type, base, cwd)


def move_context(connection: Connection, transcript_id: int, context: Context) -> bool:
    """Give a transcript another context; its messages' sums move with it. False when it has that one already.

    Runs in the caller's transaction.
    """
    select = f"SELECT {', '.join(CONTEXT_COLUMNS)} FROM transcripts WHERE transcript_id = ?"
    old = Context(*connection.execute(select, (transcript_id,)).fetchone())
    if old == context:
        return False
    differences = Differences()
    for slot, model, *numbers in connection.execute(_SUMS, (transcript_id,)):
        differences.add_sums(old, slot, model, numbers, -1)
        differences.add_sums(context, slot, model, numbers, 1)
    differences.write(connection)
    assignments = ", ".join(f"{name} = ?" for name in CONTEXT_COLUMNS)
    values = [getattr(context, name) for name in CONTEXT_COLUMNS]
    connection.execute(f"UPDATE transcripts SET {assignments} WHERE transcript_id = ?", (*values, transcript_id))
    return True


def settle_contexts(connection: Connection, limit: int = 100) -> int:
    """Move the transcripts whose task became known since they were read, up to `limit` of them. Returns how many: call it
    again when it was `limit`. To be called now and then, and when a run ended; runs in the caller's transaction.
    """
    moved = 0
    for transcript_id, agent_id, *columns in connection.execute(_UNSETTLED, (limit,)).fetchall():
        known = Context(*columns)
        base = replace(known, task_id=_task_of(connection, known.session_uuid, thorough=True))
        moved += move_context(connection, transcript_id, _settled(connection, agent_id, None, base, None))
    return moved


def spread_project(connection: Connection, session_uuid: str) -> None:
    """Give the files of a session's subagents the project of the main agent, which has just become known."""
    if (project := _main_project(connection, session_uuid)) is None:
        return
    for transcript_id, *columns in connection.execute(_STRAY, (session_uuid, project)).fetchall():
        move_context(connection, transcript_id, replace(Context(*columns), project=project))


_SUMS = f"""
SELECT timestamp / {SLOT}, model, count(*), sum(input_tokens), sum(output_tokens), sum(cache_read_tokens),
       sum(cache_write_5m_tokens), sum(cache_write_1h_tokens), sum(web_searches), coalesce(sum(cost), 0), sum(cost IS NULL)
FROM messages WHERE transcript_id = ? GROUP BY 1, 2
"""


def _settled(
    connection: Connection, agent_id: str | None, agent_type: str | None, base: Context, cwd: str | None
) -> Context:
    task = None
    if base.task_id is not None:
        select = "SELECT workflow, agent_type, workspace FROM tasks WHERE task_id = ?"
        task = connection.execute(select, (base.task_id,)).fetchone()
    # A task that is not stored, or is not any more, has nothing to say.
    workflow, task_type, workspace = task or (base.workflow, None, None)
    main = None
    if agent_id is not None:
        agent_type = agent_type or _agent_type(connection, base.session_uuid, agent_id)
        main = None if workspace else _main_project(connection, base.session_uuid)
    return Context(
        base.session_uuid,
        agent_type or base.agent_type or task_type or "",
        base.task_id,
        workflow,
        workspace or main or base.project or cwd or "",
    )


def _task_of(connection: Connection, session_uuid: str, *, thorough: bool) -> str | None:
    found = connection.execute("SELECT task_id FROM sessions WHERE session_uuid = ?", (session_uuid,)).fetchone()
    if (found is None or found[0] is None) and thorough:
        found = connection.execute(_TASK, {"session": session_uuid}).fetchone()
    return None if found is None else found[0]


def _agent_type(connection: Connection, session_uuid: str, agent_id: str) -> str | None:
    select = "SELECT agent_type FROM subagents WHERE session_uuid = ? AND agent_id = ?"
    found = connection.execute(select, (session_uuid, agent_id)).fetchone()
    return None if found is None else found[0]


def _main_project(connection: Connection, session_uuid: str) -> str | None:
    found = connection.execute(_MAIN, (session_uuid,)).fetchone()
    return None if found is None else str(found[0])
