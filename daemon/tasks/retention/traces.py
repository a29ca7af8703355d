"""What is left of a session outside the database: files that wait, files set aside, files of runs, backups, logs."""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from tasks import __version__
from tasks.config import Settings
from tasks.database.maintenance import back_up
from tasks.retention.plan import Plan
from tasks.retention.runfolders import LEAVING
from tasks.spool import Quarantine, Spool, Unreadable
from tasks.spool.directory import NAME

_BACKUP = re.compile(r"tasks-[0-9]+T[0-9]+-[0-9]+-[a-z0-9-]+\.db")
_DRAFT = re.compile(r"\.tasks-.*\.draft")
#: The label of the backup that takes the place of those before.
LABEL = "purged"
#: Milliseconds around the life of a session in which a damaged file may be its own.
_SLACK = 60_000
_TASK_ID = re.compile(r"[0-9a-f]{6}")


class Marks:
    """Tells whether a recorded file belongs to what is purged."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._ids = [one.encode() for one in plan.sessions]
        self._tasks = set(plan.tasks)

    def has(self, name: str, mtime_ns: int, raw: bytes) -> bool:
        at, match = mtime_ns // 1_000_000, NAME.fullmatch(name)
        if self._plan.before is not None and at < self._plan.before:
            return True
        if match is not None and match[1] in self._tasks:
            return True
        if any(one in raw for one in self._ids):
            return True
        # Damaged before its session was named: the process that recorded it tells.
        client = int(match[2]) if match is not None else 0
        return client > 0 and _is_nameless(raw) and self._was_at_work(client, at)

    def may_have(self, mtime_ns: int, raw: bytes) -> bool:
        """Whether a file that is not known to belong to it could."""
        return _is_nameless(raw) and self._was_at_work(0, mtime_ns // 1_000_000)

    def _was_at_work(self, client: int, at: int) -> bool:
        return any(pid == client and since - _SLACK <= at <= until + _SLACK for pid, since, until in self._plan.clients)


def _is_nameless(raw: bytes) -> bool:
    return bool(raw) and b'"session_id"' not in raw


def remove_waiting(settings: Settings, marks: Marks) -> int:
    """Files of the spool that no daemon has read yet."""
    spool, removed = Spool(settings.spool_dir, settings.spool), 0
    if not settings.spool_dir.is_dir():
        return 0
    for entry in spool.scan():
        found = spool.read(entry)
        if found is not None and not isinstance(found, Unreadable) and marks.has(entry.name, entry.mtime_ns, found.raw):
            spool.remove([entry.name])
            removed += 1
    return removed


def remove_quarantined(settings: Settings, marks: Marks) -> tuple[int, int]:
    """How many of the quarantine went, and how many are left that may be of it: they do not say which session they are of."""
    quarantine = Quarantine(settings.quarantine_dir, settings.spool_dir, settings.spool, __version__)
    removed = nameless = 0
    for entry in quarantine.list():
        try:
            mtime_ns = (settings.quarantine_dir / entry.id).lstat().st_mtime_ns
        except FileNotFoundError:
            continue
        raw = quarantine.content(entry.id, settings.spool.max_event_bytes)
        if marks.has(entry.name, mtime_ns, raw):
            quarantine.drop(entry.id)
            removed += 1
        elif marks.may_have(mtime_ns, raw):
            nameless += 1
    return removed, nameless


def remove_runs(settings: Settings, plan: Plan) -> int:
    """Prompts and outputs of its tasks, word for word."""
    removed = 0
    for task_id in filter(_TASK_ID.fullmatch, plan.tasks):
        for folder in (settings.runs_dir / task_id, settings.runs_dir / (LEAVING + task_id)):
            if folder.is_dir() and not folder.is_symlink():
                shutil.rmtree(folder)
                removed += 1
    return removed


def replace_backups(settings: Settings) -> int:
    """Make one of the database as it is now, and remove all that were made before. How many went.

    Half-made ones go too: a daemon whose nightly backup this hits makes another.
    """
    old = [path for path in _within(settings.backup_dir) if _BACKUP.fullmatch(path.name)]
    drafts = [path for path in _within(settings.backup_dir) if _DRAFT.fullmatch(path.name)]
    if old:
        back_up(settings.database_file, settings.backup_dir, LABEL)
    for path in old + drafts:
        path.unlink(missing_ok=True)
    return len(old)


def remove_leftovers(settings: Settings) -> None:
    """Copies that were cut off half-way, and logs that somebody keeps in the data directory."""
    database = settings.database_file
    for path in (database.with_name(database.name + ".restoring"), database.with_name(f".{database.name}.draft")):
        path.unlink(missing_ok=True)
    for path in _within(settings.data_dir):
        if path.suffix == ".log" and path.is_file() and not path.is_symlink():
            os.truncate(path, 0)  # whoever writes it goes on


def damaged(settings: Settings) -> list[Path]:
    """Folders with databases that were set aside because they were damaged: they may hold anything."""
    return sorted(path for path in _within(settings.data_dir) if path.name.startswith("corrupt-") and path.is_dir())


def _within(folder: Path) -> Iterator[Path]:
    try:
        yield from sorted(folder.iterdir())
    except FileNotFoundError:
        return
