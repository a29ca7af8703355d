"""The ground that the daemon stands on: its folder, the mark of a clean stop, its log, the files it may open."""

import contextlib
import os
import resource
import stat
from collections.abc import Iterator
from pathlib import Path

from tasks.errors import StoreUnavailable

#: Open files asked for; agents, sockets and the spool need some.
OPEN_FILES = 8192


def prepare_data_dir(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        state = path.stat()
        if state.st_uid != os.geteuid():
            raise StoreUnavailable(
                f"{path} belongs to user {state.st_uid}; set TASKSD_DATA_DIR to a directory of your own"
            )
        if state.st_mode & 0o077:
            path.chmod(0o700)
    except OSError as error:
        raise StoreUnavailable(f"cannot use the data directory {path}: {error}") from error


@contextlib.contextmanager
def running_marker(path: Path) -> Iterator[bool]:
    """Yields whether the marker was left by a daemon that did not stop cleanly."""
    was_unclean = path.exists()
    path.touch(mode=0o600)
    yield was_unclean
    path.unlink(missing_ok=True)


def make_log_private() -> None:
    """A service manager that opens a file for our log makes it readable by others."""
    state = os.fstat(2)
    if stat.S_ISREG(state.st_mode) and state.st_uid == os.geteuid() and state.st_mode & 0o077:
        os.fchmod(2, 0o600)


def raise_open_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
