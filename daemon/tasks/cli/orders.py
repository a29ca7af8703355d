"""What a person does with tasks that were handed over: cancel, retry, merge, clean."""

import json
import re
from collections.abc import Sequence

import click

from tasks.advice import advice
from tasks.cli import asking, taskviews
from tasks.cli.app import say
from tasks.cli.output import emit
from tasks.cli.tasks import JSON, TASK, tasks_beginning
from tasks.client import quote
from tasks.errors import EXIT_FAILED, EXIT_OK, DaemonNotRunning, TasksError
from tasks.text import count

_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3_600, "d": 86_400, "w": 7 * 86_400}
#: Milliseconds, as the API takes them: longer than anything is kept.
_LONGEST = 100 * 365 * 86_400_000


def _milliseconds(_: click.Context, option: click.Parameter, value: str) -> int:
    found = re.fullmatch(r"(\d{1,6}) ?(s|m|min|h|d|w)", value)
    if found is None and value != "0":
        raise click.BadParameter(f"{value!r} is no length of time, such as 30d, 12h, 45min or 0", param=option)
    return min(int(found[1]) * _UNITS[found[2]] * 1000, _LONGEST) if found else 0


@click.command()
@click.argument(
    "ids", metavar="ID...", nargs=-1, required=True, shell_complete=tasks_beginning, callback=asking.beginning_of_an_id
)
@click.pass_obj
def cancel(data_dir: str | None, ids: Sequence[str]) -> int:
    """Stop tasks: those that wait are not started, the agents of those that run are ended."""
    client = asking.client_for(asking.settings_for(data_dir))
    failed = 0
    for id_ in ids:
        try:
            one = client.post(f"/v1/tasks/{quote(id_)}/cancel")
        except DaemonNotRunning:
            raise
        except TasksError as error:
            failed += 1
            say(f"tasksd: {error}")
        else:
            say(f"task {one['task_id']} {one['status']}")
    if len(ids) > 1:
        say(f"{count(len(ids) - failed, 'task')} cancelled")
    return EXIT_FAILED if failed else EXIT_OK


@click.command()
@TASK
@click.pass_obj
def retry(data_dir: str | None, id: str) -> None:  # noqa: A002
    """Queue a failed or stopped task again."""
    one = asking.client_for(asking.settings_for(data_dir)).post(f"/v1/tasks/{quote(id)}/retry")
    say(f"task {one['task_id']} {': '.join(filter(None, (one['status'], one['why'])))}")


@click.command()
@TASK
@click.option("--into", metavar="BRANCH", help="Default: the branch that it came from.")
@click.pass_obj
def merge(data_dir: str | None, id: str, into: str | None) -> int:  # noqa: A002
    """Try to merge the branch of a task now. Exit code 1 when it could not be merged, with what to do."""
    client = asking.client_for(asking.settings_for(data_dir))
    one = client.post(f"/v1/tasks/{quote(id)}/merge", None if into is None else {"into": into})
    state = one["merge_state"]
    if state == "merged":
        say(f"task {one['task_id']} merged" + (f" as {one['merge_commit'][:12]}" if one["merge_commit"] else ""))
        for line in filter(None, (one["worktree"] and one["merge_detail"], *advice(one))):
            say(line)
        return EXIT_OK
    if state == "none":
        say(f"task {one['task_id']} has nothing to merge")
        return EXIT_OK
    say(f"task {one['task_id']} is not merged: " + ": ".join(filter(None, (state, one["merge_detail"]))))
    for path in one["merge_paths"]:
        say(f"  {path}")
    for line in advice(one):
        say(line)
    return EXIT_FAILED


@click.command()
@click.option(
    "--older-than",
    callback=_milliseconds,
    default="30d",
    show_default=True,
    metavar="AGE",
    help="Time since its end.",
)
@click.option("--dry-run", is_flag=True, help="Only tell what would be removed.")
@JSON
@click.pass_obj
def clean(data_dir: str | None, older_than: int, dry_run: bool, as_json: bool) -> None:
    """Remove what tasks left behind that are over: only what is proven to be merged, and the rest is listed with why."""
    client = asking.client_for(asking.settings_for(data_dir))
    done = client.post("/v1/tasks/clean", {"older_than_ms": older_than, "dry_run": dry_run})
    if as_json:
        emit(json.dumps(done, ensure_ascii=False, separators=(",", ":")) + "\n")
    else:
        asking.print_page(taskviews.cleaned(done, dry_run))
