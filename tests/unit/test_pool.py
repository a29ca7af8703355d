"""The pool: what is promised of each of its methods, and storms in which no task may be lost."""

import asyncio
import contextvars
import functools
import gc
import random
import re
import sys
import threading
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop
from tasks.errors import PoolClosed, PoolFull
from tasks.pool import AgentPool, Handle, TaskPriority
from tasks.words import TaskStatus

LOOPS = pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
NewLoop = Callable[[], asyncio.AbstractEventLoop]


async def until(condition: Callable[[], object]) -> None:
    """Let the loop run until it holds, 10 seconds at most."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


async def echo(value: object, **_: object) -> object:
    return value


class Work:
    """Coroutine functions that stay at work until they are let go, and what became of them."""

    def __init__(self) -> None:
        self.started: list[object] = []
        self.ended: list[object] = []
        self._gates: dict[object, asyncio.Event] = {}

    async def __call__(self, name: object, **_: object) -> object:
        self.started.append(name)
        try:
            await self._gates.setdefault(name, asyncio.Event()).wait()
        finally:
            self.ended.append(name)
        return name

    def let_go(self, *names: object) -> None:
        for name in names:
            self._gates.setdefault(name, asyncio.Event()).set()


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture(autouse=True)
async def complaints() -> Any:
    """Nothing may ever reach the loop's exception handler: no exception never retrieved, no task destroyed while pending."""
    seen: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: seen.append(context))
    yield seen
    gc.collect()
    assert not seen


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_the_example_of_the_specification_runs() -> None:
    async def execute_task(task_id: str, description: str) -> str:
        return f"{task_id}: {description}"

    # fmt: off
    from tasks.pool import AgentPool, TaskPriority

    pool = AgentPool(max_agents=3)

    # Submit high-priority task
    result = await pool.submit(
        execute_task,
        task_id="abc123",
        description="Critical bug fix",
        priority=TaskPriority.HIGH
    )

    # Check pool status
    status = pool.get_status()
    # {
    #     "total_workers": 3,
    #     "active_workers": 2,
    #     "queued_tasks": 5,
    #     "queue_size": 10
    # }

    # Graceful shutdown
    await pool.shutdown()
    # fmt: on

    assert result == "abc123: Critical bug fix"
    assert list(status.items()) == [
        ("total_workers", 3),
        ("active_workers", 0),
        ("queued_tasks", 0),
        ("queue_size", 10),
    ]


async def test_the_status_of_the_specification_can_be_reached(work: Work) -> None:
    pool = AgentPool(max_agents=3)
    handles = [pool.enqueue(work, number) for number in range(2)]
    pool.pause()
    handles += [pool.enqueue(work, number) for number in range(2, 7)]
    assert pool.get_status() == {"total_workers": 3, "active_workers": 2, "queued_tasks": 5, "queue_size": 10}
    work.let_go(*range(7))
    assert await pool.shutdown()


async def test_all_arguments_but_the_priority_go_to_the_function() -> None:
    async def take(*args: object, **kwargs: object) -> tuple[object, object]:
        return args, kwargs

    given = {"task_id": "a", "workspace": "/srv", "agent_type": "t", "fn": 1, "self": 2, "timeout": 3}
    seen = await AgentPool().submit(take, 1, None, priority=TaskPriority.LOW, **given)
    assert seen == ((1, None), given)


async def test_an_exception_reaches_the_submitter_and_nobody_else(work: Work) -> None:
    async def fail() -> None:
        raise LookupError("mine")

    pool = AgentPool(max_agents=2)
    other = pool.enqueue(work, "other")
    with pytest.raises(LookupError, match="mine"):
        await pool.submit(fail)
    work.let_go("other")
    assert await other.future == "other"


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError, MemoryError])
@pytest.mark.parametrize("in_thread", [False, True])
async def test_whatever_a_task_raises_the_pool_lives_on(error: type[BaseException], in_thread: bool) -> None:
    def fail() -> None:
        raise error

    async def fail_in_loop() -> None:
        fail()

    pool = AgentPool(max_agents=1)
    with pytest.raises(error):
        await pool.submit(fail if in_thread else fail_in_loop)
    assert await pool.submit(echo, "next") == "next"
    assert pool.get_status()["active_workers"] == 0


async def test_a_plain_function_that_raises_stop_iteration_ends_with_an_error() -> None:
    with pytest.raises(RuntimeError, match="StopIteration"):
        await AgentPool().submit(next, iter(()))


