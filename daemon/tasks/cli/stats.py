"""`tasksd stats`: what calls, errors, tasks, files and the time of agents add up to."""

from importlib import import_module
from typing import Any

import click

from tasks.cli import asking, figures, statsviews
from tasks.cli.figures import Figures, Query, SpanOf
from tasks.cli.readers import whole_id
from tasks.client import quote, target

#: Subcommand → the module that has it under the same name; loaded when it is used.
_ELSEWHERE = {"errors": "tasks.cli.stats_work", "tasks": "tasks.cli.stats_work"}

USE_COLUMNS = ("tool_name", "count", "avg_duration", "success_rate", "failures")
STATS_COLUMNS = ("value", "calls", "failures", "error_rate", "avg_duration", "tools")
FILE_COLUMNS = ("path", "accesses", "reads", "rereads", "writes", "edits", "contended")


class _Statistics(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *_ELSEWHERE]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if (module := _ELSEWHERE.get(cmd_name)) is not None:
            command: click.Command = getattr(import_module(module), cmd_name)
            return command
        return super().get_command(ctx, cmd_name)


@click.group(cls=_Statistics)
def stats() -> None:
    """What agents do, in figures: tools, errors, tasks, files, agents, workflows, models, sessions."""


@stats.command()
@click.option("--workflow", metavar="NAME", help="Only calls for tasks of this workflow.")
@click.option("--agent-type", metavar="TYPE", help="Only calls of agents of this type.")
@click.option("--model", metavar="NAME", help="Only calls of this model.")
@click.option(
    "--session", metavar="ID", callback=asking.beginning_of_an_id,
    help="Only calls of this session, over all time; the beginning of its id is enough.",
)  # fmt: skip
@click.option("--task", metavar="ID", help="Only calls for this task, over all time.")
@click.option("--by", type=click.Choice(["workflow", "agent-type", "model"]), help="Every tool of every one of these.")
@click.option("--durations", is_flag=True, help="How long the calls took, with percentiles.")
@figures.span_options
@figures.output_options
@figures.limit_option()
@click.pass_obj
def tools(
    data_dir: str | None, /, by: str | None, durations: bool, days: float | None, hours: float | None, limit: int,
    as_json: bool, as_csv: bool, **named: str | None,
) -> int:  # fmt: skip
    """Use of the tools: calls, failures, average durations; the most used first."""
    chosen = {name: value for name, value in named.items() if value is not None}
    if len(chosen) + (by is not None) + durations > 1:
        raise click.UsageError(
            "--workflow, --agent-type, --model, --session, --task, --by and --durations exclude each other"
        )
    if (one := next(iter({"session", "task"} & chosen.keys()), None)) and (days, hours) != (None, None):
        raise click.UsageError(f"the calls of a {one} are counted over all time: leave out --days and --hours")
    span = SpanOf(days, hours)
    if durations:
        question = _durations(span, limit)
    elif by is not None:
        question = _tools_by(by.replace("-", "_"), span, limit)
    else:
        if "session" in chosen:
            chosen["session"] = whole_id(chosen["session"], asking.settings_for(data_dir)) or ""
        question = _tools(chosen, span, limit)
    return figures.answer(question, data_dir, as_json=as_json, as_csv=as_csv)


def _tools(chosen: dict[str, str], span: SpanOf, limit: int) -> Figures:
    over_all_time = bool({"session", "task"} & chosen.keys())

    def from_file(query: Query, _: object) -> Any:
        from tasks.analytics import tools as found

        since = 0 if over_all_time else span.since()
        for dimension, value in chosen.items():
            return found.usage_of(query, dimension, value, since=since)  # type: ignore[arg-type]
        return found.tool_usage(query, since=since)

    where = target("/v1/stats/tools", **({} if over_all_time else span.query), **chosen)
    words = "all time" if over_all_time else span.words
    return Figures(
        where, lambda answer, _: statsviews.tools(answer[:limit], words), from_file, columns=USE_COLUMNS,
        rows=lambda answer: answer[:limit],
    )  # fmt: skip


