"""The pool itself: takes tasks, starts them when there is a slot, gives their outcome back."""

import asyncio
import math
import random
import time
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any, TypeVar, overload

from tasks.errors import PoolClosed, PoolFull
from tasks.pool.jobs import Handle, Job, Outcome
from tasks.pool.line import Line
from tasks.pool.snapshots import PoolSnapshot, PoolStatus, view_running, view_waiting
from tasks.words import TaskPriority

T = TypeVar("T")


class AgentPool:
    """Runs at most `max_agents` tasks at once, the most urgent first; at most `queue_size` wait for that.

    A task is a call: `fn(*args, **kwargs)`. A coroutine function runs in the event loop, any other function in a thread of
    its own. All keyword arguments but `priority` go to `fn`; the pool itself reads these of them:
    - `task_id`: its name for `cancel`, unique among the tasks in the pool; without one, six hex characters are drawn.
    - `workspace`: at most `per_workspace` tasks of one are at work at once (0: no such limit).
    - `agent_type`: at most `per_agent_type[agent_type]` tasks of it are at work at once (not there, or 0: no such limit).

    Order: a task's effective priority is its priority, raised by one (LOW → NORMAL → HIGH) for every `ageing` seconds that
    it has waited (0: never). Whenever a slot is free it goes to the waiting task with the highest effective priority, among
    those to the one submitted first, passing over tasks that their limits keep back. So with ageing a task is overtaken only
    by tasks submitted less than 2 × `ageing` seconds after it, and none is starved. Time in a pause counts as waiting.

    Each task is an asyncio task of its own, in the context (`contextvars`) of its submitter. Whatever it raises, SystemExit
    and KeyboardInterrupt included, goes to whoever awaits it and nowhere else. A task that awaits another one's `submit`
    keeps its own slot meanwhile.

    One pool serves one event loop, from its first task on (RuntimeError in another), and only that loop's thread may use it.
    """

    def __init__(
        self,
        max_agents: int = 3,
        *,
        queue_size: int = 10,
        ageing: float = 900.0,
        per_workspace: int = 0,
        per_agent_type: Mapping[str, int] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        _check("max_agents", max_agents, least=1)
        _check("queue_size", queue_size, least=1)
        _check("ageing", ageing, least=0)
        _check("per_workspace", per_workspace, least=0)
        for name, limit in (per_agent_type or {}).items():
            _check(f"per_agent_type[{name!r}]", limit, least=0)
        self._max_agents = max_agents
        self._queue_size = queue_size
        self._clock = clock
        self._line = Line(ageing=ageing, per_workspace=per_workspace, per_agent_type=per_agent_type or {}, clock=clock)
        #: every task that has not ended, by its id
        self._jobs: dict[str, Job] = {}
        self._active = 0
        self._submitted = 0
        self._paused = False
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None

    @overload
    async def submit(
        self,
        fn: Callable[..., Coroutine[Any, Any, T]],
        /,
        *args: object,
        priority: TaskPriority = TaskPriority.NORMAL,
        **kwargs: object,
    ) -> T: ...
    @overload
    async def submit(
        self,
        fn: Callable[..., T],
        /,
        *args: object,
        priority: TaskPriority = TaskPriority.NORMAL,
        **kwargs: object,
    ) -> T: ...
    async def submit(
        self,
        fn: Callable[..., object],
        /,
        *args: object,
        priority: TaskPriority = TaskPriority.NORMAL,
        **kwargs: object,
    ) -> object:
        """Run `fn(*args, **kwargs)` as soon as there is a slot; returns its result, raises what it raises.

        Cancelling the caller cancels the task, and returns to it when the task has ended, as awaiting the task itself would.
        CancelledError: it was cancelled. PoolFull: as many wait as may. PoolClosed: the pool is shut down.
        ValueError: a task of this id is in the pool.
        """
        return await self._take_on(fn, args, kwargs, priority)

    def enqueue(
        self,
        fn: Callable[..., object],
        /,
        *args: object,
        priority: TaskPriority = TaskPriority.NORMAL,
        **kwargs: object,
    ) -> Handle:
        """As `submit`, without awaiting the end: the errors of the pool are raised here, the outcome is the future's."""
        job = self._take_on(fn, args, kwargs, priority)
        return Handle(job.task_id, job)

    def run_now(
        self,
        fn: Callable[..., object],
        /,
        *args: object,
        priority: TaskPriority = TaskPriority.NORMAL,
        **kwargs: object,
    ) -> Handle:
        """As `enqueue`, but start at once, whatever bound, limit or pause there is; it counts as at work.

        For what is under way already and only to be watched again.
        """
        job = self._take_on(fn, args, kwargs, priority, at_once=True)
        return Handle(job.task_id, job)

    async def cancel(self, task_id: str) -> bool:
        """Cancel a task and wait until it has ended. True: so it ended, and whoever awaits it gets CancelledError.

        A waiting one is never started. In a running one CancelledError is raised, where it awaits; a plain function cannot be
        stopped, what it returns is dropped. False: there is no such task in the pool, or it ended in a way of its own.
        """
        job = self._jobs.get(task_id)
        if job is None:
            return False
        job.cancel()
        await asyncio.wait([job])
        return job.cancelled()

    def pause(self) -> None:
        """Start no more waiting tasks; those at work go on."""
        self._paused = True

    def resume(self) -> None:
        """Undo `pause`."""
        self._paused = False
        self._dispatch()

    def resize(self, max_agents: int) -> None:
        """From now on let as many be at work at once, at least 1. What is at work goes on when it is less than before."""
        _check("max_agents", max_agents, least=1)
        self._max_agents = max_agents
        self._dispatch()

    async def shutdown(
        self,
        *,
        wait: bool = True,
        cancel_running: bool = False,
        timeout: float | None = None,  # noqa: ASYNC109 - it bounds the wait and cancels nothing
    ) -> bool:
        """Take no more tasks, and wait until those that wait and those at work have ended. True: they have.

        `cancel_running`: cancel all of them first. `timeout`: wait no longer than that many seconds; what is left goes on, and
        may be cancelled by another call. `wait=False`: do not wait at all. A pause is over, or those that wait would never end.
        Any number of calls, also at once, are fine. RuntimeError: called with `wait` by a task of the pool itself.
        """
        jobs = list(self._jobs.values())
        if jobs:
            self._own_loop()
        current = asyncio.current_task()
        if wait and any(job.runner is current for job in jobs):
            raise RuntimeError("a task of the pool would wait for its own end; let it call shutdown(wait=False)")
        self._closed = True
        if cancel_running:
            for job in jobs:
                job.cancel()
        self.resume()
        if jobs and wait:
            await asyncio.wait(jobs, timeout=timeout)
        return all(job.done() for job in jobs)

    def get_status(self) -> PoolStatus:
        """Four figures: slots, those taken, waiting tasks, and how many may wait."""
        return {
            "total_workers": self._max_agents,
            "active_workers": self._active,
            "queued_tasks": len(self._line),
            "queue_size": self._queue_size,
        }

    def snapshot(self) -> PoolSnapshot:
        """Every task in the pool. O(n log n) in their number."""
        now = self._clock()
        running = sorted((job for job in self._jobs.values() if job.runner), key=lambda job: (job.started, job.number))
        waiting = sorted(
            (job for job in self._jobs.values() if not job.runner), key=lambda job: self._line.rank(job, now)
        )
        views = [view_running(job, self._line, now) for job in running]
        for position, job in enumerate(waiting, 1):
            why = "paused" if self._paused else self._line.obstacle(job) or "no free slot"
            views.append(view_waiting(job, self._line, now, position=position, why=why))
        return PoolSnapshot(**self.get_status(), paused=self._paused, closed=self._closed, tasks=tuple(views))

    def _take_on(
        self,
        fn: Callable[..., object],
        args: tuple[object, ...],
        kwargs: dict[str, object],
        priority: TaskPriority,
        *,
        at_once: bool = False,
    ) -> Job:
        """Start it, or put it into the line, or refuse it."""
        if not callable(fn):
            raise TypeError(
                f"the pool runs functions, not {fn!r}; give it the function and its arguments, not the call"
            )
        loop = self._own_loop()
        task_id = self._name(kwargs)
        if self._closed:
            raise PoolClosed(f"task {task_id} was not taken: the pool is shut down and takes no more tasks")
        job = Job(
            task_id,
            (fn, args, kwargs),
            priority if isinstance(priority, TaskPriority) else TaskPriority(priority),
            number=self._submitted,
            since=self._clock(),
            withdraw=self._withdraw,
            loop=loop,
        )
        # Nobody in the line may start right now, or would have: so who may start overtakes nobody.
        if at_once or (not self._paused and self._active < self._max_agents and self._line.has_room_for(job)):
            self._start(job)
        elif len(self._line) < self._queue_size:
            self._line.enter(job)
        else:
            raise PoolFull(
                f"task {task_id} was not taken: {len(self._line)} tasks wait already, as many as may (queue_size); "
                "submit it again when some have started, cancel some, or make the pool with a larger queue_size"
            )
        self._submitted += 1
        self._jobs[task_id] = job
        return job

    def _name(self, kwargs: Mapping[str, object]) -> str:
        given = kwargs.get("task_id")
        if given is None:
            while (drawn := f"{random.getrandbits(24):06x}") in self._jobs:
                pass
            return drawn
        task_id = str(given)
        if task_id in self._jobs:
            raise ValueError(f"task {task_id} is in the pool already; wait until it has ended, or cancel it")
        return task_id

    def _own_loop(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise RuntimeError("the pool was used in another event loop before; make one pool for each loop")
        return loop

    def _dispatch(self) -> None:
        """Start whoever may start. Called whenever that may have changed."""
        while len(self._line) and not self._paused and self._active < self._max_agents:
            self._own_loop()
            job = self._line.take()
            if job is None:
                return
            job.started = self._clock()
            self._start(job)

    def _start(self, job: Job) -> None:
        self._active += 1
        self._line.start(job)
        # The callback, not code around fn: a task cancelled before its first step runs no code at all.
        job.start().add_done_callback(partial(self._ended, job))

    def _ended(self, job: Job, runner: asyncio.Task[Outcome]) -> None:
        del self._jobs[job.task_id]
        self._active -= 1
        self._line.end(job)
        job.settle(runner)
        self._dispatch()

    def _withdraw(self, job: Job) -> None:
        del self._jobs[job.task_id]
        self._line.leave(job)


def _check(name: str, value: float, *, least: int) -> None:
    if not (math.isfinite(value) and value >= least):
        raise ValueError(f"{name} is {value}; it has to be a number of at least {least}")
