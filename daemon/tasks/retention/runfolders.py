"""runs/<task>/ holds prompts and outputs word for word: it goes when the bodies do, once nobody needs it."""

import asyncio
import logging
import re
import shutil
from pathlib import Path

from tasks.config import Settings
from tasks.database import Database

log = logging.getLogger(__name__)

_TASK_ID = re.compile(r"[0-9a-f]{6}")
#: Marks a folder that is on its way out. Left behind by a kill, it goes with the next run.
LEAVING = ".leaving-"

# Over, ended for good, and without a branch or a worktree that its prompt may still have to explain.
_SETTLED = """
SELECT count(*) FROM tasks AS t
WHERE task_id = ? AND status IN ('completed', 'failed', 'stopped') AND worktree IS NULL
  AND merge_state IN ('none', 'merged') AND coalesce(finished_at, 0) < ?
  AND NOT EXISTS (SELECT 1 FROM runs AS r WHERE r.task_id = t.task_id AND r.finished_at IS NULL)
"""
_KNOWN = "SELECT count(*) FROM tasks WHERE task_id = ?"


async def prune_runs(settings: Settings, database: Database, before: int) -> int:
    """Remove the folders of tasks that were over before that time (epoch ms), and old ones without a task. How many."""
    removed = 0
    for name in await asyncio.to_thread(_old, settings.runs_dir, before):
        task_id = name.removeprefix(LEAVING)
        if await _may_go(database, task_id, before):
            removed += await _remove(settings.runs_dir, name, database, before)
        elif name != task_id:
            await asyncio.to_thread(_rename, settings.runs_dir / name, settings.runs_dir / task_id)
    return removed


async def _may_go(database: Database, task_id: str, before: int) -> bool:
    if (await database.query(_SETTLED, (task_id, before)))[0][0]:
        return True
    return not (await database.query(_KNOWN, (task_id,)))[0][0]


async def _remove(runs_dir: Path, name: str, database: Database, before: int) -> bool:
    """Out of the way first, then a second look: a task that is tried again just now gets its prompt back."""
    task_id = name.removeprefix(LEAVING)
    leaving = runs_dir / (LEAVING + task_id)
    if name == task_id and not await asyncio.to_thread(_rename, runs_dir / name, leaving):
        return False
    if not await _may_go(database, task_id, before):
        await asyncio.to_thread(_rename, leaving, runs_dir / task_id)
        return False
    await asyncio.to_thread(shutil.rmtree, leaving, ignore_errors=True)
    return not leaving.exists()


def _old(runs_dir: Path, before: int) -> list[str]:
    """Folders of tasks in which nothing was made since."""
    found = []
    try:
        entries = list(runs_dir.iterdir())
    except FileNotFoundError:
        return []
    for entry in entries:
        try:
            state = entry.lstat()
        except FileNotFoundError:
            continue
        is_ours = _TASK_ID.fullmatch(entry.name.removeprefix(LEAVING)) and entry.is_dir() and not entry.is_symlink()
        if is_ours and state.st_mtime_ns // 1_000_000 < before:
            found.append(entry.name)
    return found


def _rename(source: Path, target: Path) -> bool:
    try:
        source.rename(target)
    except OSError as error:
        log.warning("cannot move the files of a task path=%s error=%s", source, error)
        return False
    return True
