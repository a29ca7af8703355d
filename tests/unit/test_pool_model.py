"""The pool against a naive model of it: the same tasks start in the same order, whatever is done to both."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tasks.errors import PoolFull
from tasks.pool import AgentPool, TaskPriority

ROUNDS = 12  # of the event loop; a start after an end takes four

#: priority, workspace, agent type
Kind = tuple[TaskPriority, str | None, str | None]
KINDS = st.tuples(
    st.sampled_from(TaskPriority),
    st.sampled_from([None, "one", "two", "three"]),
    st.sampled_from([None, "writer", "reader", "other"]),
)
#: Which of the kinds of a run; few kinds a run make tasks meet in one lane.
CHOICES = st.integers(0, 11)


@dataclass
class Expected:
    """One task as the model sees it."""

    name: str
    number: int
    priority: int
    workspace: str | None
    agent_type: str | None
    since: int


@dataclass
class Model:
    """Nothing but lists, searched from front to back."""

    max_agents: int
    queue_size: int
    ageing: int
    per_workspace: int
    per_agent_type: dict[str, int]
    now: int = 0
    paused: bool = False
    waiting: list[Expected] = field(default_factory=list)
    active: list[Expected] = field(default_factory=list)
    started: list[str] = field(default_factory=list)

    def effective(self, task: Expected) -> int:
        level = task.priority
        waited = self.now - task.since
        while self.ageing and waited >= self.ageing and level > 0:
            waited -= self.ageing
            level -= 1
        return level

    def held(self, task: Expected) -> str | None:
        """What a snapshot begins with when a limit keeps it back."""
        in_workspace = [other for other in self.active if other.workspace == task.workspace]
        if self.per_workspace and task.workspace and len(in_workspace) >= self.per_workspace:
            return f"limit of workspace {task.workspace}"
        of_type = [other for other in self.active if other.agent_type == task.agent_type]
        limit = self.per_agent_type.get(task.agent_type or "", 0)
        if limit and len(of_type) >= limit:
            return f"limit of agent type {task.agent_type}"
        return None

    def in_order(self) -> list[Expected]:
        return sorted(self.waiting, key=lambda task: (self.effective(task), task.number))

    def start(self, task: Expected) -> None:
        self.active.append(task)
        self.started.append(task.name)

    def fill(self) -> None:
        while not self.paused and len(self.active) < self.max_agents:
            free = [task for task in self.in_order() if self.held(task) is None]
            if not free:
                return
            self.waiting.remove(free[0])
            self.start(free[0])

    def submit(self, task: Expected) -> bool:
        """False: refused, too many wait."""
        self.waiting.append(task)
        self.fill()
        if task in self.waiting and len(self.waiting) > self.queue_size:
            self.waiting.remove(task)
            return False
        return True

    def end(self, name: str) -> None:
        self.active = [task for task in self.active if task.name != name]
        self.waiting = [task for task in self.waiting if task.name != name]
        self.fill()


async def held_back(submission: Coroutine[Any, Any, str]) -> str | BaseException:
    """Await it as a submitter that survives what would end an event loop."""
    try:
        return await submission
    except (SystemExit, KeyboardInterrupt) as error:
        return error


class PoolMachine(RuleBasedStateMachine):
    """Does everything to both, one thing at a time."""

    @initialize(
        max_agents=st.integers(1, 4),
        queue_size=st.integers(1, 12),
        ageing=st.sampled_from([0, 5, 10]),
        per_workspace=st.integers(0, 2),
        per_agent_type=st.dictionaries(st.sampled_from(["writer", "reader"]), st.integers(0, 2)),
        kinds=st.lists(KINDS, min_size=1, max_size=5),
    )
    def begin(
        self,
        max_agents: int,
        queue_size: int,
        ageing: int,
        per_workspace: int,
        per_agent_type: dict[str, int],
        kinds: list[Kind],
    ) -> None:
        self.kinds = kinds
        self.model = Model(max_agents, queue_size, ageing, per_workspace, per_agent_type)
        self.pool = AgentPool(
            max_agents,
            queue_size=queue_size,
            ageing=ageing,
            per_workspace=per_workspace,
            per_agent_type=per_agent_type,
            clock=lambda: self.model.now,
        )
        self.started: list[str] = []
        self.gates: dict[str, asyncio.Future[str]] = {}
        self.outcomes: dict[str, asyncio.Future[Any]] = {}
        self.expected: dict[str, BaseException | type[BaseException] | None] = {}

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.complaints: list[dict[str, Any]] = []
        self.loop.set_exception_handler(lambda _loop, context: self.complaints.append(context))

    async def work(self, *, task_id: str, workspace: str | None, agent_type: str | None) -> str:
        self.started.append(task_id)
        gate: asyncio.Future[str] = self.loop.create_future()
        self.gates[task_id] = gate
        return await gate

    def do(self, act: Callable[[], Any]) -> Any:
        """Do it in the event loop, and let the loop come to rest."""

        async def play() -> Any:
            result = act()
            for _ in range(ROUNDS):
                await asyncio.sleep(0)
            return result

        return self.loop.run_until_complete(play())

    def expect(self, choice: int) -> Expected:
        number = len(self.expected)
        return Expected(f"task{number}", number, *self.kinds[choice % len(self.kinds)], self.model.now)

    def submission(self, how: Callable[..., Any], task: Expected) -> Callable[[], Any]:
        return lambda: how(
            self.work,
            priority=TaskPriority(task.priority),
            task_id=task.name,
            workspace=task.workspace,
            agent_type=task.agent_type,
        )

    @rule(choices=st.lists(CHOICES, min_size=1, max_size=4))
    def enqueue(self, choices: list[int]) -> None:
        for choice in choices:
            task = self.expect(choice)
            act = self.submission(self.pool.enqueue, task)
            if not self.model.submit(task):
                with pytest.raises(PoolFull):
                    self.do(act)
                continue
            self.outcomes[task.name] = self.do(act).future
            self.expected[task.name] = None

    @rule(choice=CHOICES)
    def submit(self, choice: int) -> None:
        task = self.expect(choice)
        submission = self.submission(self.pool.submit, task)
        submitter = self.do(lambda: self.loop.create_task(held_back(submission())))
        if not self.model.submit(task):
            with pytest.raises(PoolFull):
                submitter.result()
            return
        self.outcomes[task.name] = submitter
        self.expected[task.name] = None

    @rule(choice=CHOICES)
    def run_now(self, choice: int) -> None:
        task = self.expect(choice)
        self.outcomes[task.name] = self.do(self.submission(self.pool.run_now, task)).future
        self.expected[task.name] = None
        self.model.start(task)

    @precondition(lambda self: self.model.active)
    @rule(data=st.data(), error=st.sampled_from([None, ValueError, SystemExit, KeyboardInterrupt, GeneratorExit]))
    def finish(self, data: st.DataObject, error: type[BaseException] | None) -> None:
        task = data.draw(st.sampled_from(self.model.active))
        gate = self.gates[task.name]
        self.expected[task.name] = error
        self.do(lambda: gate.set_exception(error()) if error else gate.set_result(task.name))
        self.model.end(task.name)

    @precondition(lambda self: self.model.active or self.model.waiting)
    @rule(data=st.data(), through_awaiter=st.booleans())
    def cancel(self, data: st.DataObject, through_awaiter: bool) -> None:
        task = data.draw(st.sampled_from(self.model.active + self.model.waiting))
        self.expected[task.name] = asyncio.CancelledError
        if through_awaiter:
            self.do(self.outcomes[task.name].cancel)
        else:
            assert self.loop.run_until_complete(self.pool.cancel(task.name))
        self.model.end(task.name)

    @rule(seconds=st.integers(1, 12))
    def wait(self, seconds: int) -> None:
        self.model.now += seconds

    @rule()
    def pause(self) -> None:
        self.do(self.pool.pause)
        self.model.paused = True

    @rule()
    def resume(self) -> None:
        self.do(self.pool.resume)
        self.model.paused = False
        self.model.fill()

    @rule(max_agents=st.integers(1, 5))
    def resize(self, max_agents: int) -> None:
        self.do(lambda: self.pool.resize(max_agents))
        self.model.max_agents = max_agents
        self.model.fill()

    @invariant()
    def agree(self) -> None:
        if not hasattr(self, "model"):
            return
        assert self.do(lambda: self.started) == self.model.started
        assert self.pool.get_status() == {
            "total_workers": self.model.max_agents,
            "active_workers": len(self.model.active),
            "queued_tasks": len(self.model.waiting),
            "queue_size": self.model.queue_size,
        }
        seen = [view for view in self.pool.snapshot().tasks if view.position is not None]
        order = self.model.in_order()
        assert [view.task_id for view in seen] == [task.name for task in order]
        assert [view.effective_priority for view in seen] == [self.model.effective(task) for task in order]
        for view, task in zip(seen, order, strict=True):
            why = "paused" if self.model.paused else self.model.held(task) or "no free slot"
            assert (view.why or "").startswith(why)

    def teardown(self) -> None:
        if hasattr(self, "model"):
            self.end_all()
        self.loop.close()
        assert not self.complaints

    def end_all(self) -> None:
        """A graceful shutdown gives every task that was taken exactly the outcome that it was to have."""
        shutdown = self.do(lambda: self.loop.create_task(self.pool.shutdown()))
        while not shutdown.done():
            for name, gate in self.gates.items():
                if not gate.done():
                    gate.set_result(name)
            self.do(lambda: None)
        assert shutdown.result()
        for name, outcome in self.outcomes.items():
            error = self.expected[name]
            if error is None:
                assert outcome.result() == name
            elif error is asyncio.CancelledError:
                assert outcome.cancelled()
            else:
                assert type(outcome.exception() or outcome.result()) is error


PoolMachine.TestCase.settings = settings(max_examples=250, stateful_step_count=40, deadline=None)

TestPoolAgreesWithItsModel = PoolMachine.TestCase
