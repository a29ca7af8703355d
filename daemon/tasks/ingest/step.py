"""One step of the ingester: everything in the spool, in batches, each stored in one transaction before its files go."""

import asyncio
import contextlib
import gc
import logging
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from tasks.config import Settings
from tasks.database import Database, release_reserve
from tasks.errors import StoreBusy, StoreUnavailable
from tasks.ingest.digest import Digest, denial
from tasks.ingest.intake import Batch, Intake
from tasks.ingest.journal import CrashJournal
from tasks.ingest.ledger import Ledger, Stored
from tasks.redaction import Redactor
from tasks.spool import Entry, Quarantine, Spool, Usage

T = TypeVar("T")
InThread = Callable[[Callable[[], T]], "asyncio.Future[T]"]

log = logging.getLogger(__name__)

#: Seconds between tries while the environment fails (disk full, I/O errors): what recovers is noticed within 10 s.
BACKOFF_MIN, BACKOFF_MAX = 1.0, 5.0
#: Seconds between lines in the log about the same trouble.
REMIND_INTERVAL = 60.0
#: A file system with less than this left is a full one; SQLite does not always say so.
LITTLE_SPACE = 256 << 10


@dataclass(slots=True)
class Health:
    """How ingestion is doing; plain numbers, kept current, cheap to read."""

    events_total: int = 0
    duplicates: int = 0
    #: epoch milliseconds of the newest event stored
    last_event_at: int | None = None
    #: what is wrong with the environment, None when all is well
    degraded: str | None = None
    usage: Usage = field(default_factory=lambda: Usage(0, 0, None))
    full: bool = False
    dropped: int = 0
    quarantined: int = 0
    #: monotonic seconds of the last sign of progress: a look at the spool, a batch stored, a failure of the environment noted
    last_progress: float = 0.0
    #: how many looks found nothing left to read
    empty_scans: int = 0


