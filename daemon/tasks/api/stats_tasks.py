"""/v1/stats/tasks: what became of the tasks handed over: success, failures, durations, retries, merges, money."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from tasks.analytics import since as since_of
from tasks.analytics import tasks
from tasks.analytics.tasks import By, TaskGroup, TaskStats
from tasks.api.access import Ctx

router = APIRouter(prefix="/stats/tasks", tags=["statistics"])


async def _since(
    days: Annotated[float, Query(gt=0, le=3660, description="tasks that were handed over in the last days")] = 30,
) -> int:
    return since_of(days=days)


Since = Annotated[int, Depends(_since)]


@router.get("")
async def read_tasks(ctx: Ctx, since: Since) -> TaskStats:
    """Of all tasks that were handed over in the span. Times in seconds, money in dollars.

    The money of a task is what its transcripts add up to; where there are none (`reported_only` tasks), what the client
    reported. `unpriced` counts answers of models without a price: where it is above 0, `cost_usd` is the least that it can be.
    """
    return await ctx.database.read(lambda reader: tasks.task_stats(reader.query, since=since))


@router.get("/by/{dimension}")
async def read_tasks_by(ctx: Ctx, dimension: By, since: Since) -> list[TaskGroup]:
    """The same for the tasks of each workflow, type of agent or model; the one with the most tasks first."""
    return await ctx.database.read(lambda reader: tasks.task_groups(reader.query, dimension, since=since))
