"""kill -9 of the daemon and of recorders, at any moment and at every named point: nothing lost, nothing doubled."""

import contextlib
import functools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .rig import writer
from .rig.daemon import Daemon
from .rig.events import Dropper
from .rig.nursery import POINTS, Nursery
from .rig.store import assert_consistent
from .rig.waiting import until

CALLS = 40  # per writer; two events each


@pytest.fixture
def nursery(daemon: Daemon) -> Iterator[Nursery]:
    made = Nursery(daemon.named)
    yield made
    made.close()


class Kills:
    """Rounds of recording and killing, and what must be true in the end."""

    def __init__(self, daemon: Daemon, nursery: Nursery, record: Path, seed: int) -> None:
        self.daemon = daemon
        self.nursery = nursery
        self.record = record
        self.chance = random.Random(seed)
        self.acknowledged = daemon.named.with_name("acknowledged")
        self.next = 1
        #: file name → crashes at which it was in hand
        self.in_hand: Counter[str] = Counter()
        self.killed_writers = 0
        self.died_at: Counter[str] = Counter()

    def round(self, point: str | None) -> None:
        recorder = self.start_writer()
        pid = self.nursery.start(point, self.chance.choice((1, 1, 2, 3, 20)))
        if self.chance.random() < 0.3:
            self._after(self.chance.uniform(0, 0.08), pid)
            recorder.kill()
            self.killed_writers += 1
        if point is None:
            self._after(self.chance.uniform(0, 0.35), pid)
        else:
            self._after(0.8, pid)
        recorder.wait(timeout=30)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        died_by_itself = _is_zombie(pid)
        assert self.nursery.reap() == -signal.SIGKILL
        self.died_at[point if died_by_itself and point else "anywhere"] += 1
        self.note_in_hand()

    def start_writer(self) -> "subprocess.Popen[bytes]":
        first, self.next = self.next, self.next + CALLS
        arguments = [self.daemon.spool, self.record, self.acknowledged, first, CALLS, os.getpid()]
        return subprocess.Popen([sys.executable, "-ISW", "ignore", writer.__file__, *map(str, arguments)])

    def _after(self, seconds: float, pid: int) -> None:
        """Wait that long, or until the process has ended."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not _is_zombie(pid):
            time.sleep(0.002)

    def note_in_hand(self) -> None:
        with contextlib.suppress(ValueError, OSError):
            self.in_hand.update(json.loads((self.daemon.data_dir / "ingest.journal").read_bytes())["in_hand"])

    def assert_nothing_lost_or_doubled(self) -> None:
        daemon = self.daemon
        pid = self.nursery.start()
        until(daemon.status, "an answer of the daemon")
        daemon.drained(timeout=60)
        status = until(lambda: _settled(daemon), "an idle daemon")
        os.kill(pid, signal.SIGTERM)
        assert self.nursery.reap() == 0
        acknowledged = Counter(tuple(line.split()) for line in self.acknowledged.read_text().splitlines())
        stored = Counter(daemon.rows("SELECT kind, tool_use_id FROM events"))
        aside = [self._quarantined(one) for one in daemon.quarantined()]
        lost = acknowledged.keys() - stored.keys() - {event for event in aside if event is not None}
        assert not lost, f"{len(lost)} of {len(acknowledged)} acknowledged events are lost: {sorted(lost)[:5]}"
        doubled = [event for event, count in stored.items() if count > 1]
        assert not doubled, f"{len(doubled)} of {len(stored)} events are stored twice: {sorted(doubled)[:5]}"
        ended = {id_ for kind, id_ in stored if kind == "PostToolUse"}
        assert {row[0] for row in daemon.rows("SELECT tool_use_id FROM tool_usage WHERE source = 'hook'")} == ended
        with daemon.database() as connection:
            assert_consistent(connection)
        assert status["ingest"]["events_total"] == sum(stored.values())
        assert status["spool"]["pending"] == 0
        assert status["spool"]["quarantined"] == len(aside)

    def _quarantined(self, entry: dict[str, Any]) -> tuple[str, ...] | None:
        """The event in a quarantined file, if it is one; it must have deserved its place."""
        assert entry["code"] in ("torn", "empty", "crash_suspect"), entry
        if entry["code"] != "crash_suspect":
            return None
        assert self.in_hand[entry["name"]] >= 3, f"{entry['name']} was in hand at {self.in_hand[entry['name']]} crashes"
        try:
            content = json.loads((self.daemon.data_dir / "quarantine" / entry["id"]).read_bytes())
        except ValueError:
            return None  # its recorder was killed, too
        return (content["hook_event_name"], content["tool_use_id"])


@pytest.fixture
def kills(daemon: Daemon, nursery: Nursery, hook: Any) -> Kills:
    pid = nursery.start()
    until(daemon.status, "an answer of the daemon")
    os.kill(pid, signal.SIGKILL)
    nursery.reap()
    return Kills(daemon, nursery, hook.script, seed=1)


@pytest.mark.parametrize(
    "rounds", [50, pytest.param(1000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])], ids=["few", "many"]
)
def test_daemon_and_recorders_killed_at_any_moment_lose_and_double_nothing(kills: Kills, rounds: int) -> None:
    for number in range(rounds):
        kills.round(POINTS[number // 2 % len(POINTS)] if number % 2 else None)
    kills.assert_nothing_lost_or_doubled()
    kills.daemon.start().stop()
    assert kills.killed_writers > rounds // 8
    assert len(kills.died_at) > len(POINTS) // 2, kills.died_at  # otherwise the kill points are not where the work is


def test_killed_at_each_named_point_it_neither_loses_nor_doubles(
    daemon: Daemon, nursery: Nursery, kills: Kills
) -> None:
    dropper = Dropper(daemon.spool)
    for point in POINTS:
        for _ in range(2):
            kills.start_writer().wait(timeout=30)
            dropper.raw(b'{"hook_event_name": "Pre', mtime_ns=time.time_ns() - 60 * 10**9)
            pid = nursery.start(point)
            until(functools.partial(_is_zombie, pid), f"a death at {point}", timeout=10)
            assert nursery.reap() == -signal.SIGKILL
            kills.note_in_hand()
        kills.assert_nothing_lost_or_doubled()


def _settled(daemon: Daemon) -> Any:
    """The status, once the last batch has been counted."""
    status = daemon.status()
    return status if status["ingest"]["events_total"] == daemon.value("SELECT count(*) FROM events") else None


def _is_zombie(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True