def _tools_by(dimension: str, span: SpanOf, limit: int) -> Figures:
    def from_file(query: Query, _: object) -> Any:
        from tasks.analytics import tools as found

        return found.usage_by(query, dimension, since=span.since())  # type: ignore[arg-type]

    return Figures(
        target(f"/v1/stats/tools/by/{dimension}", **span.query),
        lambda answer, _: statsviews.tools(answer[:limit], span.words, by=dimension), from_file,
        columns=("value", *USE_COLUMNS), rows=lambda answer: answer[:limit],
    )  # fmt: skip


def _durations(span: SpanOf, limit: int) -> Figures:
    def from_file(query: Query, _: object) -> Any:
        from tasks.analytics import tools as found

        return found.tool_durations(query, since=span.since())

    return Figures(
        target("/v1/stats/tools/durations", **span.query),
        lambda answer, _: statsviews.durations(answer[:limit], span.words), from_file,
        columns=("tool_name", "calls", "timed", "avg_duration", "max_duration", "p50", "p90", "p95", "p99"),
        rows=lambda answer: [one | one["percentiles"] for one in answer[:limit]],
    )  # fmt: skip


def _uses(name: str, dimension: str) -> click.Command:
    @click.command(name, help=f"Calls and failures by {dimension}, the one with the most calls first.")
    @figures.span_options
    @figures.output_options
    @figures.limit_option()
    @click.pass_obj
    def command(
        data_dir: str | None, days: float | None, hours: float | None, limit: int, as_json: bool, as_csv: bool
    ) -> int:
        span = SpanOf(days, hours)

        def from_file(query: Query, _: object) -> Any:
            from tasks.analytics import tools as found

            if dimension == "session":
                return found.session_stats(query, since=span.since(), limit=limit)
            return found.stats_by(query, dimension, since=span.since())  # type: ignore[arg-type]

        bound = {"limit": str(limit)} if dimension == "session" else {}
        question = Figures(
            target(f"/v1/stats/{name}", **span.query, **bound),
            lambda answer, _: statsviews.uses(answer[:limit], dimension, span.words), from_file,
            columns=STATS_COLUMNS, rows=lambda answer: answer[:limit],
        )  # fmt: skip
        return figures.answer(question, data_dir, as_json=as_json, as_csv=as_csv)

    return command


for _name, _dimension in (("workflows", "workflow"), ("models", "model"), ("sessions", "session")):
    stats.add_command(_uses(_name, _dimension))


@stats.command()
@click.option("--rereads", is_flag=True, help="Those read most often by agents that had read them before.")
@click.option("--contended", is_flag=True, help="Those that several agents changed within 30 minutes, and which.")
@click.option(
    "--session", metavar="ID", callback=asking.beginning_of_an_id,
    help="Those of this session, over all time; the beginning of its id is enough.",
)  # fmt: skip
@click.option("--project", type=click.Path(file_okay=False, resolve_path=True), metavar="FOLDER", help="Only in it.")
@figures.span_options
@figures.output_options
@figures.limit_option(usual=20)
@click.pass_obj
def files(
    data_dir: str | None, rereads: bool, contended: bool, session: str | None, project: str | None, days: float | None,
    hours: float | None, limit: int, as_json: bool, as_csv: bool,
) -> int:  # fmt: skip
    """The files that agents read, write and edit most."""
    if rereads + contended + (session is not None) > 1:
        raise click.UsageError("--rereads, --contended and --session exclude each other")
    if session is not None and (days, hours, project) != (None, None, None):
        raise click.UsageError("the files of a session are those of all time and place: leave out the other limits")
    span = SpanOf(days, hours)
    if session is not None:
        question = _session_files(whole_id(session, asking.settings_for(data_dir)) or "", limit)
    elif contended:
        question = _contended(span, min(limit, 200), project)
    else:
        question = _files(span, limit, project, "rereads" if rereads else "accesses")
    return figures.answer(question, data_dir, as_json=as_json, as_csv=as_csv)


