"""What the watcher of the spool cannot see, and what befalls the spool directory: nothing is missed, nothing is for ever."""

import datetime
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from .rig.daemon import Daemon
from .rig.events import NOBODY, Dropper, event, result
from .rig.waiting import until

#: Seconds from an event to its row when nobody rings.
WITHOUT_BELL = 3.0

DEAF = """
import asyncio, watchfiles
async def silence(*args, **options):
    while True:
        await asyncio.sleep(0.5)
        yield set()
watchfiles.awatch = silence
"""


def stored(daemon: Daemon) -> int:
    return int(daemon.value("SELECT count(*) FROM events"))


@pytest.mark.parametrize("count", [20_000])
def test_more_events_than_the_watcher_can_report_are_all_stored(daemon: Daemon, count: int) -> None:
    daemon.start()
    daemon.signal(signal.SIGSTOP)
    Dropper(daemon.spool).calls(range(count))
    daemon.signal(signal.SIGCONT)
    until(lambda: stored(daemon) == count, "all rows", timeout=30)
    daemon.drained()
    daemon.stop()
    assert stored(daemon) == count


def test_a_deaf_watcher_delays_events_by_no_more_than_the_timer(daemon: Daemon) -> None:
    daemon.start(DEAF)
    dropper = Dropper(daemon.spool)
    for number in range(2):
        dropper.calls(range(number, number + 1))
        until(lambda wanted=number + 1: stored(daemon) == wanted, "the row", timeout=WITHOUT_BELL)  # type: ignore[misc]
    daemon.stop()


@pytest.mark.parametrize("limit", ["max_inotify_instances", "max_inotify_watches"])
def test_without_inotify_it_says_that_it_polls_and_does(new_daemon: Callable[..., Daemon], limit: str) -> None:
    unshare = ("unshare", "--user", "--map-root-user")
    line = f"echo 0 > /proc/sys/user/{limit}"
    if (
        shutil.which("unshare") is None
        or subprocess.run([*unshare, "sh", "-c", line], capture_output=True, check=False).returncode != 0
    ):
        pytest.skip("user namespaces with limits of their own are not permitted here")
    daemon = new_daemon(prefix=(*unshare, "sh", "-c", f'{line}; exec "$@"', "sh"))
    daemon.start()
    until(lambda: daemon.status()["watcher"].startswith("polling"), "a status that says so")
    for number in range(3):
        Dropper(daemon.spool).raw(result("s-1", number), recorder=NOBODY + 100 * number)
        until(lambda wanted=number + 1: stored(daemon) == wanted, "the row", timeout=WITHOUT_BELL)  # type: ignore[misc]
    daemon.stop()


def deleted(spool: Path) -> None:
    # The daemon may make it anew between two of these steps: a newcomer in an emptied directory is not deleted.
    shutil.rmtree(spool)


def renamed_away(spool: Path) -> None:
    spool.rename(spool.with_name("elsewhere"))


def replaced(spool: Path) -> None:
    fresh = spool.with_name("fresh")
    fresh.mkdir(mode=0o700)
    spool.rename(spool.with_name("elsewhere"))
    fresh.rename(spool)


def replaced_by_a_file(spool: Path) -> None:
    spool.rename(spool.with_name("elsewhere"))
    spool.touch()
    time.sleep(0.1)
    spool.unlink()


@pytest.mark.parametrize(
    "befalls", [deleted, renamed_away, replaced, replaced_by_a_file], ids=lambda befalls: befalls.__name__
)
def test_a_spool_that_was_replaced_is_watched_and_read_again(daemon: Daemon, befalls: Callable[[Path], None]) -> None:
    daemon.start()
    dropper = Dropper(daemon.spool)
    dropper.calls(range(10))
    daemon.drained()
    befalls(daemon.spool)
    until(lambda: daemon.spool.is_dir(), "a spool directory", timeout=10)
    until(lambda: daemon.spool.stat().st_mode & 0o777 == 0o700, "a private spool directory")
    dropper.calls(range(10, 20))
    until(lambda: stored(daemon) == 20, "the rows", timeout=10)
    until(lambda: daemon.status()["watcher"] == "watching", "a watcher", timeout=10)
    # It hears, too: faster than the timer in most of several tries.
    quick = 0
    for number in range(20, 26):
        began = time.monotonic()
        dropper.calls(range(number, number + 1))
        until(lambda wanted=number + 1: stored(daemon) == wanted, "the row", timeout=WITHOUT_BELL)  # type: ignore[misc]
        quick += time.monotonic() - began < 0.5
    assert quick >= 4
    assert daemon.status()["ingest"]["degraded"] is None
    daemon.stop()


def test_a_spool_without_rights_is_taken_back(daemon: Daemon) -> None:
    if os.geteuid() == 0:
        pytest.skip("root reads a directory whatever its mode is")
    daemon.start()
    daemon.spool.chmod(0)
    until(lambda: daemon.status() is not None, "an answer")
    until(lambda: daemon.spool.stat().st_mode & 0o777 == 0o700, "rights", timeout=10)
    Dropper(daemon.spool).calls(range(5))
    until(lambda: stored(daemon) == 5, "the rows", timeout=10)
    daemon.stop()


