"""What the resources answer from; handed over by the composition root."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tasks.accounting.follower import Follower
from tasks.config import Settings
from tasks.database import Database
from tasks.ingest import Ingest
from tasks.retention import State
from tasks.runner import Dispatcher
from tasks.spool import Quarantine, Spool
from tasks.users import Authority

if TYPE_CHECKING:
    from tasks.api.doctor import Doctor


class Bell:
    """Tells any number of waiting readers that something new is stored. A hint only: readers look for themselves."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()
        #: how often it has rung; whoever notes it before looking misses nothing that comes while looking
        self.rings = 0

    def ring(self) -> None:
        self.rings += 1
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait(self, seen: int, timeout: float) -> bool:  # noqa: ASYNC109  (running out of time is an answer here)
        """Whether it rang again after the first `seen` rings, or does within `timeout` seconds."""
        if self.rings > seen:
            return True
        try:
            async with asyncio.timeout(timeout):
                await self._changed.wait()
        except TimeoutError:
            return False
        return True


@dataclass(slots=True)
class Context:
    settings: Settings
    database: Database
    ingest: Ingest
    spool: Spool
    quarantine: Quarantine
    version: str
    #: "watching", or "polling: " and why
    watcher: Callable[[], str]
    #: makes the ingester look at the spool now
    poke: Callable[[], None]
    stored: Bell = field(default_factory=Bell)
    #: set when the daemon stops: live streams end
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    started: float = field(default_factory=time.monotonic)
    #: the last known number of sessions by status, for when the database is slow
    session_counts: dict[str, int] = field(default_factory=dict)
    #: the last known numbers of tasks, likewise
    task_counts: dict[str, Any] = field(default_factory=dict)
    #: what was last known to be kept; None: nothing yet
    retention: State | None = None
    #: the last known numbers of calls and messages that transcripts told of
    accounting: dict[str, int] = field(default_factory=dict)
    #: reads transcripts; None: this daemon does not
    follower: Follower | None = None
    #: questions to git for people who look, at once: each of them may read much of a repository
    git_turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))
    #: runs tasks; None: this daemon does not
    dispatcher: Dispatcher | None = None
    #: lets people log in; None: there is no page to log in to
    authority: Authority | None = None
    #: where the page is, or "off", or why there is none
    web: str = "off"
    #: looks for what is wrong; None: nobody has asked yet
    doctor: "Doctor | None" = None
