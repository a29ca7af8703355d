"""The reading half: spool entries → batches of digests. Synchronous; runs in a worker thread."""

import logging
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from tasks.ingest.aside import digest_aside, is_heavy
from tasks.ingest.digest import Digest, digest
from tasks.ingest.journal import CrashJournal
from tasks.redaction import Redactor
from tasks.spool import Entry, Quarantine, Spool, SpoolFile, Unreadable
from tasks.words import QuarantineReason

log = logging.getLogger(__name__)

BATCH_FILES = 1024
BATCH_BYTES = 8 << 20
#: Seconds in which an unfinished file may still become an event.
UNFINISHED_FOR = 5.0


@dataclass(slots=True)
class Batch:
    """Files in hand, and what was made of those that are events."""

    names: list[str]
    digests: list[Digest] = field(default_factory=list)


class Intake:
    """Reads what the spool lists, sets aside what can never be an event, leaves what is still being written."""

    def __init__(self, spool: Spool, quarantine: Quarantine, redactor: Redactor, journal: CrashJournal) -> None:
        self._spool = spool
        self._quarantine = quarantine
        self._redactor = redactor
        self._journal = journal
        #: why something could not be set aside since the last call of `batches`; it stays in the spool and hinders nobody
        self.trouble: str | None = None
        #: unfinished files → monotonic seconds when first seen
        self._unfinished: dict[str, float] = {}

    def batches(self, entries: list[Entry]) -> Iterator[list[Entry]]:
        """In the given order, bounded by number and bytes. What may have crashed the reader comes alone, and last."""
        self._forget_gone(entries)
        self.trouble = None
        lonely = self._journal.lonely()
        batch: list[Entry] = []
        size = 0
        for entry in entries:
            if entry.name in lonely:
                continue
            if batch and (len(batch) >= BATCH_FILES or size + entry.size > BATCH_BYTES):
                yield batch
                batch, size = [], 0
            batch.append(entry)
            size += entry.size
        if batch:
            yield batch
        yield from ([entry] for entry in entries if entry.name in lonely)

    def read(self, entries: list[Entry]) -> Batch:
        """Raises OSError when the environment fails; the files are still there then."""
        batch = Batch([entry.name for entry in entries])
        try:
            self._journal.take(batch.names)
            for entry in entries:
                self._read(entry, batch)
        except BaseException:
            self.abandon(batch)
            raise
        return batch

    def refuse(self, refused: Digest, detail: str) -> None:
        """The store would not take it, for a reason that lies in the event."""
        file = refused.file
        self._set_aside(file.name, QuarantineReason.INTERNAL, detail, len(file.raw), file.raw)

    def finish(self, batch: Batch, stored: list[Digest]) -> None:
        """Unlink what is stored, and put the whole batch out of hand."""
        self._spool.remove([one.file.name for one in stored])
        self._journal.release(batch.names)

    def abandon(self, batch: Batch) -> None:
        """Put the batch out of hand; its files stay where they are."""
        self._journal.release(batch.names)

    def _read(self, entry: Entry, batch: Batch) -> None:
        if self._journal.is_suspect(entry.name):
            detail = "reading it ended in a crash three times"
            self._set_aside(entry.name, QuarantineReason.CRASH_SUSPECT, detail, entry.size)
            return
        found = self._spool.read(entry)
        if isinstance(found, Unreadable):
            self._set_aside(found.name, found.reason, found.detail, found.size)
        elif found is not None:
            self._digest(found, batch)

    def _set_aside(self, name: str, reason: QuarantineReason, detail: str, size: int, raw: bytes | None = None) -> None:
        try:
            self._quarantine.put(name, reason, detail, size, raw)
        except OSError as error:
            self.trouble = f"cannot put a spool file into quarantine: {error}"

    def _digest(self, file: SpoolFile, batch: Batch) -> None:
        try:
            made = (digest_aside if is_heavy(file.raw) else digest)(file, self._redactor)
        except Exception as error:
            log.exception("cannot digest an event name=%s", file.name)
            self._set_aside(file.name, QuarantineReason.INTERNAL, repr(error), len(file.raw), file.raw)
            return
        if isinstance(made, Digest):
            self._unfinished.pop(file.name, None)
            batch.digests.append(made)
        elif not made.maybe_unfinished or self._is_settled(file):
            self._set_aside(file.name, made.reason, made.detail, len(file.raw), file.raw)

    def _is_settled(self, file: SpoolFile) -> bool:
        """Whether nobody can still be writing it. Clocks may jump, so what we have seen ourselves counts too."""
        now = time.monotonic()
        seen_for = now - self._unfinished.setdefault(file.name, now)
        age = (time.time_ns() - file.mtime_ns) / 1e9
        return max(age, seen_for) > UNFINISHED_FOR and not (seen_for < UNFINISHED_FOR * 6 and _is_writing(file))

    def _forget_gone(self, entries: list[Entry]) -> None:
        self._journal.keep(entry.name for entry in entries)
        if self._unfinished:
            present = {entry.name for entry in entries}
            self._unfinished = {name: since for name, since in self._unfinished.items() if name in present}


def _is_writing(file: SpoolFile) -> bool:
    """Whether the recorder named in the file is alive. A recycled pid only costs time, which is why that is bounded."""
    try:
        os.kill(file.recorder_pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return False  # somebody else's process, not our recorder
    return file.recorder_pid > 1
