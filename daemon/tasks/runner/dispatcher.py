"""Gives tasks to the pool, in an order derived from their rows, and does what people ask about them."""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.errors import (
    ImpossibleTransition,
    NoCommits,
    PoolClosed,
    PoolFull,
    StoreBusy,
    StoreUnavailable,
    TasksError,
)
from tasks.manager import Run, Task
from tasks.pool import AgentPool
from tasks.process import ProcessIdentity
from tasks.runner.parts import Parts
from tasks.runner.patience import Patience
from tasks.runner.runner import Ended, Outcome, Runner
from tasks.runner.settling import Cleaned, Settling
from tasks.runner.upkeep import Upkeep
from tasks.runner.valve import Hold, Valve
from tasks.words import MergeState, TaskPriority, TaskStatus

log = logging.getLogger(__name__)

#: Seconds between two looks at the rows, when nobody rings.
INTERVAL = 2.0
#: Seconds that `stop_agents` waits for agents to end; most of that goes by when one ignores SIGINT and SIGTERM.
ENDING = 20.0
#: Seconds that a retry waits for the end of the run before: its last processes, its branch.
LETTING_GO = 10.0
#: A name in daemon_state.
WORKERS = "pool.max_agents"


@dataclass(frozen=True, slots=True)
class WaitingTask:
    task_id: str
    priority: TaskPriority
    #: from 1; who starts next
    position: int
    reason: str


@dataclass(frozen=True, slots=True)
class PoolState:
    total_workers: int
    active_workers: int
    queued_tasks: int
    queue_size: int
    #: by a person
    paused: bool
    #: why nothing is started until `hold_until` (epoch milliseconds): a usage limit
    hold_reason: str | None
    hold_until: int | None
    waiting: list[WaitingTask]


