"""Connections and transactions of SQLite: how a file is opened, how a transaction runs, what an error means.

Everything here is synchronous. `Database` runs it on its thread, `SyncDatabase` runs it in place: the same code, no twins.
"""

import contextlib
import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tasks.database import migrations
from tasks.database.writes import Parameters, Value, Write
from tasks.errors import StoreBusy, StoreCorrupt, StoreError, StoreUnavailable

T = TypeVar("T")
Row = tuple[Any, ...]
#: What a unit of work gets: it executes statements, and leaves beginning and committing alone.
Connection = sqlite3.Connection

#: Seconds to wait for another process's write.
LOCK_TIMEOUT = 5.0
#: Bytes of WAL that stay allocated after a checkpoint.
JOURNAL_SIZE_LIMIT = 16 << 20

_WRITER_PRAGMAS = (
    "journal_mode = WAL",
    "synchronous = FULL",  # NORMAL loses acknowledged commits at a power cut
    "foreign_keys = ON",
    "trusted_schema = OFF",
    "cell_size_check = ON",
    "secure_delete = FAST",
    f"journal_size_limit = {JOURNAL_SIZE_LIMIT}",
    "temp_store = MEMORY",
    "mmap_size = 0",
    "cache_size = -16000",
    f"busy_timeout = {int(LOCK_TIMEOUT * 1000)}",
)

_UNAVAILABLE = ("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_NOMEM", "SQLITE_PERM")
_BUSY = ("SQLITE_BUSY", "SQLITE_LOCKED")
_CORRUPT = ("SQLITE_CORRUPT", "SQLITE_NOTADB")


def translate(error: sqlite3.Error, attempted: str) -> StoreError:
    """The error of our tree for an error of SQLite: an environment that failed, a damaged file, or wrong data."""
    name = getattr(error, "sqlite_errorname", None) or ""
    text = f"{attempted}: {error}"
    if name.startswith(_BUSY):
        return StoreBusy(text)
    if name.startswith(_CORRUPT):
        return StoreCorrupt(f"{text}; run `tasksd db check`")
    if name.startswith(_UNAVAILABLE):
        return StoreUnavailable(text)
    return StoreError(text)


class WriteLock:
    """Lets one connection at a time, over all processes, write or checkpoint.

    SQLite's own locks would do, were it not for a race between writers and checkpoints that corrupts databases in versions
    before 3.51.3 (sqlite.org/wal.html#walresetbug). With this lock around every transaction it cannot happen.
    """

    def __init__(self, database: Path) -> None:
        self._path = database.with_name(database.name + "-lock")
        self._fd: int | None = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        if self._fd is None:
            raise StoreError(f"cannot lock {self._path}: the connection is closed")
        deadline = time.monotonic() + LOCK_TIMEOUT
        while True:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise StoreBusy(f"{self._path} has been held by another process for {LOCK_TIMEOUT:g} s") from None
                time.sleep(0.002)
        try:
            yield
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


