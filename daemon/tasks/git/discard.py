"""Where worktrees go to be deleted: moved in one step, so that a crash leaves none half there, then emptied at leisure."""

import logging
import os
import shutil
import stat
import tempfile
from pathlib import Path

from tasks.git.place import shown

logger = logging.getLogger(__name__)

_TAKEN = "removed-"


class Bin:
    """The folder `.discarded` beside the worktrees, on the same file system."""

    def __init__(self, worktrees: Path) -> None:
        self._folder = worktrees / ".discarded"

    def draft(self, task_id: str) -> Path:
        """A path for a file in the making; the caller has the lock of the task's worktree."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return self._folder / f"draft-{task_id}"

    def take(self, path: Path, task_id: str) -> Path:
        """Move a folder here; nothing is left at `path`. Raises OSError when it cannot be moved."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        place = Path(tempfile.mkdtemp(prefix=f"{_TAKEN}{task_id}-", dir=self._folder))
        path.rename(place / path.name)
        return place

    def aside(self, path: Path) -> Path:
        """Give a folder that is not ours to delete another name beside it; where it is now."""
        number = 1
        while (there := path.with_name(f"{path.name}.aside-{number}")).exists():
            number += 1
        path.rename(there)
        return there

    def empty(self, taken: Path | None) -> str | None:
        """Delete what was taken; None, or what could not be deleted and why."""
        if taken is None:
            return None
        for attempt in (1, 2):
            try:
                shutil.rmtree(taken)
            except FileNotFoundError:
                return None
            except OSError as error:
                if attempt == 2:
                    logger.warning("cannot delete what is left of a worktree: %s path=%s", error, taken)
                    return f"{shown(taken)} is left and can be deleted by hand: {error.strerror}"
                _open_up(taken)
            else:
                return None
        return None

    def sweep(self) -> int:
        """Delete what earlier processes moved here and had no time to delete; how many."""
        try:
            left = [entry for entry in self._folder.iterdir() if entry.name.startswith(_TAKEN)]
        except FileNotFoundError:
            return 0
        return sum(self.empty(entry) is None for entry in left)


def _open_up(folder: Path) -> None:
    """Make every folder in it writable: package caches are read-only."""
    for at, folders, _ in os.walk(folder):
        for path in (Path(at), *(Path(at, name) for name in folders)):
            if not path.is_symlink() and path.stat().st_uid == os.geteuid():
                path.chmod(stat.S_IMODE(path.stat().st_mode) | stat.S_IRWXU)
