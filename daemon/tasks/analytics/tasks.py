"""What became of the tasks handed over: success, failures, durations, retries, merges, money."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from math import fsum
from typing import Literal, NamedTuple

from typing_extensions import TypedDict

from tasks.analytics.costs import DOLLAR
from tasks.analytics.span import Query
from tasks.rollups import DAY, percentile
from tasks.words import TaskStatus

#: What tasks can be divided by; '' where a task names none.
By = Literal["workflow", "agent_type", "model"]

# All money of the span is read in one go, in the order in which it is stored, instead of looked up task by task; and what is
# the same for many tasks is counted there, for to hand over a row of each would take most of the time.
_TASKS = f"""
WITH money (task_id, cost, messages, unpriced) AS MATERIALIZED (
    SELECT value, sum(cost), sum(messages), sum(unpriced) FROM cost_rollup
    WHERE dimension = 'task' AND grain = {DAY} AND slot >= :since / {DAY} - 1 GROUP BY value
),
one AS (
    SELECT CASE :by WHEN 'workflow' THEN coalesce(workflow, '') WHEN 'agent_type' THEN coalesce(agent_type, '')
                    WHEN 'model' THEN coalesce(model, '') ELSE '' END AS value,
           status, failure, merge_state, attempt, started_at - created_at AS queued,
           iif(status IN ('completed', 'failed', 'stopped'), finished_at - started_at, NULL) AS duration,
           (SELECT sum(finished_at - started_at) FROM runs WHERE runs.task_id = tasks.task_id) AS running,
           cost_usd, coalesce(money.messages > money.unpriced, 0) AS told, money.cost, money.unpriced
    FROM tasks LEFT JOIN money USING (task_id) WHERE created_at >= :since
)
SELECT value, status, failure, merge_state, count(*), sum(max(attempt - 1, 0)), sum(attempt > 1),
       json_group_array(queued), json_group_array(duration), json_group_array(running),
       count(cost_usd), sum(cost_usd), sum(told), coalesce(sum(iif(told, cost, 0)), 0),
       count(iif(told, NULL, cost_usd)), coalesce(sum(iif(told, NULL, cost_usd)), 0.0), coalesce(sum(unpriced), 0)
FROM one GROUP BY value, status, failure, merge_state
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
    #: the `unpriced` of those that failed, were stopped, were merged
    failed_unpriced: int
    stopped_unpriced: int
    merged_unpriced: int


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


class _Alike(NamedTuple):
    """Tasks that ended in the same way."""

    value: str
    status: str
    failure: str | None
    merge_state: str
    tasks: int
    retries: int
    retried: int
    #: JSON arrays of milliseconds, one for each task; null: not known
    queued: str
    durations: str
    running: str
    #: by the client: tasks, and dollars
    reported: int
    reported_usd: float | None
    #: by transcripts: tasks, and picodollars. Messages without a price alone do not tell the money
    told: int
    cost: int
    #: of tasks that only the client tells of
    reported_only: int
    reported_only_usd: float
    #: messages
    unpriced: int


class _Purse:
    """Money of tasks added up: exact for what transcripts tell."""

    def __init__(self, alike: Iterable[_Alike]) -> None:
        alike = tuple(alike)
        self.reported_only = sum(one.reported_only for one in alike)
        self.tasks = sum(one.told for one in alike) + self.reported_only
        self.total = sum(one.cost for one in alike) / DOLLAR + fsum(one.reported_only_usd for one in alike)


def task_stats(query: Query, *, since: int = 0) -> TaskStats:
    """Of all tasks that were handed over since `since` (epoch milliseconds)."""
    return _stats(_tasks(query, "", since))


def task_groups(query: Query, by: By, *, since: int = 0) -> list[TaskGroup]:
    """Of the tasks of each workflow, type of agent or model, the one with the most tasks first."""
    groups: dict[str, list[_Alike]] = {}
    for alike in _tasks(query, by, since):
        groups.setdefault(alike.value, []).append(alike)
    rows = [TaskGroup(value=value, **_stats(group)) for value, group in groups.items()]
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


def _tasks(query: Query, by: By | Literal[""], since: int) -> list[_Alike]:
    return [_Alike(*row) for row in query(_TASKS, {"by": by, "since": since})]


def _stats(group: Sequence[_Alike]) -> TaskStats:
    statuses, merges, reasons = Counter[str](), Counter[str](), Counter[str]()
    for alike in group:
        statuses[alike.status] += alike.tasks
        merges[alike.merge_state] += alike.tasks
        if alike.status == TaskStatus.FAILED:
            reasons[alike.failure or "unknown"] += alike.tasks
    return TaskStats(
        tasks=statuses.total(),
        statuses={str(status): statuses[status] for status in TaskStatus},
        success_rate=_rate(statuses),
        failures=_most_first(reasons),
        duration_s=_spread(alike.durations for alike in group),
        running_s=_spread(alike.running for alike in group),
        queued_s=_spread(alike.queued for alike in group),
        retries=sum(alike.retries for alike in group),
        retried_tasks=sum(alike.retried for alike in group),
        merged=merges["merged"],
        conflict=merges["conflict"],
        kept=merges["kept"],
        **_money(group, merges["merged"]),
    )


def _money(group: Sequence[_Alike], merged: int) -> TaskMoney:
    everything = _Purse(group)
    failed, stopped = (
        _Purse(alike for alike in group if alike.status == status) for status in (TaskStatus.FAILED, TaskStatus.STOPPED)
    )
    ours = _Purse(alike for alike in group if alike.merge_state == "merged")
    reported = [alike.reported_usd for alike in group if alike.reported_usd is not None]
    cost = everything.total if everything.tasks else None
    return TaskMoney(
        cost_usd=cost,
        reported_usd=fsum(reported) if reported else None,
        reported_only=everything.reported_only,
        unpriced=sum(alike.unpriced for alike in group),
        failed_usd=failed.total,
        stopped_usd=stopped.total,
        cost_per_merged_usd=None if cost is None or not merged else cost / merged,
        merged_task_usd=ours.total / ours.tasks if ours.tasks else None,
        failed_unpriced=sum(alike.unpriced for alike in group if alike.status == TaskStatus.FAILED),
        stopped_unpriced=sum(alike.unpriced for alike in group if alike.status == TaskStatus.STOPPED),
        merged_unpriced=sum(alike.unpriced for alike in group if alike.merge_state == "merged"),
    )


def _spread(arrays: Iterable[str]) -> Spread | None:
    """Of milliseconds. A clock that was set back makes no negative time."""
    known = sorted(one for array in arrays for one in json.loads(array) if one is not None)
    ordered = [one / 1000 if one > 0 else 0.0 for one in known]
    return Spread(p50=percentile(ordered, 0.5), p95=percentile(ordered, 0.95)) if ordered else None


def _most_first(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda one: (-one[1], one[0])))
