"""How a database of any older version becomes one of this version: one transaction a step, a backup before the first.

`schema.sql` always describes the newest version; tests prove that the migrations lead to exactly that.
"""

import logging
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from tasks import assets
from tasks.database.steps import MIGRATIONS
from tasks.errors import SchemaTooNew, StoreError

log = logging.getLogger(__name__)

#: "tskd": lets other programs tell what the file is.
APPLICATION_ID = 0x74736B64
#: The version that schema.sql describes.
VERSION = 4


def check_version(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse a file that a newer version wrote, or that is some other program's database, before anything is changed."""
    version = _user_version(connection)
    if version > VERSION:
        raise SchemaTooNew(
            f"{path} has schema version {version}, this tasksd knows versions up to {VERSION}: upgrade tasksd; "
            "nothing was changed"
        )
    owner = int(connection.execute("PRAGMA application_id").fetchone()[0])
    has_tables = connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone() is not None
    if has_tables and owner != APPLICATION_ID:
        raise StoreError(f"{path} is a database of another program; choose another data directory (TASKSD_DATA_DIR)")


def migrate(
    connection: sqlite3.Connection,
    path: Path,
    backup_dir: Path,
    *,
    target: int = VERSION,
    steps: Mapping[int, str] = MIGRATIONS,
) -> None:
    """Create the schema in an empty file, or bring an older one to `target`. Killed at any point, it starts where it was."""
    version = _user_version(connection)
    if version == target:
        return
    if version == 0:
        _run(connection, assets.path("schema.sql").read_text(encoding="utf-8"), target)
        return
    if path.exists():
        backup(connection, backup_dir, f"before-v{target}")
    # Dropping a table, which rebuilding one takes, would delete the rows that refer to it. It has no effect in a transaction.
    connection.execute("PRAGMA foreign_keys = OFF")
    try:
        for step in range(version + 1, target + 1):
            log.info("migrating the database file=%s to_version=%d", path, step)
            _run(connection, steps[step], step)
    finally:
        connection.execute("PRAGMA foreign_keys = ON")


def statements(script: str) -> Iterator[str]:
    """The statements of an SQL script. (`executescript` would commit whatever transaction is open.)"""
    pending = ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            yield pending
            pending = ""
    if pending.strip():
        yield pending


def backup(connection: sqlite3.Connection, directory: Path, label: str) -> Path:
    """A complete, checked, durable copy made while others read and write. Returns its path (0600)."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    name = f"tasks-{time.strftime('%Y%m%dT%H%M%S', time.gmtime(seconds))}-{nanoseconds:09d}-{label}.db"
    draft = directory / f".{name}.draft"
    # Created by us first, so that it is 0600 whatever the umask: VACUUM INTO accepts an empty file.
    os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        connection.execute("VACUUM INTO ?", (str(draft),))
        _verify(draft)
        sync(draft)
        draft.rename(directory / name)
        sync(directory)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    return directory / name


def _verify(copy: Path) -> None:
    reader = sqlite3.connect(f"{copy.absolute().as_uri()}?mode=ro", uri=True)
    try:
        verdict = reader.execute("PRAGMA integrity_check(1)").fetchone()[0]
    finally:
        reader.close()
    if verdict != "ok":
        raise StoreError(f"the backup {copy} is damaged ({verdict}): the database needs `tasksd db check`")


def sync(path: Path) -> None:
    """Make the file's content, or the directory's entries, durable."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _run(connection: sqlite3.Connection, script: str, version: int) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        if _user_version(connection) < version:  # another process may have been faster
            orphans = _orphans(connection)
            for statement in statements(script):
                connection.execute(statement)
            if new := _orphans(connection) - orphans:
                table, parent = min(new)[::2]
                raise StoreError(
                    f"version {version} would leave rows of {table} without their {parent}; nothing changed"
                )
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {version}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _orphans(connection: sqlite3.Connection) -> set[tuple[str, int, str]]:
    """Rows (table, rowid, table that is referred to) whose reference leads nowhere."""
    return {(table, rowid or 0, parent) for table, rowid, parent, _ in connection.execute("PRAGMA foreign_key_check")}


def _user_version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])
