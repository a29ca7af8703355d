"""/v1/costs: what the agents cost, by local day and by what it was for.

Dollars are what the API charges for the tokens; on a subscription nobody is billed for them. Where `unpriced` is above 0,
some messages are of a model without a price, and the sum is the least that it can be.
"""

from collections.abc import Callable
from datetime import date
from typing import Annotated, TypeVar
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Depends, HTTPException, Query

from tasks.analytics.costs import CostsBy, DailyCosts, costs_by, daily_costs
from tasks.analytics.days import MOST_DAYS, Period, chosen_zone, period
from tasks.analytics.span import now_ms
from tasks.analytics.spending import CostSummary, ProjectedCosts, cost_summary, projection
from tasks.api.access import Ctx
from tasks.words import CostDimension

T = TypeVar("T")

router = APIRouter(prefix="/costs", tags=["costs"])

Days = Annotated[int | None, Query(ge=1, le=MOST_DAYS, description="the last days, today included (default: 30)")]
Since = Annotated[date | None, Query(description="first day, instead of days: YYYY-MM-DD")]
Until = Annotated[date | None, Query(description="last day (default: today)")]
Zone = Annotated[str | None, Query(max_length=128, description="IANA name (default: costs.zone of the config file)")]


def _zone(ctx: Ctx, zone: Zone = None) -> ZoneInfo:
    return _checked(lambda: chosen_zone(zone, ctx.settings.costs.zone))


ChosenZone = Annotated[ZoneInfo, Depends(_zone)]


def _period(zone: ChosenZone, days: Days = None, since: Since = None, until: Until = None) -> Period:
    return _checked(lambda: period(zone, now_ms(), days=days, since=since, until=until))


ChosenPeriod = Annotated[Period, Depends(_period)]


@router.get("")
async def read_costs(ctx: Ctx, chosen: ChosenPeriod) -> CostSummary:
    """A period at a glance, with today, yesterday, this month and where it leads."""
    limit = ctx.settings.costs.drift
    return await ctx.database.read(lambda reader: cost_summary(reader.query, chosen, now=now_ms(), drift_limit=limit))


@router.get("/daily")
async def read_daily_costs(ctx: Ctx, chosen: ChosenPeriod) -> list[DailyCosts]:
    """Every local day of the period, in order, also those without cost."""
    return await ctx.database.read(lambda reader: daily_costs(reader.query, chosen))


@router.get("/by/{dimension}")
async def read_costs_by(
    ctx: Ctx, chosen: ChosenPeriod, dimension: CostDimension, limit: Annotated[int, Query(ge=1, le=MOST_DAYS)] = 50
) -> CostsBy:
    """The costs of the period by model, project, session, task, agent type or workflow, the highest first; days in
    order, and all of them.
    """
    return await ctx.database.read(lambda reader: costs_by(reader.query, chosen, dimension, limit=limit))


@router.get("/projection")
async def read_projection(ctx: Ctx, zone: ChosenZone) -> ProjectedCosts:
    """What this month will have cost at its end."""
    return await ctx.database.read(lambda reader: projection(reader.query, zone, now=now_ms()))


def _checked(find: Callable[[], T]) -> T:
    try:
        return find()
    except ValueError as error:
        raise HTTPException(422, str(error)) from error