async def test_a_plain_function_runs_in_a_thread_with_the_context_of_its_submitter() -> None:
    variable = contextvars.ContextVar[str]("variable")
    variable.set("submitter's")

    def look() -> tuple[int, str]:
        return threading.get_ident(), variable.get()

    ident, seen = await AgentPool().submit(look)
    assert ident != threading.get_ident()
    assert seen == "submitter's"


async def test_as_many_plain_functions_as_slots_run_at_once() -> None:
    barrier = threading.Barrier(40)  # more than the loop has threads of its own

    pool = AgentPool(max_agents=40)
    await asyncio.gather(*(pool.submit(barrier.wait, 30) for _ in range(40)))
    assert not barrier.broken


async def test_partials_methods_and_functions_that_return_an_awaitable_are_run() -> None:
    class Agent:
        async def run(self, value: int) -> int:
            return value

        async def __call__(self, value: int) -> int:
            return value

    pool = AgentPool()
    assert await pool.submit(functools.partial(Agent().run, 1)) == 1
    assert await pool.submit(Agent().run, 2) == 2
    assert await pool.submit(Agent(), 3) == 3
    assert await pool.submit(lambda: Agent().run(4)) == 4


async def test_a_coroutine_that_a_cancelled_plain_function_returns_is_closed(work: Work) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def block() -> Coroutine[Any, Any, object]:
        inside.set()
        go_on.wait(30)
        return work("never")

    handle = AgentPool().enqueue(block)
    await until(inside.is_set)
    handle.future.cancel()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await handle.future
    gc.collect()  # a warning, and so a failure, if it is there and was never awaited
    assert work.started == []


async def test_a_call_instead_of_a_function_is_refused() -> None:
    coroutine = asyncio.sleep(0)
    with pytest.raises(TypeError, match="not the call"):
        await AgentPool().submit(coroutine)  # type: ignore[call-overload]
    coroutine.close()


async def test_a_task_sees_the_context_of_its_submitter_not_of_the_task_before_it(work: Work) -> None:
    variable = contextvars.ContextVar[str]("variable")

    async def first() -> None:
        variable.set("first")
        await work("first")

    async def second() -> str:
        return variable.get()

    pool = AgentPool(max_agents=1)
    variable.set("submitter of the first")
    pool.enqueue(first)
    variable.set("submitter of the second")
    waiting = pool.enqueue(second)
    variable.set("later")
    work.let_go("first")
    assert await waiting.future == "submitter of the second"


async def test_an_id_is_drawn_and_names_the_asyncio_task() -> None:
    async def name() -> str:
        task = asyncio.current_task()
        return task.get_name() if task else ""

    handle = AgentPool().enqueue(name)
    assert re.fullmatch("[0-9a-f]{6}", handle.task_id)
    assert await handle.future == handle.task_id


