"""Our figure beside the client's own: how far they differ for the tasks that have both."""

import math

from typing_extensions import TypedDict

from tasks.analytics.days import Period
from tasks.analytics.span import Query

#: Runs listed at most.
MOST = 20
#: Milliseconds after the end of a run in which its transcript is read to its end.
READ_WITHIN = 60_000

# Tasks of which the client reported the cost of every run have all their money in one place of the roll-up.
_WHOLE = """
WITH whole AS MATERIALIZED (
    SELECT task_id, sum(cost_usd) AS reported, max(finished_at) AS finished FROM runs
    WHERE task_id IN (SELECT task_id FROM runs WHERE started_at >= :start AND started_at < :end)
    GROUP BY task_id HAVING count(cost_usd) = count(*) AND max(started_at) < :end
)
SELECT whole.task_id, 0, reported, sum(r.cost), sum(r.unpriced), finished
FROM whole CROSS JOIN cost_rollup AS r ON r.dimension IN ('session', 'task') AND r.dimension = 'task'
                                       AND r.value = whole.task_id AND r.grain = 86400000
GROUP BY whole.task_id
"""

# Of the others (a run that was killed, or goes on) each run that has a figure is compared by itself: the messages from its
# beginning to that of the next.
_PARTS = """
WITH part AS MATERIALIZED (
    SELECT task_id, attempt, started_at, finished_at, cost_usd,
           lead(started_at) OVER (PARTITION BY task_id ORDER BY attempt) AS next
    FROM runs
    WHERE task_id IN (
        SELECT task_id FROM runs
        WHERE task_id IN (SELECT task_id FROM runs WHERE started_at >= :start AND started_at < :end)
        GROUP BY task_id HAVING count(cost_usd) BETWEEN 1 AND count(*) - 1 AND max(started_at) < :end
    )
)
SELECT part.task_id, part.attempt, part.cost_usd, sum(m.cost), sum(m.cost IS NULL), part.finished_at
FROM part
CROSS JOIN transcripts AS t ON t.task_id = part.task_id
CROSS JOIN messages AS m ON m.transcript_id = t.transcript_id AND m.timestamp >= part.started_at
                         AND m.timestamp < coalesce(part.next, 9223372036854775807)
WHERE part.cost_usd IS NOT NULL
GROUP BY part.task_id, part.attempt
"""


class Difference(TypedDict):
    task_id: str
    #: the run; null: all runs of the task together
    attempt: int | None
    #: dollars
    reported: float
    ours: float
    #: of ours above the client's, in percent of the client's; null: that is 0
    drift: float | None


class Reported(TypedDict):
    #: tasks, or single runs of such as have runs without a figure, that the client and we have a cost of
    compared: int
    #: dollars
    reported: float
    ours: float
    #: as in Difference, of the sums
    drift: float | None
    #: percent above which a difference is listed
    limit: float
    #: how many differ by more than that …
    beyond_limit: int
    #: … and the furthest of these
    beyond: list[Difference]
    #: tasks and runs that cannot be compared, as some of their messages have no price
    unpriced: int


def reported(query: Query, period: Period, limit: float, *, now: int) -> Reported:
    """Over the tasks whose latest run began in the period. Of one that has just ended (`now`, epoch milliseconds) the
    transcript may not be read to its end: when ours is the smaller figure then, it is left out until it can be judged.
    """
    span = {"start": period.start, "end": period.end}
    rows = [*query(_WHOLE, span), *query(_PARTS, span)]
    priced = [row for row in rows if not row[4]]
    judged = [
        (Difference(task_id=task, attempt=attempt or None, reported=theirs, ours=(cost or 0) / 1e12,
                    drift=drift(theirs, (cost or 0) / 1e12)), finished)
        for task, attempt, theirs, cost, _, finished in priced
    ]  # fmt: skip
    found = [one for one, finished in judged if not (_is_fresh(finished, now) and (one["drift"] or 0.0) < -limit)]
    far = sorted(filter(lambda one: _distance(one) > limit, found), key=lambda one: (-_distance(one), one["task_id"]))
    theirs, ours = math.fsum(one["reported"] for one in found), math.fsum(one["ours"] for one in found)
    return Reported(
        compared=len(found), reported=theirs, ours=ours, drift=drift(theirs, ours), limit=limit,
        beyond_limit=len(far), beyond=far[:MOST], unpriced=len(rows) - len(priced),
    )  # fmt: skip


def _is_fresh(finished: int | None, now: int) -> bool:
    return finished is not None and 0 <= now - finished < READ_WITHIN


def drift(theirs: float, ours: float) -> float | None:
    """How far `ours` is above `theirs`, in percent of `theirs`; None when that is 0."""
    return (ours - theirs) / theirs * 100 if theirs else None


def _distance(one: Difference) -> float:
    if one["drift"] is not None:
        return abs(one["drift"])
    return math.inf if one["ours"] else 0.0
