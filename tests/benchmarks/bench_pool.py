"""What a task costs in AgentPool, against the same no-ops through an asyncio.PriorityQueue with as many workers, in turns.

    python tests/benchmarks/bench_pool.py [--tasks N] [--rounds N]

Two floors, since `submit` gives every submitter its task's result:
- same service: as many submitters, each puts its task with a future and awaits that. The limit is for the ratio to this one.
- bare: one loop puts all of them, the workers drain the queue, nobody gets a result. For comparison.
Growth is the time per task with ten times the tasks, all waiting at once, over the time per task with N. The passes of the
garbage collector over everything alive grow in both alike, so it is measured without them.
"""

import argparse
import asyncio
import gc
import statistics
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop
from tasks.pool import AgentPool, TaskPriority

WORKERS = 3
LIMIT = 4.0  # times the same service by hand
GROWTH_LIMIT = 1.5
PRIORITIES = tuple(TaskPriority)

Run = Callable[[int], Coroutine[Any, Any, float]]


async def nothing(**_: object) -> None:
    """The no-op."""


async def bare(tasks: int) -> float:
    queue: asyncio.PriorityQueue[tuple[int, int, Callable[[], Coroutine[Any, Any, None]]]] = asyncio.PriorityQueue()

    async def work() -> None:
        while True:
            _, _, call = await queue.get()
            await call()
            queue.task_done()

    workers = [asyncio.create_task(work()) for _ in range(WORKERS)]
    started = time.perf_counter()
    for number in range(tasks):
        queue.put_nowait((PRIORITIES[number % 3], number, nothing))
    await queue.join()
    took = time.perf_counter() - started
    for worker in workers:
        worker.cancel()
    await asyncio.wait(workers)
    return took


async def same_service(tasks: int) -> float:
    queue: asyncio.PriorityQueue[tuple[int, int, Any, asyncio.Future[None]]] = asyncio.PriorityQueue()
    loop = asyncio.get_running_loop()

    async def work() -> None:
        while True:
            _, _, call, outcome = await queue.get()
            outcome.set_result(await call())

    async def submit(number: int) -> None:
        outcome: asyncio.Future[None] = loop.create_future()
        await queue.put((PRIORITIES[number % 3], number, nothing, outcome))
        await outcome

    workers = [asyncio.create_task(work()) for _ in range(WORKERS)]
    started = time.perf_counter()
    await asyncio.gather(*(submit(number) for number in range(tasks)))
    took = time.perf_counter() - started
    for worker in workers:
        worker.cancel()
    await asyncio.wait(workers)
    return took


async def pool(tasks: int) -> float:
    pool = AgentPool(max_agents=WORKERS, queue_size=tasks)
    started = time.perf_counter()
    await asyncio.gather(*(pool.submit(nothing, priority=PRIORITIES[number % 3]) for number in range(tasks)))
    return time.perf_counter() - started


async def pool_with_limits(tasks: int) -> float:
    """A tenth as many workspaces as tasks, most of them full most of the time, three limited types, and ageing at work."""
    pool = AgentPool(
        max_agents=WORKERS,
        queue_size=tasks,
        ageing=0.01,
        per_workspace=1,
        per_agent_type={"writer": 1, "reader": 2, "tester": 1},
    )
    types = ("writer", "reader", "tester", "other")
    started = time.perf_counter()
    await asyncio.gather(
        *(
            pool.submit(
                nothing,
                priority=PRIORITIES[number % 3],
                workspace=number // 10,
                agent_type=types[number % 4],
            )
            for number in range(tasks)
        )
    )
    return time.perf_counter() - started


async def cancelling(tasks: int) -> float:
    """Of a line of that many, each one is cancelled."""
    pool = AgentPool(max_agents=WORKERS, queue_size=tasks, per_workspace=1)
    pool.pause()
    started = time.perf_counter()
    handles = [pool.enqueue(nothing, workspace=number // 2) for number in range(tasks)]
    for handle in reversed(handles):
        handle.future.cancel()
    return time.perf_counter() - started


def microseconds(runner: asyncio.Runner, run: Run, tasks: int) -> float:
    gc.collect()
    return runner.run(run(tasks)) / tasks * 1e6


def compare(runner: asyncio.Runner, tasks: int, rounds: int) -> float:
    """Print the time per task of each; the ratio that the limit is for."""
    runs: tuple[Run, ...] = (bare, same_service, pool, pool_with_limits)
    times: dict[str, list[float]] = {run.__name__: [] for run in runs}
    for _ in range(rounds + 1):
        for run in runs:
            times[run.__name__].append(microseconds(runner, run, tasks))
    middle = {name: statistics.median(all_[1:]) for name, all_ in times.items()}  # the first fills the caches
    for name, one in middle.items():
        to_same, to_bare = one / middle["same_service"], one / middle["bare"]
        print(f"  {name:17} {one:6.2f} µs a task  {to_same:5.2f} x same service  {to_bare:6.2f} x bare")
    return middle["pool"] / middle["same_service"]


def growth(runner: asyncio.Runner, tasks: int, rounds: int) -> float:
    """Print how the time per task grows with ten times the tasks; the worst of the pool's."""
    runs: tuple[Run, ...] = (same_service, pool, pool_with_limits, cancelling)
    worst = 0.0
    gc.disable()
    for run in runs:
        few = statistics.median(microseconds(runner, run, tasks) for _ in range(rounds))
        many = statistics.median(microseconds(runner, run, tasks * 10) for _ in range(max(1, rounds // 3)))
        print(f"  {run.__name__:17} {few:6.2f} → {many:6.2f} µs a task at {tasks} → {tasks * 10}: {many / few:5.2f} x")
        if run is not same_service:
            worst = max(worst, many / few)
    gc.enable()
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    ratio = grown = 0.0
    for name, factory in (("asyncio", asyncio.new_event_loop), ("uvloop", uvloop.new_event_loop)):
        with asyncio.Runner(loop_factory=factory) as runner:
            print(f"{name}, {arguments.tasks} tasks, {WORKERS} workers")
            ratio = max(ratio, compare(runner, arguments.tasks, arguments.rounds))
            grown = max(grown, growth(runner, arguments.tasks, arguments.rounds))
    slow = ratio > LIMIT or grown > GROWTH_LIMIT
    print(f"ratio {ratio:.2f}, limit {LIMIT}; growth {grown:.2f}, limit {GROWTH_LIMIT}: {'too slow' if slow else 'ok'}")
    sys.exit(slow)


if __name__ == "__main__":
    main()
