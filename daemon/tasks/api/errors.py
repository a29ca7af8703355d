"""/v1/errors: why calls failed."""

import time
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from tasks import history
from tasks.analytics import error_rates
from tasks.api.access import Ctx
from tasks.rollups import DAY
from tasks.words import ErrorCategory

router = APIRouter(tags=["statistics"])


class FailedCall(BaseModel):
    #: epoch milliseconds
    timestamp: int
    session_uuid: str | None
    task_id: str | None
    agent_id: str | None
    tool_name: str
    error_category: str
    error: str | None
    parameters: str | None


@router.get("/errors")
async def read_errors(ctx: Ctx, days: Annotated[float, Query(gt=0, le=3660)] = 7) -> dict[str, int]:
    """Failed calls by category over the last `days`, the most frequent first."""
    now = time.time_ns() // 1_000_000
    return await ctx.database.read(lambda reader: error_rates(reader.query, since=now - round(days * DAY)))


@router.get("/errors/recent")
async def read_recent_errors(
    ctx: Ctx,
    category: ErrorCategory | None = None,
    tool: str | None = None,
    days: Annotated[float | None, Query(gt=0, le=3660)] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> list[FailedCall]:
    """The latest failed calls, newest first; with `days`, only those of that time."""
    since = None if days is None else time.time_ns() // 1_000_000 - round(days * DAY)
    found = await ctx.database.read(
        lambda reader: history.failures(reader.query, since=since, category=category, tool=tool, limit=limit)
    )
    return [FailedCall(**one) for one in found]
