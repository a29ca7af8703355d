"""One lock per repository for everything of ours that changes it: worktrees added and removed, merges."""

import fcntl
import hashlib
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tasks.errors import RepositoryBusy

PATIENCE = 120.0  # seconds: others may be checking out a large repository


@contextmanager
def repository_lock(locks_dir: Path, common_dir: Path, *, timeout: float = PATIENCE) -> Iterator[int]:
    """Hold the repository against every other holder of this lock, in this process and in others; yields a descriptor.

    `common_dir` is what `git rev-parse --git-common-dir` answers, so that all worktrees of one repository share it.
    The lock ends with the block or with the last process that has the descriptor: one that is given it (pass_fds) keeps
    the repository locked when its parent is killed. The file is in `locks_dir`, never in the repository; it stays.
    Not reentrant. Raises RepositoryBusy when it is still held after `timeout` seconds.
    """
    path = lock_path(locks_dir, common_dir)
    locks_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _acquire(fd, time.monotonic() + timeout, f"{common_dir} is still in use after {timeout:g} s ({path})")
        with suppress(OSError):  # a full disk: it is only for whoever looks into the file
            os.truncate(fd, 0)
            os.pwrite(fd, os.fsencode(f"{os.getpid()} {common_dir}\n"), 0)
        yield fd
    finally:
        # Only closing, never LOCK_UN: that would take the lock from a child which still works under it.
        os.close(fd)


def lock_path(locks_dir: Path, common_dir: Path) -> Path:
    """The lock file of the repository: named by a hash of the place it resolves to."""
    digest = hashlib.sha256(os.fsencode(os.path.realpath(common_dir))).hexdigest()
    return locks_dir / f"{digest[:32]}.lock"


def _acquire(fd: int, deadline: float, busy: str) -> None:
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise RepositoryBusy(f"{busy}: another task is at work there; trying again later works") from None
            time.sleep(random.uniform(0.005, 0.03))  # noqa: S311 - so that many who wait do not wake at once
        else:
            return