async def test_a_drawn_id_is_drawn_again_when_a_task_has_it(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter([1, 1, 1, 2])
    monkeypatch.setattr(random, "getrandbits", lambda _: next(drawn))
    pool = AgentPool()
    assert [pool.enqueue(work, name).task_id for name in "ab"] == ["000001", "000002"]
    await pool.shutdown(cancel_running=True)


async def test_an_id_in_use_is_refused_and_free_again_at_the_end(work: Work) -> None:
    pool = AgentPool(max_agents=1)
    running, waiting = pool.enqueue(work, 1, task_id="running"), pool.enqueue(work, 2, task_id="waiting")
    for task_id in ("running", "waiting"):
        with pytest.raises(ValueError, match=f"task {task_id} is in the pool already"):
            pool.enqueue(work, 3, task_id=task_id)
    work.let_go(1, 2)
    await asyncio.wait([running.future, waiting.future])
    assert await pool.submit(echo, "again") == "again"
    await pool.enqueue(work, 2, task_id="running").future


async def test_high_goes_before_normal_before_low_and_the_oldest_first() -> None:
    order: list[str] = []

    async def note(name: str) -> None:
        order.append(name)

    pool = AgentPool(max_agents=1)
    pool.pause()
    for name in ("low1", "normal1", "high1", "low2", "normal2", "high2"):
        pool.enqueue(note, name, priority=TaskPriority[name[:-1].upper()])
    await pool.shutdown()
    assert order == ["high1", "high2", "normal1", "normal2", "low1", "low2"]


async def test_low_is_not_starved_by_a_stream_of_high(work: Work) -> None:
    clock = Clock()
    pool = AgentPool(max_agents=1, ageing=100, clock=clock)
    pool.enqueue(work, 0)
    low = pool.enqueue(work, "low", priority=TaskPriority.LOW)
    for number in range(1, 40):  # one more HIGH every ten seconds, and one ends
        clock.now += 10
        pool.enqueue(work, number, priority=TaskPriority.HIGH)
        work.let_go(number - 1)
        await until(lambda: len(work.started) > number)  # noqa: B023 - awaited in here
        if "low" in work.started:
            break
    assert clock.now == 200  # two priorities up, and the oldest of all HIGH ones

    work.let_go("low", *range(41))
    await low.future
    await pool.shutdown()


async def test_without_ageing_low_waits_for_all_others(work: Work) -> None:
    clock = Clock()
    pool = AgentPool(max_agents=1, ageing=0, clock=clock)
    pool.enqueue(work, "first")
    pool.enqueue(work, "low", priority=TaskPriority.LOW)
    clock.now = 1e9
    pool.enqueue(work, "high", priority=TaskPriority.HIGH)
    work.let_go("first", "low", "high")
    await pool.shutdown()
    assert work.started == ["first", "high", "low"]


async def test_a_task_held_by_its_workspace_does_not_hold_up_those_behind_it(work: Work) -> None:
    pool = AgentPool(max_agents=3, per_workspace=1)
    for name, workspace in (("a1", "/a"), ("a2", "/a"), ("b1", "/b"), ("b2", "/b"), ("free", None)):
        pool.enqueue(work, name, workspace=workspace)
    await until(lambda: len(work.started) == 3)
    assert work.started == ["a1", "b1", "free"]
    work.let_go("b1")
    await until(lambda: len(work.started) == 4)
    assert work.started[3] == "b2"
    await pool.shutdown(cancel_running=True)


async def test_a_task_held_by_its_agent_type_does_not_hold_up_those_behind_it(work: Work) -> None:
    pool = AgentPool(max_agents=3, per_agent_type={"writer": 1, "reader": 0})
    for name, agent_type in (("w1", "writer"), ("w2", "writer"), ("r1", "reader"), ("r2", "reader")):
        pool.enqueue(work, name, agent_type=agent_type)
    await until(lambda: len(work.started) == 3)
    assert work.started == ["w1", "r1", "r2"]
    await pool.shutdown(cancel_running=True)


async def test_past_its_bound_it_refuses_and_says_what_to_do(work: Work) -> None:
    pool = AgentPool(max_agents=2, queue_size=3)
    for number in range(5):
        pool.enqueue(work, number)
    with pytest.raises(PoolFull, match=r"3 tasks wait already.*queue_size.*cancel some"):
        await pool.submit(work, 5)
    with pytest.raises(PoolFull):
        pool.enqueue(work, 5)
    assert pool.get_status()["queued_tasks"] == 3
    await pool.shutdown(cancel_running=True)
    assert 5 not in work.started


async def test_a_task_that_can_start_at_once_is_taken_though_the_line_is_full(work: Work) -> None:
    pool = AgentPool(max_agents=2, queue_size=1, per_workspace=1)
    pool.enqueue(work, "a1", workspace="/a")
    pool.enqueue(work, "a2", workspace="/a")
    pool.enqueue(work, "b", workspace="/b")
    await until(lambda: work.started == ["a1", "b"])
    assert pool.get_status()["queued_tasks"] == 1
    await pool.shutdown(cancel_running=True)


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_agents": 0},
        {"queue_size": 0},
        {"ageing": -1},
        {"ageing": float("nan")},
        {"ageing": float("inf")},
        {"per_workspace": -1},
        {"per_agent_type": {"writer": -1}},
    ],
    ids=str,
)
def test_a_wrong_figure_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        AgentPool(**wrong)


async def test_a_waiting_task_that_is_cancelled_never_starts(work: Work) -> None:
    pool = AgentPool(max_agents=1)
    running = pool.enqueue(work, "running")
    submitter = asyncio.create_task(pool.submit(work, "waiting", task_id="waiting"))
    await until(lambda: pool.get_status()["queued_tasks"])
    assert await pool.cancel("waiting")
    assert pool.get_status()["queued_tasks"] == 0
    with pytest.raises(asyncio.CancelledError):
        await submitter
    work.let_go("running")
    await running.future
    await pool.shutdown()
    assert work.started == ["running"]


