"""The daemon's life seen from outside: ends, exit codes, watchdog, signals, and sessions whose process dies."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .rig.daemon import Daemon
from .rig.events import Dropper
from .rig.manager import Manager
from .rig.store import assert_consistent
from .rig.waiting import until

WATCHDOG = 0.4  # seconds; fed every half of it

#: The module; the package has a function of the same name.
RUN = "import sys, tasks.daemon; run = sys.modules['tasks.daemon.run']\n"
#: Makes staleness a matter of one second.
IMPATIENT = RUN + "run.STALE_AFTER = 1.0\n"


@pytest.fixture
def manager(folder: Path) -> Iterator[Manager]:
    made = Manager(folder / "n")
    yield made
    made.close()


# Crashes.

RAISE_IN_MAIN = """
import sys, tasks.daemon
run = sys.modules["tasks.daemon.run"]
async def broken(self, stack): raise RuntimeError("a bug in main")
run.Daemon._serve = broken
"""
RAISE_IN_A_LOOP = """
from tasks.supervisor import Supervisor
async def broken(self): raise RuntimeError("a bug in a loop")
Supervisor.step = broken
"""
RAISE_IN_THE_ACTOR = """
from tasks.database.engine import Writer
def broken(self, *args, **options):
    raise RuntimeError("a bug on the thread of the database")
Writer.run = broken
from tasks.ingest.ledger import Ledger
async def no_second_try(self, outcome): raise RuntimeError("a bug on the thread of the database")
Ledger._write_apart = no_second_try
"""
RAISE_WHILE_THE_ACTOR_HANGS = """
import time
from tasks.database import Database
from tasks.supervisor import Supervisor
async def broken(self):
    self._database._writing._connection._tx.put_nowait((__import__("asyncio").Future(), lambda: time.sleep(3600)))
    raise RuntimeError("a bug while the database hangs")
Supervisor.step = broken
"""
RAISE_WHILE_A_THREAD_HANGS = """
import asyncio, time
from tasks.supervisor import Supervisor
async def broken(self):
    asyncio.get_running_loop().run_in_executor(None, time.sleep, 3600)
    raise RuntimeError("a bug while a thread hangs")
Supervisor.step = broken
"""


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (RAISE_IN_MAIN, "a bug in main"),
        (RAISE_IN_A_LOOP, "a bug in a loop"),
        (RAISE_IN_THE_ACTOR, "a bug on the thread of the database"),
        (RAISE_WHILE_THE_ACTOR_HANGS, "a bug while the database hangs"),
        (RAISE_WHILE_A_THREAD_HANGS, "a bug while a thread hangs"),
    ],
    ids=["main", "loop", "actor", "actor hangs", "thread hangs"],
)
def test_a_bug_ends_the_process_with_its_message_and_the_next_start_works(
    daemon: Daemon, source: str, message: str
) -> None:
    daemon.start().stop()
    dropper = Dropper(daemon.spool)
    dropper.calls(range(1))
    starts = daemon.log.count("ready pid=")
    ends_early = source is RAISE_IN_MAIN
    process = daemon.spawn(source)
    until(lambda: ends_early or daemon.log.count("ready pid=") > starts or process.poll() is not None, "the start")
    assert daemon.wait(timeout=5) == 1
    dropper.calls(range(1, 2))
    assert "ended by a bug" in daemon.log
    assert message in daemon.log
    daemon.start()
    daemon.drained()
    assert daemon.value("SELECT count(*) FROM events") == 2
    daemon.signal(signal.SIGTERM)
    assert daemon.wait() == 0


# Exit codes.


def test_a_second_daemon_says_who_is_there_and_ends_with_75(daemon: Daemon, new_daemon: Callable[..., Daemon]) -> None:
    daemon.start()
    second = new_daemon()
    second.spawn()
    assert second.wait() == 75
    assert f"pid {daemon.pid}" in second.log
    assert daemon.status() is not None  # it did not lose its socket to the second
    daemon.stop()


def test_a_newer_schema_ends_it_with_78_and_is_not_touched(daemon: Daemon) -> None:
    daemon.start().stop()
    with sqlite3.connect(daemon.data_dir / "tasks.db") as connection:
        connection.execute("PRAGMA user_version = 999")
    connection.close()
    before = (daemon.data_dir / "tasks.db").read_bytes()
    daemon.spawn()
    assert daemon.wait() == 78
    assert "upgrade tasksd" in daemon.log
    assert (daemon.data_dir / "tasks.db").read_bytes() == before


@pytest.mark.parametrize("line", ["[log]\nlevel = 'loud'", "[privacy]\nlevel = 3", "nonsense = 1", "not toml"])
def test_a_wrong_configuration_ends_it_with_78_and_is_named(daemon: Daemon, folder: Path, line: str) -> None:
    config = folder / "config.toml"
    config.write_text(line)
    daemon.spawn(TASKSD_CONFIG=str(config))
    assert daemon.wait() == 78
    assert "config.toml" in daemon.log or "log.level" in daemon.log
    assert "Traceback" not in daemon.log


# The service manager.


def test_ready_comes_after_the_socket_answers_and_stopping_before_the_end(daemon: Daemon, manager: Manager) -> None:
    daemon.spawn(**manager.variables(watchdog=WATCHDOG))
    heard = manager.hear("READY=1")
    assert daemon.status() is not None
    assert "STATUS=ready" in heard
    for _ in range(3):
        manager.hear("WATCHDOG=1", timeout=2)
    manager.hear("STATUS=ok, 0 events, backlog 0", timeout=2)
    daemon.signal(signal.SIGTERM)
    manager.hear("STOPPING=1", timeout=5)
    assert daemon.wait() == 0
    assert "WATCHDOG=1" not in manager.heard()
    daemon.assert_calm()


BLOCK_THE_ACTOR = """
import os, threading, time
from tasks.database import Database
tick = Database.tick
async def blocked(self):
    if os.path.exists(os.environ["FAULT"]) and not hasattr(self, "blocked"):
        self.blocked = True
        __import__("asyncio").ensure_future(self._writing.call(lambda: time.sleep(3)))
    await tick(self)
