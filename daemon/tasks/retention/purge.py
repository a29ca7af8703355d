"""`purge`: no byte of a session's text is left in the data directory; what it cost and how much it did stays known."""

import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tasks.config import Settings
from tasks.database.engine import Reader, Writer
from tasks.retention import scrub, traces
from tasks.retention.plan import Plan, plan_file, write_down

log = logging.getLogger(__name__)

#: What may still be on its way into the database when it is scrubbed: looked for again so many times.
ROUNDS = 3


@dataclass(slots=True)
class Purged:
    """What a purge removed, and what it left."""

    sessions: int = 0
    tasks: int = 0
    #: table → rows that lost their text, or went
    rows: dict[str, int] = field(default_factory=dict)
    waiting: int = 0
    quarantined: int = 0
    run_folders: int = 0
    #: backups removed; one new one took their place
    backups: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    #: what may still hold text, a sentence each with what to do
    left: list[str] = field(default_factory=list)


def purge(
    settings: Settings, plan: Plan, *, damaged: bool = False, progress: Callable[[str], None] = lambda step: None
) -> Purged:
    """Carry out a plan, beside a daemon or without one. Killed at any point, `unfinished` has the plan for another go.

    `damaged` also removes databases that were set aside as damaged. Raises StoreUnavailable (the disk has no room for a
    rewritten copy of the file), StoreBusy, StoreCorrupt; then too it can be done again.
    """
    write_down(settings, plan)
    done, marks = Purged(sessions=len(plan.sessions), tasks=len(plan.tasks)), traces.Marks(plan)
    done.bytes_before = settings.database_file.stat().st_size
    progress("files")
    done.run_folders = traces.remove_runs(settings, plan)
    done.quarantined, nameless = traces.remove_quarantined(settings, marks)
    writer = Writer(settings.database_file, backup_dir=settings.backup_dir)
    try:
        for _ in range(ROUNDS):
            done.waiting += traces.remove_waiting(settings, marks)
            progress("rows")
            for table, count in scrub.scrub(writer, plan).items():
                done.rows[table] = done.rows.get(table, 0) + count
            if not _came_back(settings, plan):
                break
        else:
            done.left.append("its client goes on: end it, then purge the session again")
        progress("database")
        scrub.rewrite(writer)
    finally:
        writer.close()
    progress("backups")
    done.backups = traces.replace_backups(settings)
    traces.remove_leftovers(settings)
    done.bytes_after = settings.database_file.stat().st_size
    done.left += _leftovers(settings, nameless, damaged=damaged)
    plan_file(settings).unlink()
    log.info("purged sessions=%d tasks=%d rows=%d", done.sessions, done.tasks, sum(done.rows.values()))
    return done


def _came_back(settings: Settings, plan: Plan) -> bool:
    """Whether events that a daemon was just reading made a session anew."""
    reader = Reader(settings.database_file)
    try:
        return any(
            reader.query("SELECT count(*) FROM sessions WHERE session_uuid = ?", (one,))[0][0] for one in plan.sessions
        )
    finally:
        reader.close()


def _leftovers(settings: Settings, nameless: int, *, damaged: bool) -> list[str]:
    left = []
    if nameless:
        left.append(
            f"{nameless} quarantined files of that time do not say of which session they are: see `tasksd quarantine list`"
        )
    for folder in traces.damaged(settings):
        if damaged:
            shutil.rmtree(folder)
        else:
            left.append(f"{folder} holds a damaged database that may have it: purge with --damaged, or remove it")
    return left


def transcripts_left(plan: Plan) -> list[Path]:
    """The client's own files about these sessions, which are not ours to remove."""
    return [path for one in plan.transcripts if (path := Path(one)).exists()]