def _files(span: SpanOf, limit: int, project: str | None, order: str) -> Figures:
    def from_file(query: Query, _: object) -> Any:
        from tasks.analytics import files as found

        return found.file_use(query, since=span.since(), order=order, limit=limit, project=project)  # type: ignore[arg-type]

    where = target("/v1/stats/files", **span.query, order=order, project=project, limit=str(limit))
    return Figures(
        where, lambda answer, _: statsviews.files(answer, order, span.words), from_file, columns=FILE_COLUMNS
    )


def _contended(span: SpanOf, limit: int, project: str | None) -> Figures:
    def from_file(query: Query, _: object) -> Any:
        from tasks.analytics import files as found

        return found.contended_files(query, since=span.since(), limit=limit, project=project)

    return Figures(
        target("/v1/stats/files/contended", **span.query, project=project, limit=str(limit)),
        lambda answer, now: statsviews.contended(answer, span.words, now), from_file,
        columns=("path", "contended", "writes", "edits", "session_uuid", "agent_id", "edited_at"),
        rows=lambda answer: [
            {name: one[name] for name in ("path", "contended", "writes", "edits")}
            | {name: agent[name] for name in ("session_uuid", "agent_id", "edited_at")}
            for one in answer
            for agent in one["agents"]
        ],
    )  # fmt: skip


def _session_files(session_uuid: str, limit: int) -> Figures:
    def from_file(query: Query, _: object) -> Any:
        from tasks.analytics import files as found

        return found.session_files(query, session_uuid, limit=limit)

    return Figures(
        target(f"/v1/stats/files/session/{quote(session_uuid)}", limit=str(limit)),
        lambda answer, now: statsviews.session_files(answer, now), from_file,
        columns=("path", "agent_id", "reads", "writes", "edits", "first_at", "last_at", "edited_at"),
    )  # fmt: skip


@stats.command()
@click.option(
    "--session", metavar="ID", callback=asking.beginning_of_an_id,
    help="The time of this session alone; the beginning of its id is enough.",
)  # fmt: skip
@figures.span_options
@figures.output_options
@click.pass_obj
def agents(
    data_dir: str | None, session: str | None, days: float | None, hours: float | None, as_json: bool, as_csv: bool
) -> int:
    """How long main agents were in which state, and the calls by type of agent."""
    if session is not None and (days, hours) != (None, None):
        raise click.UsageError("the time of a session is all of it: leave out --days and --hours")
    question = (
        _agents(SpanOf(days, hours))
        if session is None
        else _session_time(whole_id(session, asking.settings_for(data_dir)) or "")
    )
    return figures.answer(question, data_dir, as_json=as_json, as_csv=as_csv)


def _agents(span: SpanOf) -> Figures:
    def from_file(query: Query, _: object) -> Any:
        from tasks import analytics
        from tasks.analytics import tools as found

        since = span.since()
        states = analytics.agents.agent_time(query, since=since)
        return {"states": states, "agent_types": found.stats_by(query, "agent_type", since=since)}

    return Figures(
        target("/v1/stats/agents", **span.query), lambda answer, _: statsviews.agents(answer, span.words), from_file,
        columns=("status", "seconds", "share"), rows=lambda answer: _state_rows(answer["states"]),
    )  # fmt: skip


def _session_time(session_uuid: str) -> Figures:
    def from_file(query: Query, _: object) -> Any:
        from tasks import analytics

        return analytics.agents.session_time(query, session_uuid)

    return Figures(
        target(f"/v1/stats/agents/session/{quote(session_uuid)}"),
        lambda answer, _: statsviews.states(answer, "all time"), from_file,
        columns=("status", "seconds", "share"), rows=_state_rows,
    )  # fmt: skip


def _state_rows(states: dict[str, Any]) -> list[dict[str, object]]:
    return [{"status": status, **one} for status, one in states.items()]
