"""Folders of tasks: runs/<task>/prompt holds what was asked, word for word; beside it lie the folders of its runs."""

import contextlib
import os
import re
import shutil
import time
from pathlib import Path

from tasks.errors import StoreUnavailable

#: What task ids look like; nothing else ever becomes a part of a path.
TASK_ID = re.compile(r"[0-9a-f]{6}")


def write(runs_dir: Path, task_id: str, text: str) -> bool:
    """Store a prompt (0600, its folder 0700); durable when this returns. False: the folder is taken, nothing was done.

    Raises StoreUnavailable when the disk cannot take it; then nothing is left of it.
    """
    folder = runs_dir / task_id
    try:
        if not runs_dir.is_dir():
            runs_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            _sync(runs_dir.parent)
        folder.mkdir(mode=0o700)
    except FileExistsError:
        return False
    except OSError as error:
        raise StoreUnavailable(f"cannot store a prompt in {runs_dir}: {error}") from error
    try:
        fd = os.open(folder / "prompt", os.O_CREAT | os.O_WRONLY | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(fd)
        _sync(folder)
        _sync(runs_dir)
    except BaseException as error:
        remove(runs_dir, task_id)
        if isinstance(error, OSError):
            raise StoreUnavailable(f"cannot store a prompt in {folder}: {error}") from error
        raise
    return True


def remove(runs_dir: Path, task_id: str) -> bool:
    """Remove the folder of a task with everything in it. Whether nothing is left of it."""
    if TASK_ID.fullmatch(task_id) is None:
        return False
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(runs_dir / task_id, ignore_errors=True)
    return not os.path.lexists(runs_dir / task_id)


def folders(runs_dir: Path, *, older_than: float) -> list[str]:
    """The task ids that have a folder untouched for that many seconds."""
    latest = time.time() - older_than
    found = []
    with contextlib.suppress(FileNotFoundError), os.scandir(runs_dir) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                is_ours = TASK_ID.fullmatch(entry.name) is not None and entry.is_dir(follow_symlinks=False)
                if is_ours and entry.stat(follow_symlinks=False).st_mtime < latest:
                    found.append(entry.name)
    return found


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
