"""What the agents cost: by day and by what they worked on, from cost_rollup. Exact in every time zone.

Dollars are what the API charges for the tokens; on a subscription nobody is billed for them. A message whose model has no
price adds its tokens and one to `unpriced`, never $0 to a sum that looks complete: where `unpriced` is above 0, `cost` is
the least that it can be.
"""

import json
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from datetime import date

from typing_extensions import TypedDict

from tasks.analytics.days import QUARTER, Day, Period, local_days
from tasks.analytics.missing import Missing, missing
from tasks.analytics.span import Query
from tasks.database import Row
from tasks.rollups import DAY, HOUR, cover, span_clause
from tasks.words import CostDimension

#: Picodollars in a dollar.
DOLLAR = 10**12

#: Slot lengths for everything but sessions and tasks.
GRAINS = (QUARTER, HOUR, 6 * HOUR, DAY)
#: cost_rollup has only these for sessions and tasks, of which there are many.
_COARSE_GRAINS = (QUARTER, DAY)
_COARSE = (CostDimension.SESSION, CostDimension.TASK)

_COLUMNS = (
    "messages", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens",
    "web_searches", "cost", "unpriced",
)  # fmt: skip
_SUMS = ", ".join(f"sum(r.{column})" for column in _COLUMNS)
_NOTHING = (0,) * len(_COLUMNS)

# One statement for all days. The spans come as JSON: ten years of days would be too long for the text of a statement.
_BY_DAY = f"""
WITH span (day, grain, first, last) AS MATERIALIZED (
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'), json_extract(value, '$[3]')
    FROM json_each(:spans)
)
SELECT span.day, r.model, {_SUMS}
FROM span CROSS JOIN cost_rollup AS r ON r.dimension = 'all' AND r.grain = span.grain
                                      AND r.slot BETWEEN span.first AND span.last
GROUP BY span.day, r.model
"""

_BY_VALUE = f"""
WITH span (grain, first, last) AS (VALUES {{span}})
SELECT r.{{column}}, {_SUMS}
FROM span CROSS JOIN cost_rollup AS r ON r.dimension = :dimension AND r.grain = span.grain
                                      AND r.slot BETWEEN span.first AND span.last
GROUP BY r.{{column}}
"""

# The first so many of many: all columns are summed for these only.
_RANKED = f"""
WITH span (grain, first, last) AS (VALUES {{span}}),
ranked AS MATERIALIZED (
    SELECT r.value, count(*) OVER () AS found
    FROM span CROSS JOIN cost_rollup AS r ON r.dimension = :dimension AND r.grain = span.grain
                                          AND r.slot BETWEEN span.first AND span.last
    GROUP BY r.value ORDER BY sum(r.cost) DESC, sum(r.messages) DESC, r.value LIMIT :limit
)
SELECT ranked.found, r.value, {_SUMS}
FROM ranked CROSS JOIN span
CROSS JOIN cost_rollup AS r ON r.dimension IN ('session', 'task') AND r.dimension = :dimension AND r.value = ranked.value
                            AND r.grain = span.grain AND r.slot BETWEEN span.first AND span.last
GROUP BY r.value
"""

_BEGUN = f"""
SELECT started_at / {QUARTER}, count(*) FROM runs
WHERE attempt = 1 AND started_at >= :start AND started_at < :end GROUP BY 1
"""

_UNPRICED = """
SELECT count(*), total(input_tokens), total(output_tokens), total(cache_read_tokens), total(cache_write_5m_tokens),
       total(cache_write_1h_tokens), total(web_searches)
FROM messages WHERE cost IS NULL AND model = :model AND timestamp >= :start AND timestamp < :end
"""

_LABELS = {
    CostDimension.TASK: "SELECT task_id, description FROM tasks WHERE task_id IN (SELECT value FROM json_each(:values))",
    CostDimension.SESSION: (
        "SELECT session_uuid, coalesce(cwd, '') FROM sessions WHERE session_uuid IN (SELECT value FROM json_each(:values))"
    ),
}


