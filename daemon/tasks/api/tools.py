"""/v1/tools: what the calls of each tool add up to."""

import time
from typing import Annotated

from fastapi import APIRouter, Query

from tasks.api.access import Ctx
from tasks.rollups import HOUR
from tasks.tracker import ToolStats, tool_stats

router = APIRouter(tags=["statistics"])


@router.get("/tools")
async def read_tools(ctx: Ctx, hours: Annotated[float, Query(gt=0, le=24 * 366 * 10)] = 24) -> dict[str, ToolStats]:
    """Statistics by tool over the last `hours`, the most used first."""
    now = time.time_ns() // 1_000_000
    return await ctx.database.read(lambda reader: tool_stats(reader.query, since=now - round(hours * HOUR)))