Database.tick = blocked
"""
STOP_THE_SCANS = """
import asyncio, os
from tasks.ingest import Ingest
step = Ingest.step
async def stuck(self):
    while os.path.exists(os.environ["FAULT"]): await asyncio.sleep(0.05)
    return await step(self)
Ingest.step = stuck
"""
STOP_THE_SUPERVISOR = STOP_THE_SCANS.replace("tasks.ingest", "tasks.supervisor").replace("Ingest", "Supervisor")
BLOCK_THE_LOOP = """
import os, time
from tasks.supervisor import Supervisor
step = Supervisor.step
async def stuck(self):
    while os.path.exists(os.environ["FAULT"]): time.sleep(0.05)
    return await step(self)
Supervisor.step = stuck
"""


@pytest.mark.parametrize(
    "source",
    [BLOCK_THE_ACTOR, STOP_THE_SCANS, STOP_THE_SUPERVISOR, BLOCK_THE_LOOP],
    ids=["database", "scans", "supervisor", "loop"],
)
def test_what_makes_no_progress_is_not_hidden_from_the_watchdog(
    daemon: Daemon, manager: Manager, folder: Path, source: str
) -> None:
    fault = folder / "fault"
    impatient = IMPATIENT + "run.POLL_INTERVAL = run.INTERVAL = 0.2\n" + source
    daemon.start(impatient, FAULT=str(fault), **manager.variables(watchdog=WATCHDOG))
    manager.hear("WATCHDOG=1")
    fault.touch()
    began = time.monotonic()
    until(lambda: time.monotonic() - began > 1.5, "the time in which it becomes stale")
    manager.heard()
    until(lambda: time.monotonic() - began > 2.5, "a second in which it is stale")
    assert "WATCHDOG=1" not in manager.heard()
    daemon.assert_alive()
    fault.unlink()
    manager.hear("WATCHDOG=1", timeout=10)  # and what goes on again is alive again


def test_a_long_sleep_of_the_machine_loses_nothing_and_nobody(daemon: Daemon, manager: Manager) -> None:
    daemon.start(IMPATIENT, **manager.variables(watchdog=WATCHDOG))
    alive = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    dropper = Dropper(daemon.spool, client=alive.pid)
    dropper.calls(range(10))
    daemon.drained()
    daemon.signal(signal.SIGSTOP)
    manager.heard()
    began = time.monotonic()
    dropper.calls(range(10, 500))
    until(lambda: time.monotonic() - began > 3, "a sleep longer than the patience of the watchdog")
    daemon.signal(signal.SIGCONT)
    manager.hear("WATCHDOG=1", timeout=2)
    daemon.drained()
    assert daemon.value("SELECT count(*) FROM events") == 500
    assert daemon.value("SELECT count(*) FROM agent_status WHERE status = 'lost'") == 0
    alive.communicate(timeout=10)
    daemon.stop()


# Signals.


def test_a_second_sigterm_ends_it_at_once(daemon: Daemon) -> None:
    hanging = "import asyncio\nfrom tasks.ingest import Ingest\nasync def hang(self): await asyncio.shield(asyncio.sleep(60))\n"
    daemon.start(hanging + "Ingest.step = hang\n")
    daemon.signal(signal.SIGTERM)
    until(lambda: "stopping" in daemon.log, "the daemon to begin stopping")
    daemon.signal(signal.SIGTERM)
    assert daemon.wait(timeout=2) != 0


def test_sighup_takes_over_a_good_configuration_and_keeps_the_old_one_from_a_bad_one(
    daemon: Daemon, manager: Manager, folder: Path
) -> None:
    config = folder / "config.toml"
    config.write_text("[log]\nlevel = 'info'\n")
    daemon.start(TASKSD_CONFIG=str(config), **manager.variables(watchdog=30))
    manager.hear("READY=1")
    config.write_text("[log]\nlevel = 'loud'\n")
    daemon.signal(signal.SIGHUP)
    manager.hear("RELOADING=1")
    assert "kept the old configuration" in manager.hear("READY=1")
    assert "kept the old configuration" in daemon.log
    assert "loud" in daemon.log
    config.write_text("[log]\nlevel = 'info'\nformat = 'json'\n")
    daemon.signal(signal.SIGHUP)
    manager.hear("RELOADING=1")
    assert "STATUS=reloaded" in manager.hear("READY=1")
    assert '"message": "reloaded the configuration' in daemon.log
    daemon.stop()


SLOW_COMMITS = """
import os, time
from tasks.database import store
run_writes = store.run_writes
def slowly(connection, writes):
    run_writes(connection, writes)
    open(os.environ["COMMITTING"], "w").close()
    time.sleep(0.3)
    if os.path.exists(os.environ["COMMITTING"]):
        os.unlink(os.environ["COMMITTING"])