class Costs(TypedDict):
    #: dollars, of the priced messages
    cost: float
    messages: int
    #: of these, without a price: their tokens are counted, their cost is not
    unpriced: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    #: the sum of the next two
    cache_write_tokens: int
    cache_write_5m_tokens: int
    cache_write_1h_tokens: int
    web_searches: int


class DailyCosts(Costs):
    #: local, YYYY-MM-DD
    date: str
    #: whose first run began that day
    tasks: int


class CostsOf(Costs):
    #: the model, the folder of the project, the id …; an agent type '' is the main agent, a project '' not known
    value: str
    #: of `cost` in that of everything in the period; 0 where that is 0
    share: float
    #: what a task is about, the folder of a session
    label: str | None


class CostsBy(TypedDict):
    by: str
    zone: str
    #: first and last local day
    since: str
    until: str
    #: of everything, also of what has no value of this kind (a session without a task)
    total: Costs
    #: models with messages without a price
    unpriced_models: list[str]
    #: what the config has to tell before these have one
    missing: Missing
    rows: list[CostsOf]
    #: how many there are without `limit`
    found: int


#: day → model → sums in the order of _COLUMNS
Ledger = dict[date, dict[str, tuple[int, ...]]]


def daily_costs(query: Query, period: Period) -> list[DailyCosts]:
    """Every local day of the period, in order, also those without cost."""
    days = local_days(period.first, period.last, period.zone)
    return by_day(ledger(query, days), days, begun(query, days))


def costs_by(query: Query, period: Period, by: CostDimension, *, limit: int | None = None) -> CostsBy:
    """The costs of a period by model, project …, the highest first (of the same: the most messages); days in order, and all."""
    if limit is not None and limit < 1:
        raise ValueError(f"limit = {limit}: a number above 0 is needed")
    if by is CostDimension.DAY:
        return _costs_by_day(query, period)
    models = _by_value(query, period, CostDimension.MODEL)
    if by in _COARSE and limit is not None:
        found, rows = _ranked(query, period, by, limit)
    else:
        rows = models if by is CostDimension.MODEL else _by_value(query, period, by)
        found = len(rows)
    total = added(sums for _, sums in models)
    rows.sort(key=lambda row: (-row[1][-2], -row[1][0], row[0]))
    shown = rows[:limit]
    labels = _labels(query, by, [value for value, _ in shown])
    return CostsBy(
        **_head(query, period, by, total, models),
        rows=[
            CostsOf(value=value, share=share(sums, total), label=labels.get(value), **costs(sums))
            for value, sums in shown
        ],
        found=found,
    )


def ledger(query: Query, days: Sequence[Day]) -> Ledger:
    """The sums of each day, by model; days and models without messages are missing."""
    spans = [(number, *slots) for number, day in enumerate(days) for slots in cover(day.start, day.end - 1, GRAINS)[1]]
    found: Ledger = {}
    for number, model, *sums in query(_BY_DAY, {"spans": json.dumps(spans)}):
        found.setdefault(days[number].date, {})[model] = tuple(sums)
    return found


def begun(query: Query, days: Sequence[Day]) -> dict[date, int]:
    """How many tasks had their first run begin on which day. The days follow each other."""
    starts = [day.start for day in days]
    found: dict[date, int] = {}
    if days:
        for quarter, count in query(_BEGUN, {"start": days[0].start, "end": days[-1].end}):
            day = days[bisect_right(starts, quarter * QUARTER) - 1].date
            found[day] = found.get(day, 0) + count
    return found


def by_day(sums: Ledger, days: Iterable[Day], tasks: Mapping[date, int]) -> list[DailyCosts]:
    return [
        DailyCosts(
            date=day.date.isoformat(), tasks=tasks.get(day.date, 0), **costs(added(sums.get(day.date, {}).values()))
        )
        for day in days
    ]


def added(sums: Iterable[Sequence[int]]) -> tuple[int, ...]:
    return tuple(map(sum, zip(_NOTHING, *sums, strict=True)))


