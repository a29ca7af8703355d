"""The spool directory: where hooks leave events, and the only copy of an event until the database has it."""

from tasks.spool.directory import Entry, Spool, SpoolFile, Unreadable, Usage
from tasks.spool.doorbell import Doorbell
from tasks.spool.quarantine import Quarantine, QuarantinedFile

__all__ = ["Doorbell", "Entry", "Quarantine", "QuarantinedFile", "Spool", "SpoolFile", "Unreadable", "Usage"]
