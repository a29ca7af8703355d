"""One submitted task: what its submitter awaits, and how it is run. It never decides when."""

import asyncio
import contextvars
import inspect
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, NamedTuple

from tasks.words import TaskPriority

#: fn, its positional and its keyword arguments
Call = tuple[Callable[..., Any], tuple[object, ...], Mapping[str, object]]
#: a task's result, or what it raised
Outcome = tuple[object, BaseException | None]


class Handle(NamedTuple):
    """What `enqueue` and `run_now` give back."""

    task_id: str
    #: Its result is the task's, its exception the task's; cancelling it cancels the task, and it is done when that has ended.
    future: asyncio.Future[Any]


class Job(asyncio.Future[Any]):
    """The outcome of one task, as a future that behaves like an `asyncio.Task`.

    Cancelling it takes a waiting task out of the line; a running one is asked to end, and the future is done when it has.
    """

    __slots__ = (
        "agent_type",
        "call",
        "context",
        "number",
        "priority",
        "runner",
        "since",
        "started",
        "task_id",
        "withdraw",
        "workspace",
    )

    def __init__(
        self,
        task_id: str,
        call: Call,
        priority: TaskPriority,
        *,
        number: int,
        since: float,
        withdraw: Callable[["Job"], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(loop=loop)
        kwargs = call[2]
        workspace, agent_type = kwargs.get("workspace"), kwargs.get("agent_type")
        self.task_id = task_id
        self.call: Call | None = call
        self.priority = priority
        #: the order of submission
        self.number = number
        #: the clock when it was submitted, and when it was started
        self.since = since
        self.started = since
        self.workspace = None if workspace is None else str(workspace)
        self.agent_type = None if agent_type is None else str(agent_type)
        # A task sees the context variables of its submitter, not those of the task that happened to free the slot.
        self.context = contextvars.copy_context()
        #: None while it waits
        self.runner: asyncio.Task[Outcome] | None = None
        self.withdraw = withdraw

    def start(self) -> asyncio.Task[Outcome]:
        """Let it run from the next round of the loop on; the pool is told of its end by the runner's own callback."""
        if self.call is None:
            raise AssertionError(f"task {self.task_id} was started twice")
        # Not loop.create_task: an eager task factory would run it here and now, inside the pool's own bookkeeping.
        coroutine = carry(self.call)
        self.runner = asyncio.Task(coroutine, loop=self.get_loop(), name=self.task_id, context=self.context)
        self.call = None
        return self.runner

    def settle(self, runner: asyncio.Task[Outcome]) -> None:
        """Take over the outcome of the runner, which has ended."""
        if runner.cancelled():
            super().cancel()
            return
        result, error = runner.result()
        if error is None:
            self.set_result(result)
        else:
            self.set_exception(error)

    def cancel(self, msg: object = None) -> bool:
        """As `asyncio.Task.cancel`: False when it has ended already. For the thread of the event loop."""
        if self.done():
            return False
        if self.runner is not None:
            return self.runner.cancel(msg)
        self.withdraw(self)
        return super().cancel(msg)


async def carry(call: Call) -> Outcome:
    """Run it to its end. Raises nothing but CancelledError: an asyncio task that raises SystemExit ends its whole loop."""
    fn, args, kwargs = call
    try:
        if inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(type(fn).__call__):
            return await fn(*args, **kwargs), None
        result = await _in_thread(call)
        return (await result if inspect.isawaitable(result) else result), None
    except asyncio.CancelledError:
        raise
    except BaseException as error:
        return None, error


async def _in_thread(call: Call) -> Any:
    """Call a plain function in a thread of its own. A thread cannot be stopped: cancelled, this ends when the thread does.

    Not the threads of the loop: they are few, and tasks of hours would keep out all else that needs one.
    """
    executor = ThreadPoolExecutor(1, thread_name_prefix="pool")
    ending = asyncio.get_running_loop().run_in_executor(executor, contextvars.copy_context().run, _call, call)
    executor.shutdown(wait=False)  # the thread ends with its call
    try:
        return await asyncio.shield(ending)
    except asyncio.CancelledError:
        while not ending.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([ending])
        unwanted = ending.result()  # what it raised is not lost
        if inspect.iscoroutine(unwanted):
            unwanted.close()
        raise


def _call(call: Call) -> object:
    fn, args, kwargs = call
    try:
        return fn(*args, **kwargs)
    except StopIteration as error:
        # A future cannot hold one; coroutines do the same.
        raise RuntimeError("a function in the pool raised StopIteration") from error
