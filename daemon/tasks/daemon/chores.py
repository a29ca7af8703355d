"""What the daemon does beside everything else, each an endless loop. None is under the watchdog: they may take their time."""

import asyncio
import logging
import time

from tasks.config import Settings
from tasks.database import Connection, Database, keep_reserve
from tasks.errors import TasksError
from tasks.retention import Pruner
from tasks.rollups import DAY
from tasks.runner import Dispatcher
from tasks.spool import Quarantine
from tasks.telemetry import Pusher
from tasks.users import prune_audit, prune_logins

log = logging.getLogger(__name__)

HOUSEKEEPING_INTERVAL = 3600.0
BACKUP_INTERVAL = 86_400.0
#: Seconds between two rounds of pruning, and after one that failed.
PRUNE_INTERVAL, PRUNE_RETRY = 900.0, 10.0


async def housekeeping(settings: Settings, database: Database, quarantine: Quarantine) -> None:
    """Once an hour: trims the quarantine, keeps the reserve, forgets old logins, empties the log of the database; once a day:
    a backup.
    """
    while True:
        try:
            await asyncio.to_thread(quarantine.trim)
            await asyncio.to_thread(keep_reserve, database.path)
            backups = settings.backup_dir.glob("tasks-*-nightly.db")
            newest = max((path.stat().st_mtime for path in backups), default=0.0)
            if not 0 <= time.time() - newest <= BACKUP_INTERVAL:  # a clock that was wrong must not stop backups
                await database.backup("nightly", keep=settings.database.backups)
            await database.transaction(lambda connection: _forget(connection, settings.retention.rows))
            await database.checkpoint()
        except (TasksError, OSError) as error:
            # A full disk is reported by the ingester; housekeeping tries again in an hour.
            log.warning("housekeeping failed error=%s", error)
        await asyncio.sleep(HOUSEKEEPING_INTERVAL)


def _forget(connection: Connection, days: int) -> None:
    """Logins that are over for long, and what people did more than `days` ago (0: never)."""
    now = time.time_ns() // 1_000_000
    prune_logins(connection, now=now)
    if days:
        prune_audit(connection, before=now - days * DAY)


async def prune(pruner: Pruner) -> None:
    """A year's backlog takes its time, in steps that nobody waits for."""
    while True:
        try:
            await pruner.run()
            interval = PRUNE_INTERVAL
        except (TasksError, OSError) as error:
            log.warning("pruning failed, it goes on later error=%s", error)
            interval = PRUNE_RETRY
        await asyncio.sleep(interval)


async def retry_merges(dispatcher: Dispatcher, seconds: float) -> None:
    """Tries what waits for somebody's checkout; git has a timeout of its own."""
    while True:
        await asyncio.sleep(seconds)
        await dispatcher.retry_merges()


async def push_traces(pusher: Pusher, seconds: float) -> None:
    """The collector is another's, and may be slow."""
    while True:
        await asyncio.sleep(seconds)
        await pusher.step()