async def test_a_running_task_that_is_cancelled_has_ended_when_cancel_returns(work: Work) -> None:
    pool = AgentPool(max_agents=1)
    handle = pool.enqueue(work, "running")
    next_one = pool.enqueue(work, "next")
    await until(lambda: work.started)
    assert await pool.cancel(handle.task_id)
    assert work.ended == ["running"]
    assert handle.future.cancelled()
    work.let_go("next")
    assert await next_one.future == "next"


async def test_a_task_cancelled_before_its_first_step_gives_its_slot_back(work: Work) -> None:
    pool = AgentPool(max_agents=1)
    handle = pool.enqueue(work, "never")
    assert pool.get_status()["active_workers"] == 1
    assert await pool.cancel(handle.task_id)
    work.let_go("next")
    assert await pool.submit(work, "next") == "next"
    assert work.started == ["next"]


async def test_an_asyncio_task_cancelled_by_a_stranger_gives_its_slot_back(work: Work) -> None:
    pool = AgentPool(max_agents=1)
    handle = pool.enqueue(work, "never", task_id="never")
    for task in asyncio.all_tasks():
        if task.get_name() == "never":
            task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await handle.future
    assert pool.get_status()["active_workers"] == 0


async def test_there_is_nothing_to_cancel_of_an_unknown_or_ended_task() -> None:
    pool = AgentPool()
    assert not await pool.cancel("nobody")
    await pool.submit(asyncio.sleep, 0)
    handle = pool.enqueue(asyncio.sleep, 0)
    await handle.future
    assert not await pool.cancel(handle.task_id)
    assert not handle.future.cancel()


async def test_a_task_that_swallows_its_cancellation_ends_in_its_own_way(work: Work) -> None:
    async def stubborn() -> str:
        try:
            await work("stubborn")
        except asyncio.CancelledError:
            await work("cleaning up")
        return "done all the same"

    pool = AgentPool(max_agents=1)
    handle = pool.enqueue(stubborn)
    await until(lambda: work.started)
    cancelling = asyncio.create_task(pool.cancel(handle.task_id))
    await until(lambda: "cleaning up" in work.started)
    assert pool.get_status()["active_workers"] == 1
    assert not cancelling.done()
    work.let_go("cleaning up")
    assert not await cancelling
    assert await handle.future == "done all the same"


async def test_what_a_cancelled_task_raises_while_it_cleans_up_is_not_lost(work: Work) -> None:
    async def clumsy() -> None:
        try:
            await work("clumsy")
        finally:
            raise OSError("while cleaning up")

    pool = AgentPool()
    handle = pool.enqueue(clumsy)
    await until(lambda: work.started)
    assert not await pool.cancel(handle.task_id)
    with pytest.raises(OSError, match="while cleaning up"):
        await handle.future


async def test_a_task_may_cancel_itself() -> None:
    pool = AgentPool()

    async def give_up(task_id: str) -> None:
        await pool.cancel(task_id)

    with pytest.raises(asyncio.CancelledError):
        await pool.submit(give_up, task_id="me")
    assert pool.get_status()["active_workers"] == 0


async def test_a_cancelled_plain_function_keeps_its_slot_until_its_thread_ends() -> None:
    inside, go_on = threading.Event(), threading.Event()

    def block() -> str:
        inside.set()
        go_on.wait(30)
        return "dropped"

    pool = AgentPool(max_agents=1)
    handle = pool.enqueue(block)
    await until(inside.is_set)
    cancelling = asyncio.create_task(pool.cancel(handle.task_id))
    for _ in range(20):
        await asyncio.sleep(0)
        handle.future.cancel()
    assert not cancelling.done()
    assert pool.get_status()["active_workers"] == 1
    go_on.set()
    assert await cancelling
    assert handle.future.cancelled()


async def test_what_a_cancelled_plain_function_raises_is_not_lost() -> None:
    inside, go_on = threading.Event(), threading.Event()

    def block() -> None:
        inside.set()
        go_on.wait(30)
        raise OSError("at its end")

    pool = AgentPool(max_agents=1)
    handle = pool.enqueue(block)
    await until(inside.is_set)
    handle.future.cancel()
    go_on.set()
    with pytest.raises(OSError, match="at its end"):
        await handle.future


