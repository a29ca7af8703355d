"""No room for the spool, for the database, for both, no inodes: accepted events wait, drops are counted, all heals."""

import json
import os
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .rig.daemon import Daemon
from .rig.events import Dropper, result
from .rig.namespace import Namespace
from .rig.store import assert_consistent
from .rig.waiting import until

HEALED_WITHIN = 10.0  # seconds


class Disks:
    """A data directory on small file systems of its own, a daemon on it, and the recorder."""

    def __init__(self, folder: Path, hook: Any, mounts: str) -> None:
        self.data = folder / "d"
        self.data.mkdir()
        self._hook = hook
        self.namespace = Namespace(f"cd {folder} && {mounts}")
        self.outside = self.namespace.seen_from_outside(self.data)
        self.daemon = Daemon(self.data, prefix=self.namespace.prefix, seen_at=self.outside)
        self.spool = self.outside / "spool"
        self.accepted: set[str] = set()
        self.torn = 0
        self._number = 0

    def record(self, count: int, *, padding: int = 2000) -> None:
        """Run the recorder that often and note which events it has accepted, which means: left whole in the spool."""
        before = set(os.listdir(self.spool))
        for _ in range(count):
            self._number += 1
            payload = result("s-1", self._number, padding=padding)
            done = self._hook.run(
                payload, env={"PATH": os.defpath, "TASKSD_DATA_DIR": str(self.outside)}, script=self._hook.script
            )
            assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
            for name in set(os.listdir(self.spool)) - before:
                before.add(name)
                if not name.startswith("."):
                    self._judge((self.spool / name).read_bytes())

    def _judge(self, content: bytes) -> None:
        try:
            self.accepted.add(json.loads(content)["tool_use_id"])
        except ValueError:
            self.torn += 1

    @property
    def recorded(self) -> int:
        return self._number

    def dropped(self) -> int:
        counter = self.spool / ".dropped"
        return counter.stat().st_size if counter.exists() else 0

    def fill(self, where: Path, *, leave: int = 0) -> Path:
        """Take all space; the file that holds it."""
        ballast = where / "ballast"
        with ballast.open("ab", buffering=0) as file:
            try:
                while True:
                    file.write(b"\0" * 65536)
            except OSError:
                pass
            if leave:
                file.truncate(max(0, file.tell() - leave))
        return ballast

    def degraded(self) -> str | None:
        """What the status, which must be there, calls wrong."""
        status = self.daemon.status(timeout=2.0)
        assert status is not None, self.daemon.log
        return str(status["ingest"]["degraded"]) if status["ingest"]["degraded"] else None

    def drained(self) -> None:
        until(lambda: self.degraded() is None, "health", timeout=HEALED_WITHIN)
        self.daemon.drained(timeout=HEALED_WITHIN)

    def finish(self) -> None:
        """Everything accepted is stored once, everything torn set aside, the database sound."""
        self.daemon.assert_alive()
        self.daemon.stop()
        copy = self.data.parent / "copy.db"
        shutil.copyfile(self.outside / "tasks.db", copy)
        connection = sqlite3.connect(copy)
        stored = [row[0] for row in connection.execute("SELECT tool_use_id FROM events")]
        assert sorted(stored) == sorted(self.accepted)
        assert_consistent(connection)
        connection.close()
        codes = [entry["code"] for entry in self.daemon.quarantined()]
        assert len(codes) == self.torn, codes
        assert set(codes) <= {"torn", "empty"}

    def close(self) -> None:
        self.daemon.kill()
        self.namespace.close()


@pytest.fixture
def new_disks(folder: Path, hook: Any) -> Iterator[Callable[[str], Disks]]:
    made: list[Disks] = []

    def make(mounts: str) -> Disks:
        made.append(Disks(folder, hook, mounts))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_one_full_disk_for_everything_heals_when_there_is_room(new_disks: Callable[[str], Disks]) -> None:
    disks = new_disks("mount -t tmpfs -o size=40m,mode=700 none d")
    disks.daemon.start()
    disks.daemon.signal(signal.SIGSTOP)
    disks.record(20)
    disks.daemon.signal(signal.SIGCONT)
    disks.daemon.drained()
    disks.daemon.signal(signal.SIGSTOP)
    disks.fill(disks.outside, leave=100 << 10)
    disks.record(60)
    assert disks.accepted
    assert disks.recorded > len(disks.accepted)  # it was full
    (disks.outside / "reserve").unlink()  # as if an earlier need had taken it
    ballast = disks.fill(disks.outside)
    disks.daemon.signal(signal.SIGCONT)
    until(disks.degraded, "a status that says so")
    assert disks.daemon.pending()
    ballast.unlink()
    disks.drained()
    disks.finish()


def test_the_reserve_alone_gets_a_full_disk_going_again(new_disks: Callable[[str], Disks]) -> None:
    disks = new_disks("mount -t tmpfs -o size=40m,mode=700 none d")
    disks.daemon.start()
    disks.daemon.signal(signal.SIGSTOP)
    disks.fill(disks.outside, leave=100 << 10)
    disks.record(60)
    disks.fill(disks.outside)
    disks.daemon.signal(signal.SIGCONT)
    disks.drained()
    assert not (disks.outside / "reserve").exists()
    disks.finish()


