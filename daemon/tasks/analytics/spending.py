"""The money at a glance: a period with today, this month, where it leads, and what to make of the figures."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from zoneinfo import ZoneInfo

from typing_extensions import TypedDict

from tasks import forecast
from tasks.analytics.costs import (
    DOLLAR,
    GRAINS,
    Costs,
    DailyCosts,
    Ledger,
    added,
    begun,
    by_day,
    costs,
    ledger,
    share,
    unpriced,
)
from tasks.analytics.days import QUARTER, Day, Period, local_days, today
from tasks.analytics.drift import Reported, reported
from tasks.analytics.missing import Missing, missing
from tasks.analytics.span import Query
from tasks.rollups import DAY, HOUR, cover

#: Days before today that a projection looks at.
HISTORY = 90
#: How often the sum of a month is to lie within the interval of its projection.
COVERAGE = 0.8

# The last stretches of time, to the millisecond: their quarter hours, and the messages before the first of these.
_RECENT = """
WITH span (stretch, grain, first, last) AS MATERIALIZED (
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'), json_extract(value, '$[3]')
    FROM json_each(:spans)
), edge (stretch, since, start) AS MATERIALIZED (
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]') FROM json_each(:edges)
)
SELECT stretch, sum(cost), sum(unpriced) FROM (
    SELECT span.stretch, r.cost, r.unpriced
    FROM span CROSS JOIN cost_rollup AS r
        ON r.dimension = 'all' AND r.grain = span.grain AND r.slot BETWEEN span.first AND span.last
    UNION ALL
    SELECT edge.stretch, coalesce(m.cost, 0), m.cost IS NULL
    FROM edge CROSS JOIN messages AS m ON m.timestamp >= edge.since AND m.timestamp < edge.start
) GROUP BY stretch
"""

# The price of the latest priced message of a model.
_LATEST_PRICE = f"""
WITH latest (slot) AS MATERIALIZED (
    SELECT slot FROM cost_rollup
    WHERE dimension = 'all' AND grain = {QUARTER} AND slot >= :start / {QUARTER} AND slot < :end / {QUARTER}
          AND model = :model AND messages > unpriced
    ORDER BY slot DESC LIMIT 1
)
SELECT p.input - p.cache_read, p.input - p.cache_write_5m, p.input - p.cache_write_1h
FROM latest CROSS JOIN messages AS m ON m.timestamp >= slot * {QUARTER} AND m.timestamp < (slot + 1) * {QUARTER}
            CROSS JOIN prices AS p ON p.price_id = m.price_id
