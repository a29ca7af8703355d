"""/v1/pool: how many agents work at once, what waits, and whether anything is started."""

import time
from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, field_validator

from tasks import history
from tasks.api.access import Ctx
from tasks.api.context import Context
from tasks.api.tasks import dispatcher
from tasks.words import TaskPriority

router = APIRouter(tags=["pool"])


class WaitingTask(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    task_id: str
    priority: Literal["high", "normal", "low"]
    #: from 1
    position: int
    reason: str | None

    @field_validator("priority", mode="before")
    @classmethod
    def _in_words(cls, value: object) -> object:
        return TaskPriority(value).name.lower() if isinstance(value, int) else value


class HeldTask(BaseModel):
    task_id: str
    priority: Literal["high", "normal", "low"]
    reason: str | None
    #: when that is looked at again, epoch milliseconds
    until: int


class PoolSummary(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    #: agents at work at once, at most
    total_workers: int
    active_workers: int
    queued_tasks: int
    #: tasks that may wait
    queue_size: int
    paused: bool
    #: why nothing is started, and until when (epoch milliseconds)
    hold_reason: str | None
    hold_until: int | None


class Pool(PoolSummary):
    #: in the order in which they start
    waiting: list[WaitingTask]
    #: tasks that do not count as waiting: something of their own keeps them, such as a dirty workspace
    held: list[HeldTask] = []


class Size(BaseModel):
    model_config = ConfigDict(extra="forbid")

    total_workers: Annotated[int, Field(ge=1, le=1000)]


@router.get("/pool")
async def read_pool(ctx: Ctx) -> Pool:
    return await _shown(ctx)


@router.post("/pool/pause")
async def pause_pool(ctx: Ctx) -> Pool:
    """Start nothing more; what runs goes on."""
    await dispatcher(ctx).pause()
    return await _shown(ctx)


@router.post("/pool/resume")
async def resume_pool(ctx: Ctx) -> Pool:
    """Start tasks again."""
    await dispatcher(ctx).resume()
    return await _shown(ctx)


@router.post("/pool/resize")
async def resize_pool(ctx: Ctx, size: Size) -> Pool:
    """Let that many agents work at once; with fewer, those that run are not ended."""
    await dispatcher(ctx).resize(size.total_workers)
    return await _shown(ctx)


async def _shown(ctx: Context) -> Pool:
    pool = Pool.model_validate(dispatcher(ctx).pool())
    now, in_line = time.time_ns() // 1_000_000, {one.task_id for one in pool.waiting}
    held = await ctx.database.read(lambda reader: history.held(reader.query, now=now))
    pool.held = [HeldTask(**one) for one in held if one["task_id"] not in in_line]
    return pool
