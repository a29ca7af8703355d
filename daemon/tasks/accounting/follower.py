"""Reads transcripts as they grow: those of sessions that hooks report, and of tasks that run."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from tasks.accounting import results
from tasks.accounting.contexts import settle_contexts
from tasks.accounting.ledger import UNDATED, Accounted, account, rank, stored_position
from tasks.accounting.reconcile import reconcile
from tasks.accounting.told import Told, tell
from tasks.accounting.watched import File, Session, Watchlist
from tasks.config import Settings
from tasks.database import Connection, Database
from tasks.errors import StoreBusy, StoreCorrupt, StoreUnavailable
from tasks.prices import PriceBook
from tasks.redaction import Redactor
from tasks.transcripts import Chunk, Position, of_session, projects_dir, read

T = TypeVar("T")

log = logging.getLogger(__name__)

#: Seconds between looks while nothing wakes it; and between two looks, at least.
INTERVAL, PAUSE = 2.0, 1.0
#: Bytes read, parsed and stored at once: other writers wait for no more than that.
CHUNK = 512 << 10
#: Seconds that one step may take; what is left is for the next.
TURN = 3.0
#: Seconds between tries while the store fails.
BACKOFF_MIN, BACKOFF_MAX = 1.0, 30.0
#: Seconds between two looks at what is to be reconciled.
RECONCILE_INTERVAL = 5.0


@dataclass(slots=True)
class Health:
    """How following is doing; plain numbers, kept current."""

    #: files looked at now
    transcripts: int = 0
    #: bytes of them that are not read yet
    behind_bytes: int = 0
    #: why it waits; None: it does not
    degraded: str | None = None


class Follower:
    """Accounts what grew since the last step. `step()` does a few seconds' work at most; whoever owns the loop calls it.

    A chunk and the position behind it are stored in one transaction: nothing is lost or counted twice, whenever the process
    ends. A file that cannot be read hinders no other; a store that fails is tried again.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        redactor: Redactor,
        book: PriceBook,
        *,
        environ: Mapping[str, str],
        wake: Callable[[], None] = lambda: None,
        changed: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.health = Health()
        self._clock = clock
        self._settings = settings
        self._database = database
        self._redactor = redactor
        self._book = book
        self._wake = wake
        self._changed = changed
        agents = {**environ, **settings.agent.environment}
        self._watchlist = Watchlist(database, projects_dir(settings, agents), settings.runs_dir)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tasksd-transcripts")
        self._backoff = self._retry_at = 0.0
        self._looked_at = self._reconciled_at = float("-inf")
        self._expecting = True

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def stir(self) -> None:
        """Events were stored: the transcripts of their sessions are worth a look."""
        self._watchlist.stirred = True
        self._wake()

    def stir_tasks(self) -> None:
        """Something became of a task: its run may have begun or ended."""
        self._watchlist.tasks_stirred = True
        self._wake()

    async def step(self) -> int:
        """Read what grew. Returns the bytes read. Raises only for damage of the database and for bugs."""
        if not self._settings.transcripts.follow or self._clock() < self._retry_at:
            return 0
        # Events come in bursts, and lines are written right after them.
        await asyncio.sleep(max(0.0, self._looked_at + PAUSE - self._clock()))
        self._looked_at = self._clock()
        try:
            taken = await self._turn(self._looked_at + TURN)
        except (StoreUnavailable, StoreBusy) as error:
            self._back_off(error)
            return 0
        if self.health.degraded is not None:
            log.warning("transcripts are followed again after=%s", self.health.degraded)
        self._backoff, self.health.degraded = 0.0, None
        return taken

    async def _turn(self, deadline: float) -> int:
        taken = 0
        sessions = await self._watchlist.due(self._clock())
        for session in sessions:
            taken += await self._follow(session, deadline)
            if self._clock() >= deadline:
                self._wake()  # the rest is not due any later
                break
        await self._settle_runs()
        await self._reconcile(deadline)
        self.health.transcripts = self._watchlist.count()
        self.health.behind_bytes = self._watchlist.behind()
        if taken:
            self._changed()
        await self._watchlist.remember(self._clock())
        return taken

    async def _follow(self, session: Session, deadline: float) -> int:
        """Read what grew of a session's files."""
        final = session.is_last_look(self._clock())
        listed = await self._in_thread(lambda: of_session(session.path))
        taken, left = 0, False
        for found in listed:
            file = session.note(found)
            while file.wants_reading(final=final):
                if self._clock() >= deadline:
                    left = True
                    break
                size = await self._read(file, final=final)
                taken += size
        session.looked(self._clock(), grew=taken > 0, final=final and not left)
        if left:
            session.hurry()
        return taken

    async def _read(self, file: File, *, final: bool) -> int:
        """One chunk of a file, stored. Returns its bytes."""
        try:
            position = file.position
            if position is None:
                position = await self._database.read(lambda reader: stored_position(reader.query, file.path))
            chunk, began_at = await self._in_thread(lambda: _chunk(file, position, final=final))
            told = await self._in_thread(lambda: tell(chunk, self._redactor))
            accounted = await self._store(file, chunk, told, began_at, position)
        except (StoreUnavailable, StoreBusy, StoreCorrupt):
            raise
        except FileNotFoundError:
            file.is_over = True  # its rows stay
            return 0
        except OSError as error:
            log.warning("cannot read a transcript path=%s error=%s", file.path, error)
            file.is_over = True
            return 0
        except Exception:
            log.exception("a transcript could not be accounted, it is left alone path=%s", file.path)
            file.is_poisoned = True
            return 0
        self._expecting = self._expecting or bool(chunk.calls or chunk.answers)
        if not accounted.applied:
            file.position = None  # another process read it too
            return 0
        file.took(chunk, final=final)
        return chunk.size

    async def _store(self, file: File, chunk: Chunk, told: Told, began_at: int, position: Position) -> Accounted:
        return await self._database.transaction(
            lambda connection: account(
                connection,
                file.found,
                chunk,
                began_at,
                self._book,
                expect=position,
                redactor=self._redactor,
                now=_now(),
                told=told,
            )
        )

    async def _settle_runs(self) -> None:
        """Account what the results of ended runs tell beyond their transcripts."""
        for run in await self._watchlist.ended_runs():
            try:
                await self._settle_run(run)
            except (StoreUnavailable, StoreBusy, StoreCorrupt):
                raise
            except Exception:
                log.exception("the result of a run could not be accounted task=%s attempt=%d", run.task_id, run.attempt)
            self._watchlist.settled(run)

    async def _settle_run(self, run: results.EndedRun) -> None:
        usage = await self._in_thread(lambda: results.usage_of(run.output))

        def work(connection: Connection) -> None:
            while settle_contexts(connection):
                pass
            results.settle(connection, run, usage, self._book)

        await self._database.transaction(work)

    async def _reconcile(self, deadline: float) -> None:
        now = self._clock()
        if now - self._reconciled_at < RECONCILE_INTERVAL or not self._expecting:
            return
        self._reconciled_at = now
        grace = self._settings.transcripts.grace
        while True:
            done = await self._database.transaction(lambda connection: reconcile(connection, _now(), grace))
            if done.seen or done.added:
                self._changed()
            if done.done:
                self._expecting = bool(await self._database.query("SELECT 1 FROM expected_calls LIMIT 1"))
                return
            if self._clock() >= deadline:
                self._reconciled_at = float("-inf")
                self._wake()
                return

    def _in_thread(self, work: Callable[[], T]) -> "asyncio.Future[T]":
        return asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _back_off(self, error: Exception) -> None:
        self._backoff = min(max(self._backoff * 2, BACKOFF_MIN), BACKOFF_MAX)
        self._retry_at = self._clock() + self._backoff
        if self.health.degraded is None:
            log.error("transcripts cannot be accounted now, nothing is lost error=%s", error)
        self.health.degraded = str(error)[:300]


def _chunk(file: File, position: Position, *, final: bool) -> tuple[Chunk, int]:
    chunk = read(file.path, position, limit=CHUNK, final=final, only_failures=True)
    if file.began_at in (None, UNDATED) or chunk.restarted:
        file.began_at = rank(file.path)
    return chunk, file.began_at or UNDATED


def _now() -> int:
    return time.time_ns() // 1_000_000
