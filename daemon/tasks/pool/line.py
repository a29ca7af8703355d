"""The line of waiting tasks: who is next, given priorities, ageing and limits. Knows no event loop.

Tasks that may start on the same conditions form a group: same workspace, same agent type (as far as these have limits) and
same priority. Inside a group the oldest goes first, always, so only heads of groups are ever compared. A lane is a heap of
the heads of all groups of one agent type and priority whose workspace is not full; there are three lanes for each limited
agent type and three for all others. Hence entering, leaving and taking cost O(log groups + limited agent types),
whatever waits, and a task that a limit keeps back is not even looked at.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from heapq import heapify, heappop, heappush, heapreplace

from tasks.pool.jobs import Job
from tasks.words import TaskPriority

#: Emptied groups that a lane may carry along before it is swept.
EMPTY_GROUPS = 64

_PRIORITIES = tuple(TaskPriority)


class _Group:
    """Tasks of one lane and workspace, oldest first. `listed`: the lane's heap has an entry for it."""

    __slots__ = ("jobs", "lane", "listed", "workspace")

    def __init__(self, lane: "_Lane", workspace: str | None) -> None:
        self.lane = lane
        self.workspace = workspace
        self.jobs: OrderedDict[int, Job] = OrderedDict()
        self.listed = False


class _Lane:
    """Groups by the number of their head, or a lower one where the head has left since."""

    __slots__ = ("empty", "groups", "heap")

    def __init__(self) -> None:
        self.heap: list[tuple[int, _Group]] = []
        self.groups: dict[str | None, _Group] = {}
        #: how many entries of the heap are of groups without a task
        self.empty = 0

    def enlist(self, group: _Group) -> None:
        if not group.listed:
            group.listed = True
            heappush(self.heap, (next(iter(group.jobs)), group))

    def delist_first(self) -> None:
        _, group = heappop(self.heap)
        group.listed = False
        if not group.jobs:
            self.empty -= 1
            del self.groups[group.workspace]

    def sweep(self) -> None:
        """Forget emptied groups: they would pile up behind a head that does not move."""
        for _, group in self.heap:
            if not group.jobs:
                del self.groups[group.workspace]
        self.heap = [entry for entry in self.heap if entry[1].jobs]
        heapify(self.heap)
        self.empty = 0