class Reader:
    """A read-only connection. Safe to use from several threads, one at a time; never holds a transaction open."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        try:
            self._connection = open_connection(path, "ro")
            self._connection.execute("PRAGMA query_only = ON")
            self._connection.execute(f"PRAGMA busy_timeout = {int(LOCK_TIMEOUT * 1000)}")
            # Questions about all time read many pages twice. This one reads the file: what is wrong with it, queries say.
            with contextlib.suppress(sqlite3.DatabaseError):
                self._connection.execute("PRAGMA cache_size = -16000")
        except sqlite3.Error as error:
            raise translate(error, f"cannot open {path}") from error

    def query(self, statement: str, parameters: Parameters = ()) -> list[Row]:
        """All rows at once: an open cursor would pin the WAL."""
        with self._lock:
            try:
                return self._connection.execute(statement, parameters).fetchall()
            except sqlite3.Error as error:
                raise translate(error, f"cannot read {self.path}") from error

    def interrupt(self) -> None:
        self._connection.interrupt()

    def close(self) -> None:
        with self._lock:
            self._connection.close()


class Writer:
    """The connection that writes: opens or creates the file, brings its schema up to date, runs transactions.

    Raises SchemaTooNew before anything is touched when the file was written by a newer version.
    """

    def __init__(self, path: Path, *, backup_dir: Path | None = None) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.lock = WriteLock(path)
        except OSError as error:
            raise StoreUnavailable(f"cannot open {path}: {error}") from error
        try:
            with self.lock.held():
                self._connection = _open_checked(path)
                if self._connection.execute("PRAGMA page_count").fetchone() == (0,):
                    # Before the first table. An older file takes it over with its next VACUUM.
                    self._connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
                for pragma in _WRITER_PRAGMAS:
                    self._connection.execute(f"PRAGMA {pragma}")
                migrations.migrate(self._connection, path, backup_dir or path.parent / "backups")
        except sqlite3.Error as error:
            self._abandon()
            raise translate(error, f"cannot open {path}") from error
        except OSError as error:
            self._abandon()
            raise StoreUnavailable(f"cannot open {path}: {error}") from error
        except BaseException:
            self._abandon()
            raise

    def run(
        self,
        work: Callable[[sqlite3.Connection], T],
        attempted: str = "cannot write",
        before_commit: Callable[[], None] = lambda: None,
    ) -> T:
        """Run `work` in one transaction: all of it is durable when this returns, none of it when this raises."""
        connection = self._connection
        try:
            with self.lock.held():
                connection.execute("BEGIN IMMEDIATE")
                try:
                    result = work(connection)
                    before_commit()
                    connection.execute("COMMIT")
                except BaseException:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                    raise
                return result
        except sqlite3.Error as error:
            raise translate(error, f"{attempted} to {self.path}") from error

    def outside_transaction(self, work: Callable[[sqlite3.Connection], T], attempted: str) -> T:
        """For VACUUM, checkpoints and the like, which cannot run inside one."""
        try:
            with self.lock.held():
                return work(self._connection)
        except sqlite3.Error as error:
            raise translate(error, f"{attempted} {self.path}") from error
        except OSError as error:
            raise StoreUnavailable(f"{attempted} {self.path}: {error}") from error

    def close(self) -> None:
        # The last connection to close checkpoints, hence the lock.
        with contextlib.suppress(StoreBusy), self.lock.held():
            self._connection.close()
        self._abandon()

    def _abandon(self) -> None:
        if connection := getattr(self, "_connection", None):
            connection.close()
        self.lock.close()


def run_writes(connection: sqlite3.Connection, writes: Sequence[Write]) -> None:
    for write in writes:
        if len(write.rows) == 1:
            connection.execute(write.statement, write.rows[0])
        elif write.rows:
            connection.executemany(write.statement, write.rows)


class SyncDatabase:
    """The store for synchronous callers: the same writes and reads as `Database`, run in place. Usable from any thread,
    without a daemon and beside one.

    Raises StoreUnavailable (disk full, no rights), StoreBusy (another process writes for longer than 5 s), StoreCorrupt.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._writer = Writer(path)
        try:
            self._reader = Reader(path)
        except BaseException:
            self._writer.close()
            raise

    def apply(self, writes: Sequence[Write]) -> None:
        """Run all `writes` in one transaction; durable when this returns."""
        with self._lock:
            self._writer.run(lambda connection: run_writes(connection, writes))

    def transaction(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work(connection)` in one transaction and return its result: durable then, undone when it raises."""
        with self._lock:
            return self._writer.run(work)

    def query(self, statement: str, parameters: Parameters = ()) -> list[Row]:
        return self._reader.query(statement, parameters)

    def close(self) -> None:
        with self._lock:
            self._reader.close()
            self._writer.close()


def open_connection(path: Path, mode: str) -> sqlite3.Connection:
    # Autocommit (isolation_level None): transactions are begun and ended by name, nothing is implied.
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None, check_same_thread=False
    )


def _open_checked(path: Path) -> sqlite3.Connection:
    """A connection for writing to a file of our own: what is newer or another program's is refused untouched."""
    if not os.path.lexists(path):
        _create(path)
    # Looked at through a read-only connection: the last writing one to close would move the log into the file.
    look = open_connection(path, "ro")
    try:
        migrations.check_version(look, path)
    finally:
        look.close()
    return open_connection(path, "rw")


def _create(path: Path) -> None:
    """An empty file of mode 0600; SQLite gives its companions the same mode. The umask belongs to all threads, and to open
    and close a file that another thread has connected to would drop that thread's locks: hence neither.
    """
    draft = path.with_name(f".{path.name}.draft")
    fd = os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.fchmod(fd, 0o600)
    finally:
        os.close(fd)
    draft.rename(path)


__all__ = [
    "Connection",
    "Reader",
    "Row",
    "SyncDatabase",
    "Value",
    "Write",
    "WriteLock",
    "Writer",
    "run_writes",
    "translate",
]
