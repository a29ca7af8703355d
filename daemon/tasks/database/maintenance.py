"""Keeping the file healthy: checks, backups, vacuum, checkpoints, room for a full disk, restoring after damage."""

import contextlib
import logging
import os
import re
import shutil
import sqlite3
import time
from pathlib import Path

from tasks.database import migrations
from tasks.database.engine import Reader, Writer, open_connection, translate
from tasks.database.migrations import sync
from tasks.errors import StoreCorrupt, StoreError

log = logging.getLogger(__name__)

#: Freed first when the disk is full: SQLite can delete nothing without writing.
RESERVE_BYTES = 16 << 20

#: SQLite versions with the WAL-reset race (sqlite.org/wal.html#walresetbug): from 3.7.0 to 3.51.2, but for the backports.
_RACE_FIXED = (3, 51, 3)
_RACE_BACKPORTS = ((3, 44, 6), (3, 50, 7))


def problems(reader: Reader, *, quick: bool = False) -> list[str]:
    """What SQLite finds wrong with the file, foreign keys included. Empty: nothing."""
    found = [str(row[0]) for row in reader.query(f"PRAGMA {'quick_check' if quick else 'integrity_check'}(20)")]
    if found == ["ok"]:
        found = []
    if not quick:
        found += [
            f"{table} row {rowid}: its {parent} row is missing"
            for table, rowid, parent, _ in reader.query("PRAGMA foreign_key_check")
        ]
    return found


def back_up(database: Path, directory: Path, label: str, keep: int | None = None) -> Path:
    """A copy made over a connection of its own, so that nobody waits for it however large the database is."""
    if not re.fullmatch(r"[a-z0-9-]{1,40}", label):
        raise StoreError(f"cannot name a backup {label!r}: use up to 40 of a-z, 0-9 and -")
    try:
        with contextlib.closing(open_connection(database, "ro")) as connection:
            made = migrations.backup(connection, directory, label)
    except sqlite3.Error as error:
        raise translate(error, f"cannot back up {database}") from error
    if keep is not None:
        same = re.compile(rf"tasks-[0-9]+T[0-9]+-[0-9]+-{label}\.db")
        for old in sorted(path for path in directory.iterdir() if same.fullmatch(path.name))[:-keep]:
            old.unlink(missing_ok=True)
    return made


def vacuum(writer: Writer) -> tuple[int, int]:
    before = writer.path.stat().st_size

    def rewrite(connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    writer.outside_transaction(rewrite, "cannot vacuum")
    return before, writer.path.stat().st_size


def checkpoint(writer: Writer) -> None:
    writer.outside_transaction(
        lambda connection: connection.execute("PRAGMA wal_checkpoint(TRUNCATE)"), "cannot checkpoint"
    )


def sqlite_version_note(version: tuple[int, int, int] = sqlite3.sqlite_version_info) -> str | None:
    """Why this SQLite deserves a remark, or None."""
    if version < (3, 37, 0):
        return f"SQLite {'.'.join(map(str, version))} is older than 3.37 and lacks STRICT tables"
    if version >= _RACE_FIXED or any(version[:2] == fixed[:2] and version >= fixed for fixed in _RACE_BACKPORTS):
        return None
    return (
        f"SQLite {'.'.join(map(str, version))} has the WAL-reset race (fixed in 3.51.3): tasksd's own write lock keeps it "
        "from happening, other programs must not write to tasks.db"
    )


def keep_reserve(database: Path) -> None:
    """Hold 16 MiB beside the database that `release_reserve` can give back when the disk is full."""
    reserve = database.with_name("reserve")
    if reserve.exists() and reserve.stat().st_size >= RESERVE_BYTES:
        return
    with contextlib.suppress(OSError):
        fd = os.open(reserve, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.posix_fallocate(fd, 0, RESERVE_BYTES) if hasattr(os, "posix_fallocate") else os.ftruncate(
                fd, RESERVE_BYTES
            )
        except OSError:
            reserve.unlink(missing_ok=True)
        finally:
            os.close(fd)


def release_reserve(database: Path) -> bool:
    """Whether there was a reserve to give back."""
    reserve = database.with_name("reserve")
    try:
        reserve.unlink()
    except OSError:
        return False
    log.warning("disk full: gave back the reserve file=%s bytes=%d", reserve, RESERVE_BYTES)
    return True


def restore_if_damaged(database: Path, backup_dir: Path) -> Path | None:
    """After an unclean stop: when the file is damaged, set it aside whole and put the newest good backup in its place.

    Returns where the damaged files now are, or None when nothing was wrong. Nothing is ever deleted.
    """
    draft = database.with_name(database.name + ".restoring")
    if not database.exists():
        if draft.exists():  # killed between the last two steps below
            draft.rename(database)
        return None
    if _is_sound(database):
        return None
    copy = next((copy for copy in sorted(backup_dir.glob("tasks-*.db"), reverse=True) if _is_sound(copy)), None)
    if copy is not None:
        # Complete and durable before anything is moved: while there is no database, the draft is a whole one.
        shutil.copyfile(copy, draft)
        draft.chmod(0o600)
        sync(draft)
    aside = (
        database.parent / f"corrupt-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{time.time_ns() % 1_000_000:06d}"
    )
    aside.mkdir(mode=0o700)
    # The log goes first: a restored database must never meet the log of the damaged one.
    for suffix in ("-wal", "-shm", ""):
        part = database.with_name(database.name + suffix)
        if part.exists():
            part.rename(aside / part.name)
    if copy is None:
        log.error("the database was damaged and no good backup exists: starting empty aside=%s", aside)
        return aside
    draft.rename(database)
    sync(database.parent)
    log.error("the database was damaged and is restored aside=%s backup=%s", aside, copy)
    return aside


def _is_sound(database: Path) -> bool:
    try:
        reader = Reader(database)
    except StoreCorrupt:
        return False
    try:
        return not problems(reader, quick=True)
    except StoreCorrupt:
        return False
    finally:
        reader.close()
