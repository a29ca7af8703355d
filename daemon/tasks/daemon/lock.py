"""One daemon per data directory: a lock on an open file, which a crash releases and a recycled pid cannot fake."""

import fcntl
import os
from pathlib import Path

from tasks.errors import AlreadyRunning, StoreUnavailable


class InstanceLock:
    """Held from construction until `close`. The file is never removed; the pid in it is information only."""

    def __init__(self, path: Path) -> None:
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise StoreUnavailable(f"cannot open the lock {path}: {error}") from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._fd, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(self._fd)
            raise AlreadyRunning(
                f"another daemon (pid {holder}) holds {path}; `tasksd status` asks it, or choose another TASKSD_DATA_DIR"
            ) from None
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def close(self) -> None:
        os.close(self._fd)