async def test_cancelling_who_awaits_a_waiting_task_takes_it_out_of_the_line(work: Work) -> None:
    pool = AgentPool(max_agents=1)
    pool.enqueue(work, "running")
    submitter = asyncio.create_task(pool.submit(work, "waiting"))
    await until(lambda: pool.get_status()["queued_tasks"] == 1)
    submitter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await submitter
    assert pool.get_status()["queued_tasks"] == 0
    await pool.shutdown(cancel_running=True)
    assert work.started == ["running"]


async def test_cancelling_who_awaits_a_running_task_returns_when_it_has_ended(work: Work) -> None:
    async def tidy() -> None:
        try:
            await work("running")
        finally:
            await work("tidying up")

    pool = AgentPool(max_agents=1)
    submitter = asyncio.create_task(pool.submit(tidy))
    await until(lambda: work.started)
    submitter.cancel()
    await until(lambda: "tidying up" in work.started)
    assert not submitter.done()
    work.let_go("tidying up")
    with pytest.raises(asyncio.CancelledError):
        await submitter
    assert pool.get_status()["active_workers"] == 0


async def test_a_timeout_around_submit_cancels_the_task(work: Work) -> None:
    pool = AgentPool(max_agents=1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await pool.submit(work, "slow")
    assert work.ended == ["slow"]


async def test_cancelling_who_cancels_leaves_the_task_to_end_by_itself(work: Work) -> None:
    async def tidy() -> None:
        try:
            await work("running")
        finally:
            await work("tidying up")

    pool = AgentPool()
    handle = pool.enqueue(tidy)
    await until(lambda: work.started)
    cancelling = asyncio.create_task(pool.cancel(handle.task_id))
    await until(lambda: "tidying up" in work.started)
    cancelling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelling
    assert not handle.future.done()
    work.let_go("tidying up")
    with pytest.raises(asyncio.CancelledError):
        await handle.future


async def test_a_paused_pool_starts_nothing_until_it_is_resumed(work: Work) -> None:
    pool = AgentPool(max_agents=2)
    first = pool.enqueue(work, "first")
    await until(lambda: work.started)
    pool.pause()
    second = pool.enqueue(work, "second")
    work.let_go("first", "second")
    await first.future
    assert pool.get_status()["queued_tasks"] == 1
    pool.resume()
    await second.future
    assert work.started == ["first", "second"]


async def test_resizing_starts_more_at_once_and_lets_running_ones_finish(work: Work) -> None:
    pool = AgentPool(max_agents=1)
    for number in range(6):
        pool.enqueue(work, number)
    pool.resize(4)
    await until(lambda: len(work.started) == 4)
    pool.resize(2)
    assert pool.get_status()["active_workers"] == 4
    work.let_go(0, 1)
    await until(lambda: pool.get_status()["active_workers"] == 2)
    assert work.started == [0, 1, 2, 3]
    work.let_go(2)
    await until(lambda: 4 in work.started)
    with pytest.raises(ValueError, match="max_agents is 0"):
        pool.resize(0)
    await pool.shutdown(cancel_running=True)


async def test_run_now_starts_above_every_bound_and_counts(work: Work) -> None:
    pool = AgentPool(max_agents=1, queue_size=1, per_workspace=1)
    pool.enqueue(work, "first", workspace="/a")
    pool.enqueue(work, "waiting", workspace="/b")
    pool.pause()
    adopted = pool.run_now(work, "adopted", workspace="/a", task_id="old")
    await until(lambda: work.started == ["first", "adopted"])
    assert adopted.task_id == "old"
    assert pool.get_status()["active_workers"] == 2
    pool.resume()
    work.let_go("first", "adopted", "waiting")
    assert await adopted.future == "adopted"
    await pool.shutdown()
    assert work.started == ["first", "adopted", "waiting"]


async def test_a_snapshot_says_why_each_task_waits(work: Work) -> None:
    clock = Clock()
    pool = AgentPool(max_agents=3, ageing=100, per_workspace=1, per_agent_type={"writer": 1}, clock=clock)
    pool.enqueue(work, 1, task_id="a", workspace="/a", agent_type="writer")
    clock.now = 50
    pool.enqueue(work, 2, task_id="low", workspace="/a", priority=TaskPriority.LOW)
    pool.enqueue(work, 3, task_id="typed", agent_type="writer")
    clock.now = 149
    pool.enqueue(work, 4, task_id="b")
    pool.enqueue(work, 5, task_id="c")
    pool.enqueue(work, 6, task_id="high", priority=TaskPriority.HIGH)
    clock.now = 150
    snapshot = pool.snapshot()
    assert (snapshot.active_workers, snapshot.total_workers, snapshot.paused, snapshot.closed) == (3, 3, False, False)
    assert [(view.task_id, view.position, view.effective_priority, view.why) for view in snapshot.tasks] == [
        ("a", None, TaskPriority.NORMAL, None),
        ("b", None, TaskPriority.NORMAL, None),
        ("c", None, TaskPriority.NORMAL, None),
        ("typed", 1, TaskPriority.HIGH, "limit of agent type writer (1 at once)"),
        ("high", 2, TaskPriority.HIGH, "no free slot"),
        ("low", 3, TaskPriority.NORMAL, "limit of workspace /a (1 at once)"),
    ]
    running, low = snapshot.tasks[0], snapshot.tasks[5]
    assert (running.state, running.waiting, running.running, running.workspace) == (TaskStatus.RUNNING, 0, 150, "/a")
    assert (low.state, low.waiting, low.running, low.priority) == (TaskStatus.QUEUED, 100, 0, TaskPriority.LOW)
    pool.pause()
    assert {view.why for view in pool.snapshot().tasks if view.position} == {"paused"}
    await pool.shutdown(cancel_running=True)
    assert pool.snapshot().tasks == ()
    assert pool.snapshot().closed


async def test_a_snapshot_tells_how_long_a_task_had_waited_before_it_started(work: Work) -> None:
    clock = Clock()
    pool = AgentPool(max_agents=1, ageing=100, clock=clock)
    pool.enqueue(work, "first")
    pool.enqueue(work, "second", priority=TaskPriority.LOW)
    clock.now = 120
    work.let_go("first")
    await until(lambda: len(work.started) == 2)
    clock.now = 500
    (view,) = pool.snapshot().tasks
    assert (view.waiting, view.running, view.effective_priority) == (120, 380, TaskPriority.NORMAL)
    await pool.shutdown(cancel_running=True)


async def test_a_graceful_shutdown_finishes_what_runs_and_what_waits(work: Work) -> None:
    pool = AgentPool(max_agents=2)
    handles = [pool.enqueue(work, number) for number in range(5)]
    stopping = asyncio.create_task(pool.shutdown())
    await until(lambda: pool.snapshot().closed)
    with pytest.raises(PoolClosed, match="takes no more"):
        await pool.submit(work, 5)
    with pytest.raises(PoolClosed):
        pool.run_now(work, 5)
    assert not stopping.done()
    work.let_go(*range(5))
    assert await stopping
    assert [handle.future.result() for handle in handles] == list(range(5))


async def test_an_immediate_shutdown_cancels_what_runs_and_what_waits(work: Work) -> None:
    pool = AgentPool(max_agents=2)
    handles = [pool.enqueue(work, number) for number in range(5)]
    await until(lambda: len(work.started) == 2)
    assert await pool.shutdown(cancel_running=True)
    assert all(handle.future.cancelled() for handle in handles)
    assert work.started == [0, 1]
    assert work.ended == [0, 1]
    assert pool.get_status()["active_workers"] == pool.get_status()["queued_tasks"] == 0


async def test_shutting_down_twice_and_at_once_is_the_same_as_once(work: Work) -> None:
    pool = AgentPool(max_agents=1)
    pool.enqueue(work, 1)
    stopping = [asyncio.create_task(pool.shutdown()) for _ in range(3)]
    await until(lambda: work.started)
    work.let_go(1)
    assert await asyncio.gather(*stopping) == [True] * 3
    assert await pool.shutdown()
    assert await pool.shutdown(cancel_running=True)


async def test_a_shutdown_that_runs_out_of_time_leaves_the_rest_to_another(work: Work) -> None:
    pool = AgentPool(max_agents=1)
    handles = [pool.enqueue(work, number) for number in range(2)]
    assert not await pool.shutdown(timeout=0.01)
    assert not any(handle.future.done() for handle in handles)
    assert await pool.shutdown(cancel_running=True)
    assert all(handle.future.cancelled() for handle in handles)


async def test_a_shutdown_that_does_not_wait_lets_tasks_finish(work: Work) -> None:
    pool = AgentPool(max_agents=1)
    handles = [pool.enqueue(work, number) for number in range(2)]
    assert not await pool.shutdown(wait=False)
    work.let_go(0, 1)
    assert [await handle.future for handle in handles] == [0, 1]
    assert await pool.shutdown(wait=False)


async def test_a_shutdown_ends_a_pause(work: Work) -> None:
    pool = AgentPool()
    pool.pause()
    handle = pool.enqueue(work, 1)
    work.let_go(1)
    assert await pool.shutdown()
    assert handle.future.result() == 1


async def test_a_task_cannot_wait_for_the_end_of_its_own_pool() -> None:
    pool = AgentPool()
    with pytest.raises(RuntimeError, match="its own end"):
        await pool.submit(pool.shutdown)
    assert not await pool.submit(pool.shutdown, wait=False)
    with pytest.raises(PoolClosed):
        await pool.submit(asyncio.sleep, 0)


async def test_a_shutdown_that_is_cancelled_cancels_no_task(work: Work) -> None:
    pool = AgentPool()
    handle = pool.enqueue(work, 1)
    stopping = asyncio.create_task(pool.shutdown())
    await until(lambda: work.started)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    work.let_go(1)
    assert await handle.future == 1


@LOOPS
def test_a_pool_made_outside_a_loop_serves_the_one_that_uses_it_first(new_loop: NewLoop) -> None:
    pool = AgentPool()
    assert pool.get_status()["total_workers"] == 3
    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(pool.submit(asyncio.sleep, 0, "first")) == "first"
        assert runner.run(pool.submit(asyncio.sleep, 0, "second")) == "second"
    with asyncio.Runner(loop_factory=new_loop) as runner, pytest.raises(RuntimeError, match="one pool for each loop"):
        runner.run(pool.submit(asyncio.sleep, 0, "third"))


def test_tasks_left_behind_by_another_loop_are_not_started_in_this_one() -> None:
    pool = AgentPool()
    pool.pause()

    async def leave() -> Handle:
        return pool.enqueue(asyncio.sleep, 0)

    async def resume() -> None:
        pool.resume()

    asyncio.run(leave())
    with pytest.raises(RuntimeError, match="one pool for each loop"):
        asyncio.run(resume())
    with pytest.raises(RuntimeError, match="one pool for each loop"):
        asyncio.run(pool.shutdown(cancel_running=True))
    assert not pool.snapshot().closed
    assert pool.get_status()["queued_tasks"] == 1


async def test_an_unused_pool_shuts_down_anywhere() -> None:
    assert await AgentPool().shutdown()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager task factories came with Python 3.12")
async def test_with_an_eager_task_factory_tasks_still_start_after_their_submission(work: Work) -> None:
    loop = asyncio.get_running_loop()
    loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined,unused-ignore]
    pool = AgentPool()
    handle = pool.enqueue(work, 1)
    assert work.started == []
    work.let_go(1)
    assert await handle.future == 1


