"""Whether the pool may start anything: a person's pause, a usage limit's end. Both survive a restart."""

import logging
import time
from dataclasses import dataclass

from tasks.manager import TaskManager
from tasks.pool import AgentPool

log = logging.getLogger(__name__)

#: Names in daemon_state.
PAUSED, LIMIT = "pool.paused", "pool.limit"


@dataclass(frozen=True, slots=True)
class Hold:
    """Nothing is started before `until` (epoch milliseconds)."""

    until: int
    reason: str


class Valve:
    """Opens and closes `pool`; what is at work is not its business."""

    def __init__(self, pool: AgentPool, manager: TaskManager) -> None:
        self._pool = pool
        self._manager = manager
        #: by a person
        self.paused = False
        #: by the client's limits
        self.hold: Hold | None = None
        #: its end on a clock that nobody sets
        self._end = 0.0

    async def restore(self, now: int) -> None:
        self.paused = bool(await self._manager.get_state(PAUSED))
        stored = await self._manager.get_state(LIMIT)
        if isinstance(stored, dict) and stored["until"] > now:
            self._begin(Hold(stored["until"], stored["reason"]), now)
        self._apply()

    async def pause(self) -> None:
        await self._manager.set_state(PAUSED, True)
        self.paused = True
        self._apply()

    async def resume(self) -> None:
        """Undo a pause, and a hold that has not ended yet."""
        await self._manager.set_state(PAUSED, False)
        self.paused = False
        await self.release()

    def close(self, hold: Hold, now: int) -> None:
        """Hold the pool, unless it is held for longer already. `keep` makes that durable."""
        if self.hold is None or self.hold.until < hold.until:
            self._begin(hold, now)
            log.warning("the pool waits until=%d", hold.until)
        self._apply()

    async def keep(self) -> None:
        if self.hold is not None:
            await self._manager.set_state(LIMIT, {"until": self.hold.until, "reason": self.hold.reason})

    async def release(self, now: int | None = None) -> None:
        """End the hold; with `now`, only if it is over by then. A clock that is set back makes it no longer."""
        if self.hold is not None and (now is None or self.hold.until <= now or time.monotonic() >= self._end):
            self.hold = None
            await self._manager.set_state(LIMIT, None)
            log.info("the pool goes on")
        self._apply()

    def _begin(self, hold: Hold, now: int) -> None:
        self.hold, self._end = hold, time.monotonic() + (hold.until - now) / 1000

    def _apply(self) -> None:
        if self.paused or self.hold is not None:
            self._pool.pause()
        else:
            self._pool.resume()
