"""Watches the processes of sessions, because a SessionEnd may never come."""

import logging
import socket
from collections.abc import Awaitable, Callable, Sequence

from tasks import process
from tasks.database import Database
from tasks.errors import ProbeError, StoreBusy, StoreUnavailable
from tasks.process import Liveness, ProcessIdentity

log = logging.getLogger(__name__)

#: Seconds between looks.
INTERVAL = 2.0
#: Sessions named in one line of the log.
NAMED = 5

_LIVE = """
SELECT session_uuid, pid, process_started, boot, last_event_at FROM sessions
WHERE status IN ('starting', 'working', 'waiting_permission', 'waiting_input', 'idle') AND host = :host AND pid IS NOT NULL
"""


class Supervisor:
    """Declares a session lost when its process is gone and everything it may have said has been read.

    A probe that fails says nothing: the session is left as it is and asked about again.
    """

    def __init__(
        self,
        database: Database,
        *,
        empty_scans: Callable[[], int],
        lose: Callable[[Sequence[str]], Awaitable[None]],
    ) -> None:
        self._database = database
        #: how often the spool was found with nothing to read; grows
        self._empty_scans = empty_scans
        self._lose = lose
        #: session → the empty scan that began after its process was first found gone, by number
        self._gone: dict[str, int] = {}
        self._hindered = False

    async def step(self) -> list[str]:
        """Look at every live session's process once. Returns the sessions that were lost.

        What the store cannot do now is tried again at the next step.
        """
        try:
            lost = await self._look()
        except (StoreUnavailable, StoreBusy) as error:
            if not self._hindered:
                log.warning("cannot tell which sessions are lost, trying again error=%s", error)
            self._hindered = True
            return []
        self._hindered = False
        return lost

    async def _look(self) -> list[str]:
        rows = await self._database.query(_LIVE, {"host": socket.gethostname()})
        gone = {row[0] for row in rows if _is_gone(*row[1:])}
        self._gone = {session: scans for session, scans in self._gone.items() if session in gone}
        scans = self._empty_scans()
        # One scan more: the next to end may have listed the spool before the process wrote its last word.
        lost = [session for session in gone if scans > self._gone.setdefault(session, scans + 1)]
        if lost:
            log.info("processes ended without a SessionEnd sessions=%s", _shortened(lost))
            await self._lose(lost)
        return lost


def _shortened(sessions: Sequence[str]) -> str:
    named = ",".join(sessions[:NAMED])
    return f"{named} and {len(sessions) - NAMED} more" if len(sessions) > NAMED else named


def _is_gone(pid: int, started: int | None, boot: str | None, last_event_at: int) -> bool:
    if started is not None and boot is not None:
        return process.probe(ProcessIdentity(pid, started, boot)) is Liveness.GONE
    # Never seen alive (the daemon was not running): gone when nobody has the pid, or somebody who came later.
    try:
        identity = process.identify(pid)
        return identity is None or process.started_at_ms(identity) > last_event_at + 1000
    except ProbeError:
        return False
