"""Where a task's agent works: a worktree of its own, or the workspace itself where there is no git or none is wanted."""

import asyncio
import logging
import shutil
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks import process
from tasks.errors import GitError, SpawnError
from tasks.git import Worktree
from tasks.manager import Task, TaskManager
from tasks.process import RunFiles
from tasks.runner.parts import Parts, tail
from tasks.words import PrivacyLevel

log = logging.getLogger(__name__)

#: Bytes of a failed setup command's output that its error quotes.
QUOTED = 1000


@dataclass(frozen=True, slots=True)
class Place:
    workdir: Path
    isolated: bool
    #: made just now
    fresh: bool = False


def setup_left(parts: Parts, task_id: str) -> tuple[RunFiles, str]:
    """Where the setup of a task's worktree runs, and the mark of its processes."""
    return RunFiles(parts.settings.runs_dir / task_id / "setup"), f"{task_id}.setup"


async def note_worktree(manager: TaskManager, task_id: str, worktree: Worktree) -> None:
    """Let the task's row know its worktree."""
    await manager.set_worktree(
        task_id,
        worktree=str(worktree.path),
        branch=worktree.branch,
        base_branch=worktree.base_branch,
        base_commit=worktree.base_commit,
        notes=[f"works in {worktree.workdir} on branch {worktree.branch}", *worktree.notes],
    )


class Placing:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def is_isolated(self, task: Task) -> bool:
        """Whether the task is to have a worktree. A folder that is not there, or no repository, is told by `find`."""
        return (
            task.isolate
            and self._parts.settings.agent.of(task.agent_type).isolation
            and task.workspace is not None
            and self._parts.tracker.is_repository(task.workspace)
        )

    async def find(self, task: Task, *, isolated: bool) -> Place:
        """Make the worktree, or take up the one that an earlier attempt left.

        Raises GitError when there is none to be had: a task that wants one never runs in the workspace instead.
        """
        parts = self._parts
        if task.workspace is None or not await asyncio.to_thread(Path(task.workspace).is_dir):
            raise GitError(
                f"the workspace {task.workspace} is not there: create it, then `tasksd retry {task.task_id}`"
            )
        if not isolated:
            await self._say_in_place(task)
            return Place(Path(task.workspace), isolated=False)
        fresh = task.worktree is None
        worktree = await parts.in_thread(parts.worktrees.create, task.task_id, task.workspace)
        if fresh:
            await note_worktree(parts.manager, task.task_id, worktree)
        return Place(worktree.workdir, isolated=True, fresh=fresh)

    async def set_up(self, task: Task, place: Place, stop: asyncio.Event) -> None:
        """Run the configured setup command, once for a worktree; `stop` ends it. Raises SpawnError."""
        parts = self._parts
        command = parts.settings.agent.of(task.agent_type).setup
        done = parts.settings.runs_dir / task.task_id / "set-up"
        if not command or not place.isolated or (not place.fresh and await asyncio.to_thread(done.exists)):
            return
        await parts.manager.add_activities(task.task_id, [f"setting up: {command}"])
        await self._run_setup(task, place, command, stop)
        # What it left lying about is not the agent's.
        await parts.in_thread(parts.enforcer.remember, place.workdir, task.agent_type, task_id=task.task_id)
        done.touch(mode=0o600)

    async def _run_setup(self, task: Task, place: Place, command: str, stop: asyncio.Event) -> None:
        parts = self._parts
        settings = parts.settings.agent.of(task.agent_type)
        files, mark = setup_left(parts, task.task_id)
        if await asyncio.to_thread(files.directory.exists):  # of an earlier attempt, or of a daemon killed meanwhile
            await process.stop(files, mark)
            await asyncio.to_thread(shutil.rmtree, files.directory)
        environ = {
            **process.scrubbed(parts.environ),
            **settings.environment,
            "TASKS_WORKSPACE": task.workspace or "",
            process.TASK_VARIABLE: task.task_id,
            process.RUN_VARIABLE: mark,
        }
        shim = await parts.in_thread(
            process.spawn, files, ["/bin/sh", "-c", command], cwd=place.workdir, environ=environ, stdin=None,
            output_bytes=settings.output_bytes, umask=parts.umask,
        )  # fmt: skip
        watch = process.Watch(shim, files)
        try:
            ended = await _either(stop, watch.ended(settings.setup_timeout))
        finally:
            watch.close()
            await process.stop(files, mark)
        status = await asyncio.to_thread(files.exit_status)
        if stop.is_set():
            raise SpawnError("the task was stopped during its setup")
        if not ended:
            raise SpawnError(
                f"the setup command took longer than {settings.setup_timeout} s (agent.setup_timeout): {command}"
            )
        if status:
            said = "\n".join(tail(path, QUOTED).strip() for path in (files.output, files.errors)).strip()
            if parts.settings.privacy.level is PrivacyLevel.MINIMAL:
                said = ""
            raise SpawnError(f"the setup command ended with status {status}: {command}\n{said}")

    async def _say_in_place(self, task: Task) -> None:
        wanted = task.isolate and self._parts.settings.agent.of(task.agent_type).isolation
        why = "it is not in a git repository" if wanted else "without isolation, as asked for"
        await self._parts.manager.add_activities(task.task_id, [f"works in {task.workspace} itself: {why}"])


async def _either(stop: asyncio.Event, ended: Coroutine[Any, Any, bool]) -> bool:
    """What `ended` says, or False as soon as `stop` is set."""
    ending, stopping = asyncio.ensure_future(ended), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({ending, stopping}, return_when=asyncio.FIRST_COMPLETED)
        return ending.done() and ending.result()
    finally:
        ending.cancel()
        stopping.cancel()
