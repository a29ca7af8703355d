"""/v1/pool: how many agents work at once, what waits, and whether anything is started."""

from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, field_validator

from tasks.api.access import Ctx
from tasks.api.tasks import dispatcher
from tasks.runner import PoolState
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


class Size(BaseModel):
    model_config = ConfigDict(extra="forbid")

    total_workers: Annotated[int, Field(ge=1, le=1000)]


@router.get("/pool")
async def read_pool(ctx: Ctx) -> Pool:
    return _shown(dispatcher(ctx).pool())


@router.post("/pool/pause")
async def pause_pool(ctx: Ctx) -> Pool:
    """Start nothing more; what runs goes on."""
    await dispatcher(ctx).pause()
    return _shown(dispatcher(ctx).pool())


@router.post("/pool/resume")
async def resume_pool(ctx: Ctx) -> Pool:
    """Start tasks again."""
    await dispatcher(ctx).resume()
    return _shown(dispatcher(ctx).pool())


@router.post("/pool/resize")
async def resize_pool(ctx: Ctx, size: Size) -> Pool:
    """Let that many agents work at once; with fewer, those that run are not ended."""
    await dispatcher(ctx).resize(size.total_workers)
    return _shown(dispatcher(ctx).pool())


def _shown(state: PoolState) -> Pool:
    return Pool.model_validate(state)
