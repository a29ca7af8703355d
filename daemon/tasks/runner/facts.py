"""What is true about a task and its latest run, as `recovery.decide` wants it. Reads processes and files; changes nothing."""

import socket

from tasks import process
from tasks.manager import Run, Task
from tasks.process import Liveness, ProcessIdentity, RunFiles
from tasks.runner.parts import run_mark
from tasks.runner.recovery import Found


def facts(task: Task, run: Run, files: RunFiles) -> tuple[Found, ProcessIdentity | None]:
    """The facts, and the shim if it lives. Blocking."""
    marked = process.marked(process.RUN_VARIABLE, run_mark(task.task_id, run.attempt))
    shim, liveness = run.shim, None
    if shim is not None:
        liveness = process.probe(shim)
    elif (identity := files.shim()) is not None:
        shim, liveness = identity, Liveness.ALIVE  # the daemon was killed between its start and the row
    found = Found(
        task.status,
        task.merge_state,
        worktree=is_unsaid(task),
        run=True,
        run_finished=run.finished_at is not None,
        # A laptop has another name in another network.
        here=run.host == socket.gethostname() or (shim is not None and shim.boot == process.boot_id()),
        shim=liveness,
        marked=bool(marked),
        started=files.was_started(),
        exit_status=files.exit_status() is not None,
    )
    return found, shim if liveness is Liveness.ALIVE else None


def is_unsaid(task: Task) -> bool:
    """Whether it has a worktree without a word on why that is kept."""
    return task.worktree is not None and task.merge_detail is None
