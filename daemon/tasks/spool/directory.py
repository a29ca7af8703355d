"""Listing and reading the spool as if every file in it were hostile, because another program may have put it there."""

import errno
import logging
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tasks.config import SpoolSettings
from tasks.errors import StoreUnavailable
from tasks.words import QuarantineReason

log = logging.getLogger(__name__)

#: `<task id or ->.<the client's pid>.<the recorder's pid>.<n>.json`; n starts with p when the plugin recorded it.
NAME = re.compile(r"(-|[a-z0-9][a-z0-9-]{0,39})\.([0-9]{1,10})\.([0-9]{1,10})\.(p?)([0-9]{1,6})\.json")

FULL_MARKER = ".full"
DROPPED_COUNT = ".dropped"
#: The marker goes when the spool is down to this part of its bounds.
RELIEF = 0.8

#: A regular file of mode 0600.
_PLAIN_FILE = stat.S_IFREG | 0o600

_OPEN_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Entry(NamedTuple):
    """One name in the spool, as listed."""

    name: str
    mtime_ns: int
    size: int


class SpoolFile(NamedTuple):
    """One file that was read: what its name says, and its bytes."""

    name: str
    mtime_ns: int
    task_id: str | None
    #: the client's process; None when the name says 0
    client_pid: int | None
    recorder_pid: int
    #: recorded by the plugin's hook, not by the one in settings.json
    by_plugin: bool
    raw: bytes


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An entry that can never become an event."""

    name: str
    reason: QuarantineReason
    detail: str
    size: int


@dataclass(frozen=True, slots=True)
class Usage:
    """What waits in the spool."""

    files: int
    bytes: int
    oldest_mtime_ns: int | None


class Spool:
    """The spool directory. Every method is synchronous and does I/O: call them off the event loop."""

    def __init__(self, path: Path, settings: SpoolSettings) -> None:
        self.path = path
        self._settings = settings
        self._owner = os.geteuid()

    def prepare(self) -> None:
        """Create the directory (0700) or tighten it. Raises StoreUnavailable when it is not ours to use."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            state = self.path.stat()
            if state.st_uid != os.geteuid():
                raise StoreUnavailable(f"{self.path} belongs to user {state.st_uid}; remove it or set TASKSD_DATA_DIR")
            if stat.S_IMODE(state.st_mode) != 0o700:
                log.warning("tightening the spool directory path=%s mode=%o", self.path, stat.S_IMODE(state.st_mode))
                self.path.chmod(0o700)
        except OSError as error:
            raise StoreUnavailable(f"cannot use the spool directory {self.path}: {error}") from error

    def identity(self) -> tuple[int, int] | None:
        """Device and inode, to notice that the directory was replaced. None when it is gone."""
        try:
            state = self.path.stat()
        except OSError:
            return None
        return state.st_dev, state.st_ino

    def scan(self) -> list[Entry]:
        """Everything in the directory but our own markers, oldest first. Recreates a directory that is gone."""
        found: list[Entry] = []
        try:
            with os.scandir(self.path) as entries:
                for entry in entries:
                    if entry.name in (FULL_MARKER, DROPPED_COUNT):
                        continue
                    try:
                        state = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue
                    found.append(Entry(entry.name, state.st_mtime_ns, state.st_size))
        except (FileNotFoundError, NotADirectoryError):
            self.prepare()
        except PermissionError:
            self.prepare()
            raise
        found.sort(key=lambda entry: (entry.mtime_ns, entry.name))
        return found

    def read(self, entry: Entry) -> SpoolFile | Unreadable | None:
        """The file behind `entry`; None when it is gone.

        Raises OSError for an environment that failed (EMFILE, EIO, ENOMEM): that says nothing about the file.
        """
        name = entry.name
        match = NAME.fullmatch(name)
        if match is None:
            return Unreadable(name, QuarantineReason.BAD_NAME, "not a name that hooks/record gives", entry.size)
        try:
            fd = os.open(f"{self.path}/{name}", _OPEN_FLAGS)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO, errno.EMLINK):
                return Unreadable(name, QuarantineReason.NOT_REGULAR, "a link or a socket", entry.size)
            if error.errno in (errno.EACCES, errno.EPERM):
                return Unreadable(name, QuarantineReason.FOREIGN_OWNER, f"not readable: {error.strerror}", entry.size)
            raise
        try:
            state = os.fstat(fd)
            if not self._is_plain(state) and (problem := self._objection(state)):
                return Unreadable(name, *problem, state.st_size)
            raw = _read_all(fd, state.st_size)
        finally:
            os.close(fd)
        task, client, recorder, plugin, _ = match.groups()
        return SpoolFile(
            name,
            state.st_mtime_ns,
            None if task == "-" else task,
            int(client) or None,
            int(recorder),
            plugin == "p",
            raw,
        )

    def _is_plain(self, state: os.stat_result) -> bool:
        """Whether it is what hooks/record leaves: one look for the ordinary case."""
        return (
            state.st_mode == _PLAIN_FILE
            and state.st_nlink == 1
            and state.st_uid == self._owner
            and state.st_size <= self._settings.max_event_bytes
        )

    def _objection(self, state: os.stat_result) -> tuple[QuarantineReason, str] | None:
        if not stat.S_ISREG(state.st_mode):
            return QuarantineReason.NOT_REGULAR, f"file type {stat.S_IFMT(state.st_mode):o}"
        if state.st_uid != os.geteuid():
            return QuarantineReason.FOREIGN_OWNER, f"belongs to user {state.st_uid}"
        if state.st_nlink != 1:
            return QuarantineReason.HARDLINK, f"{state.st_nlink} links"
        if state.st_mode & 0o022:
            return QuarantineReason.WRITABLE_BY_OTHERS, f"mode {stat.S_IMODE(state.st_mode):o}"
        if state.st_size > self._settings.max_event_bytes:
            return QuarantineReason.TOO_LARGE, f"{state.st_size} bytes, at most {self._settings.max_event_bytes}"
        return None

    def remove(self, names: list[str]) -> None:
        """Unlink files whose events are stored. A file that is gone already is fine; so is one that comes back, or stays."""
        for name in names:
            try:
                os.unlink(f"{self.path}/{name}")
            except FileNotFoundError:
                continue
            except PermissionError as error:  # an immutable file, say: the others must not wait for it
                log.error("cannot remove a file whose event is stored, remove it by hand error=%s", error)

    def mark_full(self, usage: Usage) -> bool:
        """Set or remove the marker that makes hooks drop events. Returns whether it is set now. Never raises: a marker that
        cannot be changed is no reason not to read.
        """
        marker = self.path / FULL_MARKER
        is_full = marker.exists()
        part = max(usage.files / self._settings.max_files, usage.bytes / self._settings.max_bytes)
        if not is_full and part > 1:
            log.error("the spool is full, hooks drop events from now on files=%d bytes=%d", usage.files, usage.bytes)
            try:
                os.close(os.open(marker, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
            except OSError as error:
                log.error("cannot mark the spool as full error=%s", error)
                return False
            return True
        if is_full and part < RELIEF:
            log.warning("the spool has room again dropped=%d", self.dropped())
            try:
                marker.unlink(missing_ok=True)
            except OSError as error:
                log.error("cannot remove the mark of a full spool, hooks go on dropping error=%s", error)
                return True
            return False
        return is_full

    def dropped(self) -> int:
        """How many events hooks have dropped, ever: each adds a byte to a file."""
        try:
            return (self.path / DROPPED_COUNT).stat().st_size
        except OSError:
            return 0

    def usage(self, entries: list[Entry]) -> Usage:
        """What is too large for an event leaves at once and takes no room from others."""
        limit = self._settings.max_event_bytes
        size = sum(entry.size for entry in entries if entry.size <= limit)
        return Usage(len(entries), size, entries[0].mtime_ns if entries else None)


def _read_all(fd: int, size: int) -> bytes:
    """At most `size` bytes and one: a file that grows while it is read is not finished, and the parser will say so."""
    data = os.read(fd, size + 1)
    if len(data) > size or len(data) == size:
        return data
    parts = [data]
    left = size + 1 - len(data)
    while left > 0 and (part := os.read(fd, left)):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)