class Census:
    """Counts who is at work, and fails when it is too many."""

    def __init__(self, pool: AgentPool, most: int) -> None:
        self.pool, self.most = pool, most
        self.active = self.peak = 0

    async def work(self, number: int, turns: int) -> int:
        self.active += 1
        self.peak = max(self.peak, self.active)
        try:
            assert self.active <= self.most
            for _ in range(turns):
                await asyncio.sleep(0)
            if number % 7 == 0:
                raise LookupError(number)
            if number % 11 == 0:
                raise SystemExit(number)
            return number
        finally:
            self.active -= 1


def outcome_of(future: "asyncio.Future[Any]") -> str:
    if future.cancelled():
        return "cancelled"
    return type(future.exception() or future.result()).__name__


@LOOPS
def test_in_a_storm_every_task_has_one_outcome_and_slots_are_never_exceeded(new_loop: NewLoop) -> None:
    async def storm() -> None:
        chance = random.Random(7)
        pool = AgentPool(max_agents=8, queue_size=10_000, per_workspace=3, per_agent_type={"writer": 2})
        census = Census(pool, most=8)
        handles: list[Handle] = []
        done: Counter[int] = Counter()

        def count(number: int, _: object) -> None:
            done[number] += 1

        pool.pause()
        for number in range(10_000):
            handle = pool.enqueue(
                census.work,
                number,
                chance.randrange(4),
                priority=chance.choice(list(TaskPriority)),
            )
            handle.future.add_done_callback(functools.partial(count, number))
            handles.append(handle)
        pool.resume()
        cancelled = set()
        while not all(handle.future.done() for handle in handles):
            await asyncio.sleep(0)
            match chance.randrange(12):
                case 0:
                    pool.pause()
                case 1:
                    pool.resize(chance.randrange(1, 9))
                case 2:
                    for handle in chance.sample(handles, 20):
                        if handle.future.cancel():
                            cancelled.add(handle.task_id)
                case 3:
                    await pool.cancel(chance.choice(handles).task_id)
                case _:
                    pool.resume()
        assert await pool.shutdown()
        await until(lambda: len(done) == 10_000)
        assert set(done.values()) == {1}
        assert 1 < census.peak <= 8
        for number, handle in enumerate(handles):
            right = "LookupError" if number % 7 == 0 else "SystemExit" if number % 11 == 0 else "int"
            assert outcome_of(handle.future) in (right, "cancelled")
        ended = Counter(outcome_of(handle.future) for handle in handles)
        assert ended["cancelled"] >= len(cancelled) > 100
        assert pool.get_status()["active_workers"] == 0

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(storm())