def test_odd_names_neither_stop_the_watcher_for_good_nor_the_events(daemon: Daemon) -> None:
    daemon.start()
    dropper = Dropper(daemon.spool)
    odd = [b"\xff\xfe.json", b"-.1.2.3.json\n", b"a" * 255, b".hidden", "été".encode(), b"\x01"]
    for number, name in enumerate(odd):
        fd = os.open(os.fsencode(daemon.spool) + b"/" + name, os.O_CREAT | os.O_WRONLY, 0o600)
        os.close(fd)
        dropper.calls(range(number, number + 1))
    until(lambda: stored(daemon) == len(odd), "the rows", timeout=10)
    until(lambda: len(daemon.quarantined()) == len(odd), "the odd ones in quarantine", timeout=10)
    assert {entry["code"] for entry in daemon.quarantined()} == {"bad_name"}
    until(lambda: daemon.status()["watcher"] == "watching", "a watcher", timeout=10)
    daemon.stop()


# Clocks.


#: Rows of the past and of the future would be pruned, sooner or later.
KEPT = {"TASKSD_RETENTION_ROWS": "0", "TASKSD_RETENTION_BODIES": "0"}
SHIFTS = {"+400d": 400 * 86_400, "-20000d": -20_000 * 86_400, "+1h": 3600, "-1h": -3600}


def test_times_of_files_may_be_anything(daemon: Daemon) -> None:
    daemon.start(**KEPT)
    alive = subprocess.Popen(["sleep", "60"])
    now = time.time_ns()
    number = 0
    torn = []
    for shift in SHIFTS.values():
        session = f"s{shift}"
        dropper = Dropper(daemon.spool, client=alive.pid)
        for seconds in (0, shift, 0):
            for _ in range(20):
                number += 1
                mtime = now + number * 10**6 + seconds * 10**9
                dropper.raw(result(session, number), mtime_ns=mtime, recorder=NOBODY + number)
        torn.append(
            dropper.raw(b'{"hook_event_name": "Stop", "sess', mtime_ns=now + shift * 10**9, recorder=NOBODY - number)
        )
    until(lambda: stored(daemon) == number, "the rows")
    until(lambda: not any(path.exists() for path in torn), "the torn ones set aside", timeout=10)
    assert [entry["code"] for entry in daemon.quarantined()] == ["torn"] * len(torn)
    assert daemon.value("SELECT count(*) FROM tool_usage") == number
    assert daemon.status()["spool"]["oldest_age_s"] is None
    assert "lost" not in {row[0] for row in daemon.rows("SELECT status FROM agent_status")}
    alive.kill()
    alive.wait()
    daemon.stop()


def test_the_clock_may_jump_while_the_daemon_runs(daemon: Daemon, folder: Path) -> None:
    control = folder / "time"
    control.write_text("+0")
    daemon.start(
        LD_PRELOAD=str(fake_time()),
        FAKETIME_TIMESTAMP_FILE=str(control),
        FAKETIME_NO_CACHE="1",
        FAKETIME_DONT_FAKE_MONOTONIC="1",
        NO_FAKE_STAT="1",
        **KEPT,
    )
    client = subprocess.Popen(["sleep", "100"])
    dropper = Dropper(daemon.spool, client=client.pid)
    dropper.raw(event("UserPromptSubmit", "s-1", prompt="go"))
    until(lambda: stored(daemon) == 1, "the row before")
    number = 0
    for jump, shift in SHIFTS.items():
        for step, seconds in ((jump, shift), ("+0", 0)):
            control.write_text(step)
            assert abs(_clock_of(daemon) - time.time() - seconds) < 60  # otherwise the clock is not the daemon's
            for _ in range(10):
                number += 1
                dropper.raw(result("s-1", number), mtime_ns=time.time_ns() + seconds * 10**9)
            until(lambda wanted=number + 1: stored(daemon) == wanted, "the rows after", timeout=WITHOUT_BELL)  # type: ignore[misc]
    began = time.monotonic()
    until(lambda: time.monotonic() - began > 5, "some looks at the process")
    assert daemon.rows("SELECT status FROM sessions") == [("working",)]
    assert daemon.value("SELECT count(*) FROM agent_status WHERE status = 'lost'") == 0
    client.kill()
    client.wait()
    until(lambda: daemon.rows("SELECT status FROM sessions") == [("lost",)], "the loss")
    pid = daemon.pid
    daemon.stop()
    for left in Path("/dev/shm").glob(
        f"*faketime_*_{pid}"
    ):  # it tidies up in exit handlers, which os._exit passes over
        left.unlink()


def _clock_of(daemon: Daemon) -> float:
    """What time it is in its log."""
    lines = len(daemon.log.splitlines())
    daemon.signal(signal.SIGUSR1)
    until(lambda: len(daemon.log.splitlines()) > lines, "a line in the log")
    return datetime.datetime.fromisoformat(daemon.log.splitlines()[-1].split()[0].replace("Z", "+00:00")).timestamp()


def fake_time() -> Path:
    candidates = [os.environ.get("LIBFAKETIME", "")]
    candidates += map(str, Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    for one in candidates:
        if one and Path(one).is_file():
            return Path(one)
    pytest.skip("libfaketime is not installed (apt-get install libfaketime)")
