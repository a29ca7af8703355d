"""`tasksd tasks` and `tasksd show`: the work handed over, and one task with all that is known of it."""

import json
from collections.abc import Sequence

import click
from click.shell_completion import CompletionItem

from tasks.cli import asking, questions, taskviews
from tasks.cli.output import emit
from tasks.client import quote
from tasks.config import Settings
from tasks.errors import DaemonNotRunning, TasksError
from tasks.words import TaskStatus

#: Most tasks that the API gives at once.
MOST = 1000

JSON = click.option("--json", "as_json", is_flag=True, help="Exactly the API's JSON.")


def tasks_beginning(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Completes the ids of tasks."""
    data_dir = context.find_root().params.get("data_dir")
    try:
        known = asking.client_for(asking.settings_for(data_dir)).get("/v1/tasks?limit=200")
    except TasksError:
        return []
    return [
        CompletionItem(one["task_id"], help=f"{one['status']}: {one['description'].splitlines()[0][:60]}")
        for one in known
        if one["task_id"].startswith(incomplete)
    ]


TASK = click.argument("id", metavar="ID", shell_complete=tasks_beginning, callback=asking.beginning_of_an_id)


@click.command()
@click.option(
    "--status", "statuses", multiple=True, type=click.Choice([str(one) for one in TaskStatus]), help="Only these."
)
@click.option("--live", is_flag=True, help="Only tasks that are not over.")
@click.option("--workflow", metavar="NAME", help="Only of this workflow.")
@click.option("--limit", type=click.IntRange(1, MOST), default=int(questions.LIMIT), show_default=True, help="Rows.")
@click.option("--watch", is_flag=True, help="Keep showing them until Ctrl-C.")
@JSON
@click.pass_obj
def tasks(
    data_dir: str | None,
    statuses: Sequence[str],
    live: bool,
    workflow: str | None,
    limit: int,
    watch: bool,
    as_json: bool,
) -> int:
    """Tasks, the latest handed over first."""
    question = questions.tasks(statuses=statuses, live=live, workflow=workflow, limit=str(limit))
    if watch:
        from tasks.cli import live as view

        return view.watch(asking.settings_for(data_dir), question, as_json=as_json)
    return asking.answer(question, data_dir, as_json=as_json)


@click.command()
@TASK
@JSON
@click.pass_obj
def show(data_dir: str | None, id: str, as_json: bool) -> None:  # noqa: A002
    """One task: where it stands, why it waits or what went wrong, and what to do next. The beginning of its ID will do."""
    settings = asking.settings_for(data_dir)
    body = details(id, settings)
    if as_json:
        emit(body + b"\n")
    else:
        asking.print_page(taskviews.task(json.loads(body), asking.now_ms()))


def details(id_: str, settings: Settings) -> bytes:
    """The API's answer about one task, from the file when no daemon runs. Raises ApiError or NoSuchTask."""
    try:
        return asking.client_for(settings).fetch(f"/v1/tasks/{quote(id_)}")
    except DaemonNotRunning as error:
        from tasks.cli import offline

        body = offline.dumps(offline.task(id_, settings))
        asking.say_offline(error, settings)
        return body
