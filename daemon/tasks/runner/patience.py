"""How long a task is left alone: until the end of its hold, and after a failure of ours for longer each time."""

import time
from collections.abc import Callable, Collection

from tasks.manager import Task

#: Seconds after the first failure to carry a task out or to look at it, doubled with each one up to the second.
FIRST, LONGEST = 2.0, 300.0


class Patience:
    """Knows nothing after a restart, and then nothing waits for longer than its row says."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        #: task → end of its hold as its row has it, and on our clock, which nobody sets
        self._holds: dict[str, tuple[int, float]] = {}
        #: task → failures in a row, and when it is looked at again
        self._setbacks: dict[str, tuple[int, float]] = {}

    def is_held(self, task: Task, now: int) -> bool:
        """Whether its hold lasts at `now` (epoch milliseconds). A clock that is set back makes no hold longer."""
        if task.hold_until is None or task.hold_until <= now:
            self._holds.pop(task.task_id, None)
            return False
        until, end = self._holds.get(task.task_id, (None, 0.0))
        if until != task.hold_until:
            end = self._clock() + (task.hold_until - now) / 1000
            self._holds[task.task_id] = (task.hold_until, end)
        return self._clock() < end

    def hold(self, task_id: str, until: int, seconds: float) -> None:
        """Its row has just been given that hold, which lasts for `seconds` from now."""
        self._holds[task_id] = (until, self._clock() + seconds)

    def set_back(self, task_id: str) -> None:
        """It failed once more."""
        count = self._setbacks.get(task_id, (0, 0.0))[0] + 1
        self._setbacks[task_id] = (count, self._clock() + min(FIRST * 2 ** min(count - 1, 10), LONGEST))

    def waits(self, task_id: str) -> bool:
        """Whether it is too early after a failure."""
        return task_id in self._setbacks and self._clock() < self._setbacks[task_id][1]

    def forget(self, task_id: str) -> None:
        """It went well."""
        self._setbacks.pop(task_id, None)

    def keep_only(self, task_ids: Collection[str]) -> None:
        """Forget the holds of all others."""
        for task_id in [one for one in self._holds if one not in task_ids]:
            del self._holds[task_id]
