"""What each model cost each day, from cost_rollup. Exact in every time zone."""

from typing_extensions import TypedDict

from tasks.analytics.costs import Costs, costs, ledger
from tasks.analytics.days import Period, local_days
from tasks.analytics.span import Query


class DailyModels(TypedDict):
    #: local, YYYY-MM-DD
    date: str
    #: model → its sums of that day; models without messages are missing
    models: dict[str, Costs]


def daily_models(query: Query, period: Period) -> list[DailyModels]:
    """Every local day of the period, in order, also those without cost."""
    days = local_days(period.first, period.last, period.zone)
    sums = ledger(query, days)
    return [
        DailyModels(
            date=day.date.isoformat(),
            models={model: costs(one) for model, one in sorted(sums.get(day.date, {}).items())},
        )
        for day in days
    ]