store.run_writes = slowly
"""


def test_stops_in_the_midst_of_a_commit_neither_double_nor_suspect_anything(daemon: Daemon, folder: Path) -> None:
    daemon.start().stop()
    Dropper(daemon.spool).calls(range(10_000))
    committing = folder / "committing"
    for _ in range(4):
        committing.unlink(missing_ok=True)
        daemon.spawn(SLOW_COMMITS + RUN + "run.STOP_TIMEOUT = 0.1\n", COMMITTING=str(committing))
        until(committing.exists, "a commit")
        daemon.stop()
        assert json.loads((daemon.data_dir / "ingest.journal").read_bytes())["in_hand"] == []
    assert daemon.pending()
    daemon.start()
    daemon.drained()
    daemon.stop()
    assert daemon.value("SELECT count(*) FROM events") == 10_000
    with daemon.database() as connection:
        assert_consistent(connection)
    assert daemon.quarantined() == []


# Sessions.


FULL_WHILE_ASKED = """
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


@pytest.mark.parametrize("disk_is_full", [False, True], ids=["", "and the disk is full"])
def test_a_session_whose_process_dies_without_a_word_is_lost_within_seconds(
    daemon: Daemon, folder: Path, disk_is_full: bool
) -> None:
    fault = folder / "fault"
    daemon.start(RUN + "run.POLL_INTERVAL = run.INTERVAL = 0.5\n" + FULL_WHILE_ASKED, FAULT=str(fault))
    client = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    stays = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    dropper = Dropper(daemon.spool, session="dies", client=client.pid)
    Dropper(daemon.spool, session="stays", client=stays.pid).event("UserPromptSubmit", prompt="go")
    dropper.event("SessionStart", source="startup")
    dropper.event("UserPromptSubmit", prompt="go")
    dropper.event("PreToolUse", tool_name="Bash", tool_use_id="open", tool_input={"command": "sleep 1000"})
    daemon.drained()
    if disk_is_full:
        fault.touch()
    client.kill()
    client.communicate()
    if disk_is_full:
        until(lambda: "cannot tell which sessions are lost" in daemon.log, "the failure to note the loss")
        daemon.assert_alive()
        fault.unlink()
    statuses = "SELECT session_uuid, status FROM sessions ORDER BY 1"
    until(lambda: daemon.rows(statuses) == [("dies", "lost"), ("stays", "working")], "the loss", timeout=12)
    calls = daemon.rows("SELECT tool_use_id, success, error_category FROM tool_usage")
    assert calls == [("open", 0, "interrupted")]
    assert daemon.status()["sessions"]["lost"] == 1
    stays.communicate(timeout=10)
    daemon.stop()


def test_no_variable_of_the_service_manager_reaches_children(daemon: Daemon, manager: Manager) -> None:
    daemon.start("import atexit, os\n" + _PRINT_ENVIRONMENT, **manager.variables(watchdog=WATCHDOG))
    manager.hear("WATCHDOG=1")
    daemon.signal(signal.SIGUSR1)
    until(lambda: "state Health" in daemon.log, "the state in the log")
    until(lambda: "ENVIRONMENT" in daemon.log, "the environment")
    assert "NOTIFY_SOCKET" not in daemon.log
    assert str(os.getpid()) not in daemon.log.partition("ENVIRONMENT")[2]
    daemon.stop()


_PRINT_ENVIRONMENT = """
from tasks.supervisor import Supervisor
step = Supervisor.step
async def printing(self):
    print("ENVIRONMENT", *os.environ, flush=True)
    return await step(self)
Supervisor.step = printing
"""
