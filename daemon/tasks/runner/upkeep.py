"""Takes up tasks that nobody carries: those of earlier daemons, and those whose carrying out failed half-way."""

import asyncio
import logging
from collections.abc import Callable, Container, Coroutine, Iterable
from typing import Any

from tasks import process
from tasks.errors import GitError, StoreError, TasksError
from tasks.manager import Run, Task
from tasks.process import ProcessIdentity, RunFiles
from tasks.runner.facts import facts, is_unsaid
from tasks.runner.parts import Parts, run_mark
from tasks.runner.patience import Patience
from tasks.runner.place import note_worktree, setup_left
from tasks.runner.recovery import Action, Found, decide
from tasks.runner.settling import Settling
from tasks.words import TaskStatus

log = logging.getLogger(__name__)

#: Puts a run into the pool at once, to be seen through.
Adopt = Callable[[Task, Run, ProcessIdentity | None], None]
#: Starts work that outlives the call that began it.
Begin = Callable[[Coroutine[Any, Any, None], str], None]


class Upkeep:
    """`carried` are the tasks in the pool. What it takes its time for is in `busy` meanwhile: nobody else may touch it."""

    def __init__(
        self,
        parts: Parts,
        settling: Settling,
        patience: Patience,
        *,
        carried: Container[str],
        adopt: Adopt,
        begin: Begin,
        wake: Callable[[], None],
    ) -> None:
        self._parts = parts
        self._manager = parts.manager
        self._settling = settling
        self._patience = patience
        self._carried = carried
        self._adopt = adopt
        self._begin = begin
        self._wake = wake
        self.busy: set[str] = set()
        #: tasks of which something failed, to be looked at again
        self._suspects: set[str] = set()
        #: whether everything was looked at, once: earlier daemons may have left agents of any task
        self._all_seen = False

    def suspect(self, task_id: str) -> None:
        """Carrying it out failed half-way: `look` goes on from where it is, after some seconds."""
        self._suspects.add(task_id)
        self._patience.set_back(task_id)

    async def look(self, unfinished: Iterable[Task]) -> None:
        """Do for every task that nobody carries what the table of recovery says; the first time for all that the store has,
        later for those of `unfinished` that run and those that something failed of. Raises StoreError.
        """
        if self._all_seen:
            tasks = [task for task in unfinished if task.status is TaskStatus.RUNNING]
            known = {task.task_id for task in tasks}
            tasks += [found for one in self._suspects - known if (found := await self._manager.get_task(one))]
        else:
            tasks = await self._manager.to_recover()
        for task in tasks:
            if not self._is_in_hand(task.task_id):
                await self._try(task)
        self._all_seen = True

    def _is_in_hand(self, task_id: str) -> bool:
        return task_id in self._carried or task_id in self.busy

    async def _try(self, task: Task) -> None:
        """One that cannot be looked at stands in nobody's way."""
        if self._patience.waits(task.task_id):
            return
        # Should nothing come of it, it is not looked at all the time.
        self.suspect(task.task_id)
        try:
            again = await self._manager.find_task(task.task_id)
            run = await self._manager.latest_run(task.task_id)
            found, shim = await self._look_at(again, run)
            if not self._is_in_hand(task.task_id):
                await self._take_up(again, run, shim, decide(found))
        except StoreError:
            raise
        except (TasksError, OSError) as error:
            log.error("cannot take up a task, trying again task=%s error=%s", task.task_id, error)

    async def _take_up(self, task: Task, run: Run | None, shim: ProcessIdentity | None, action: Action) -> None:
        if action is not Action.LEAVE:
            log.info("found task=%s status=%s action=%s", task.task_id, task.status, action)
        match action:
            case Action.LEAVE:
                self._suspects.discard(task.task_id)
            case Action.ENQUEUE:
                self._is_well(task.task_id)
            case Action.ADOPT | Action.JUDGE if run is not None:
                self._suspects.discard(task.task_id)
                self._adopt(task, run, shim)
            case Action.RESTART if run is not None:
                await self._restart(task, run)
            case Action.END | Action.SETTLE:
                self.busy.add(task.task_id)
                self._begin(self._tidy(task, run, action), f"tidy-{task.task_id}")
            case _:
                pass  # it may live: `look` comes again

    def _is_well(self, task_id: str) -> None:
        self._suspects.discard(task_id)
        self._patience.forget(task_id)

    async def _restart(self, task: Task, run: Run) -> None:
        if not await asyncio.to_thread(self._files(task, run).forbid_start):
            return  # it was on its way and is here now: `look` finds it
        await self._manager.end_run(task.task_id, run.attempt, exit_status=None, outcome="not_started")
        await self._manager.update_task_status(task.task_id, TaskStatus.QUEUED)
        self._suspects.discard(task.task_id)

    async def end(self, task: Task) -> None:
        """One that was just stopped and that nobody carries: end what lives of it, then settle it."""
        run = await self._manager.latest_run(task.task_id)
        found, shim = await self._look_at(task, run)
        if self._is_in_hand(task.task_id):
            return
        if decide(found) is Action.END:
            await self._take_up(task, run, shim, Action.END)
        else:
            await self._note_worktree(task)
            await self._settling.settle(task.task_id)

    async def _note_worktree(self, task: Task) -> None:
        """A worktree, perhaps half of one, that a daemon was killed over before its row knew of it: so that it is removed."""
        path = self._parts.settings.worktrees_dir / task.task_id
        if task.worktree is not None or task.workspace is None or not await asyncio.to_thread(path.exists):
            return
        try:
            worktree = await self._parts.in_thread(self._parts.worktrees.create, task.task_id, task.workspace)
        except GitError as error:
            log.warning("a worktree is left behind task=%s path=%s error=%s", task.task_id, path, error)
            return
        await note_worktree(self._manager, task.task_id, worktree)

    async def _tidy(self, task: Task, run: Run | None, action: Action) -> None:
        """What takes its time: ending processes, merging."""
        try:
            if action is Action.END:
                await self._end_setup(task)
            if run is not None and action is Action.END:
                await process.stop(self._files(task, run), run_mark(task.task_id, run.attempt))
            if run is not None and run.finished_at is None:
                status = await asyncio.to_thread(self._files(task, run).exit_status)
                await self._manager.end_run(task.task_id, run.attempt, exit_status=status, outcome="stopped")
            await self._settling.settle(task.task_id)
            self._is_well(task.task_id)
        finally:
            self.busy.discard(task.task_id)
            self._wake()

    async def _end_setup(self, task: Task) -> None:
        files, mark = setup_left(self._parts, task.task_id)
        if await asyncio.to_thread(files.directory.is_dir):
            await process.stop(files, mark)

    async def _look_at(self, task: Task, run: Run | None) -> tuple[Found, ProcessIdentity | None]:
        """The facts about a task, and the shim if one lives."""
        if run is not None:
            return await asyncio.to_thread(facts, task, run, self._files(task, run))
        files, mark = setup_left(self._parts, task.task_id)
        marked = await asyncio.to_thread(
            lambda: files.directory.is_dir() and bool(process.marked(process.RUN_VARIABLE, mark))
        )
        return Found(task.status, task.merge_state, worktree=is_unsaid(task), marked=marked), None

    def _files(self, task: Task, run: Run) -> RunFiles:
        return RunFiles(self._parts.settings.runs_dir / task.task_id / str(run.attempt))
