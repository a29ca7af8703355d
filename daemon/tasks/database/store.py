"""`Database`: the store for asynchronous callers, one actor thread that owns the only writing connection."""

import asyncio
import contextlib
import copy
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import aiosqlite

from tasks.database import games, maintenance
from tasks.database.engine import Reader, Row, Writer, run_writes
from tasks.database.writes import Parameters, Write

T = TypeVar("T")
C = TypeVar("C", Reader, Writer)

#: Seconds that closing waits for work under way before it gives the thread up.
DRAIN_TIMEOUT = 5.0


class Database:
    """All reading and writing of one database file.

    `apply` and `transaction` are the only ways to write. A unit of work runs as a whole on the actor's thread, between
    BEGIN IMMEDIATE and COMMIT: a cancelled caller stops waiting, the unit is never stopped half-way. Reads use a second,
    read-only connection, so they never wait for a write.

    Raises StoreUnavailable (disk full, I/O error, no rights), StoreBusy (another process writes for longer than 5 s),
    StoreCorrupt, SchemaTooNew.
    """

    def __init__(self, path: Path, *, backup_dir: Path | None = None) -> None:
        self.path = path
        self._backup_dir = backup_dir or path.parent / "backups"
        self._writer: Writer | None = None
        self._reader: Reader | None = None
        self._writing = _Actor("tasksd-db-write")
        self._reading = _Actor("tasksd-db-read")

    async def open(self) -> Self:
        self._writer = await self._writing.start(lambda: Writer(self.path, backup_dir=self._backup_dir))
        try:
            self._reader = await self._reading.start(lambda: Reader(self.path))
        except BaseException:
            await self.close()
            raise
        return self

    async def close(self) -> None:
        """Finish what was asked for, then close. A unit that takes longer than 5 s keeps its (daemonic) thread."""
        if reader := self._reader:
            self._reader = None
            await self._reading.stop(reader.close)
        if writer := self._writer:
            self._writer = None
            await self._writing.stop(writer.close)

    def abandon(self) -> None:
        """Close without an event loop, for owners that go without a word. What was asked for before is finished first."""
        if reader := self._reader:
            self._reader = None
            self._reading.abandon(reader.close)
        if writer := self._writer:
            self._writer = None
            self._writing.abandon(writer.close)

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @contextlib.asynccontextmanager
    async def for_people(self) -> AsyncIterator[Self]:
        """The same store, with a thread and a connection of its own to read on: people ask much, and questions that take
        long, and what the daemon reads for itself must not wait for them. This one has to stay open meanwhile.
        """
        other = copy.copy(self)
        other._reading = _Actor("tasksd-db-people")
        reader = other._reader = await other._reading.start(lambda: Reader(self.path))
        try:
            yield other
        finally:
            other._reader = None
            await other._reading.stop(reader.close)

    async def apply(self, writes: Sequence[Write], *, on_commit: Callable[[], None] | None = None) -> None:
        """Run all `writes` in one transaction; durable when this returns, none of them when it raises.

        `on_commit` is called in the event loop when nothing is left to do but to wait for the disk.
        """
        writer = self._opened_writer()
        loop = asyncio.get_running_loop()

        def before_commit() -> None:
            if on_commit is not None:
                loop.call_soon_threadsafe(on_commit)

        def unit() -> None:
            writer.run(lambda connection: run_writes(connection, writes), before_commit=before_commit)

        await self._writing.call(unit)

    async def transaction(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work(connection)` in one transaction on the actor's thread and return its result."""
        writer = self._opened_writer()
        return await self._writing.call(lambda: writer.run(work))

    async def query(self, statement: str, parameters: Parameters = ()) -> list[Row]:
        """All rows of a SELECT, from the last committed state."""
        return await self.read(lambda reader: reader.query(statement, parameters))

    async def read(self, work: Callable[[Reader], T]) -> T:
        """Run `work(reader)`, any number of queries, on the reading thread."""
        reader = self._reader
        if reader is None:
            raise RuntimeError(f"the database {self.path} is not open")
        return await self._reading.call(lambda: work(reader))

    async def tick(self) -> None:
        """Returns once the actor has worked off what was asked before: the watchdog's proof that it lives."""
        await self._writing.call(lambda: None)

    # Maintenance; see `tasks.database.maintenance`.

    async def check(self) -> list[str]:
        """What is wrong with the file (empty: nothing). Reads all of it."""
        return await self.read(maintenance.problems)

    async def backup(self, label: str = "manual", *, keep: int | None = None) -> Path:
        """A checked copy in the backup directory; with `keep`, the oldest of the same label beyond that number go."""
        self._opened_writer()
        return await asyncio.to_thread(maintenance.back_up, self.path, self._backup_dir, label, keep)

    async def vacuum(self) -> tuple[int, int]:
        """Rewrite the file without gaps. Returns its size in bytes before and after."""
        writer = self._opened_writer()
        return await self._writing.call(lambda: maintenance.vacuum(writer))

    async def checkpoint(self) -> None:
        """Move the write-ahead log into the file and cut it, as far as readers allow."""
        writer = self._opened_writer()
        await self._writing.call(lambda: maintenance.checkpoint(writer))

    # Games.

    async def save_game(self, game_id: str, state: object) -> None:
        """Store `state` (anything that JSON can hold) under `game_id`, replacing what was there."""
        await self.apply([games.save(game_id, state)])

    async def load_game(self, game_id: str) -> object | None:
        """The stored state, or None when there is no such game."""
        return games.state_of(await self.query(games.LOAD, {"game_id": game_id}))

    async def list_games(self) -> list[games.Game]:
        """All games, the latest saved first."""
        return games.listed(await self.query(games.LIST))

    async def delete_game(self, game_id: str) -> bool:
        """Whether there was such a game."""
        return await self.transaction(lambda connection: games.delete(connection, game_id))

    def _opened_writer(self) -> Writer:
        if self._writer is None:
            raise RuntimeError(f"the database {self.path} is not open")
        return self._writer


class _Actor:
    """A thread that runs functions one after another. It is aiosqlite's connection thread with our connection on it.

    aiosqlite alone leaves transactions open when a caller is cancelled and keeps a crashed process from exiting; handing it
    whole functions, and making its thread daemonic, closes both (tests/integration/test_database.py).
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._connection: aiosqlite.Connection | None = None
        self._pending: set[asyncio.Future[Any]] = set()

    async def start(self, connect: Callable[[], C]) -> C:
        made: list[C] = []

        def connector() -> sqlite3.Connection:
            made.append(connect())
            return _Anchor()

        self._connection = aiosqlite.Connection(connector, iter_chunk_size=64)
        thread: threading.Thread = self._connection._thread
        thread.daemon = True
        thread.name = self._name
        opening = asyncio.ensure_future(self._connection)
        try:
            await asyncio.shield(opening)
        except BaseException:
            # Half a connection cannot be given up: it is opened, and then closed.
            await asyncio.wait([opening])
            if not opening.cancelled() and opening.exception() is None:
                await self.stop(made[0].close)
            self._connection = None
            # aiosqlite has told the thread to end, and it reports that to the loop: the loop must still be there.
            await asyncio.to_thread(thread.join, DRAIN_TIMEOUT)
            raise
        return made[0]

    async def call(self, function: Callable[[], T]) -> T:
        if self._connection is None:
            raise RuntimeError(f"{self._name} is not running")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()

        def unit() -> None:
            try:
                deliver(answer.set_result, function())
            except BaseException as error:
                deliver(answer.set_exception, error)

        def deliver(tell: Callable[[Any], None], what: object) -> None:
            # A loop that was closed meanwhile (`asyncio.run` was interrupted) has nobody waiting, and other loops follow.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(tell, what)

        # aiosqlite has no public way to run one function on its thread.
        self._connection._tx.put_nowait((None, unit))
        self._pending.add(answer)
        answer.add_done_callback(self._pending.discard)
        return await asyncio.shield(answer)

    async def stop(self, last: Callable[[], None]) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        closing = asyncio.ensure_future(connection._execute(last))  # type: ignore[no-untyped-call]
        loop = asyncio.get_running_loop()
        pending = [answer for answer in self._pending if answer.get_loop() is loop]
        done, _ = await asyncio.wait([closing, *pending], timeout=DRAIN_TIMEOUT)
        if closing in done:
            await connection.close()
            closing.result()

    def abandon(self, last: Callable[[], None]) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        # On the thread itself, where aiosqlite finds no event loop to report to.
        for function in (last, connection.stop):
            connection._tx.put_nowait((None, function))
        if threading.current_thread() is not connection._thread:
            connection._thread.join(DRAIN_TIMEOUT)


class _Anchor(sqlite3.Connection):
    """What aiosqlite believes to be its connection: an unused one in memory. Ours lives beside it, on the same thread."""

    def __init__(self) -> None:
        super().__init__(":memory:", check_same_thread=False)
