"""The store: one SQLite file, one writer at a time, every change a value. Nothing outside this package knows the engine."""

from tasks.database.engine import Connection, Reader, Row, SyncDatabase
from tasks.database.kinds import ERROR_KIND
from tasks.database.maintenance import keep_reserve, release_reserve, restore_if_damaged, sqlite_version_note
from tasks.database.store import Database
from tasks.database.writes import Value, Write

__all__ = [
    "ERROR_KIND",
    "Connection",
    "Database",
    "Reader",
    "Row",
    "SyncDatabase",
    "Value",
    "Write",
    "keep_reserve",
    "release_reserve",
    "restore_if_damaged",
    "sqlite_version_note",
]