def test_a_full_disk_of_the_database_alone_keeps_events_in_the_spool(new_disks: Callable[[str], Disks]) -> None:
    disks = new_disks(
        "mount -t tmpfs -o size=24m,mode=700 none d && mkdir d/spool && mount -t tmpfs -o size=8m,mode=700 none d/spool"
    )
    disks.daemon.start()
    (disks.outside / "reserve").unlink()
    ballast = disks.fill(disks.outside)
    disks.daemon.signal(signal.SIGSTOP)
    disks.record(60, padding=20_000)
    disks.daemon.signal(signal.SIGCONT)
    until(disks.degraded, "a status that says so")
    assert len(disks.accepted) == 60
    ballast.unlink()
    disks.drained()
    disks.finish()


def test_a_full_spool_loses_only_what_it_never_took(new_disks: Callable[[str], Disks]) -> None:
    disks = new_disks(
        "mount -t tmpfs -o size=64m,mode=700 none d && mkdir d/spool && mount -t tmpfs -o size=256k,mode=700 none d/spool"
    )
    disks.daemon.start()
    disks.daemon.signal(signal.SIGSTOP)
    disks.record(100, padding=6000)
    assert 0 < len(disks.accepted) < disks.recorded
    disks.daemon.signal(signal.SIGCONT)
    until(lambda: not set(disks.daemon.pending()) - set(disks.daemon.pending()[:100]), "a look at the spool")
    until(lambda: disks.daemon.status()["ingest"]["events_total"] == len(disks.accepted), "the accepted events")
    # What is torn cannot be moved to another file system; it hinders nobody.
    disks.daemon.signal(signal.SIGSTOP)
    accepted = len(disks.accepted)
    disks.record(5)
    assert len(disks.accepted) == accepted + 5
    disks.daemon.signal(signal.SIGCONT)
    until(lambda: disks.daemon.status()["ingest"]["events_total"] == len(disks.accepted), "the events after it")
    disks.daemon.assert_alive()
    disks.daemon.stop()


def test_a_spool_at_its_bound_drops_and_says_how_many(new_disks: Callable[[str], Disks]) -> None:
    disks = new_disks("true")
    disks.daemon.variables["TASKSD_SPOOL_MAX_FILES"] = "20"
    # The store fails while there is a file `fault`, so the spool grows while the daemon looks at it.
    fault = disks.data / "fault"
    disks.daemon.start(_FAILING_STORE, FAULT=str(fault))
    fault.touch()
    disks.record(25)
    accepted = len(disks.accepted)
    assert accepted > 20
    until(lambda: disks.daemon.status()["spool"]["full"], "a spool marked as full")
    disks.record(30)
    assert len(disks.accepted) == accepted
    dropped = disks.recorded - accepted
    assert disks.daemon.status()["spool"]["dropped"] == dropped
    fault.unlink()
    disks.drained()
    until(lambda: not disks.daemon.status()["spool"]["full"], "a spool with room")
    disks.daemon.signal(signal.SIGSTOP)
    disks.record(1)
    disks.daemon.signal(signal.SIGCONT)
    disks.daemon.drained()
    assert disks.daemon.status()["spool"]["dropped"] == dropped
    disks.finish()


_FAILING_STORE = """
import os
from tasks.database import Database
from tasks.errors import StoreUnavailable
apply = Database.apply
async def failing(self, *args, **options):
    if os.path.exists(os.environ["FAULT"]):
        raise StoreUnavailable("cannot write: database or disk is full")
    await apply(self, *args, **options)
Database.apply = failing
"""


def test_no_inodes_left_loses_nothing_and_heals(new_disks: Callable[[str], Disks]) -> None:
    disks = new_disks("mount -t tmpfs -o size=64m,nr_inodes=120,mode=700 none d")
    disks.daemon.start()
    disks.daemon.signal(signal.SIGSTOP)
    # A torn file cannot be set aside without an inode for its reason: it must not keep the others waiting.
    Dropper(disks.spool).raw(b'{"torn', mtime_ns=1)
    disks.torn += 1
    (disks.outside / "reserve").unlink()  # it would give back an inode
    disks.record(140, padding=10)
    assert 0 < len(disks.accepted) < disks.recorded
    assert disks.torn == 1
    disks.daemon.signal(signal.SIGCONT)
    disks.drained()
    disks.finish()


def test_a_start_on_a_full_disk_reads_the_spool_as_soon_as_there_is_room(new_disks: Callable[[str], Disks]) -> None:
    disks = new_disks("mount -t tmpfs -o size=40m,mode=700 none d")
    disks.daemon.start()
    disks.record(0)
    disks.daemon.kill()
    disks.record(10)
    (disks.outside / "reserve").unlink()
    ballast = disks.fill(disks.outside)
    disks.daemon.start()
    until(disks.degraded, "a status that says so")
    ballast.unlink()
    disks.drained()
    disks.finish()
