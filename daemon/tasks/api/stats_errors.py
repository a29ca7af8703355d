"""/v1/stats/errors/…: why calls failed, by what, which kinds of errors there are, and how that changes."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from tasks.analytics import errors
from tasks.analytics.days import chosen_zone, period
from tasks.analytics.errors import By, DailyErrors, ErrorKind, FailureRate
from tasks.analytics.span import now_ms
from tasks.api.access import Ctx
from tasks.api.span import Since
from tasks.words import ErrorCategory

router = APIRouter(prefix="/stats/errors", tags=["statistics"])


class ErrorStats(BaseModel):
    #: category → failed calls, the most frequent first
    categories: dict[str, int]
    #: calls and failures by tool, the one with most failures first
    tools: list[FailureRate]
    #: the kinds of errors with the most calls
    kinds: list[ErrorKind]


@router.get("")
async def read_errors(ctx: Ctx, since: Since, limit: Annotated[int, Query(ge=1, le=200)] = 20) -> ErrorStats:
    """Failed calls by category and by tool, and the most frequent kinds of errors."""
    categories = await ctx.database.read(lambda reader: errors.error_rates(reader.query, since=since))
    tools = await ctx.database.read(lambda reader: errors.failure_rates(reader.query, "tool", since=since))
    kinds = await ctx.database.read(lambda reader: errors.error_kinds(reader.query, since=since, limit=limit))
    return ErrorStats(categories=categories, tools=tools, kinds=kinds)


@router.get("/by/{dimension}")
async def read_errors_by(ctx: Ctx, dimension: By, since: Since) -> list[FailureRate]:
    """Calls and failures by category, tool, type of agent, workflow or model; the one with most failures first.

    Of a category, `calls` are all calls.
    """
    return await ctx.database.read(lambda reader: errors.failure_rates(reader.query, dimension, since=since))


@router.get("/kinds")
async def read_error_kinds(
    ctx: Ctx,
    since: Since,
    tool: Annotated[str | None, Query(max_length=256)] = None,
    category: ErrorCategory | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 20,
) -> list[ErrorKind]:
    """The kinds of errors with the most calls: what was said, without paths, numbers and ids, and when.

    `trend` compares the last third of the span (of at most 30 days) with the rest of it: beyond two standard deviations it
    is rising or falling; new: first seen in that third. `daily` are calls by day (UTC), at most the last 90.
    """
    return await ctx.database.read(
        lambda reader: errors.error_kinds(reader.query, since=since, limit=limit, tool=tool, category=category)
    )


@router.get("/daily")
async def read_daily_errors(
    ctx: Ctx, days: Annotated[int, Query(ge=1, le=3660, description="local days, today included")] = 30
) -> list[DailyErrors]:
    """Calls, failures and their categories by local day (the zone of costs), in order."""
    chosen = period(chosen_zone(None, ctx.settings.costs.zone), now_ms(), days=days)
    return await ctx.database.read(lambda reader: errors.error_trend(reader.query, chosen))