WHERE m.model = :model
LIMIT 1
"""


class ModelCosts(Costs):
    model: str
    #: of `cost` in that of everything in the period; 0 where that is 0
    share: float


class UnpricedModel(Costs):
    """The messages without a price alone; `cost` is 0 because it is not known."""

    model: str


class ProjectedCosts(TypedDict):
    """Dollars; a month of the zone."""

    zone: str
    #: first and last day of the month
    since: str
    until: str
    #: so far
    spent: float
    #: at the end of the month, and the interval that it lies in with a probability of `coverage`
    estimate: float
    low: float
    high: float
    coverage: float
    #: a day, as things are going
    burn_per_day: float
    #: how the estimate is made
    method: str
    #: messages of this month without a price: what they cost comes on top
    unpriced: int


class UnpricedRecently(TypedDict):
    """Messages without a price in the same stretches of time."""

    last_hour: int
    last_24_hours: int
    per_day: int


class BurnRate(TypedDict):
    """Dollars spent in the last stretches of time, to the millisecond."""

    last_hour: float
    last_24_hours: float
    #: a day, over the last seven times 24 hours
    per_day: float
    unpriced: UnpricedRecently


class CostSummary(TypedDict):
    zone: str
    #: first and last local day of the period that `total`, `models`, `daily`, `unpriced_models` and `reported` are of
    since: str
    until: str
    total: Costs
    #: these three are of now, whatever the period
    today: Costs
    yesterday: Costs
    month: Costs
    #: the most expensive first
    models: list[ModelCosts]
    #: every day, in order
    daily: list[DailyCosts]
    #: models with messages without a price, the most messages first
    unpriced_models: list[UnpricedModel]
    #: what the config has to tell before these have one
    missing: Missing
    #: about what the cached tokens would have cost more as plain input, writing them counted in: at the latest price of
    #: each model, without the models that have none; null: none has
    cache_savings: float | None
    projection: ProjectedCosts
    burn_rate: BurnRate
    reported: Reported


def cost_summary(query: Query, period: Period, *, now: int, drift_limit: float) -> CostSummary:
    recent = _recent(query, period.zone, now, first=period.first, last=period.last)
    days = [day for day in recent.days if period.first <= day.date <= period.last]
    tasks = begun(query, days)
    models = _models(recent.sums[day.date] for day in days if day.date in recent.sums)
    total = added(models.values())
    ranked = sorted(models.items(), key=lambda one: (-one[1][-2], -one[1][0], one[0]))
    return CostSummary(
        zone=period.zone.key or "", since=period.first.isoformat(), until=period.last.isoformat(), total=costs(total),
        today=costs(recent.of(recent.today)), yesterday=costs(recent.of(recent.yesterday)),
        month=costs(recent.of_month()),
        models=[ModelCosts(model=model, share=share(sums, total), **costs(sums)) for model, sums in ranked],
        daily=by_day(recent.sums, days, tasks),
        unpriced_models=[UnpricedModel(model=model, **costs(sums)) for model, sums in unpriced(query, period, ranked)],
        missing=missing(query, ranked),
        cache_savings=_cache_savings(query, period, models),
        projection=_projection(recent, period.zone), burn_rate=burn_rate(query, now=now),
        reported=reported(query, period, drift_limit, now=now),
    )  # fmt: skip


def projection(query: Query, zone: ZoneInfo, *, now: int) -> ProjectedCosts:
    """What this month of the zone will have cost at its end; `tasks.forecast` says how."""
    current = today(zone, now)
    return _projection(_recent(query, zone, now, first=current, last=current), zone)


def burn_rate(query: Query, *, now: int) -> BurnRate:
    spans, edges = [], []
    for stretch, length in enumerate((HOUR, DAY, 7 * DAY)):
        start, slots = cover(now - length, now, GRAINS)
        spans += [(stretch, *one) for one in slots]
        edges.append((stretch, now - length, start))
    rows = query(_RECENT, {"spans": json.dumps(spans), "edges": json.dumps(edges)})
    found = {stretch: (cost, missing) for stretch, cost, missing in rows}
    hour, day, week = (found.get(stretch, (0, 0)) for stretch in range(3))
    return BurnRate(
        last_hour=hour[0] / DOLLAR, last_24_hours=day[0] / DOLLAR, per_day=week[0] / DOLLAR / 7,
        unpriced=UnpricedRecently(last_hour=hour[1], last_24_hours=day[1], per_day=week[1]),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Recent:
    """Days of a period, and those that a projection needs, in order."""

    days: list[Day]
    sums: Ledger
    today: date
    yesterday: date
    #: how much of today is over, 0 to 1
    elapsed: float

    def of(self, day: date) -> tuple[int, ...]:
        return added(self.sums.get(day, {}).values())

    def of_month(self) -> tuple[int, ...]:
        first = self.today.replace(day=1)
        return added(
            sums for day, models in self.sums.items() if first <= day <= self.today for sums in models.values()
        )


def _recent(query: Query, zone: ZoneInfo, now: int, *, first: date, last: date) -> _Recent:
    current = today(zone, now)
    past = local_days(current - timedelta(days=HISTORY), current, zone)
    days = {day.date: day for day in (*local_days(first, last, zone), *past)}
    ordered = [days[day] for day in sorted(days)]
    elapsed = (now - past[-1].start) / (past[-1].end - past[-1].start)
    return _Recent(ordered, ledger(query, ordered), current, past[-2].date, elapsed)


def _projection(recent: _Recent, zone: ZoneInfo) -> ProjectedCosts:
    start = recent.today - timedelta(days=HISTORY)
    daily = [(day.date, recent.of(day.date)) for day in recent.days if start <= day.date <= recent.today]
    # Days before the first message say nothing about those to come.
    while len(daily) > 1 and not daily[0][1][0]:
        del daily[0]
    month = recent.today.replace(day=1)
    last = (month + timedelta(days=32)).replace(day=1) - timedelta(days=1)
    found = forecast.project(
        [(day, sums[-2] / DOLLAR) for day, sums in daily], recent.today, last, coverage=COVERAGE, elapsed=recent.elapsed
    )
    return ProjectedCosts(
        zone=zone.key or "", since=month.isoformat(), until=last.isoformat(), spent=found.spent,
        estimate=found.estimate, low=found.low, high=found.high, coverage=COVERAGE, burn_per_day=found.burn_per_day,
        method=found.method, unpriced=recent.of_month()[-1],
    )  # fmt: skip


def _models(days: Iterable[Mapping[str, Sequence[int]]]) -> dict[str, tuple[int, ...]]:
    found: dict[str, list[Sequence[int]]] = {}
    for models in days:
        for model, sums in models.items():
            found.setdefault(model, []).append(sums)
    return {model: added(sums) for model, sums in found.items()}


def _cache_savings(query: Query, period: Period, models: Mapping[str, Sequence[int]]) -> float | None:
    prices = []
    for model, (_, _, _, read, write_5m, write_1h, *_) in models.items():
        if read or write_5m or write_1h:
            found = query(_LATEST_PRICE, {"model": model, "start": period.start, "end": period.end})
            prices += [read * by_read + write_5m * by_5m + write_1h * by_1h for by_read, by_5m, by_1h in found]
    return sum(prices) / DOLLAR if prices else None
