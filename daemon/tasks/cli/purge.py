"""`tasksd purge`: forget what was said in a session, everywhere. Works on the files itself, beside a daemon or without one."""

import dataclasses
import json
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from tasks import config
from tasks.cli import asking
from tasks.cli.app import say
from tasks.cli.output import emit
from tasks.config import Settings
from tasks.errors import EXIT_FAILED, EXIT_OK, StoreUnavailable
from tasks.text import count, moment, size

if TYPE_CHECKING:
    from tasks.retention import Plan, Purged


def _moment(_: click.Context, option: click.Parameter, value: str | None) -> int | None:
    """Epoch milliseconds of a date or a time, on this machine's clock unless it names its zone."""
    if value is None:
        return None
    try:
        at = datetime.fromisoformat(value)
        milliseconds = round((at if at.tzinfo else at.astimezone()).timestamp() * 1000)
    except (ValueError, OverflowError, OSError):
        raise click.BadParameter(f"{value!r} is no date such as 2026-01-31 or 2026-01-31T18:00", param=option) from None
    if milliseconds > asking.now_ms():
        raise click.BadParameter(f"{value!r} is yet to come", param=option)
    return milliseconds


@click.command()
@click.option(
    "--session", metavar="ID", callback=asking.beginning_of_an_id, help="A session, or the beginning of its id."
)
@click.option("--before", metavar="DATE", callback=_moment, help="Everything recorded before that day, or time.")
@click.option("--damaged", is_flag=True, help="Also remove databases that were set aside as damaged.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only tell what would be purged.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def purge(
    data_dir: str | None,
    session: str | None,
    before: int | None,
    damaged: bool,
    yes: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Leave no byte of what was said in a session in the data directory, backups included.

    What it cost, its tokens and the number of its calls stay known. All backups are replaced by one new one. Not touched:
    the client's own transcripts and the worktrees of tasks. Exit code 1 when something is left that may hold text.

    Killed half-way, `tasksd purge` without options finishes it.
    """
    from tasks import retention

    settings = config.load(data_dir=data_dir)
    if not settings.database_file.exists():
        raise StoreUnavailable(f"{settings.database_file} does not exist yet: nothing was recorded")
    waiting = retention.unfinished(settings)
    if session is not None and before is not None:
        raise click.UsageError("--session excludes --before")
    if session is None and before is None and waiting is None:
        raise click.UsageError("say what: --session ID, or --before DATE")
    if waiting is not None and not dry_run:
        say(f"finishing a purge that was cut off: {_about(waiting)}")
        code = _report(waiting, retention.purge(settings, waiting, damaged=damaged, progress=_progress), as_json)
        if before is None and (session is None or any(one.startswith(session) for one in waiting.sessions)):
            return code
    plan = waiting if waiting and session is None and before is None else _plan(settings, session, before)
    if dry_run:
        return _foresee(settings, plan, as_json)
    if not yes:
        _confirm(plan)
    return _report(plan, retention.purge(settings, plan, damaged=damaged, progress=_progress), as_json)


def _plan(settings: Settings, session: str | None, before: int | None) -> "Plan":
    """One of the two is given."""
    from tasks import history, retention
    from tasks.database import Reader

    reader = Reader(settings.database_file)
    try:
        if before is not None:
            return retention.for_before(reader.query, before)
        return retention.for_session(reader.query, history.session(reader.query, session or "")["session_uuid"])
    finally:
        reader.close()


def _confirm(plan: "Plan") -> None:
    if not sys.stdin.isatty():
        raise click.UsageError("nobody is there to ask: add --yes")
    for line in _notes(plan):
        say(line)
    click.confirm(f"Purge {_about(plan)}? All backups are replaced by one new one", abort=True, err=True)


def _about(plan: "Plan") -> str:
    about = f"{count(len(plan.sessions), 'session')} and {count(len(plan.tasks), 'task')}"
    return about if plan.before is None else f"what is older than {moment(plan.before)}: {about}"


def _notes(plan: "Plan") -> list[str]:
    """What stays although it is about these sessions."""
    from tasks.retention import transcripts_left

    notes = [f"stays, it is the client's own transcript: {path}" for path in transcripts_left(plan)]
    notes += [f"stays, it is work of yours: {path}" for path in plan.worktrees]
    if plan.passed_over:
        notes.append(f"{count(len(plan.passed_over), 'live session')} passed over: end them, then purge again")
    return notes


def _foresee(settings: Settings, plan: "Plan", as_json: bool) -> int:
    backups = len(list(settings.backup_dir.glob("tasks-*.db")))
    if as_json:
        _emit(
            {"sessions": plan.sessions, "tasks": plan.tasks, "before": plan.before, "backups": backups, **_kept(plan)}
        )
        return EXIT_OK
    for one in plan.sessions:
        emit(f"session {one}\n")
    for one in plan.tasks:
        emit(f"task {one}\n")
    for line in _notes(plan):
        say(line)
    say(f"would purge {_about(plan)}, and replace {count(backups, 'backup')} by a new one; nothing was changed")
    return EXIT_OK


def _report(plan: "Plan", done: "Purged", as_json: bool) -> int:
    if as_json:
        _emit(dataclasses.asdict(done) | _kept(plan))
    for line in (*_notes(plan), *done.left):
        say(line)
    rows = sum(done.rows.values())
    files = done.waiting + done.quarantined
    say(
        f"purged {_about(plan)}: {count(rows, 'row')}, {count(files, 'recorded file')}, "
        f"{count(done.run_folders, 'folder')} of runs; {count(done.backups, 'backup')} replaced; "
        f"database {size(done.bytes_before)} before, {size(done.bytes_after)} now"
    )
    return EXIT_FAILED if done.left else EXIT_OK


def _kept(plan: "Plan") -> dict[str, Any]:
    from tasks.retention import transcripts_left

    return {
        "transcripts": [str(path) for path in transcripts_left(plan)],
        "worktrees": plan.worktrees,
        "passed_over": plan.passed_over,
    }


def _progress(step: str) -> None:
    if sys.stderr.isatty():
        say(f"purging: {step}")


def _emit(answer: dict[str, Any]) -> None:
    emit(json.dumps(answer, ensure_ascii=False, separators=(",", ":")) + "\n")