@LOOPS
def test_ten_thousand_submitters_each_get_the_result_of_their_own_task(new_loop: NewLoop) -> None:
    async def submit_all() -> None:
        pool = AgentPool(max_agents=5, queue_size=10_000, per_workspace=2, per_agent_type={"a": 1, "b": 3})
        submissions = (
            pool.submit(echo, number, workspace=str(number % 50), agent_type="abcd"[number % 4])
            for number in range(10_000)
        )
        assert await asyncio.gather(*submissions) == list(range(10_000))

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(submit_all())


@LOOPS
def test_an_immediate_shutdown_in_the_middle_of_a_storm_leaves_nothing(new_loop: NewLoop) -> None:
    async def storm() -> None:
        pool = AgentPool(max_agents=8, queue_size=2_000)
        census = Census(pool, most=8)

        async def submit(number: int) -> str:
            try:
                return type(await pool.submit(census.work, number, 3)).__name__
            except (LookupError, SystemExit, PoolClosed) as error:
                return type(error).__name__

        submitters = [asyncio.create_task(submit(number)) for number in range(2_000)]
        await until(lambda: sum(submitter.done() for submitter in submitters) > 200)
        assert await pool.shutdown(cancel_running=True)
        await asyncio.wait(submitters)
        ended = Counter("cancelled" if one.cancelled() else one.result() for one in submitters)
        assert ended["cancelled"] > 1_000
        assert ended.total() == 2_000
        assert census.active == 0

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(storm())


