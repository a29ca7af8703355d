"""The span of time that a statistic is about: `days` or `hours` back from now, to the millisecond."""

from typing import Annotated

from fastapi import Depends, HTTPException, Query

from tasks import analytics

#: Days when neither is said.
DAYS = 7.0

Days = Annotated[float | None, Query(gt=0, le=3660, description=f"the last days (default: {DAYS:g})")]
Hours = Annotated[float | None, Query(gt=0, le=24 * 3660, description="the last hours, instead of days")]


async def _since(days: Days = None, hours: Hours = None) -> int:
    if days is not None and hours is not None:
        raise HTTPException(422, "days and hours are two ways to say the same: give one of them")
    return analytics.since(days=DAYS if days is None and hours is None else days, hours=hours)


#: Epoch milliseconds of where the span begins.
Since = Annotated[int, Depends(_since)]