class Line:
    """Waiting tasks in the order of their effective rank, and how many are at work where that is limited.

    The effective rank of a task is (effective priority, number of submission), lower first, where the effective priority is
    its priority raised by one for every `ageing` seconds that it has waited, to HIGH at most.
    """

    def __init__(
        self, *, ageing: float, per_workspace: int, per_agent_type: Mapping[str, int], clock: Callable[[], float]
    ) -> None:
        self._ageing = ageing
        self._per_workspace = per_workspace
        self._per_agent_type = {name: limit for name, limit in per_agent_type.items() if limit}
        self._clock = clock
        self._lanes: dict[str | None, tuple[_Lane, ...]] = {
            name: tuple(_Lane() for _ in TaskPriority) for name in (None, *self._per_agent_type)
        }
        self._count = 0
        self._in_workspace: Counter[str] = Counter()
        self._of_agent_type: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._count

    def enter(self, job: Job) -> None:
        """Stand at the end. O(log groups)."""
        group = self._group_of(job)
        if group.listed and not group.jobs:
            group.lane.empty -= 1
        group.jobs[job.number] = job
        self._count += 1
        group.lane.enlist(group)

    def leave(self, job: Job) -> None:
        """Go away without a start. O(1), now and then O(groups)."""
        group = self._group_of(job)
        lane = group.lane
        del group.jobs[job.number]
        self._count -= 1
        if group.jobs:
            return
        if not group.listed:
            del lane.groups[group.workspace]
            return
        lane.empty += 1
        if lane.empty > max(EMPTY_GROUPS, len(lane.heap) // 2):
            lane.sweep()

    def take(self) -> Job | None:
        """The first that may start, out of the line; None when nobody may."""
        best: Job | None = None
        best_lane: _Lane | None = None
        now: float | None = None
        for agent_type, lanes in self._lanes.items():
            if agent_type is not None and self._agent_type_is_full(agent_type):
                continue
            for lane in lanes:
                head = self._head(lane) if lane.heap else None
                if head is None:
                    continue
                if best is not None:
                    now = self._clock() if now is None else now
                    if self.rank(best, now) < self.rank(head, now):
                        continue
                best, best_lane = head, lane
        if best_lane is not None:
            self._remove_head(best_lane)
        return best

    def rank(self, job: Job, now: float) -> tuple[TaskPriority, int]:
        """(effective priority, number of submission): lower goes first."""
        return self.effective_priority(job, now), job.number

    def effective_priority(self, job: Job, now: float) -> TaskPriority:
        """What ageing has made of its priority by `now`."""
        if not self._ageing or now - job.since < self._ageing:
            return job.priority
        raised = int(min(job.priority, (now - job.since) // self._ageing))
        return _PRIORITIES[job.priority - raised]

    def has_room_for(self, job: Job) -> bool:
        """Whether no limit keeps it back."""
        agent_type = self._limited_type(job)
        return not self._workspace_is_full(job.workspace) and (
            agent_type is None or not self._agent_type_is_full(agent_type)
        )

    def obstacle(self, job: Job) -> str | None:
        """The limit that keeps it back, in words."""
        if self._workspace_is_full(job.workspace):
            return f"limit of workspace {job.workspace} ({self._per_workspace} at once)"
        agent_type = self._limited_type(job)
        if agent_type is not None and self._agent_type_is_full(agent_type):
            return f"limit of agent type {agent_type} ({self._per_agent_type[agent_type]} at once)"
        return None

    def start(self, job: Job) -> None:
        """Count it as at work."""
        if self._per_workspace and job.workspace is not None:
            self._in_workspace[job.workspace] += 1
        agent_type = self._limited_type(job)
        if agent_type is not None:
            self._of_agent_type[agent_type] += 1

    def end(self, job: Job) -> None:
        """It is not at work any more."""
        agent_type = self._limited_type(job)
        if agent_type is not None:
            self._of_agent_type[agent_type] -= 1
        workspace = job.workspace
        if not self._per_workspace or workspace is None:
            return
        self._in_workspace[workspace] -= 1
        if not self._in_workspace[workspace]:
            del self._in_workspace[workspace]
        if not self._workspace_is_full(workspace):
            for lanes in self._lanes.values():
                for lane in lanes:
                    if (group := lane.groups.get(workspace)) and group.jobs:
                        lane.enlist(group)

    def _group_of(self, job: Job) -> _Group:
        lane = self._lanes[self._limited_type(job)][job.priority]
        workspace = job.workspace if self._per_workspace else None
        group = lane.groups.get(workspace)
        if group is None:
            group = lane.groups[workspace] = _Group(lane, workspace)
        return group

    def _head(self, lane: _Lane) -> Job | None:
        """The oldest task of the lane whose workspace is not full."""
        while lane.heap:
            number, group = lane.heap[0]
            if not group.jobs or self._workspace_is_full(group.workspace):
                lane.delist_first()  # until `enter` or `end` enlists it again
                continue
            first = next(iter(group.jobs))
            if first == number:
                return group.jobs[first]
            heapreplace(lane.heap, (first, group))
        return None

    def _remove_head(self, lane: _Lane) -> None:
        group = lane.heap[0][1]
        group.jobs.popitem(last=False)
        self._count -= 1
        if not group.jobs:
            heappop(lane.heap)
            del lane.groups[group.workspace]

    def _limited_type(self, job: Job) -> str | None:
        return job.agent_type if job.agent_type in self._per_agent_type else None

    def _workspace_is_full(self, workspace: str | None) -> bool:
        return (
            bool(self._per_workspace) and workspace is not None and self._in_workspace[workspace] >= self._per_workspace
        )

    def _agent_type_is_full(self, agent_type: str) -> bool:
        return self._of_agent_type[agent_type] >= self._per_agent_type[agent_type]
