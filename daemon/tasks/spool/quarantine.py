"""Where spool entries go that cannot become events, each with its reason, until a person decides or they grow old."""

import hashlib
import json
import logging
import os
import secrets
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from tasks.config import SpoolSettings
from tasks.errors import TasksError
from tasks.spool.directory import NAME
from tasks.words import QuarantineReason

log = logging.getLogger(__name__)

_REASON_SUFFIX = ".reason"


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

    def prepare(self) -> None:
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path.chmod(0o700)

    def put(self, name: str, reason: QuarantineReason, detail: str, size: int, raw: bytes | None = None) -> str | None:
        """Move a spool entry here. Returns its id, or None when the entry is gone.

        The reason is written first: an entry without one cannot exist, a reason without an entry is swept away.
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
        fd = os.open(note, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, json.dumps(record).encode())
        finally:
            os.close(fd)
        try:
            os.rename(os.path.join(os.fsencode(self._spool), os.fsencode(name)), os.fsencode(self.path / id_))
        except FileNotFoundError:
            note.unlink(missing_ok=True)
            return None
        log.warning("quarantined reason=%s id=%s detail=%s", reason, id_, detail)
        return id_

    def list(self) -> list[QuarantinedFile]:
        """All entries, oldest first."""
        if not self.path.is_dir():
            return []
        notes = sorted(note.name for note in self.path.iterdir() if note.name.endswith(_REASON_SUFFIX))
        return [found for note in notes if (found := self._load(note.removesuffix(_REASON_SUFFIX)))]

    def count(self) -> int:
        try:
            return sum(name.endswith(_REASON_SUFFIX) for name in os.listdir(self.path))
        except FileNotFoundError:
            return 0

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
        task, client = (match[1], match[2]) if match else ("-", "0")
        source = self.path / id_
        if source.is_file() and not source.is_symlink():
            os.chmod(source, 0o600)
        for attempt in range(1000):
            target = self._spool / f"{task}.{client}.{os.getpid()}.{attempt}.json"
            if not target.exists():
                os.rename(source, target)
                break
        else:
            raise TasksError(
                f"cannot retry {id_}: the spool holds a thousand retried files; let the daemon read them first"
            )
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
        return gone

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
        note = self.path / (id_ + _REASON_SUFFIX)
        try:
            record = json.loads(note.read_bytes())
            if not os.path.lexists(self.path / id_):
                note.unlink(missing_ok=True)  # the entry was gone before it could be moved
                return None
            return QuarantinedFile(
                id=id_,
                name=os.fsdecode(bytes.fromhex(record["name_hex"])),
                reason=record["code"],
                detail=record["detail"],
                size=record["size"],
                quarantined_at=int(id_.split("-")[0]) // 1_000_000,
                sha256=record["sha256"],
                version=record["version"],
            )
        except (OSError, ValueError, KeyError):
            return None

    def _checked(self, id_: str) -> str:
        stamp, _, rest = id_.partition("-")
        if not (stamp.isdigit() and rest.isalnum() and id_.isascii()):
            raise NoSuchQuarantinedFile(
                f"{id_!r} is not the id of a quarantined file; `tasksd quarantine list` shows them"
            )
        return id_
