"""Remembers over a crash which files were being read, so that one which kills the reader is found and set aside."""

import contextlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

#: Unclean stops with a file in hand after which it is read alone, and after which it is not read again.
ALONE_AFTER, QUARANTINE_AFTER = 2, 3


class CrashJournal:
    """Not synced to disk: a crash of the process keeps it, and a power cut is nobody's fault."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self._in_hand: set[str] = set()
        self._counts: dict[str, int] = {}
        try:
            stored = json.loads(os.read(self._fd, 64 << 20) or b"{}")
            self._counts = {str(name): int(count) for name, count in stored.get("counts", {}).items()}
            for name in stored.get("in_hand", []):
                self._counts[name] = self._counts.get(name, 0) + 1
        except (ValueError, AttributeError, TypeError):
            self._counts = {}
        with contextlib.suppress(OSError):
            self._write()

    def lonely(self) -> frozenset[str]:
        """Names that are to be read one at a time."""
        return frozenset(name for name, count in self._counts.items() if count >= ALONE_AFTER)

    def is_suspect(self, name: str) -> bool:
        return self._counts.get(name, 0) >= QUARANTINE_AFTER

    def take(self, names: Iterable[str]) -> None:
        """These are being read from now on."""
        self._in_hand.update(names)
        self._write()

    def release(self, names: Iterable[str]) -> None:
        """These are stored, set aside or left for later. Never raises: a full disk must not undo what is done."""
        for name in names:
            self._in_hand.discard(name)
            self._counts.pop(name, None)
        with contextlib.suppress(OSError):
            self._write()

    def keep(self, present: Iterable[str]) -> None:
        """Forget the counts of all other files: a later file may have the same name."""
        if self._counts:
            left = self._counts.keys() & set(present)
            self._counts = {name: count for name, count in self._counts.items() if name in left}

    def close(self) -> None:
        """A clean end: what was in hand has crashed nobody."""
        self.release(list(self._in_hand))
        fd, self._fd = self._fd, -1  # a thread left behind must not write to whatever gets this number next
        os.close(fd)

    def _write(self) -> None:
        content = json.dumps({"in_hand": sorted(self._in_hand), "counts": self._counts}).encode()
        os.pwrite(self._fd, content, 0)
        os.ftruncate(self._fd, len(content))
