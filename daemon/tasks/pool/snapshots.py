"""What a pool says of itself to people: every task in it, and why it waits. Plain values, safe to keep."""

from dataclasses import dataclass
from typing import TypedDict

from tasks.pool.jobs import Job
from tasks.pool.line import Line
from tasks.words import TaskPriority, TaskStatus


class PoolStatus(TypedDict):
    """What `get_status` says."""

    #: how many may be at work at once
    total_workers: int
    #: how many are; above `total_workers` after `run_now` and after a `resize` to less
    active_workers: int
    queued_tasks: int
    #: how many may wait
    queue_size: int


@dataclass(frozen=True, slots=True)
class TaskView:
    """One task of the pool, at the time of the snapshot."""

    task_id: str
    #: QUEUED or RUNNING
    state: TaskStatus
    priority: TaskPriority
    #: what its priority is by now, through ageing; at work: when it started
    effective_priority: TaskPriority
    #: seconds from its submission until now, or until it started
    waiting: float
    #: seconds since it started; 0 when it waits
    running: float
    workspace: str | None
    agent_type: str | None
    #: 1 is next, were there no limits; None when it is at work
    position: int | None
    #: "paused", "no free slot", "limit of workspace …", "limit of agent type …"; None when it is at work
    why: str | None


@dataclass(frozen=True, slots=True)
class PoolSnapshot:
    """A pool at one moment."""

    #: these four as in PoolStatus
    total_workers: int
    active_workers: int
    queued_tasks: int
    queue_size: int
    paused: bool
    #: shut down, or shutting down: it takes no more
    closed: bool
    #: those at work in the order of their start, then those that wait, next first
    tasks: tuple[TaskView, ...]


def view_running(job: Job, line: Line, now: float) -> TaskView:
    """A task at work."""
    return TaskView(
        task_id=job.task_id,
        state=TaskStatus.RUNNING,
        priority=job.priority,
        effective_priority=line.effective_priority(job, job.started),
        waiting=job.started - job.since,
        running=now - job.started,
        workspace=job.workspace,
        agent_type=job.agent_type,
        position=None,
        why=None,
    )


def view_waiting(job: Job, line: Line, now: float, *, position: int, why: str) -> TaskView:
    """A task in the line."""
    return TaskView(
        task_id=job.task_id,
        state=TaskStatus.QUEUED,
        priority=job.priority,
        effective_priority=line.effective_priority(job, now),
        waiting=now - job.since,
        running=0.0,
        workspace=job.workspace,
        agent_type=job.agent_type,
        position=position,
        why=why,
    )
