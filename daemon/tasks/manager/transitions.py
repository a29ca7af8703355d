"""The life of a task as a graph of its statuses, and what else changes with each step. Pure."""

from collections.abc import Mapping

from tasks.database import Value
from tasks.errors import ImpossibleTransition
from tasks.manager.task import Task
from tasks.words import Failure, MergeState, TaskStatus

#: Status → what it may become. Staying what it is is no step and always possible, and then nothing changes.
#:
#:     pending ⇄ queued → running → completed
#:        ↑        ↑         │
#:        │        └─────────┤  held until a limit of the client's is over
#:        │                  ↓
#:        └───── failed, stopped      (tried again; also reached from pending and queued; pending may go straight to running)
TRANSITIONS: Mapping[TaskStatus, frozenset[TaskStatus]] = {
    TaskStatus.PENDING: frozenset({TaskStatus.QUEUED, TaskStatus.RUNNING, TaskStatus.FAILED, TaskStatus.STOPPED}),
    TaskStatus.QUEUED: frozenset({TaskStatus.PENDING, TaskStatus.RUNNING, TaskStatus.FAILED, TaskStatus.STOPPED}),
    TaskStatus.RUNNING: frozenset({TaskStatus.QUEUED, TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.STOPPED}),
    TaskStatus.COMPLETED: frozenset(),
    TaskStatus.FAILED: frozenset({TaskStatus.PENDING}),
    TaskStatus.STOPPED: frozenset({TaskStatus.PENDING}),
}

_ADVICE = {
    TaskStatus.COMPLETED: "it is done: submit the work as a new task",
    TaskStatus.FAILED: "try it again with `tasksd retry {task}` first",
    TaskStatus.STOPPED: "try it again with `tasksd retry {task}` first",
}

_NO_HOLD: dict[str, Value] = {"hold_reason": None, "hold_until": None}
_NO_PROCESS: dict[str, Value] = {"pid": None, "process_started": None, "boot": None}
#: Of an earlier life of a task nothing stays but its branch, worktree, activity and sums.
_NO_END: dict[str, Value] = {
    "result": None,
    "error": None,
    "failure": None,
    "finished_at": None,
    "merge_state": MergeState.NONE,
    "merge_detail": None,
    "merge_paths": None,
    "merge_commit": None,
}


def impossible(task: Task, to: TaskStatus | str, advice: str | None = None) -> ImpossibleTransition:
    """The error that says what was asked of `task` and what to do instead."""
    if advice is None and task.status.is_over and to == TaskStatus.STOPPED:
        advice = "there is nothing left to stop"
    if advice is None:
        allowed = ", ".join(sorted(TRANSITIONS[task.status]))
        advice = _ADVICE.get(task.status, f"it can become {allowed}").format(task=task.task_id)
    return ImpossibleTransition(f"task {task.task_id} is {task.status} and cannot become {to}: {advice}")


def moved(task: Task, to: TaskStatus, now: int) -> dict[str, Value]:
    """The columns that change when `task` becomes `to` at `now`; none when it is that already.

    Raises ImpossibleTransition.
    """
    if to is task.status:
        return {}
    if to not in TRANSITIONS[task.status]:
        raise impossible(task, to)
    columns: dict[str, Value] = {"status": to}
    if task.status is TaskStatus.RUNNING:
        columns |= _NO_PROCESS
    if to is TaskStatus.RUNNING:
        columns |= _NO_HOLD | {"started_at": now if task.started_at is None else task.started_at}
    elif to.is_over:
        columns |= _NO_HOLD | {"finished_at": now}
        if to is TaskStatus.FAILED:
            columns["failure"] = Failure.AGENT_ERROR
    elif task.status.is_over:
        if task.merge_state is MergeState.MERGING:
            raise impossible(task, to, "its branch is being merged: wait for that")
        columns |= _NO_HOLD | _NO_END
    return columns


def held(task: Task, reason: str, until: int | None, now: int) -> dict[str, Value]:
    """The columns that change when `task` has to wait; one that runs goes back into the queue. Raises ImpossibleTransition."""
    if task.status.is_over:
        raise impossible(task, "held")
    columns = moved(task, TaskStatus.QUEUED, now) if task.status is TaskStatus.RUNNING else {}
    return columns | {"hold_reason": reason, "hold_until": until}
