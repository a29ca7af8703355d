"""What became of the tasks handed over: success, failures, durations, retries, merges, money."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from typing_extensions import TypedDict

from tasks.analytics.costs import DOLLAR
from tasks.analytics.span import Query
from tasks.rollups import DAY, percentile
from tasks.words import TaskStatus

#: What tasks can be divided by; '' where a task names none.
By = Literal["workflow", "agent_type", "model"]

# All money of the span is read in one go, in the order in which it is stored, instead of looked up task by task.
_TASKS = f"""
WITH money (task_id, cost, messages, unpriced) AS MATERIALIZED (
    SELECT value, sum(cost), sum(messages), sum(unpriced) FROM cost_rollup
    WHERE dimension = 'task' AND grain = {DAY} AND slot >= :since / {DAY} - 1 GROUP BY value
)
SELECT status, failure, coalesce(workflow, ''), coalesce(agent_type, ''), coalesce(model, ''), merge_state, attempt,
       started_at - created_at, iif(status IN ('completed', 'failed', 'stopped'), finished_at - started_at, NULL),
       (SELECT sum(finished_at - started_at) FROM runs WHERE runs.task_id = tasks.task_id),
       cost_usd, money.cost, money.messages, money.unpriced
FROM tasks LEFT JOIN money USING (task_id) WHERE created_at >= :since
"""


_ENDS = "SELECT status, failure, count(*) FROM tasks WHERE created_at >= :since GROUP BY status, failure"


class Spread(TypedDict):
    """Seconds. Linear interpolation between the closest ranks."""

    p50: float
    p95: float


class TaskMoney(TypedDict):
    """Dollars. The money of a task is what its transcripts add up to; where there are none, what the client reported."""

    #: None: nothing is known of any task's money
    cost_usd: float | None
    #: the client's own figures; None: it gave none
    reported_usd: float | None
    #: tasks of which only the client's figure is in cost_usd
    reported_only: int
    #: answers of models without a price: cost_usd is the least that it can be
    unpriced: int
    failed_usd: float
    stopped_usd: float
    #: money of all tasks for each one that was merged; None: none was
    cost_per_merged_usd: float | None
    #: money of the merged ones themselves, on average
    merged_task_usd: float | None


class TaskStats(TaskMoney):
    """Of the tasks that were handed over in the span."""

    tasks: int
    #: status → tasks
    statuses: dict[str, int]
    #: of those that completed or failed, 0 to 1; None: there are none. Stopping is a person's decision and counts as neither
    success_rate: float | None
    #: reason → failed tasks
    failures: dict[str, int]
    #: from the first start to the end, of tasks that are over; None: there are none
    duration_s: Spread | None
    #: time in which an agent ran for it, over all its runs that ended
    running_s: Spread | None
    #: from handing over to the first start
    queued_s: Spread | None
    #: runs after the first one, over all tasks
    retries: int
    retried_tasks: int
    merged: int
    conflict: int
    #: branches that are kept for a person to merge
    kept: int


class TaskGroup(TaskStats):
    """Tasks of one workflow, type of agent or model; '': that name none."""

    value: str


class _Task(NamedTuple):
    status: str
    failure: str | None
    workflow: str
    agent_type: str
    model: str
    merge_state: str
    attempt: int
    queued: int | None
    duration: int | None
    running: int | None
    reported: float | None
    #: picodollars; None: no transcript tells of it
    cost: int | None
    messages: int | None
    unpriced: int | None


class _Purse:
    """Money of tasks added up: exact for what transcripts tell, whatever the order."""

    __slots__ = ("dollars", "picodollars", "reported_only", "tasks")

    def __init__(self) -> None:
        self.tasks = self.reported_only = self.picodollars = 0
        self.dollars = 0.0

    def add(self, task: _Task) -> None:
        # Messages without a price alone do not tell the money.
        if task.messages is not None and task.messages > (task.unpriced or 0):
            self.picodollars += task.cost or 0
        elif task.reported is not None:
            self.dollars += task.reported
            self.reported_only += 1
        else:
            return
        self.tasks += 1

    @property
    def total(self) -> float:
        return self.picodollars / DOLLAR + self.dollars


def task_stats(query: Query, *, since: int = 0) -> TaskStats:
    """Of all tasks that were handed over since `since` (epoch milliseconds)."""
    return _stats(_tasks(query, since))


def task_groups(query: Query, by: By, *, since: int = 0) -> list[TaskGroup]:
    """Of the tasks of each workflow, type of agent or model, the one with the most tasks first."""
    groups: dict[str, list[_Task]] = {}
    for task in _tasks(query, since):
        groups.setdefault(getattr(task, by), []).append(task)
    rows = [TaskGroup(value=value, **_stats(tasks)) for value, tasks in groups.items()]
    return sorted(rows, key=lambda one: (-one["tasks"], one["value"]))


def success_rate(query: Query, *, since: int = 0) -> float | None:
    """`TaskStats.success_rate`, without the rest."""
    counts: Counter[str] = Counter()
    for status, _, count in query(_ENDS, {"since": since}):
        counts[status] += count
    return _rate(counts)


def failures(query: Query, *, since: int = 0) -> dict[str, int]:
    """`TaskStats.failures`, without the rest."""
    found = query(_ENDS, {"since": since})
    return _most_first(
        Counter({reason or "unknown": count for status, reason, count in found if status == TaskStatus.FAILED})
    )


def _rate(statuses: Counter[str]) -> float | None:
    completed, failed = statuses[TaskStatus.COMPLETED], statuses[TaskStatus.FAILED]
    return completed / (completed + failed) if completed + failed else None


def _tasks(query: Query, since: int) -> list[_Task]:
    return [_Task(*row) for row in query(_TASKS, {"since": since})]


def _stats(tasks: Sequence[_Task]) -> TaskStats:
    statuses = Counter(task.status for task in tasks)
    merges = Counter(task.merge_state for task in tasks)
    return TaskStats(
        tasks=len(tasks),
        statuses={str(status): statuses[status] for status in TaskStatus},
        success_rate=_rate(statuses),
        failures=_most_first(Counter(task.failure or "unknown" for task in tasks if task.status == TaskStatus.FAILED)),
        duration_s=_spread(task.duration for task in tasks),
        running_s=_spread(task.running for task in tasks),
        queued_s=_spread(task.queued for task in tasks),
        retries=sum(max(task.attempt - 1, 0) for task in tasks),
        retried_tasks=sum(task.attempt > 1 for task in tasks),
        merged=merges["merged"],
        conflict=merges["conflict"],
        kept=merges["kept"],
        **_money(tasks, merges["merged"]),
    )


def _money(tasks: Sequence[_Task], merged: int) -> TaskMoney:
    everything, ours = _Purse(), _Purse()
    by_status = {TaskStatus.FAILED.value: _Purse(), TaskStatus.STOPPED.value: _Purse()}
    for task in tasks:
        everything.add(task)
        if task.status in by_status:
            by_status[task.status].add(task)
        if task.merge_state == "merged":
            ours.add(task)
    reported = [task.reported for task in tasks if task.reported is not None]
    cost = everything.total if everything.tasks else None
    return TaskMoney(
        cost_usd=cost,
        reported_usd=sum(reported) if reported else None,
        reported_only=everything.reported_only,
        unpriced=sum(task.unpriced or 0 for task in tasks),
        failed_usd=by_status[TaskStatus.FAILED].total,
        stopped_usd=by_status[TaskStatus.STOPPED].total,
        cost_per_merged_usd=None if cost is None or not merged else cost / merged,
        merged_task_usd=ours.total / ours.tasks if ours.tasks else None,
    )


def _spread(milliseconds: Iterable[int | None]) -> Spread | None:
    """A clock that was set back makes no negative time."""
    ordered = sorted(max(one, 0) / 1000 for one in milliseconds if one is not None)
    return Spread(p50=percentile(ordered, 0.5), p95=percentile(ordered, 0.95)) if ordered else None


def _most_first(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda one: (-one[1], one[0])))
