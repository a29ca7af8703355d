"""Daemons by fork: a process that has imported everything starts one in a few milliseconds, with a kill point if wanted.

Run as a program it is the parent; `Nursery` is how a test talks to it.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: Named points inside the ingester at which a daemon can be made to kill itself.
POINTS = (
    "journal-half-written",
    "file-read",
    "file-digested",
    "quarantine-reason-written",
    "quarantine-moved",
    "before-transaction",
    "in-transaction",
    "before-commit",
    "after-commit",
    "half-unlinked",
    "all-unlinked",
)


class Nursery:
    """One daemon at a time, all on the same data directory."""

    def __init__(self, data_dir: Path) -> None:
        self._log = data_dir.with_name("nursery.log").open("ab")
        self._parent = subprocess.Popen(
            [sys.executable, __file__],
            env={"PATH": os.defpath, "HOME": str(data_dir.parent), "TASKSD_DATA_DIR": str(data_dir)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )

    def start(self, point: str | None = None, n: int = 1) -> int:
        """The pid of a new daemon, which kills itself at the n-th passage of `point`. It stays a zombie until `reap`."""
        self._ask([point, n])
        return int(self._answer())

    def reap(self) -> int:
        """Wait for the daemon's end: its exit code, negative for a signal."""
        self._ask("reap")
        return int(self._answer())

    def close(self) -> None:
        """Ends the parent; a daemon that still runs is killed by it."""
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        self._parent.stdin.close()
        self._parent.wait(timeout=10)
        self._parent.stdout.close()
        self._log.close()

    def _ask(self, what: Any) -> None:
        assert self._parent.stdin is not None
        self._parent.stdin.write(json.dumps(what).encode() + b"\n")
        self._parent.stdin.flush()

    def _answer(self) -> str:
        assert self._parent.stdout is not None
        line = self._parent.stdout.readline()
        assert line, "the nursery has ended; see nursery.log"
        return line.decode()


class _Point:
    """Ends this process at the n-th passage."""

    def __init__(self, n: int) -> None:
        self._left = n

    def is_here(self) -> bool:
        self._left -= 1
        return self._left == 0

    def passed(self) -> None:
        if self.is_here():
            self.die()

    def die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def before(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **options: Any) -> Any:
            self.passed()
            return function(*args, **options)

        return wrapped

    def after(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **options: Any) -> Any:
            result = function(*args, **options)
            self.passed()
            return result

        return wrapped

    def around_apply(self, apply: Callable[..., Any], *, after: bool) -> Callable[..., Any]:
        async def wrapped(*args: Any, **options: Any) -> None:
            if not after:
                self.passed()
            await apply(*args, **options)
            if after:
                self.passed()

        return wrapped

    def half_unlinked(self, remove: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(spool: Any, names: list[str]) -> None:
            if names and self.is_here():
                remove(spool, names[: len(names) // 2])
                self.die()
            remove(spool, names)

        return wrapped

    def half_run(self, run_writes: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(connection: Any, writes: Any) -> None:
            if self.is_here():
                run_writes(connection, writes[: len(writes) // 2])
                self.die()
            run_writes(connection, writes)

        return wrapped

    def half_written(self, write: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(journal: Any) -> None:
            if self.is_here():
                os.pwrite(journal._fd, b'{"in_hand": ["', 0)
                self.die()
            write(journal)

        return wrapped


def _arm(name: str, n: int) -> None:
    """Make this process kill itself at the n-th passage of the point."""
    from tasks.database import Database, store
    from tasks.ingest import intake
    from tasks.ingest.journal import CrashJournal
    from tasks.spool import Spool, quarantine

    point = _Point(n)
    owner, attribute, wrap = {
        "journal-half-written": (CrashJournal, "_write", point.half_written),
        "file-read": (Spool, "read", point.after),
        "file-digested": (intake, "digest", point.after),
        "quarantine-reason-written": (quarantine, "_move", point.before),
        "quarantine-moved": (quarantine, "_move", point.after),
        "before-transaction": (Database, "apply", lambda apply: point.around_apply(apply, after=False)),
        "in-transaction": (store, "run_writes", point.half_run),
        "before-commit": (store, "run_writes", point.after),
        "after-commit": (Database, "apply", lambda apply: point.around_apply(apply, after=True)),
        "half-unlinked": (Spool, "remove", point.half_unlinked),
        "all-unlinked": (Spool, "remove", point.after),
    }[name]
    setattr(owner, attribute, wrap(getattr(owner, attribute)))


def _main() -> None:
    import tasks.daemon  # all of it, before the first fork
    from tasks.cli.app import run

    assert tasks.daemon
    child = 0
    try:
        for line in sys.stdin:
            request = json.loads(line)
            if request == "reap":
                code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                child = 0
                print(code, flush=True)
                continue
            child = os.fork()
            if child == 0:
                os.setsid()
                null = os.open(os.devnull, os.O_RDWR)
                os.dup2(null, 0)
                os.dup2(2, 1)
                if request[0] is not None:
                    _arm(*request)
                os._exit(run(["up"]))
            print(child, flush=True)
    finally:
        if child:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


if __name__ == "__main__":
    _main()
