"""The past of the demo: events for the spool and transcripts, as the client and its hooks would have left them."""

import itertools
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from tasks.demo.conversation import Json, spelled

#: Above every pid that Linux gives, so that no process is taken for one of the past.
FIRST_PID = 4_200_000

#: Of a weekday, by hour of the day: how much is begun then.
_HOURS = (1, 0, 0, 0, 0, 1, 2, 6, 20, 30, 32, 26, 10, 22, 30, 30, 26, 18, 10, 6, 5, 4, 2, 1)


class Archive:
    """Writes what happened. Events get the time of their file; transcripts are complete once `save` was called."""

    def __init__(self, spool: Path, *, first_pid: int = FIRST_PID) -> None:
        self.spool = spool
        self._pids = itertools.count(first_pid)
        self._lines: dict[Path, list[str]] = {}
        self._times: dict[Path, int] = {}

    def pid(self) -> int:
        return next(self._pids)

    def event(self, task_id: str | None, pid: int, payload: Json, at: int) -> None:
        """`at`: epoch milliseconds."""
        name = f"{self.spool}/{task_id or '-'}.{pid}.{next(self._pids)}.0.json"
        descriptor = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, (spelled(payload) + "\n").encode())
            os.utime(descriptor, ns=(at * 1_000_000, at * 1_000_000))
        finally:
            os.close(descriptor)

    def line(self, path: Path, line: Json, at: int) -> None:
        self._lines.setdefault(path, []).append(spelled(line) + "\n")
        self._times[path] = at

    def save(self) -> None:
        """Write every file of lines."""
        for path, lines in self._lines.items():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.write_text("".join(lines), encoding="utf-8")
            at = self._times[path] * 1_000_000
            os.utime(path, ns=(at, at))
        self._lines.clear()


@dataclass(slots=True)
class PastStage:
    """Where a conversation of the past is heard: waiting takes no time but on its own clock."""

    archive: Archive
    #: epoch milliseconds
    clock: int
    pid: int
    task_id: str | None = None
    #: file of the client's output; None: nobody kept it
    printed: Path | None = None
    #: hooks are heard no more from here on
    silent_from: int | None = None
    _last: int = field(default=0)

    def now(self) -> int:
        return self.clock

    def wait(self, milliseconds: float) -> None:
        self.clock += int(milliseconds)

    def hook(self, payload: Json) -> None:
        if self.silent_from is not None and self.clock >= self.silent_from:
            return
        # Of one session no two at the same time: they are read in the order of their times.
        self._last = self.clock = max(self.clock, self._last + 1)
        self.archive.event(self.task_id, self.pid, payload, self.clock)

    def line(self, transcript: Path, line: Json) -> None:
        self.archive.line(transcript, line, self.clock)

    def output(self, line: Json) -> None:
        if self.printed is not None:
            self.archive.line(self.printed, line, self.clock)


def moments(rng: random.Random, now: int, *, weekday: int, weekend: int, days: int = 7) -> Iterator[int]:
    """Times of the last `days` days at which people begin something, in epoch milliseconds, oldest first; so many on a
    weekday and on a day of the weekend, by the local clock. None in the last 20 minutes.
    """
    today = datetime.fromtimestamp(now / 1000).astimezone()
    found = []
    for back in range(days, -1, -1):
        day = today.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=back)
        for _ in range(weekday if day.weekday() < 5 else weekend):
            hour = rng.choices(range(24), _HOURS)[0]
            moment = day + timedelta(hours=hour, minutes=rng.random() * 60)
            found.append(int(moment.timestamp() * 1000))
    yield from sorted(at for at in found if now - days * 86_400_000 <= at < now - 1_200_000)
