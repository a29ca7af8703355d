"""The commands that only read: status, sessions, session, tools, errors, events."""

import json
import math
from typing import Any

import click
from click.shell_completion import CompletionItem

from tasks.cli import asking, questions, views
from tasks.cli.output import emit
from tasks.client import quote
from tasks.config import Settings
from tasks.errors import DaemonNotRunning, TasksError
from tasks.words import ErrorCategory

#: Length of a whole session id; shorter ones are beginnings.
SESSION_ID_LENGTH = 36
#: Events shown before following.
TAIL = 10


class Span(click.FloatRange):
    """A length of time above 0."""

    def __init__(self, longest: float) -> None:
        super().__init__(0, longest, min_open=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is not a number", param, ctx)
        return number


_JSON = click.option("--json", "as_json", is_flag=True, help="Exactly the API's JSON.")


def _sessions_beginning(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    data_dir = context.find_root().params.get("data_dir")
    try:
        known = asking.client_for(asking.settings_for(data_dir)).get("/v1/sessions?limit=200")
    except TasksError:
        return []
    return [
        CompletionItem(one["session_uuid"], help=one["status"])
        for one in known
        if one["session_uuid"].startswith(incomplete)
    ]


@click.command()
@click.option("--watch", is_flag=True, help="Keep showing it until Ctrl-C.")
@_JSON
@click.pass_obj
def status(data_dir: str | None, watch: bool, as_json: bool) -> int:
    """How the daemon, the spool, ingestion and the sessions are. Exit code 69 when the daemon is not running."""
    if watch:
        from tasks.cli import live

        return live.watch(asking.settings_for(data_dir), questions.status(), as_json=as_json)
    return asking.answer(questions.status(), data_dir, as_json=as_json)


@click.command()
@click.option("--all", "everything", is_flag=True, help=f"Up to {questions.ALL_SESSIONS} instead of {questions.LIMIT}.")
@click.option("--live", is_flag=True, help="Only sessions that are not over.")
@click.option("--limit", type=click.IntRange(1, questions.ALL_SESSIONS), help=f"Rows (default: {questions.LIMIT}).")
@_JSON
@click.pass_obj
def sessions(data_dir: str | None, everything: bool, live: bool, limit: int | None, as_json: bool) -> int:
    """Sessions of agents, the latest active first."""
    if everything and (live or limit):
        raise click.UsageError("--all excludes --live and --limit")
    rows = str(questions.ALL_SESSIONS) if everything else str(limit or questions.LIMIT)
    return asking.answer(questions.sessions(live=live, limit=rows), data_dir, as_json=as_json)


@click.command()
@click.argument("id", metavar="ID", shell_complete=_sessions_beginning, callback=asking.beginning_of_an_id)
@_JSON
@click.pass_obj
def session(data_dir: str | None, id: str, as_json: bool) -> None:  # noqa: A002
    """One session in detail; the beginning of its ID is enough."""
    settings = asking.settings_for(data_dir)
    try:
        body = asking.client_for(settings).fetch(f"/v1/sessions/{quote(id)}")
    except DaemonNotRunning as error:
        from tasks.cli import offline

        body = offline.dumps(offline.session(id, settings))
        asking.say_offline(error, settings)
    if as_json:
        emit(body + b"\n")
    else:
        asking.print_page(views.session(json.loads(body), asking.now_ms()))


@click.command()
@click.option("--hours", type=Span(24 * 366 * 10), default=24, show_default=True)
@_JSON
@click.pass_obj
def tools(data_dir: str | None, hours: float, as_json: bool) -> int:
    """What the calls of each tool add up to over the last hours."""
    return asking.answer(questions.tools(hours=f"{hours:g}"), data_dir, as_json=as_json)


@click.command()
@click.option("--days", type=Span(3660), help="Over the last days (default: 7).")
@click.option("--recent", is_flag=True, help="The latest failed calls instead of their number.")
@click.option(
    "--category", type=click.Choice([str(one) for one in ErrorCategory]), help="Only these (implies --recent)."
)
@click.option("--tool", metavar="NAME", help="Only calls of this tool (implies --recent).")
@click.option("--limit", type=click.IntRange(1, 500), help=f"Rows of --recent (default: {questions.LIMIT}).")
@_JSON
@click.pass_obj
def errors(
    data_dir: str | None,
    days: float | None,
    recent: bool,
    category: str | None,
    tool: str | None,
    limit: int | None,
    as_json: bool,
) -> int:
    """Why calls failed, by category; with --recent the calls themselves."""
    if recent or category or tool:
        chosen = None if days is None else f"{days:g}"
        question = questions.failures(days=chosen, category=category, tool=tool, limit=str(limit or questions.LIMIT))
    elif limit:
        raise click.UsageError("--limit is for --recent")
    else:
        question = questions.errors(days=f"{days or 7:g}")
    return asking.answer(question, data_dir, as_json=as_json)


@click.command()
@click.option("--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option(
    "--session",
    "session_",
    metavar="ID",
    shell_complete=_sessions_beginning,
    callback=asking.beginning_of_an_id,
    help="Only of this session; the beginning of its id is enough.",
)
@click.option("--kind", metavar="EVENT", help="Only events of this kind (PreToolUse, Stop, …).")
@click.option("--after", type=click.IntRange(0), metavar="NUMBER", help="Those that arrived after this one.")
@click.option(
    "--limit",
    type=click.IntRange(1, 1000),
    help=f"Events at once (default: {questions.LIMIT}; with --follow {TAIL} to begin with).",
)
@_JSON
@click.pass_obj
def events(
    data_dir: str | None,
    follow: bool,
    session_: str | None,
    kind: str | None,
    after: int | None,
    limit: int | None,
    as_json: bool,
) -> int:
    """The events themselves, in order of arrival: the latest, or those after a number. With --follow one line each."""
    settings = asking.settings_for(data_dir)
    chosen: dict[str, Any] = {
        "session": whole_id(session_, settings),
        "kind": kind,
        "after": None if after is None else str(after),
    }
    if follow:
        from tasks.cli import live

        return live.follow(settings, chosen, limit=str(limit or TAIL), as_json=as_json)
    return asking.answer(questions.events(**chosen, limit=str(limit or questions.LIMIT)), data_dir, as_json=as_json)


def whole_id(beginning: str | None, settings: Settings) -> str | None:
    """The id of the one session that begins so. Raises ApiError or NoSuchSession when it is not one."""
    if beginning is None or len(beginning) >= SESSION_ID_LENGTH:
        return beginning
    try:
        found = asking.client_for(settings).get(f"/v1/sessions/{quote(beginning)}")
    except DaemonNotRunning:
        from tasks.cli import offline

        found = offline.session(beginning, settings)
    return str(found["session_uuid"])