def groups_in_memory() -> int:
    gc.collect()
    return sum(type(one).__name__ == "_Group" and type(one).__module__ == "tasks.pool.line" for one in gc.get_objects())


async def test_tasks_that_come_and_go_behind_a_line_that_does_not_move_leave_nothing(work: Work) -> None:
    pool = AgentPool(max_agents=1, per_workspace=1)
    pool.enqueue(work, "running", workspace="first")
    pool.enqueue(work, "waiting", workspace="second")
    before = groups_in_memory()
    for number in range(2_000):
        handle = pool.enqueue(work, number, workspace=f"workspace {number}")
        assert await pool.cancel(handle.task_id)
    assert groups_in_memory() - before < 200
    work.let_go("running", "waiting")
    await pool.shutdown()
    assert groups_in_memory() < 200


async def test_the_order_is_kept_when_many_come_and_go(work: Work) -> None:
    chance = random.Random(5)
    pool = AgentPool(max_agents=1, queue_size=2_000, per_workspace=1)
    pool.pause()
    handles = [pool.enqueue(work, number, workspace=chance.randrange(1_000)) for number in range(2_000)]
    work.let_go(*range(500))
    pool.resume()
    await until(lambda: len(work.started) == 501)
    gone = chance.sample(range(501, 2_000), 1_200)
    for number in gone:
        assert await pool.cancel(handles[number].task_id)
    work.let_go(*range(500, 2_000))
    await pool.shutdown()
    assert work.started == [number for number in range(2_000) if number not in set(gone)]


async def test_a_finished_task_is_not_kept() -> None:
    class Load:
        pass

    async def use(load: Load) -> None:
        assert load

    pool = AgentPool()
    await pool.submit(use, Load())
    gc.collect()
    assert not [one for one in gc.get_objects() if isinstance(one, Load)]
