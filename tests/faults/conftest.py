"""Fixtures of the fault tests: whole processes, real files, real signals."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .rig.daemon import Daemon
from .rig.work import Work


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty directory, in memory where that is possible: journals of disks take a millisecond per file.

    Its path is short: the name of a test would make socket paths too long.
    """
    memory = Path("/dev/shm")
    if os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 512 << 20:
        with tempfile.TemporaryDirectory(prefix="tasksd-", dir=memory) as name:
            yield Path(name)
    else:
        yield tmp_path_factory.mktemp("f")


@pytest.fixture
def new_daemon(folder: Path) -> Iterator[Callable[..., Daemon]]:
    """Makes daemons that do not outlive the test."""
    made: list[Daemon] = []

    def make(data_dir: Path = folder / "d", **options: object) -> Daemon:
        made.append(Daemon(data_dir, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for one in made:
        one.kill()


@pytest.fixture
def daemon(new_daemon: Callable[..., Daemon]) -> Daemon:
    """Not started yet."""
    return new_daemon()


@pytest.fixture
def work(daemon: Daemon, folder: Path) -> Iterator[Work]:
    """A repository and a configuration for tasks; the daemon is not started yet. No agent outlives the test."""
    work = Work(daemon, folder)
    yield work
    daemon.kill()
    work.kill_agents()