class Ingest:
    """Moves events from the spool to the store. `step()` does all there is to do now; whoever owns the loop calls it.

    A file is unlinked only after the transaction with its event has been committed; a crash in between replays into rows
    that are there already. A bad event goes to quarantine and delays no other; a failing environment is nobody's fault:
    the files stay and are tried again.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        spool: Spool,
        quarantine: Quarantine,
        redactor: Redactor,
        *,
        on_stored: Callable[[Sequence[Digest]], None] = lambda digests: None,
    ) -> None:
        self.health = Health()
        self._database = database
        self._spool = spool
        self._quarantine = quarantine
        self._on_stored = on_stored
        self._ledger = Ledger(database, lambda tool, text: denial(tool, text, redactor))
        self._journal_file: Path = settings.data_dir / "ingest.journal"
        self._redactor = redactor
        self._intake: Intake | None = None
        self._draining = asyncio.Lock()
        self._writing = asyncio.Lock()
        # One thread for all work on files: two of them would only wait for each other at the interpreter lock.
        self._files = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tasksd-spool")
        self._backoff = 0.0
        self._retry_at = 0.0
        self._logged_at = -REMIND_INTERVAL

    async def start(self) -> None:
        """Prepare the directories and take over what a crash may have left."""
        self._spool.prepare()
        self._quarantine.prepare()
        self._journal = CrashJournal(self._journal_file)
        self._intake = Intake(self._spool, self._quarantine, self._redactor, self._journal)
        counters: dict[str, int] = dict(await self._database.query("SELECT name, value FROM counters"))
        self.health.events_total = counters.get("events", 0)
        self.health.duplicates = counters.get("duplicates", 0)
        self.health.last_event_at = (await self._database.query("SELECT max(last_event_at) FROM sessions"))[0][0]

    def close(self) -> None:
        self._files.shutdown(wait=False, cancel_futures=True)
        if self._intake is not None:
            self._journal.close()

    async def step(self) -> int:
        """Store everything that the spool holds. Returns how many events were stored.

        Never raises for what an event or the environment does, only for damage of the database and for bugs.
        """
        if time.monotonic() < self._retry_at:
            return 0
        async with self._draining:
            try:
                with _no_collecting():
                    stored = await self._drain()
            except (StoreUnavailable, StoreBusy, OSError) as error:
                await self._back_off(error)
                return 0
        self._backoff = 0.0
        self._note(self._intake.trouble if self._intake else None)
        return stored

    async def lose(self, session_uuids: Sequence[str]) -> None:
        """Record that the processes of these sessions are gone without a SessionEnd."""
        async with self._writing:
            await self._ledger.lose(session_uuids)

    async def _drain(self) -> int:
        if self._intake is None:
            raise RuntimeError("Ingest.start() was not called")
        intake = self._intake
        stored = 0
        # The files of one batch are unlinked while the next one is written: both are mostly the kernel's work.
        finishing: asyncio.Future[None] | None = None
        async with _ReadAhead(intake, self._in_thread, intake.batches(await self._in_thread(self._survey))) as ahead:
            try:
                while (batch := await ahead.next()) is not None:
                    outcome = await self._store(intake, batch, ahead.begin)
                    stored += len(outcome.fresh)
                    if finishing is not None:
                        await finishing
                    finishing = self._in_thread(partial(intake.finish, batch, outcome.done))
            finally:
                if finishing is not None:
                    await _whole(finishing)
        self.health.empty_scans += stored == 0
        return stored

    def _survey(self) -> list[Entry]:
        entries = self._spool.scan()
        health = self.health
        health.usage = self._spool.usage(entries)
        with contextlib.suppress(OSError):  # no room for the marker is no reason to read nothing
            health.full = self._spool.mark_full(health.usage)
        health.dropped = self._spool.dropped()
        health.quarantined = self._quarantine.count()
        health.last_progress = time.monotonic()
        return entries

    async def _store(self, intake: Intake, batch: Batch, on_commit: Callable[[], None]) -> Stored:
        try:
            async with self._writing:
                outcome = await _whole(self._ledger.store(batch.digests, on_commit=on_commit))
        except BaseException:
            intake.abandon(batch)
            raise
        fresh = outcome.fresh
        if fresh:
            health = self.health
            health.events_total += len(fresh)
            health.last_event_at = max(health.last_event_at or 0, *(one.at for one in fresh))
            self._on_stored(fresh)
        self.health.duplicates += outcome.duplicates
        self.health.last_progress = time.monotonic()
        for refused, detail in outcome.refused:
            await self._in_thread(partial(intake.refuse, refused, detail))
        return outcome

    def _in_thread(self, work: Callable[[], T]) -> "asyncio.Future[T]":
        return asyncio.get_running_loop().run_in_executor(self._files, work)

    async def _back_off(self, error: Exception) -> None:
        self._backoff = min(max(self._backoff * 2, BACKOFF_MIN), BACKOFF_MAX)
        self._retry_at = time.monotonic() + self._backoff
        self.health.last_progress = time.monotonic()
        self._note(str(error))
        if await self._in_thread(lambda: _is_full(self._database.path)):
            await self._in_thread(lambda: release_reserve(self._database.path))

    def _note(self, trouble: str | None) -> None:
        """Take note of what is wrong, or that nothing is any more; say so once, and again every minute."""
        before, self.health.degraded = self.health.degraded, trouble[:300] if trouble else None
        now = time.monotonic()
        if trouble is None:
            if before is not None:
                log.warning("ingestion works again after=%s", before)
        elif before is None or now - self._logged_at >= REMIND_INTERVAL:
            log.error("ingestion is hindered, nothing is lost error=%s", trouble)
            self._logged_at = now


async def _whole(work: Awaitable[T]) -> T:
    """Run `work` to its end, whatever happens to the caller: a second reader would store what half of it has stored."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


def _is_full(database: Path) -> bool:
    try:
        state = os.statvfs(database.parent)
    except OSError:
        return False
    return state.f_bavail * state.f_frsize < LITTLE_SPACE or (state.f_files > 0 and state.f_favail == 0)


@contextlib.contextmanager
def _no_collecting() -> Iterator[None]:
    """Digests hold no cycles, and looking for some in a batch of them takes longer than anything else done to it."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class _ReadAhead:
    """Reads one batch ahead, in a worker thread, but only while the last one waits for the disk.

    Beside the writing itself it would slow both down: each works in small steps, and every step would have to wait for
    the interpreter lock.
    """

    def __init__(self, intake: Intake, in_thread: InThread[Any], batches: Iterator[list[Entry]]) -> None:
        self._intake = intake
        self._in_thread = in_thread
        self._batches = batches
        self._reading: asyncio.Future[Batch] | None = None

    async def __aenter__(self) -> "_ReadAhead":
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._reading is not None:
            with contextlib.suppress(OSError):
                self._intake.abandon(await self._reading)

    def begin(self) -> None:
        """Start reading the next batch, unless that has begun already."""
        if self._reading is None and (entries := next(self._batches, None)) is not None:
            self._reading = self._in_thread(lambda: self._intake.read(entries))

    async def next(self) -> Batch | None:
        """The next batch; None when there is none."""
        self.begin()
        if self._reading is None:
            return None
        try:
            return await asyncio.shield(self._reading)
        finally:
            if self._reading.done():  # a caller that is cancelled leaves it to __aexit__
                self._reading = None
