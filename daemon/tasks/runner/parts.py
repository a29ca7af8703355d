"""What the runner works with, handed over whole by the composition root."""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from tasks.config import Settings
from tasks.database import Database
from tasks.enforcer import WorkflowEnforcer
from tasks.git import GitTracker, Merger, Worktrees
from tasks.manager import TaskManager

P = ParamSpec("P")
T = TypeVar("T")

#: Threads for git, whose commands take their time in large repositories; the event loop's own are for short reads.
GIT_THREADS = 8


def run_mark(task_id: str, attempt: int) -> str:
    """What all processes of one run carry in their environment, as the value of TASKS_RUN."""
    return f"{task_id}.{attempt}"


@dataclass(slots=True)
class Parts:
    settings: Settings
    database: Database
    manager: TaskManager
    tracker: GitTracker
    worktrees: Worktrees
    merger: Merger
    enforcer: WorkflowEnforcer
    #: the client's program when none is configured; None: there is none
    find_program: Callable[[], str | None]
    #: registrations that an agent in this folder lacks, for `--settings`; None: it has them all
    missing_hooks: Callable[[Path], Mapping[str, Any] | None]
    #: of the daemon, before it changed anything for itself
    environ: Mapping[str, str]
    umask: int
    redact: Callable[[str], str]
    #: called when something about a task has changed
    changed: Callable[[], None]
    threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(GIT_THREADS, thread_name_prefix="tasksd-git")
    )

    async def in_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self.threads, lambda: function(*args, **kwargs))


def tail(path: Path, size: int = 4096) -> str:
    """The end of a text file."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - size))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""
