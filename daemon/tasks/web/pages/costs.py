"""Costs: today, this month and where it leads; by day and model, and by what it was for; what to make of the figures."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from markupsafe import Markup

from tasks.analytics.costs import Costs, CostsBy, DailyCosts, costs_by, daily_costs
from tasks.analytics.dailymodels import DailyModels, daily_models
from tasks.analytics.days import Period, chosen_zone, period, today
from tasks.analytics.span import now_ms, since
from tasks.analytics.spending import CostSummary, ProjectedCosts, cost_summary
from tasks.analytics.tasks import TaskStats, task_stats
from tasks.web.charts import Ahead, Day, columns
from tasks.web.frame import Data, Look, Page
from tasks.web.kept import Kept
from tasks.web.scales import plain
from tasks.web.shown import money
from tasks.web.tables import Table
from tasks.words import CostDimension

DAYS = (30, 7, 90)
#: What the money is divided by → how that is called.
DIMENSIONS = {
    "model": "Model", "project": "Project", "session": "Session", "task": "Task", "agent_type": "Agent type",
    "workflow": "Workflow",
}  # fmt: skip
#: What an empty name means.
NAMELESS = {"agent_type": "(main agent)", "project": "(not known)", "model": "(no name)"}
#: Models drawn by themselves; rows of a table, and of a CSV file.
MODELS, ROWS, CSV_ROWS = 5, 50, 10_000

_SUMS = (
    "cost", "messages", "unpriced", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_5m_tokens",
    "cache_write_1h_tokens", "web_searches",
)  # fmt: skip

_summaries: Kept[CostSummary] = Kept(5.0)
_dailies: Kept[list[DailyModels]] = Kept(5.0)
_months: Kept[list[DailyCosts]] = Kept(5.0)
_divided: Kept[CostsBy] = Kept(5.0)
_tasks: Kept[TaskStats] = Kept(30.0)


async def load(look: Look) -> Data:
    days, by = _days(look), look.choice("by", tuple(DIMENSIONS))
    where, read = look.ctx.settings.database_file, look.ctx.database.read
    now, drift = now_ms(), look.ctx.settings.costs.drift
    chosen = _period(look)
    zone = chosen.zone
    month = period(zone, now, since=today(zone, now).replace(day=1))
    summary = await _summaries.get(
        (where, days), lambda: read(lambda reader: cost_summary(reader.query, chosen, now=now, drift_limit=drift))
    )
    daily = await _dailies.get((where, days), lambda: read(lambda reader: daily_models(reader.query, chosen)))
    of_month = await _months.get(where, lambda: read(lambda reader: daily_costs(reader.query, month)))
    return {
        "days": days,
        "by": by,
        "dimensions": DIMENSIONS,
        "nameless": NAMELESS,
        "summary": summary,
        "chart": by_model(daily, summary, today(zone, now)),
        "daily": summary["daily"],
        "month": until_its_end(of_month, summary["projection"]),
        "divided": await _divided.get(
            (where, days, by),
            lambda: read(lambda reader: costs_by(reader.query, chosen, CostDimension(by), limit=ROWS)),
        ),
        "tasks": await _tasks.get(
            (where, days), lambda: read(lambda reader: task_stats(reader.query, since=since(days=days)))
        ),
        "spent": spent,
    }


def by_model(daily: Sequence[DailyModels], summary: CostSummary, now: date) -> Markup:
    """The days, the models that cost the most by themselves and the others together."""
    ranked = [one["model"] for one in summary["models"] if one["cost"]]
    # Five and a sixth one: the last colour is that of the others.
    named = ranked if len(ranked) <= MODELS + 1 else ranked[:MODELS]
    rest = len(ranked) - len(named)
    series = [model or NAMELESS["model"] for model in named] + ([f"{rest} others"] if rest else [])
    return columns(
        "by-day",
        f"Dollars by day, {summary['since']} to {summary['until']}",
        [_day(one, named, has_rest=rest > 0) for one in daily],
        series=series,
        tell=money,
        tick=lambda value: f"${plain(value)}",
        today=now.isoformat(),
    )


def _day(one: DailyModels, named: Sequence[str], *, has_rest: bool) -> Day:
    models = one["models"]
    values = [models[model]["cost"] if model in models else 0.0 for model in named]
    if has_rest:
        values.append(sum(sums["cost"] for model, sums in models.items() if model not in named))
    unpriced = sum(sums["unpriced"] for sums in models.values())
    return Day(one["date"], tuple(values), f"{unpriced:,} unpriced" if unpriced else "")


def until_its_end(of_month: Sequence[DailyCosts], projection: ProjectedCosts) -> Markup:
    """The sum of this month as it grows, and straight on to what is expected of its last day."""
    done, total = [], 0.0
    for one in of_month:
        total += one["cost"]
        done.append(Day(one["date"], (total,), f"{money(one['cost'])} that day"))
    now, last = date.fromisoformat(of_month[-1]["date"]), date.fromisoformat(projection["until"])
    left = (last - now).days
    ahead = [
        Ahead(
            (now + timedelta(days=number)).isoformat(),
            *(total + (projection[key] - total) * number / left for key in ("low", "estimate", "high")),
        )
        for number in range(1, left + 1)
    ]
    return columns(
        "month",
        f"Dollars of this month up to each day, and projected to {projection['until']}",
        done,
        tell=money,
        tick=lambda value: f"${plain(value)}",
        today=now.isoformat(),
        ahead=ahead,
    )


def spent(one: Mapping[str, Any]) -> str:
    """A sum of money; where messages without a price are missing from it, that it is the least that it can be."""
    if one["unpriced"] and one["unpriced"] == one["messages"]:
        return "unpriced"
    return ("≥ " if one["unpriced"] else "") + money(one["cost"])


def _days(look: Look) -> int:
    return int(look.choice("days", tuple(map(str, DAYS))))


def _period(look: Look) -> Period:
    return period(chosen_zone(None, look.ctx.settings.costs.zone), now_ms(), days=_days(look))


async def _csv_days(look: Look) -> Iterable[Mapping[str, object]]:
    chosen = _period(look)
    return await look.ctx.database.read(lambda reader: daily_costs(reader.query, chosen))


async def _csv_models(look: Look) -> Iterable[Mapping[str, object]]:
    chosen = _period(look)
    found = await look.ctx.database.read(lambda reader: daily_models(reader.query, chosen))
    return [_row(one["date"], model, sums) for one in found for model, sums in one["models"].items()]


def _row(day: str, model: str, sums: Costs) -> dict[str, object]:
    return {"date": day, "model": model, **sums}


async def _csv_by(look: Look) -> Iterable[Mapping[str, object]]:
    chosen, by = _period(look), CostDimension(look.choice("by", tuple(DIMENSIONS)))
    found = await look.ctx.database.read(lambda reader: costs_by(reader.query, chosen, by, limit=CSV_ROWS))
    return found["rows"]


PAGES = (Page("/costs", "costs", "Costs", load, ("figures", "unpriced", "daily", "month", "facts", "by")),)
TABLES = (
    Table("/costs.csv", ("date", *_SUMS, "tasks"), _csv_days),
    Table("/costs/models.csv", ("date", "model", *_SUMS), _csv_models),
    Table("/costs/by.csv", ("value", "label", "share", *_SUMS), _csv_by),
)
