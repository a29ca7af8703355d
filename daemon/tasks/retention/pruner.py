"""Prunes by age and by size, a short transaction at a time, with pauses: ingestion never waits long for it."""

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

from tasks.config import Settings
from tasks.database import Connection, Database, Reader, release_reserve
from tasks.errors import StoreUnavailable
from tasks.retention import batches, space
from tasks.retention.batches import Job
from tasks.retention.book import Book
from tasks.retention.runfolders import prune_runs
from tasks.rollups import DAY, HOUR

log = logging.getLogger(__name__)

#: Rows of the first batch, and of the smallest and largest that its time makes of it.
BATCH, SMALLEST, LARGEST = 500, 50, 1000
#: Seconds that the statements of one transaction should take, the wait for the disk not included.
LONG, SHORT = 0.012, 0.005
#: Pages given back in one transaction.
PAGES = 100
#: Pause after a transaction, as a part of the time that it took; at most so many seconds.
PAUSE, PAUSE_MAX = 0.5, 0.1
#: Pruning by size takes a part of the time that there is at once, an hour at least, and leaves the last hour alone.
SLICES, UNTOUCHED = 50, HOUR
#: A file system with less than this left is a full one.
LITTLE_SPACE = 1 << 20


@dataclass(slots=True)
class Pruned:
    """What one run did."""

    rows: int = 0
    bodies: int = 0
    transactions: int = 0
    #: seconds of the longest transaction, waiting for its turn included
    longest: float = 0.0
    #: folders of runs
    folders: int = 0


class Pruner:
    """Prunes what the settings say. Roll-ups, money, messages and tasks are never touched.

    Killed at any point, the next run goes on where this one was.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        *,
        clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        pause: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._settings = settings
        self._limits = settings.retention
        self._database = database
        self._clock = clock
        self._pause = pause
        self._batch = BATCH
        self._pruned = Pruned()

    async def run(self) -> Pruned:
        """Prune all that is due, then give back the space. Raises StoreUnavailable, StoreBusy, StoreCorrupt.

        On a full disk it first gives back the reserve: to delete takes room.
        """
        if _is_full(self._settings):
            await asyncio.to_thread(release_reserve, self._database.path)
        self._pruned = Pruned()
        now, limits = self._clock(), self._limits
        if limits.bodies:
            before = _before(now, limits.bodies)
            self._pruned.bodies += await self._sweep(batches.BODIES, before, now, bodies_since=before)
            self._pruned.folders = await prune_runs(self._settings, self._database, before)
        if limits.rows:
            before = _before(now, limits.rows)
            self._pruned.rows += await self._sweep(batches.ROWS, before, now, rows_since=before)
        if limits.max_bytes:
            await self._fit(now)
        await self._give_back()
        if self._pruned.rows or self._pruned.bodies or self._pruned.folders:
            log.info("pruned rows=%d bodies=%d run_folders=%d",
                     self._pruned.rows, self._pruned.bodies, self._pruned.folders)  # fmt: skip
        return self._pruned

    async def _sweep(
        self, jobs: Sequence[Job], before: int, now: int, *, rows_since: int = 0, bodies_since: int = 0
    ) -> int:
        changed = 0
        for job in jobs:
            more = True
            while more:
                done, took = await self._do(partial(_batch, job, before, now, self._batch, rows_since, bodies_since))
                changed += done.changed
                more = done.more
                self._adapt(took)
        return changed

    async def _fit(self, now: int) -> None:
        """Take the oldest bodies, then the oldest rows, until what is left fits into `max_bytes`."""
        for jobs, oldest in ((batches.BODIES, _oldest_body), (batches.ROWS, _oldest_row)):
            before, end = 0, _whole_hours(now - UNTOUCHED)
            while before < end and await self._excess() > 0:
                first = await self._database.read(oldest)
                if first is None or first >= end:
                    break
                first = max(first, before)
                before = min(_whole_hours(first) + max(HOUR, _whole_hours((end - first) // SLICES)), end)
                if jobs is batches.ROWS:
                    self._pruned.rows += await self._sweep(jobs, before, now, rows_since=before)
                else:
                    self._pruned.bodies += await self._sweep(jobs, before, now, bodies_since=before)
        short_by = max(0, await self._excess())
        if short_by != (await self._database.read(lambda reader: Book.read(reader.query))).short_by:
            await self._database.transaction(partial(_note_short, short_by))
            if short_by:
                log.warning("the database is larger than retention.max_bytes and nothing is left to prune over=%d",
                            short_by)  # fmt: skip

    async def _excess(self) -> int:
        found = await self._database.read(lambda reader: space.measure(reader.query))
        return found.used - self._limits.max_bytes

    async def _give_back(self) -> None:
        """Cut off what is free beyond a slack, a few pages at a time, and then the write-ahead log."""
        found = await self._database.read(lambda reader: space.measure(reader.query))
        if not (left := found.spare(self._limits.max_bytes)):
            return
        while left > 0:
            await self._do(partial(_give_back, min(PAGES, left)))
            left -= PAGES
        await self._database.checkpoint()

    async def _do(self, work: "Callable[[Connection], tuple[batches.Done, float]]") -> tuple[batches.Done, float]:
        """One transaction, and the pause after it."""
        started = time.perf_counter()
        try:
            answer = await self._database.transaction(work)
        except StoreUnavailable:
            # The room that is left may be enough once the reserve is gone.
            if not await asyncio.to_thread(release_reserve, self._database.path):
                raise
            answer = await self._database.transaction(work)
        took = time.perf_counter() - started
        self._pruned.transactions += 1
        self._pruned.longest = max(self._pruned.longest, took)
        await self._pause(min(took * PAUSE, PAUSE_MAX))
        return answer

    def _adapt(self, took: float) -> None:
        if took > LONG:
            self._batch = max(SMALLEST, self._batch // 2)
        elif took < SHORT:
            self._batch = min(LARGEST, self._batch + BATCH // 10)


def _batch(
    job: Job, before: int, now: int, limit: int, rows_since: int, bodies_since: int, connection: Connection
) -> tuple[batches.Done, float]:
    started = time.perf_counter()
    book = Book.open(connection)
    was = Book.open(connection)
    done = job(connection, book, before, now, limit)
    if done.changed:
        # From the first row that goes: what was there before that time is not complete any more.
        book.rows_since, book.bodies_since = max(book.rows_since, rows_since), max(book.bodies_since, bodies_since)
        if rows_since:
            book.pruned_rows += done.changed
        else:
            book.pruned_bodies += done.changed
    if book != was:
        book.keep(connection)
    return done, time.perf_counter() - started


def _give_back(pages: int, connection: Connection) -> tuple[batches.Done, float]:
    space.give_back(connection, pages)
    return batches.Done(0, True), 0.0


def _note_short(short_by: int, connection: Connection) -> None:
    book = Book.open(connection)
    book.short_by = short_by
    book.keep(connection)


def _oldest_body(reader: Reader) -> int | None:
    return space.oldest_body(reader.query, Book.read(reader.query))


def _oldest_row(reader: Reader) -> int | None:
    return space.oldest_row(reader.query)


def _before(now: int, days: int) -> int:
    return _whole_hours(now - days * DAY)


def _whole_hours(at: int) -> int:
    """Whole slots go, so that no roll-up is left with half its rows."""
    return max(0, at) // HOUR * HOUR


def _is_full(settings: Settings) -> bool:
    try:
        state = os.statvfs(settings.data_dir)
    except OSError:
        return False
    return state.f_bavail * state.f_frsize < LITTLE_SPACE
