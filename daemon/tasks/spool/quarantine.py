"""Where spool entries go that cannot become events, each with its reason, until a person decides or they grow old."""

import contextlib
import errno
import hashlib
import json
import logging
import os
import re
import secrets
import shutil
import stat
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.config import SpoolSettings
from tasks.errors import TasksError
from tasks.spool.directory import NAME
from tasks.words import QuarantineReason

log = logging.getLogger(__name__)

_REASON_SUFFIX = ".reason"
_ID = re.compile(r"[0-9]{1,20}-[0-9a-z]{1,16}")
#: Errors that say something about the entry, not about the environment.
_IMMOVABLE = (errno.EACCES, errno.EPERM, errno.EBUSY, errno.EXDEV)


class NoSuchQuarantinedFile(TasksError):
    """No quarantined file has that id; `tasksd quarantine list` shows them."""


@dataclass(frozen=True, slots=True)
class QuarantinedFile:
    """One entry of the quarantine."""

    id: str
    name: str
    reason: str
    detail: str
    size: int
    #: epoch milliseconds
    quarantined_at: int
    sha256: str | None
    version: str


class Quarantine:
    """The quarantine directory, beside the spool on the same file system. Methods do I/O: call them off the event loop."""

    def __init__(self, path: Path, spool: Path, settings: SpoolSettings, version: str) -> None:
        self.path = path
        self._spool = spool
        self._settings = settings
        self._version = version
        #: two retries must not choose the same new name
        self._retrying = threading.Lock()
        #: names that could not be moved, each complained about once
        self._stuck: set[str] = set()

    def prepare(self) -> None:
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path.chmod(0o700)

    def put(self, name: str, reason: QuarantineReason, detail: str, size: int, raw: bytes | None = None) -> str | None:
        """Move a spool entry here. Returns its id; None when the entry is gone, or when the kernel lets nobody move it (a
        directory of another user's, a mount point): then it stays where it is and is passed over.

        The reason is written first; one without an entry means nothing and is swept away. Raises OSError (disk full).
        """
        self.prepare()
        id_ = f"{time.time_ns():019d}-{secrets.token_hex(4)}"
        record = {
            "name_hex": os.fsencode(name).hex(),
            "code": str(reason),
            "detail": detail[:200],
            "size": size,
            "sha256": hashlib.sha256(raw).hexdigest() if raw is not None else None,
            "version": self._version,
        }
        note = self.path / (id_ + _REASON_SUFFIX)
        try:
            fd = os.open(note, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
            try:
                os.write(fd, json.dumps(record).encode())
            finally:
                os.close(fd)
            _move(os.path.join(self._spool, name), self.path / id_)
        except FileNotFoundError:
            note.unlink(missing_ok=True)
            return None
        except OSError as error:
            note.unlink(missing_ok=True)
            if error.errno not in _IMMOVABLE:
                raise
            if name not in self._stuck:
                self._stuck.add(name)
                log.error("cannot quarantine, remove it by hand name=%s reason=%s error=%s", ascii(name), reason, error)
            return None
        log.warning("quarantined reason=%s id=%s detail=%s", reason, id_, detail)
        return id_

    def list(self) -> list[QuarantinedFile]:
        """All entries, oldest first."""
        return [found for id_ in sorted(self._ids()) if (found := self._load(id_))]

    def count(self) -> int:
        return len(self._ids())

    def get(self, id_: str) -> QuarantinedFile:
        found = self._load(self._checked(id_))
        if found is None:
            raise NoSuchQuarantinedFile(f"no quarantined file has the id {id_}; `tasksd quarantine list` shows them")
        return found

    def content(self, id_: str, limit: int = 64 << 10) -> bytes:
        """The first `limit` bytes, raw: they may hold secrets. Empty for what is no regular file."""
        self.get(id_)
        try:
            fd = os.open(self.path / id_, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return b""
        try:
            return os.read(fd, limit)
        except OSError:
            return b""
        finally:
            os.close(fd)

    def retry(self, id_: str) -> None:
        """Move an entry back into the spool, with its own time. One whose name was the trouble gets a good one."""
        entry = self.get(id_)
        match = NAME.fullmatch(entry.name)
        task, client, mark = (match[1], match[2], match[4]) if match else ("-", "0", "")
        source = self.path / id_
        try:
            with self._retrying:
                for attempt in range(1000):
                    target = self._spool / f"{task}.{client}.{os.getpid()}.{mark}{attempt}.json"
                    if not os.path.lexists(target):
                        if source.is_file() and not source.is_symlink():
                            with contextlib.suppress(PermissionError):
                                os.chmod(source, 0o600)
                        _move(source, target)
                        break
                else:
                    raise TasksError(
                        f"cannot retry {id_}: the spool holds a thousand retried files; let the daemon read them first"
                    )
        except OSError as error:
            raise TasksError(f"cannot retry {id_}: {error}") from error
        (self.path / (id_ + _REASON_SUFFIX)).unlink(missing_ok=True)

    def drop(self, id_: str) -> None:
        """Delete an entry for good."""
        self.get(id_)
        self._delete(id_)

    def trim(self) -> int:
        """Keep the bounds on number, bytes and age; oldest go first. Returns how many went."""
        entries = self.list()
        total = sum(min(entry.size, self._on_disk(entry.id)) for entry in entries)
        horizon = time.time() * 1000 - self._settings.quarantine_max_days * 86_400_000
        gone = 0
        for entry in entries:
            over = (
                len(entries) - gone > self._settings.quarantine_max_files or total > self._settings.quarantine_max_bytes
            )
            if not over and entry.quarantined_at >= horizon:
                break
            total -= min(entry.size, self._on_disk(entry.id))
            self._delete(entry.id)
            gone += 1
        if gone:
            log.warning("dropped quarantined files count=%d", gone)
        self._sweep()
        return gone

    def _ids(self) -> Sequence[str]:
        try:
            return [name for name in os.listdir(self.path) if _ID.fullmatch(name)]
        except FileNotFoundError:
            return []

    def _sweep(self) -> None:
        """Reasons whose entries never came, or are gone; not those of this minute, whose entries may be on their way."""
        recent = time.time_ns() - 60 * 10**9
        for name in os.listdir(self.path) if self.path.is_dir() else ():
            id_ = name.removesuffix(_REASON_SUFFIX)
            if id_ == name or not _ID.fullmatch(id_) or os.path.lexists(self.path / id_):
                continue
            if int(id_.split("-")[0]) < recent:
                (self.path / name).unlink(missing_ok=True)

    def _on_disk(self, id_: str) -> int:
        try:
            return os.lstat(self.path / id_).st_blocks * 512
        except OSError:
            return 0

    def _delete(self, id_: str) -> None:
        target = self.path / id_
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target, ignore_errors=True)
        else:
            target.unlink(missing_ok=True)
        (self.path / (id_ + _REASON_SUFFIX)).unlink(missing_ok=True)

    def _load(self, id_: str) -> QuarantinedFile | None:
        try:
            size = os.lstat(self.path / id_).st_size
        except OSError:
            return None
        known: dict[str, Any] = {
            "name": "",
            "reason": QuarantineReason.INTERNAL,
            "detail": "its reason was lost",
            "size": size,
        }
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            record = json.loads((self.path / (id_ + _REASON_SUFFIX)).read_bytes())
            known = {
                "name": os.fsdecode(bytes.fromhex(record["name_hex"])),
                "reason": str(record["code"]),
                "detail": str(record["detail"]),
                "size": int(record["size"]),
                "sha256": record["sha256"],
                "version": str(record["version"]),
            }
        return QuarantinedFile(
            id=id_,
            quarantined_at=int(id_.split("-")[0]) // 1_000_000,
            **{"sha256": None, "version": "", **known},
        )

    def _checked(self, id_: str) -> str:
        if not _ID.fullmatch(id_):
            raise NoSuchQuarantinedFile(
                f"{id_!r} is not the id of a quarantined file; `tasksd quarantine list` shows them"
            )
        return id_


def _move(source: str | Path, target: Path) -> None:
    """Rename; a directory of our own without rights gets them, because its parent changes."""
    try:
        os.rename(source, target)
    except PermissionError:
        if not stat.S_ISDIR(os.lstat(source).st_mode):
            raise
        os.chmod(source, 0o700)
        os.rename(source, target)
