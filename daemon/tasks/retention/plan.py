"""What a purge is about: decided and written down before anything goes, so that one that was killed is finished."""

import json
import os
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tasks.config import Settings
from tasks.database import Row
from tasks.errors import ProbeError, TasksError
from tasks.process import Liveness, ProcessIdentity, probe
from tasks.words import SessionStatus, TaskStatus

Query = Callable[..., list[Row]]

_VERSION = 1
_SESSION = """
SELECT session_uuid, status, task_id, host, pid, process_started, boot, ended_at, transcript_path, started_at, last_event_at
FROM sessions WHERE {}
"""
_TASKS = """
SELECT task_id FROM tasks WHERE session_uuid = :session
UNION SELECT task_id FROM runs WHERE session_uuid = :session
UNION SELECT task_id FROM sessions WHERE session_uuid = :session AND task_id IS NOT NULL
"""
_SESSIONS_OF_TASK = """
SELECT session_uuid FROM runs WHERE task_id = :task AND session_uuid IS NOT NULL
UNION SELECT session_uuid FROM tasks WHERE task_id = :task AND session_uuid IS NOT NULL
UNION SELECT session_uuid FROM sessions WHERE task_id = :task
"""
# Unfinished ones of other data directories are none of this store's.
_TASK = """
SELECT status, worktree, EXISTS (SELECT 1 FROM runs WHERE task_id = :task AND finished_at IS NULL) FROM tasks
WHERE task_id = :task
"""
_OLD_TASKS = """
SELECT task_id FROM tasks AS t WHERE status IN ('completed', 'failed', 'stopped') AND finished_at < ?
  AND NOT EXISTS (SELECT 1 FROM runs AS r WHERE r.task_id = t.task_id AND r.finished_at IS NULL)
"""


class StillLive(TasksError):
    """The session is not over: end its client, then purge it."""


@dataclass(slots=True)
class Plan:
    """Ids and numbers only: it must not hold what it is there to remove."""

    sessions: list[str] = field(default_factory=list)
    tasks: list[str] = field(default_factory=list)
    #: pid of a client (0: whichever), and the epoch milliseconds between which what it recorded is the purged sessions'
    clients: list[tuple[int, int, int]] = field(default_factory=list)
    #: everything recorded before this time goes, whatever it belongs to; None: nothing but the above
    before: int | None = None

    # Known while it is made, and not written down.
    #: the client's own transcripts, which stay
    transcripts: list[str] = field(default_factory=list)
    #: worktrees of purged tasks, which stay
    worktrees: list[str] = field(default_factory=list)
    #: live sessions that `before` passes over
    passed_over: list[str] = field(default_factory=list)


def for_session(query: Query, session_uuid: str) -> Plan:
    """That session, the tasks it worked on, and the sessions of their other runs: the prompt is the same text.

    Raises StillLive when one of them is not over.
    """
    plan = Plan()
    waiting = [session_uuid]
    while waiting:
        one = waiting.pop()
        if one in plan.sessions:
            continue
        plan.sessions.append(one)
        _add_session(query, plan, one)
        for (task_id,) in query(_TASKS, {"session": one}):
            if task_id not in plan.tasks:
                _add_task(query, plan, task_id)
                waiting += [other for (other,) in query(_SESSIONS_OF_TASK, {"task": task_id})]
    return plan


def for_before(query: Query, before: int) -> Plan:
    """All that was recorded before that time: sessions that were over by then whole, of others what is older."""
    plan = Plan(before=before)
    for row in query(_SESSION.format("last_event_at < ?"), (before,)):
        if _is_live(query, row):
            plan.passed_over.append(row[0])
        else:
            plan.sessions.append(row[0])
            _note(query, plan, row)
    for (task_id,) in query(_OLD_TASKS, (before,)):
        _add_task(query, plan, task_id)
    return plan


def _add_session(query: Query, plan: Plan, session_uuid: str) -> None:
    for row in query(_SESSION.format("session_uuid = ?"), (session_uuid,)):
        if _is_live(query, row):
            process = f": end its client (exit it, or `kill {row[4]}`)" if row[4] else ": end its client"
            raise StillLive(f"session {session_uuid} is {row[1]}{process}, then purge it; nothing was changed")
        _note(query, plan, row)


def _is_live(query: Query, row: Row) -> bool:
    """Whether its client may still write. A status without a process proves nothing: no daemon may have been there to see."""
    session_uuid, status, _, host, pid, started, boot, ended_at, *_ = row
    if ended_at is not None and SessionStatus(status).is_over:
        return False
    if host == socket.gethostname() and None not in (pid, started, boot):
        try:
            return probe(ProcessIdentity(pid, started, boot)) is not Liveness.GONE
        except ProbeError:
            return True
    return not SessionStatus(status).is_over or bool(
        query("SELECT count(*) FROM tool_running WHERE session_uuid = ?", (session_uuid,))[0][0]
    )


def _note(query: Query, plan: Plan, row: Row) -> None:
    session_uuid, transcript, began, last = row[0], *row[8:11]
    if transcript is not None:
        plan.transcripts.append(transcript)
    pids = {pid for (pid,) in query("SELECT DISTINCT pid FROM events WHERE session_uuid = ?", (session_uuid,)) if pid}
    plan.clients += [(pid, began, last) for pid in sorted(pids | {row[4] or 0, 0})]


def _add_task(query: Query, plan: Plan, task_id: str) -> None:
    for status, worktree, running in query(_TASK, {"task": task_id}):
        if running or not TaskStatus(status).is_over:
            raise StillLive(f"task {task_id} is {status}: wait, or run `tasksd cancel {task_id}`; nothing was changed")
        plan.tasks.append(task_id)
        if worktree is not None:
            plan.worktrees.append(worktree)


# The plan on disk.


def plan_file(settings: Settings) -> Path:
    return settings.data_dir / "purge.json"


def unfinished(settings: Settings) -> Plan | None:
    """The plan of a purge that did not come to its end."""
    try:
        stored: dict[str, Any] = json.loads(plan_file(settings).read_bytes())
        clients = [(int(pid), int(since), int(until)) for pid, since, until in stored["clients"]]
        return Plan(_texts(stored["sessions"]), _texts(stored["tasks"]), clients, stored["before"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise TasksError(f"{plan_file(settings)} is damaged ({error}): remove it, and give the order again") from error


def write_down(settings: Settings, plan: Plan) -> None:
    """Durable when this returns: from here on the purge is finished, whatever happens."""
    content = asdict(plan)
    for name in ("transcripts", "worktrees", "passed_over"):
        del content[name]
    path = plan_file(settings)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    fd = os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "w") as file:
        json.dump({"version": _VERSION, **content}, file)
        file.flush()
        os.fsync(fd)
    draft.rename(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _texts(values: Iterable[Any] | Sequence[Any]) -> list[str]:
    return [str(value) for value in values]
