"""`tasksd stats errors` and `tasksd stats tasks`: where agents fail, and what became of the work handed over."""

from typing import Any

import click

from tasks.cli import figures, workviews
from tasks.cli.figures import Figures, Query, SpanOf
from tasks.cli.readers import Span
from tasks.client import target
from tasks.config import Settings
from tasks.words import ErrorCategory

#: Days of tasks unless another span is asked for; as in the API.
TASK_DAYS = 30.0

KIND_COLUMNS = (
    "fingerprint", "tool_name", "error_category", "message", "calls", "share", "trend", "first_seen", "last_seen",
    "session_uuid", "daily_from", "daily",
)  # fmt: skip
RATE_COLUMNS = ("value", "calls", "failures", "rate", "share")
TASK_COLUMNS = (
    "tasks", "completed", "failed", "stopped", "success_rate", "duration_p50_s", "duration_p95_s", "running_p50_s",
    "running_p95_s", "queued_p50_s", "queued_p95_s", "retries", "merged", "conflict", "kept", "cost_usd", "reported_usd",
    "reported_only", "unpriced", "failed_usd", "stopped_usd", "cost_per_merged_usd", "merged_task_usd",
    "failed_unpriced", "stopped_unpriced", "merged_unpriced",
)  # fmt: skip


@click.command()
@click.option(
    "--by", type=click.Choice(["category", "tool", "agent-type", "workflow", "model"]),
    help="Calls and failures of each of these.",
)  # fmt: skip
@click.option("--daily", is_flag=True, help="By day, today included (default: the last 30 days).")
@click.option("--tool", metavar="NAME", help="Only kinds of errors of this tool.")
@click.option("--category", type=click.Choice([str(one) for one in ErrorCategory]), help="Only kinds of this category.")
@figures.span_options
@figures.output_options
@figures.limit_option(most=200, usual=20)
@click.pass_obj
def errors(
    data_dir: str | None, by: str | None, daily: bool, tool: str | None, category: str | None, days: float | None,
    hours: float | None, limit: int, as_json: bool, as_csv: bool,
) -> int:  # fmt: skip
    """Where calls fail: by category, and the most frequent kinds of errors with their trend."""
    if (by is not None) + daily + (tool is not None or category is not None) > 1:
        raise click.UsageError("--by, --daily and --tool or --category exclude each other")
    if daily:
        if hours is not None or (days is not None and (days < 1 or days != int(days))):
            raise click.UsageError("--daily goes with whole --days")
        question = _daily(int(days or 30))
    elif by is not None:
        question = _by(by.replace("-", "_"), SpanOf(days, hours), limit)
    elif tool is not None or category is not None:
        question = _kinds(SpanOf(days, hours), limit, tool, category)
    else:
        question = _overview(SpanOf(days, hours), limit)
    return figures.answer(question, data_dir, as_json=as_json, as_csv=as_csv)


def _overview(span: SpanOf, limit: int) -> Figures:
    def from_file(query: Query, _: Settings) -> Any:
        from tasks.analytics import errors as found

        since = span.since()
        return {
            "categories": found.error_rates(query, since=since),
            "tools": found.failure_rates(query, "tool", since=since),
            "kinds": found.error_kinds(query, since=since, limit=limit),
        }

    return Figures(
        target("/v1/stats/errors", **span.query, limit=str(limit)),
        lambda answer, now: workviews.errors(answer, span.words, now), from_file,
        columns=KIND_COLUMNS, rows=lambda answer: answer["kinds"],
    )  # fmt: skip


def _kinds(span: SpanOf, limit: int, tool: str | None, category: str | None) -> Figures:
    def from_file(query: Query, _: Settings) -> Any:
        from tasks.analytics import errors as found

        return found.error_kinds(query, since=span.since(), limit=limit, tool=tool, category=category)

    return Figures(
        target("/v1/stats/errors/kinds", **span.query, limit=str(limit), tool=tool, category=category),
        lambda answer, now: workviews.kinds(answer, span.words, now), from_file, columns=KIND_COLUMNS,
    )  # fmt: skip


def _by(dimension: str, span: SpanOf, limit: int) -> Figures:
    def from_file(query: Query, _: Settings) -> Any:
        from tasks.analytics import errors as found

        return found.failure_rates(query, dimension, since=span.since())  # type: ignore[arg-type]

    return Figures(
        target(f"/v1/stats/errors/by/{dimension}", **span.query),
        lambda answer, _: workviews.rates(answer[:limit], dimension, span.words), from_file,
        columns=RATE_COLUMNS, rows=lambda answer: answer[:limit],
    )  # fmt: skip


def _daily(days: int) -> Figures:
    def from_file(query: Query, settings: Settings) -> Any:
        from tasks.analytics import errors as found
        from tasks.analytics.days import chosen_zone, period
        from tasks.analytics.span import now_ms

        return found.error_trend(query, period(chosen_zone(None, settings.costs.zone), now_ms(), days=days))

    return Figures(
        target("/v1/stats/errors/daily", days=str(days)), lambda answer, _: workviews.daily(answer), from_file,
        columns=("date", "calls", "failures", "rate", "categories"),
    )  # fmt: skip


@click.command()
@click.option("--by", type=click.Choice(["workflow", "agent-type", "model"]), help="Those of each of these.")
@click.option("--days", type=Span(3660), default=TASK_DAYS, help=f"Handed over in these (default: {TASK_DAYS:g}).")
@figures.output_options
@figures.limit_option()
@click.pass_obj
def tasks(data_dir: str | None, by: str | None, days: float, limit: int, as_json: bool, as_csv: bool) -> int:
    """What became of the tasks: success, failures, durations, retries, merges, and what they cost."""
    dimension = by and by.replace("-", "_")

    def from_file(query: Query, _: Settings) -> Any:
        from tasks import analytics
        from tasks.analytics import tasks as found

        since = analytics.since(days=days)
        return found.task_groups(query, dimension, since=since) if dimension else found.task_stats(query, since=since)  # type: ignore[arg-type]

    words = SpanOf(days, None).words
    if dimension:
        question = Figures(
            target(f"/v1/stats/tasks/by/{dimension}", days=f"{days:g}"),
            lambda answer, _: workviews.task_groups(answer[:limit], dimension, words), from_file,
            columns=("value", *TASK_COLUMNS), rows=lambda answer: [_flat(one) for one in answer[:limit]],
        )  # fmt: skip
    else:
        question = Figures(
            target("/v1/stats/tasks", days=f"{days:g}"), lambda answer, _: workviews.tasks(answer, words), from_file,
            columns=TASK_COLUMNS, rows=lambda answer: [_flat(answer)],
        )  # fmt: skip
    return figures.answer(question, data_dir, as_json=as_json, as_csv=as_csv)


def _flat(one: dict[str, Any]) -> dict[str, Any]:
    """A row of the CSV."""
    spreads = {
        f"{name}_{part}_s": one[f"{name}_s"] and one[f"{name}_s"][part]
        for name in ("duration", "running", "queued")
        for part in ("p50", "p95")
    }
    return {**one, **one["statuses"], **spreads}
