"""`tasksd costs`: what the agents cost, when and on what."""

import json
import re
from importlib import import_module
from typing import Any

import click

from tasks.cli import asking, questions
from tasks.cli.output import emit
from tasks.cli.questions import Question
from tasks.config import Settings
from tasks.errors import EXIT_OK, ApiError, DaemonNotRunning
from tasks.text import csv_text
from tasks.words import CostDimension

#: As in the API.
MOST_DAYS = 3660

_FIGURES = (
    "cost", "messages", "unpriced", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens",
    "cache_write_5m_tokens", "cache_write_1h_tokens", "web_searches",
)  # fmt: skip
#: Words of --by that the API has other ones for.
_DIMENSIONS = {"agent": "agent_type"} | {
    str(one): str(one) for one in CostDimension if one is not CostDimension.AGENT_TYPE
}


class _Costs(click.Group):
    """Commands in modules of their own, loaded when they are used."""

    commands_in = {"reprice": "tasks.cli.reprice"}  # noqa: RUF012  (click's classes declare their attributes so)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands_in)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = self.commands_in.get(cmd_name)
        return None if module is None else getattr(import_module(module), cmd_name)


def _day(_: click.Context, option: click.Parameter, value: str | None) -> str | None:
    if value is not None and not re.fullmatch(r"\d{4}-\d\d-\d\d", value, re.ASCII):
        raise click.BadParameter(f"{value!r} is no day; write one as 2025-10-22", param=option)
    return value


@click.group(cls=_Costs, invoke_without_command=True)
@click.option("--by", type=click.Choice(sorted(_DIMENSIONS)), help="Divided by this, the most expensive first.")
@click.option("--days", type=click.IntRange(1, MOST_DAYS), help="The last days, today included (default: 30).")
@click.option("--since", metavar="DAY", callback=_day, help="From this day on, instead of --days.")
@click.option("--until", metavar="DAY", callback=_day, help="Up to this day (default: today).")
@click.option(
    "--zone", metavar="NAME", help="Days of this IANA zone (default: costs.zone of the config, or the machine's)."
)
@click.option(
    "--limit", type=click.IntRange(1, MOST_DAYS), help=f"Rows of --by (default: {questions.LIMIT}; days are all shown)."
)
@click.option("--json", "as_json", is_flag=True, help="Exactly the API's JSON.")
@click.option("--csv", "as_csv", is_flag=True, help="The rows of --by, else the days, for a spreadsheet.")
@click.pass_context
def costs(
    context: click.Context,
    by: str | None,
    days: int | None,
    since: str | None,
    until: str | None,
    zone: str | None,
    limit: int | None,
    as_json: bool,
    as_csv: bool,
) -> int:
    """What the agents cost: today, this month and where it leads, by day, model, project, task …

    Dollars are what the API charges for the tokens; a subscription is not billed by them. Models without a price are named,
    and sums that lack them marked as the least that they can be.
    """
    if context.invoked_subcommand is not None:
        return EXIT_OK
    _check(by, days, since, limit, as_json, as_csv)
    question = questions.costs(
        by=_DIMENSIONS[by] if by else None, days=None if days is None else str(days), since=since, until=until, zone=zone,
        limit=None if limit is None else str(limit),
    )  # fmt: skip
    settings = asking.settings_for(context.obj)
    try:
        body = asking.client_for(settings).fetch(question.target)
    except DaemonNotRunning as error:
        body = _from_file(question, settings, context.obj)
        asking.say_offline(error, settings)
    if as_csv:
        emit(_csv(json.loads(body), by))
    else:
        asking.print_answer(question, body, as_json=as_json)
    return EXIT_OK


def _check(by: str | None, days: int | None, since: str | None, limit: int | None, as_json: bool, as_csv: bool) -> None:
    if days is not None and since is not None:
        raise click.UsageError("--days and --since are two ways to say the same: give one of them")
    if limit is not None and by is None:
        raise click.UsageError("--limit is for --by")
    if as_json and as_csv:
        raise click.UsageError("--json and --csv are two ways to print: give one of them")


def _csv(answer: Any, by: str | None) -> str:
    if by is None:
        return csv_text(answer["daily"], ["date", *_FIGURES, "tasks"])
    rows = [{by: one["value"], **one} for one in answer["rows"]]
    label = ["label"] if by in ("task", "session") else []
    return csv_text(rows, [by, *_FIGURES, "share", *label])


def _from_file(question: Question, settings: Settings, data_dir: str | None) -> bytes:
    """The API's answer, from the database file."""
    from tasks import config
    from tasks.analytics import days, span, spending
    from tasks.analytics.costs import costs_by
    from tasks.cli import offline

    # Readers go without the config file wherever they can; here it says whose days are meant.
    configured = config.load(data_dir=data_dir).costs
    by, limit, now = question.values["by"], question.values["limit"], span.now_ms()
    try:
        zone = days.chosen_zone(question.values["zone"], configured.zone)
        chosen = days.period(zone, now, **{name: question.values[name] for name in ("days", "since", "until")})
    except ValueError as error:
        raise ApiError(str(error)) from error
    with offline.reading(settings) as reader:
        if by is None:
            return offline.dumps(spending.cost_summary(reader.query, chosen, now=now, drift_limit=configured.drift))
        return offline.dumps(costs_by(reader.query, chosen, CostDimension(by), limit=limit))