def costs(sums: Sequence[int]) -> Costs:
    messages, input_, output, read, write_5m, write_1h, searches, cost, unpriced = sums
    return Costs(
        cost=cost / DOLLAR, messages=messages, unpriced=unpriced, input_tokens=input_, output_tokens=output,
        cache_read_tokens=read, cache_write_tokens=write_5m + write_1h, cache_write_5m_tokens=write_5m,
        cache_write_1h_tokens=write_1h, web_searches=searches,
    )  # fmt: skip


def share(sums: Sequence[int], total: Sequence[int]) -> float:
    return sums[-2] / total[-2] if total[-2] else 0.0


def unpriced(
    query: Query, period: Period, models: Iterable[tuple[str, Sequence[int]]]
) -> list[tuple[str, tuple[int, ...]]]:
    """The sums of the messages without a price alone, by model, most messages first."""
    found = []
    for model, sums in models:
        if not sums[-1]:
            continue
        if sums[-1] < sums[0]:
            # The roll-ups do not tell those of one model with a price from those without.
            (row,) = query(_UNPRICED, {"model": model, "start": period.start, "end": period.end})
            sums = (*map(int, row), 0, int(row[0]))
        found.append((model, tuple(sums)))
    return sorted(found, key=lambda one: (-one[1][0], one[0]))


def _costs_by_day(query: Query, period: Period) -> CostsBy:
    days = local_days(period.first, period.last, period.zone)
    sums = ledger(query, days)
    totals = {day: added(models.values()) for day, models in sums.items()}
    total = added(totals.values())
    models: dict[str, tuple[int, ...]] = {}
    for of_day in sums.values():
        for model, one in of_day.items():
            models[model] = added((one, models.get(model, _NOTHING)))
    rows = [
        CostsOf(value=day.date.isoformat(), share=share(one, total), label=None, **costs(one))
        for day in days
        for one in (totals.get(day.date, _NOTHING),)
    ]
    return CostsBy(**_head(query, period, CostDimension.DAY, total, sorted(models.items())), rows=rows, found=len(rows))


class _Head(TypedDict):
    by: str
    zone: str
    since: str
    until: str
    total: Costs
    unpriced_models: list[str]
    missing: Missing


def _head(
    query: Query, period: Period, by: CostDimension, total: Sequence[int], models: Sequence[tuple[str, Sequence[int]]]
) -> _Head:
    return _Head(
        by=str(by), zone=period.zone.key or "", since=period.first.isoformat(), until=period.last.isoformat(),
        total=costs(total), unpriced_models=[model for model, sums in models if sums[-1]], missing=missing(query, models),
    )  # fmt: skip


def _by_value(query: Query, period: Period, by: CostDimension) -> list[tuple[str, tuple[int, ...]]]:
    _, slots = cover(period.start, period.end - 1, _COARSE_GRAINS if by in _COARSE else GRAINS)
    column, dimension = ("model", "all") if by is CostDimension.MODEL else ("value", str(by))
    rows: list[Row] = query(_BY_VALUE.format(span=span_clause(slots), column=column), {"dimension": dimension})
    return [(value, tuple(sums)) for value, *sums in rows]


def _ranked(
    query: Query, period: Period, by: CostDimension, limit: int
) -> tuple[int, list[tuple[str, tuple[int, ...]]]]:
    """How many there are, and the first `limit` of them."""
    _, slots = cover(period.start, period.end - 1, _COARSE_GRAINS)
    rows = query(_RANKED.format(span=span_clause(slots)), {"dimension": str(by), "limit": limit})
    return rows[0][0] if rows else 0, [(value, tuple(sums)) for _, value, *sums in rows]


def _labels(query: Query, by: CostDimension, values: Sequence[str]) -> dict[str, str]:
    statement = _LABELS.get(by)
    return dict(map(tuple, query(statement, {"values": json.dumps(values)}))) if statement and values else {}
