"""/v1/errors: why calls failed."""

import time
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from tasks.analytics import DAY, error_rates
from tasks.api.access import Ctx
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
    return await ctx.database.read(lambda reader: error_rates(reader.query, since=now - round(days * DAY), until=now))


@router.get("/errors/recent")
async def read_recent_errors(
    ctx: Ctx,
    category: ErrorCategory | None = None,
    tool: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> list[FailedCall]:
    """The latest failed calls, newest first."""
    rows = await ctx.database.query(
        f"SELECT {', '.join(FailedCall.model_fields)} FROM tool_usage WHERE success = 0"
        " AND (:category IS NULL OR error_category = :category) AND (:tool IS NULL OR tool_name = :tool)"
        " ORDER BY timestamp DESC LIMIT :limit",
        {"category": category, "tool": tool, "limit": limit},
    )
    return [FailedCall(**dict(zip(FailedCall.model_fields, row, strict=True))) for row in rows]