class Dispatcher:
    """The pool of the daemon and its tasks. `step` is called again and again; everything else by the API.

    `wake` makes the daemon call `step` soon.
    """

    def __init__(self, parts: Parts, *, wake: Callable[[], None]) -> None:
        settings = parts.settings
        self._parts = parts
        self._manager = parts.manager
        self._wake = wake
        self._settling = Settling(parts)
        self._runner = Runner(parts, self._settling)
        self._pool = AgentPool(
            settings.pool.max_agents,
            queue_size=settings.pool.queue_size,
            ageing=settings.pool.ageing,
            per_workspace=settings.pool.per_workspace,
            per_agent_type={name: one.max_agents for name, one in settings.agent.types.items() if one.max_agents},
        )
        #: tasks that are in the pool, waiting or at work, each with its end
        self._carried: dict[str, asyncio.Future[Any]] = {}
        self._valve = Valve(self._pool, parts.manager)
        self._patience = Patience()
        self._upkeep = Upkeep(
            parts,
            self._settling,
            self._patience,
            carried=self._carried,
            adopt=self._adopt,
            begin=self._begin,
            wake=wake,
        )
        self._hindered = False
        #: work that outlives the call that began it
        self._background: set[asyncio.Task[None]] = set()

    # The loop.

    async def start(self) -> None:
        """Restore what has to survive a restart and take up the tasks of earlier daemons."""
        await self._valve.restore(_now())
        workers = await self._manager.get_state(WORKERS)
        if isinstance(workers, int):
            self._pool.resize(workers)
        with contextlib.suppress(StoreUnavailable, StoreBusy):  # `step` looks again
            await self._upkeep.look(())
        self._begin(self._sweep(), "sweep-worktrees")

    async def step(self) -> None:
        """Give queued tasks to the pool and notice what others decided. What the store cannot do waits."""
        try:
            await self._valve.release(_now())
            unfinished = await self._manager.unfinished()
            self._patience.keep_only({task.task_id for task in unfinished})
            await self._upkeep.look(unfinished)
            self._give(unfinished)
            await self._heed_others()
        except (StoreUnavailable, StoreBusy) as error:
            if not self._hindered:
                log.warning("cannot look at the tasks, trying again error=%s", error)
            self._hindered = True
        else:
            self._hindered = False

    async def _sweep(self) -> None:
        """Delete the files of removed worktrees that an earlier daemon had no time to delete."""
        await self._parts.in_thread(self._parts.worktrees.sweep)

    async def retry_merges(self) -> None:
        """Try the merges that wait for somebody's checkout."""
        with contextlib.suppress(StoreUnavailable, StoreBusy):
            await self._settling.retry_waiting()

    async def stop(self) -> None:
        """Give no more tasks away and let go of those at work; their agents go on."""
        await self._pool.shutdown(cancel_running=True)
        for task in self._background:
            task.cancel()
        # A git command under way ends by itself, and what it did is found again; it is not waited for for long.
        self._parts.threads.shutdown(wait=False, cancel_futures=True)

    async def stop_agents(self) -> None:
        """End every agent at work, as if each task had been cancelled, and wait for that, though not for ever."""
        self._pool.pause()  # or those that wait would start in their place
        ids = self._runner.at_work
        await asyncio.gather(*(self.cancel(task_id) for task_id in ids), return_exceptions=True)
        ending = [self._carried[task_id] for task_id in ids if task_id in self._carried]
        if ending or self._background:
            await asyncio.wait([*ending, *self._background], timeout=ENDING)

    def _give(self, tasks: Iterable[Task]) -> None:
        now = _now()
        for task in tasks:
            if task.status is not TaskStatus.QUEUED or self._is_in_hand(task.task_id):
                continue
            if self._patience.is_held(task, now) or self._patience.waits(task.task_id):
                continue
            if not self._enqueue(task):
                break

    def _is_in_hand(self, task_id: str) -> bool:
        return task_id in self._carried or task_id in self._upkeep.busy

    def _enqueue(self, task: Task) -> bool:
        """Whether there was room."""
        try:
            handle = self._pool.enqueue(
                self._runner.carry_out,
                task_id=task.task_id,
                workspace=_resolved(task.workspace),
                agent_type=task.agent_type,
                priority=task.priority,
            )
        except (PoolFull, PoolClosed):
            return False
        self._watch(task.task_id, handle.future)
        return True

    def _adopt(self, task: Task, run: Run, shim: ProcessIdentity | None) -> None:
        async def carry(**_: object) -> Ended:
            return await self._runner.take_up(task, run, shim)

        handle = self._pool.run_now(
            carry, task_id=task.task_id, workspace=_resolved(task.workspace), agent_type=task.agent_type
        )
        self._watch(task.task_id, handle.future)

    def _watch(self, task_id: str, future: "asyncio.Future[Any]") -> None:
        self._carried[task_id] = future

        def done(ended: "asyncio.Future[Any]") -> None:
            del self._carried[task_id]
            if ended.cancelled():
                return
            if error := ended.exception():
                # The row stays as it is; it is taken up again from there.
                is_store = isinstance(error, StoreUnavailable | StoreBusy)
                log.error("carrying out failed task=%s error=%s", task_id, error, exc_info=None if is_store else error)
                self._upkeep.suspect(task_id)
                return
            self._patience.forget(task_id)
            outcome = ended.result()
            if isinstance(outcome, Ended) and outcome.until is not None:
                self._patience.hold(task_id, outcome.until, outcome.seconds)
            if isinstance(outcome, Ended) and outcome.outcome is Outcome.LIMITED:
                self._valve.close(Hold(outcome.until or 0, outcome.reason or "a usage limit"), _now())
                self._begin(self._valve.keep(), "keep-hold")
            self._wake()

        future.add_done_callback(done)

    async def _heed_others(self) -> None:
        """End the agents of tasks that another process declared over."""
        for task_id in self._runner.at_work:
            task = await self._manager.get_task(task_id)
            if task is not None and task.status.is_over:
                self._runner.stop(task_id)

    # What people ask for.

    async def submit(
        self,
        *,
        description: str,
        workspace: str,
        user_id: int,
        priority: TaskPriority = TaskPriority.NORMAL,
        model: str | None = None,
        agent_type: str | None = None,
        workflow: str | None = None,
        isolate: bool = True,
        budget_usd: float | None = None,
        max_turns: int | None = None,
    ) -> tuple[Task, list[str]]:
        """Store a task and queue it. Returns it with what the person should know. Raises TasksError, and then nothing is
        stored."""
        if workspace.encode("utf-8", "replace").decode() != workspace:
            raise TasksError(f"the workspace {workspace!r} is not UTF-8: name it by a link that is")
        folder = Path(workspace)
        if not folder.is_absolute() or not await asyncio.to_thread(folder.is_dir):
            raise TasksError(f"the workspace {workspace} is not a folder: name one that exists, by its absolute path")
        bound = self._pool.get_status()["queue_size"]
        if (await self._manager.count_tasks())[TaskStatus.QUEUED] >= bound:
            raise PoolFull(f"{bound} tasks wait already (pool.queue_size): wait for some to start, or raise it")
        wanted = isolate and self._parts.settings.agent.of(agent_type).isolation
        warnings = await self._parts.in_thread(self._look_at, workspace, isolate=wanted)
        task = await self._manager.create_task(
            user_id, description, model=model, workspace=str(folder), agent_type=agent_type, workflow=workflow,
            priority=priority, isolate=isolate, budget_usd=budget_usd, max_turns=max_turns, queued=True,
        )  # fmt: skip
        self._parts.changed()
        self._wake()
        # Only to say so at once: it is looked at again when there is a slot.
        verdict = await self._parts.in_thread(self._parts.enforcer.pre_task, workspace, agent_type)
        if verdict.message and not verdict.passed:
            warnings.append(f"it waits: {verdict.message}" if verdict.blocks else verdict.message)
        return task, warnings

    def _look_at(self, workspace: str, *, isolate: bool) -> list[str]:
        """What a person should know of where the task will work. Blocking. Raises NoCommits."""
        tracker = self._parts.tracker
        if ".git" in Path(workspace).parts:
            tracker.repository(workspace)  # refuses what lies inside a repository's own folder
        if not isolate:
            return []
        if not tracker.is_repository(workspace):
            return [f"{workspace} is not in a git repository: the task works in it directly"]
        if tracker.head(workspace) is None:
            raise NoCommits(f"{workspace} has no commit yet: commit something first, or submit with --no-isolation")
        if tracker.branch(workspace) is None:
            return ["HEAD is detached: the work will be kept on a branch of its own and not be merged"]
        return []

    async def cancel(self, task_id: str) -> Task:
        """Stop a task, waiting or at work. Its row says so at once; its agent may take some seconds to end."""
        task = await self._manager.find_task(task_id)
        task = await self._manager.update_task_status(task.task_id, TaskStatus.STOPPED)
        if not self._runner.stop(task.task_id):
            await self._pool.cancel(task.task_id)
            await self._upkeep.end(task)
        self._parts.changed()
        self._wake()
        return await self._manager.find_task(task.task_id)

    async def retry(self, task_id: str) -> Task:
        """Queue a failed or stopped task again; it goes on in its worktree, if that is still there."""
        task = await self._manager.find_task(task_id)
        if task.status.is_over and not await self._is_let_go(task.task_id):
            raise ImpossibleTransition(f"task {task.task_id} is still ending; try again in some seconds")
        if task.status is not TaskStatus.PENDING:
            task = await self._manager.retry_task(task.task_id)
        task = await self._manager.update_task_status(task.task_id, TaskStatus.QUEUED)
        self._parts.changed()
        self._wake()
        return task

    async def _is_let_go(self, task_id: str) -> bool:
        """Whether nothing is done about a task any more; one that has just ended is waited for, for a while."""
        if (ending := self._carried.get(task_id)) is not None:
            await asyncio.wait([ending], timeout=LETTING_GO)
            await asyncio.sleep(0)  # whoever watches it notes its end
        return not self._is_in_hand(task_id)

    async def merge(self, task_id: str, into: str | None = None) -> Task:
        task = await self._manager.find_task(task_id)
        return await self._settling.merge(task.task_id, into)

    async def clean(self, *, older_than_ms: int, dry_run: bool) -> list[Cleaned]:
        return await self._settling.clean(older_than_ms=older_than_ms, now=_now(), dry_run=dry_run)

    async def pause(self) -> None:
        """Start nothing more; what is at work goes on. Survives a restart."""
        await self._valve.pause()

    async def resume(self) -> None:
        """Start tasks again, also before the end of a usage limit."""
        await self._valve.resume()
        for task in await self._manager.unfinished():
            if task.status is TaskStatus.QUEUED and task.hold_until is not None and task.task_id not in self._carried:
                await self._manager.clear_hold(task.task_id)
        self._wake()

    async def resize(self, workers: int) -> None:
        """How many agents work at once; survives a restart. Those at work beyond it finish."""
        if workers < 1:
            raise TasksError(
                f"a pool of {workers} agents cannot work: 1 or more are needed; `tasksd pool pause` stops it"
            )
        await self._manager.set_state(WORKERS, workers)
        self._pool.resize(workers)
        self._wake()

    def pool(self) -> PoolState:
        hold, snapshot = self._valve.hold, self._pool.snapshot()
        waiting = [
            WaitingTask(one.task_id, one.priority, one.position, hold.reason if hold else one.why or "")
            for one in snapshot.tasks
            if one.position is not None
        ]
        return PoolState(
            **self._pool.get_status(),
            paused=self._valve.paused,
            hold_reason=hold.reason if hold else None,
            hold_until=hold.until if hold else None,
            waiting=waiting,
        )

    async def explain(self, task: Task) -> str | None:
        """Why a task waits, failed or keeps its branch; None when there is nothing to explain."""
        match task.status:
            case TaskStatus.PENDING:
                return f"it was created, but not queued: `tasksd retry {task.task_id}` queues it"
            case TaskStatus.QUEUED:
                return self._why_queued(task)
            case TaskStatus.RUNNING:
                return None
        if task.merge_state in (MergeState.WAITING, MergeState.CONFLICT, MergeState.KEPT):
            return task.merge_detail
        return task.merge_detail if task.worktree else None

    def _why_queued(self, task: Task) -> str:
        if task.hold_reason and task.hold_until is not None and task.hold_until > _now():
            return task.hold_reason
        for one in self.pool().waiting:
            if one.task_id == task.task_id:
                return f"number {one.position} in the queue: {one.reason}"
        return task.hold_reason or "it is about to start"

    def _begin(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._background.add(task)

        def done(ended: asyncio.Task[None]) -> None:
            self._background.discard(ended)
            if not ended.cancelled() and (error := ended.exception()):
                log.error("%s failed", name, exc_info=error)

        task.add_done_callback(done)


def _resolved(workspace: str | None) -> str | None:
    """One name for one folder, by which agents in it are counted."""
    return None if workspace is None else os.path.realpath(workspace)


def _now() -> int:
    return time.time_ns() // 1_000_000
