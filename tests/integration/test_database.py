"""The store under cancellation, several processes, full disks and damage. Letters A to H are aiosqlite's known hazards."""

import asyncio
import gc
import os
import random
import shutil
import sqlite3
import stat
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tasks.database import (
    Database,
    Reader,
    Row,
    SyncDatabase,
    Write,
    keep_reserve,
    release_reserve,
    restore_if_damaged,
    sqlite_version_note,
)
from tasks.database.migrations import APPLICATION_ID, VERSION
from tasks.errors import SchemaTooNew, StoreBusy, StoreCorrupt, StoreError, StoreUnavailable
from tasks.rollups import DURATION_GRAINS, GRAINS, bucket_bounds

COUNT = (
    "INSERT INTO counters (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value"
)
#: Takes a second or so, and then counts one row.
SLOW = """
INSERT INTO counters (name, value)
WITH RECURSIVE n (i) AS (VALUES (0) UNION ALL SELECT i + 1 FROM n WHERE i < 2000000) SELECT 'slow', count(*) FROM n
"""


def count(name: str, by: int = 1) -> Write:
    return Write.one(COUNT, (name, by))


async def counters(database: Database) -> dict[str, int]:
    return dict(await database.query("SELECT name, value FROM counters"))


def descriptors(path: Path) -> list[str]:
    """Which open files of this process lie below `path`."""
    found = []
    for fd in Path("/proc/self/fd").iterdir():
        try:
            target = fd.readlink()
        except OSError:
            continue
        if str(target).startswith(str(path)):
            found.append(str(target))
    return found


linux_only = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with Database(tmp_path / "tasks.db") as opened:
        yield opened


class Gate:
    """A unit of work that says when it runs and goes on when it is told to."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.opened = threading.Event()

    def unit(self, connection: sqlite3.Connection) -> str:
        connection.execute(COUNT, ("gated", 1))
        self.entered.set()
        assert self.opened.wait(20)
        connection.execute(COUNT, ("gated", 1))
        return "done"


@pytest.fixture
def gate() -> Gate:
    return Gate()


# Units of work.


async def test_a_caller_cancelled_during_a_unit_leaves_the_unit_whole(database: Database, gate: Gate) -> None:  # A, B
    caller = asyncio.create_task(database.transaction(gate.unit))
    await asyncio.to_thread(gate.entered.wait)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    gate.opened.set()
    await database.apply([count("next")])
    assert await counters(database) == {"gated": 2, "next": 1}


async def test_a_caller_cancelled_before_its_turn_still_gets_its_unit_done(database: Database, gate: Gate) -> None:
    first = asyncio.create_task(database.transaction(gate.unit))
    await asyncio.to_thread(gate.entered.wait)
    second = asyncio.create_task(database.apply([count("queued")]))
    await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    gate.opened.set()
    await first
    await database.tick()
    assert await counters(database) == {"gated": 2, "queued": 1}


async def test_a_timeout_leaves_the_unit_whole_and_the_store_usable(database: Database, gate: Gate) -> None:  # C
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(database.transaction(gate.unit), 0.05)
    gate.opened.set()
    await database.tick()
    assert await counters(database) == {"gated": 2}


async def test_a_cancelled_unit_that_fails_is_rolled_back_without_a_word(database: Database, gate: Gate) -> None:  # D
    def fails(connection: sqlite3.Connection) -> None:
        gate.unit(connection)
        raise ValueError("no")

    caller = asyncio.create_task(database.transaction(fails))
    await asyncio.to_thread(gate.entered.wait)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    gate.opened.set()
    await database.tick()
    gc.collect()
    assert await counters(database) == {}


async def test_two_coroutines_never_share_a_transaction(database: Database, gate: Gate) -> None:  # F
    def rolled_back(connection: sqlite3.Connection) -> None:
        gate.unit(connection)
        raise ValueError("roll back")

    failing = asyncio.create_task(database.transaction(rolled_back))
    await asyncio.to_thread(gate.entered.wait)
    other = asyncio.create_task(database.apply([count("other")]))
    await asyncio.sleep(0)
    gate.opened.set()
    with pytest.raises(ValueError, match="roll back"):
        await failing
    await other
    assert await counters(database) == {"other": 1}


@pytest.mark.parametrize(
    "bad",
    [
        Write.one("INSERT INTO counters (name, value) VALUES ('x', 'no number')"),
        Write.one("INSERT INTO no_such_table VALUES (1)"),
        Write.one(COUNT, ("big", 2**70)),
        Write.one(COUNT, ("\ud800", 1)),
        Write.one(COUNT, ("too", "many", "values")),
        Write(COUNT, [("fine", 1), ("not", None)]),
    ],
    ids=["type", "table", "2^70", "surrogate", "parameters", "second row"],
)
async def test_nothing_of_a_transaction_stays_when_one_write_fails(database: Database, bad: Write) -> None:
    with pytest.raises((StoreError, OverflowError, UnicodeEncodeError)):
        await database.apply([count("first"), bad])
    await database.apply([count("after")])
    assert await counters(database) == {"after": 1}


async def test_a_write_without_rows_does_nothing(database: Database) -> None:
    await database.apply([Write(COUNT, []), count("one")])
    assert await counters(database) == {"one": 1}


async def test_reading_goes_on_while_a_long_write_runs(database: Database) -> None:
    await database.apply([count("before")])
    writing = asyncio.create_task(database.apply([Write.one(SLOW)]))
    reads = 0
    while not writing.done():
        async with asyncio.timeout(0.5):
            seen = await counters(database)
        reads += 0 if "slow" in seen else 1
        await asyncio.sleep(0.005)
    await writing
    assert reads >= 5
    assert (await counters(database))["slow"] == 2_000_001


async def test_what_people_ask_keeps_nobody_else_waiting(database: Database) -> None:
    entered, opened = threading.Event(), threading.Event()

    def ask(reader: Reader) -> list[Row]:
        entered.set()
        assert opened.wait(60)
        return reader.query("SELECT value FROM counters WHERE name = 'asked'")

    async with database.for_people() as people:
        asked = asyncio.create_task(people.read(ask))
        try:
            assert await asyncio.to_thread(entered.wait, 60)
            await people.apply([Write.one("INSERT INTO counters (name, value) VALUES ('asked', 7)")])
            assert await database.query("SELECT value FROM counters WHERE name = 'asked'") == [(7,)]
            assert not asked.done()
        finally:
            opened.set()
        assert await asked == [(7,)]
    with pytest.raises(RuntimeError):
        await people.query("SELECT 1")
    assert await database.query("SELECT 1") == [(1,)]


async def test_a_query_cannot_write(database: Database) -> None:
    with pytest.raises(StoreError):
        await database.query("DELETE FROM counters")
    with pytest.raises(StoreError):
        await database.query(COUNT, ("x", 1))


# Opening and closing.


async def test_closing_finishes_what_was_asked_for(tmp_path: Path, gate: Gate) -> None:
    database = await Database(tmp_path / "tasks.db").open()
    asked: list[asyncio.Task[Any]] = [asyncio.create_task(database.transaction(gate.unit))]
    await asyncio.to_thread(gate.entered.wait)
    asked += [asyncio.create_task(database.apply([count("asked")])) for _ in range(20)]
    await asyncio.sleep(0)
    threading.Timer(0.05, gate.opened.set).start()
    await database.close()
    await asyncio.gather(*asked)
    reader = Reader(tmp_path / "tasks.db")
    assert dict(reader.query("SELECT name, value FROM counters")) == {"gated": 2, "asked": 20}
    reader.close()


async def test_a_closed_database_says_so_and_can_be_closed_again(tmp_path: Path) -> None:
    database = await Database(tmp_path / "tasks.db").open()
    await database.close()
    await database.close()
    attempts: list[Awaitable[object]] = [database.query("SELECT 1"), database.apply([count("x")])]
    for attempt in (*attempts, database.tick(), database.vacuum()):
        with pytest.raises(RuntimeError, match=r"not (open|running)"):
            await attempt


@linux_only
async def test_cancelled_opens_leak_no_descriptor(tmp_path: Path) -> None:  # G
    for turns in range(40):
        opening = asyncio.create_task(Database(tmp_path / "tasks.db").open())
        for _ in range(turns % 20):
            await asyncio.sleep(0)
        await asyncio.sleep(turns / 4000)
        opening.cancel()
        try:
            database = await opening
        except asyncio.CancelledError:
            continue
        await database.close()
    gc.collect()
    assert descriptors(tmp_path) == []
    async with Database(tmp_path / "tasks.db") as database:
        await database.apply([count("works")])


@linux_only
async def test_failed_opens_leak_no_descriptor(tmp_path: Path) -> None:
    (tmp_path / "tasks.db").write_bytes(b"this is no database\n" * 100)
    for _ in range(3):
        with pytest.raises(StoreCorrupt):
            await Database(tmp_path / "tasks.db").open()
        with pytest.raises(StoreCorrupt):
            SyncDatabase(tmp_path / "tasks.db")
    assert descriptors(tmp_path) == []


UNCLOSED = """
import asyncio
from pathlib import Path
from tasks.database import Database, Write
async def main():
    database = await Database(Path(args[0])).open()
    await database.query("SELECT 1")
    if args[1] == "slow":
        asyncio.ensure_future(database.apply([Write.one(args[2])]))
        await asyncio.sleep(0.2)
    if args[1] != "silent":
        raise LookupError("the end")
asyncio.run(main())
"""


@pytest.mark.parametrize(("how", "code"), [("silent", 0), ("raising", 1), ("slow", 1)])
def test_an_unclosed_database_does_not_keep_the_process(
    programs: Any, tmp_path: Path, how: str, code: int
) -> None:  # H
    started = time.monotonic()
    ended = programs.run(UNCLOSED, tmp_path / "tasks.db", how, SLOW)
    assert time.monotonic() - started < 5
    assert ended.returncode == code
    assert ("LookupError: the end" in ended.stderr) is (how != "silent")
    reader = Reader(tmp_path / "tasks.db")
    assert reader.query("PRAGMA integrity_check") == [("ok",)]
    reader.close()


# The file.


async def test_all_files_are_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        async with Database(tmp_path / "data/tasks.db") as database:
            await database.apply([count("x")])
            await database.backup()
            parts = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
            assert {path.name for path in parts} >= {"tasks.db", "tasks.db-wal", "tasks.db-shm", "tasks.db-lock"}
            assert [path for path in parts if stat.S_IMODE(path.stat().st_mode) != 0o600] == []
            folders = [tmp_path / "data", *(path for path in (tmp_path / "data").rglob("*") if path.is_dir())]
            assert [path for path in folders if stat.S_IMODE(path.stat().st_mode) != 0o700] == []
    finally:
        os.umask(before)


def test_opening_in_many_threads_leaves_the_umask_and_the_modes_alone(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        ready = threading.Barrier(8)
        opened: list[SyncDatabase] = []

        def work(number: int) -> None:
            ready.wait()
            opened.extend(SyncDatabase(tmp_path / f"{turn}-{number % 2}/tasks.db") for turn in range(5))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        now = os.umask(0o022)
        modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("tasks.db*")}
        for one in opened:
            one.close()
    finally:
        os.umask(before)
    assert (len(opened), now, modes) == (40, 0o022, {0o600})


async def test_the_settings_that_durability_rests_on(database: Database) -> None:
    wanted = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "trusted_schema": 0, "mmap_size": 0,
              "application_id": APPLICATION_ID, "user_version": VERSION}  # fmt: skip
    found = await database.transaction(
        lambda connection: {name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name in wanted}
    )
    assert found == wanted


async def test_every_table_is_strict(database: Database) -> None:
    loose = "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND NOT strict"
    assert [name for (name,) in await database.query(loose) if not name.startswith("sqlite_")] == []


async def test_a_reference_to_nothing_is_refused(database: Database) -> None:
    with pytest.raises(StoreError, match="FOREIGN KEY"):
        await database.apply(
            [
                Write.one(
                    "INSERT INTO agent_status (timestamp, session_uuid, status, cause) VALUES (1, 'none', 'x', 'x')"
                )
            ]
        )


def schema_of(path: Path, **pragmas: int) -> bytes:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE something (x)")
    for name, value in pragmas.items():
        connection.execute(f"PRAGMA {name} = {value}")
    connection.commit()
    connection.close()
    return path.read_bytes()


async def refuses(path: Path, error: type[Exception], match: str) -> None:
    before = {part.name: part.read_bytes() for part in path.parent.glob("tasks.db*") if not part.name.endswith("lock")}
    with pytest.raises(error, match=match):
        await Database(path).open()
    with pytest.raises(error, match=match):
        SyncDatabase(path)
    after = {part.name: part.read_bytes() for part in path.parent.glob("tasks.db*") if not part.name.endswith("lock")}
    assert after == before


async def test_a_newer_schema_is_refused_and_not_touched(tmp_path: Path) -> None:
    schema_of(tmp_path / "tasks.db", user_version=VERSION + 1, application_id=APPLICATION_ID)
    await refuses(tmp_path / "tasks.db", SchemaTooNew, "upgrade tasksd")


async def test_a_newer_schema_in_wal_mode_with_unsaved_pages_is_refused_and_not_touched(tmp_path: Path) -> None:
    (tmp_path / "live").mkdir()
    live = sqlite3.connect(tmp_path / "live/tasks.db")
    live.execute("PRAGMA journal_mode = WAL")
    live.execute("CREATE TABLE something (x)")
    live.execute(f"PRAGMA user_version = {VERSION + 1}")
    live.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    live.commit()
    for suffix in ("", "-wal"):
        shutil.copy(tmp_path / f"live/tasks.db{suffix}", tmp_path / f"tasks.db{suffix}")
    live.close()
    before = {part.name: part.read_bytes() for part in tmp_path.glob("tasks.db*")}
    with pytest.raises(SchemaTooNew):
        await Database(tmp_path / "tasks.db").open()
    assert {name: (tmp_path / name).read_bytes() for name in before} == before


async def test_the_database_of_another_program_is_refused_and_not_touched(tmp_path: Path) -> None:
    schema_of(tmp_path / "tasks.db")
    await refuses(tmp_path / "tasks.db", StoreError, "another program")


async def test_a_file_that_is_no_database_is_refused_and_not_touched(tmp_path: Path) -> None:
    (tmp_path / "tasks.db").write_bytes(b"x" * 10_000)
    await refuses(tmp_path / "tasks.db", StoreCorrupt, "tasksd db check")


@pytest.mark.parametrize("obstacle", ["a directory in the file's place", "a file in the directory's place"])
async def test_an_impossible_place_is_reported_as_unavailable(tmp_path: Path, obstacle: str) -> None:
    path = tmp_path / "data/tasks.db"
    if "directory in" in obstacle:
        path.mkdir(parents=True)
    else:
        (tmp_path / "data").touch()
    for attempt in range(2):
        with pytest.raises(StoreUnavailable, match=r"tasks\.db"):
            await Database(path).open() if attempt else SyncDatabase(path)


def test_reading_a_database_that_is_not_there_is_reported_and_creates_nothing(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable):
        Reader(tmp_path / "tasks.db")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_a_directory_without_rights_is_reported_as_unavailable(programs: Any, tmp_path: Path) -> None:
    source = """
import os, asyncio
from pathlib import Path
from tasks.database import Database, SyncDatabase
from tasks.errors import StoreUnavailable
asyncio.run(asyncio.to_thread(int))  # imports what it needs while it may
os.setuid(65534)
for make in (lambda: SyncDatabase(Path(args[0])), lambda: asyncio.run(Database(Path(args[0])).open())):
    try: make()
    except StoreUnavailable as error: say("unavailable", error)
"""
    assert programs.run(source, tmp_path / "sub/tasks.db").stdout.count("unavailable") == 2


# Several processes.

WRITER = """
import asyncio
from pathlib import Path
from tasks.database import Database, SyncDatabase, Write
path, name, times = Path(args[0]), args[1], int(args[2])
write = Write.one("INSERT INTO counters VALUES (:n, 1) ON CONFLICT (name) DO UPDATE SET value = value + 1", {"n": name})
shared = Write.one("UPDATE counters SET value = value + 1 WHERE name = 'shared'")
async def main():
    async with Database(path) as database:
        say("open"); hear()
        for _ in range(times): await database.apply([write, shared])
def sync():
    database = SyncDatabase(path)
    say("open"); hear()
    for _ in range(times): database.apply([write, shared])
    database.close()
sync() if args[3] == "sync" else asyncio.run(main())
"""


@pytest.mark.parametrize("faces", [("async", "async"), ("async", "sync"), ("sync", "sync")], ids="-".join)
def test_no_write_of_two_processes_is_lost_or_refused(programs: Any, tmp_path: Path, faces: tuple[str, str]) -> None:
    path = tmp_path / "tasks.db"
    database = SyncDatabase(path)
    database.apply([count("shared", 0)])
    writers = [programs.start(WRITER, path, name, 150, face) for name, face in zip("ab", faces, strict=True)]
    for writer in writers:
        assert writer.stdout.readline() == "open\n"
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    ends = [writer.communicate(timeout=60) for writer in writers]
    assert [(writer.returncode, err) for writer, (_, err) in zip(writers, ends, strict=True)] == [(0, "")] * 2
    assert dict(database.query("SELECT * FROM counters")) == {"a": 150, "b": 150, "shared": 300}
    assert database.query("PRAGMA integrity_check") == [("ok",)]
    database.close()


async def test_the_synchronous_face_works_beside_an_open_database(database: Database) -> None:
    beside = await asyncio.to_thread(SyncDatabase, database.path)
    for _ in range(50):
        await asyncio.gather(
            database.apply([count("both")]), asyncio.to_thread(beside.apply, [count("both"), count("sync")])
        )
    assert beside.query("SELECT value FROM counters WHERE name = 'both'") == [(100,)]
    assert await counters(database) == {"both": 100, "sync": 50}
    beside.close()
    await database.apply([count("both")])


def test_the_synchronous_face_serves_several_threads(tmp_path: Path) -> None:
    database = SyncDatabase(tmp_path / "tasks.db")

    def work() -> None:
        for _ in range(50):
            database.apply([count("all")])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert database.query("SELECT value FROM counters") == [(200,)]
    database.close()


def test_a_killed_writer_leaves_the_last_committed_state_and_no_lock(programs: Any, tmp_path: Path) -> None:
    source = """
import os, signal
from pathlib import Path
from tasks.database.engine import Writer
writer = Writer(Path(args[0]))
writer.run(lambda c: c.execute("INSERT INTO counters VALUES ('kept', 1)"))
def die(c):
    c.execute("INSERT INTO counters VALUES ('gone', 1)")
    os.kill(os.getpid(), signal.SIGKILL)
writer.run(die)
"""
    assert programs.run(source, tmp_path / "tasks.db").returncode == -9
    database = SyncDatabase(tmp_path / "tasks.db")
    database.apply([count("next")])
    assert dict(database.query("SELECT * FROM counters")) == {"kept": 1, "next": 1}
    database.close()


HOLDER = """
from pathlib import Path
from tasks.database.engine import WriteLock
with WriteLock(Path(args[0])).held():
    say("held"); hear()
"""


async def test_a_lock_held_too_long_by_another_process_is_reported_and_forgiven(
    programs: Any, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.database.engine.LOCK_TIMEOUT", 0.2)
    holder = programs.start(HOLDER, database.path)
    assert await asyncio.to_thread(holder.stdout.readline) == "held\n"
    with pytest.raises(StoreBusy, match="another process"):
        await database.apply([count("refused")])
    assert await counters(database) == {}
    holder.communicate("let go\n", timeout=10)
    await database.apply([count("accepted")])
    assert await counters(database) == {"accepted": 1}


# A full disk.


def test_the_reserve_is_held_once_and_given_back_once(tmp_path: Path) -> None:
    reserve = tmp_path / "reserve"
    for _ in range(2):
        keep_reserve(tmp_path / "tasks.db")
        assert reserve.stat().st_size == 16 << 20
        assert reserve.stat().st_blocks * 512 >= 16 << 20  # room that is really taken
        assert stat.S_IMODE(reserve.stat().st_mode) == 0o600
    assert release_reserve(tmp_path / "tasks.db")
    assert not reserve.exists()
    assert not release_reserve(tmp_path / "tasks.db")


FULL_DISK = """
import asyncio, os, subprocess
from pathlib import Path
from tasks.database import Database, Write, keep_reserve, release_reserve
from tasks.errors import StoreUnavailable
place = Path(args[0]); place.mkdir()
made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)], capture_output=True, text=True)
if made.returncode: say("SKIP cannot mount", made.stderr.strip()); sys.exit()
INSERT = "INSERT INTO games VALUES (?, ?, 1, 1)"
async def fill(database):
    for stored in range(1000):
        try: await database.apply([Write.one(INSERT, (f"{filled}-{stored}", "x" * 50_000))])
        except StoreUnavailable as error: return stored, str(error)
filled = 0
async def main():
    global filled
    (place / "ballast").write_bytes(b"x" * (1 << 20))
    async with Database(place / "tasks.db") as database:
        stored, error = await fill(database)
        say("stored", stored, error)
        say("readable", len(await database.query("SELECT * FROM games")) == stored, await database.check())
        try: await database.backup("full")
        except StoreUnavailable: say("no backup", len(list((place / "backups").iterdir())))
        (place / "ballast").unlink()
        filled = 1
        more, _ = await fill(database)
        say("went on", more > 3, len(await database.query("SELECT * FROM games")) == stored + more)
    say("end", place.joinpath("tasks.db").exists())
asyncio.run(main())
"""


def test_a_full_disk_is_reported_as_unavailable_and_forgiven(programs: Any, tmp_path: Path) -> None:
    ended = programs.run(FULL_DISK, tmp_path / "disk", prefix=programs.unshared("-m"))
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert "full" in lines[0]
    assert lines[1:] == ["readable True []", "no backup 0", "went on True True", "end True"]


# Damage, backups, upkeep.


async def filled(path: Path, rows: int = 3000) -> None:
    async with Database(path) as database:
        await database.apply([Write(COUNT, [(f"name {number}", number) for number in range(rows)])])
        await database.backup("nightly")


def zero_header(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(bytes(100))


def damage_pages(path: Path) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        for page in range(2, size // 4096):
            file.seek(page * 4096)
            file.write(random.Random(page).randbytes(64))


def cut_short(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("harm", [zero_header, damage_pages, cut_short])
async def test_a_damaged_database_is_set_aside_whole_and_the_newest_good_backup_restored(
    tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    path, backups = tmp_path / "tasks.db", tmp_path / "backups"
    await filled(path)
    good = sorted(backups.iterdir())
    newer = backups / "tasks-99991231T235959-000000000-nightly.db"
    newer.write_bytes(b"a backup that is damaged itself")
    harm(path)
    damaged = path.read_bytes()
    aside = restore_if_damaged(path, backups)
    assert aside is not None
    assert (aside / "tasks.db").read_bytes() == damaged
    assert {stat.S_IMODE(one.stat().st_mode) for one in (aside, path)} == {0o700, 0o600}
    assert [one for one in sorted(backups.iterdir()) if one != newer] == good
    async with Database(path) as database:
        assert len(await counters(database)) == 3000
        assert await database.check() == []
    assert restore_if_damaged(path, backups) is None


async def test_a_damaged_database_without_a_backup_is_set_aside_and_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "tasks.db"
    await filled(path)
    shutil.rmtree(tmp_path / "backups")
    zero_header(path)
    aside = restore_if_damaged(path, tmp_path / "backups")
    assert aside is not None
    assert (aside / "tasks.db").stat().st_size > 0
    async with Database(path) as database:
        assert await counters(database) == {}


async def test_a_sound_or_absent_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "tasks.db"
    assert restore_if_damaged(path, tmp_path / "backups") is None
    await filled(path)
    before = path.read_bytes()
    assert restore_if_damaged(path, tmp_path / "backups") is None
    assert path.read_bytes() == before


RESTORE = """
import os, signal
from pathlib import Path
import tasks.database.maintenance as maintenance
path, left = Path(args[0]), int(args[1])
def kill_at(event, arguments):
    global left
    if event in ("os.rename", "open", "os.mkdir", "shutil.copyfile") and any(str(path.parent) in str(a) for a in arguments):
        left -= 1
        if left == 0: os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(kill_at)
maintenance.restore_if_damaged(path, path.parent / "backups")
say("restored")
"""


async def test_restoring_survives_being_killed_anywhere(programs: Any, tmp_path: Path) -> None:
    await filled(tmp_path / "whole/tasks.db", 300)
    for point in range(1, 50):
        place = tmp_path / f"at-{point}"
        shutil.copytree(tmp_path / "whole", place)
        zero_header(place / "tasks.db")
        (place / "tasks.db-wal").write_bytes(b"what was not checkpointed")
        ended = await asyncio.to_thread(programs.run, RESTORE, place / "tasks.db", point)
        restore_if_damaged(place / "tasks.db", place / "backups")
        async with Database(place / "tasks.db") as database:
            assert len(await counters(database)) == 300, f"killed at point {point}"
        if ended.returncode == 0:
            break
        assert ended.returncode == -9, ended.stderr
    assert point > 3


async def test_check_finds_damage_and_orphans(tmp_path: Path) -> None:
    path = tmp_path / "tasks.db"
    await filled(path)
    orphan = sqlite3.connect(path)
    orphan.execute("INSERT INTO agent_status (timestamp, session_uuid, status, cause) VALUES (1, 'none', 'x', 'x')")
    orphan.commit()
    orphan.close()
    async with Database(path) as database:
        assert await database.check() == ["agent_status row 1: its sessions row is missing"]
    damage_pages(path)
    reader = Reader(path)
    try:
        assert reader.query("PRAGMA quick_check(1)") != [("ok",)]
    except StoreCorrupt:
        pass
    finally:
        reader.close()


async def test_a_backup_restores_with_equal_counts(tmp_path: Path) -> None:
    async with Database(tmp_path / "tasks.db") as database:
        await database.apply([Write(COUNT, [(f"n{number}", number) for number in range(500)])])
        await database.save_game("chess", {"moves": ["e4"]})
        copy = await database.backup()
        await database.apply([count("later")])
    assert copy.parent == tmp_path / "backups"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    async with Database(copy) as restored:
        assert len(await counters(restored)) == 500
        assert await restored.load_game("chess") == {"moves": ["e4"]}
        assert await restored.check() == []


async def test_keep_drops_the_oldest_of_the_same_label_only(database: Database) -> None:
    others = [await database.backup("manual"), await database.backup("pre-nightly")]
    nightly = [await database.backup("nightly", keep=3) for _ in range(5)]
    assert sorted((database.path.parent / "backups").iterdir()) == sorted(others + nightly[2:])


@pytest.mark.parametrize("label", ["", "../x", "A", "a b", "a/b", "x" * 41, "*"])
async def test_a_backup_label_that_could_be_a_path_is_refused(database: Database, label: str) -> None:
    with pytest.raises(StoreError, match="cannot name a backup"):
        await database.backup(label)


async def test_vacuum_gives_room_back(database: Database) -> None:
    await database.apply([Write.one("INSERT INTO games VALUES ('big', ?, 1, 1)", ("x" * 3_000_000,))])
    await database.apply([Write.one("DELETE FROM games")])
    await database.checkpoint()
    before, after = await database.vacuum()
    assert before > 3_000_000 > 500_000 > after
    assert database.path.stat().st_size == after
    assert await database.check() == []


async def test_a_checkpoint_empties_the_log(database: Database) -> None:
    await database.apply([Write.one("INSERT INTO games VALUES ('big', ?, 1, 1)", ("x" * 1_000_000,))])
    wal = database.path.with_name("tasks.db-wal")
    assert wal.stat().st_size > 1_000_000
    await database.checkpoint()
    assert wal.stat().st_size == 0


@pytest.mark.parametrize(
    ("version", "word"),
    [
        ((3, 36, 0), "STRICT"), ((3, 40, 1), "race"), ((3, 44, 5), "race"), ((3, 44, 6), None), ((3, 45, 0), "race"),
        ((3, 50, 6), "race"), ((3, 50, 7), None), ((3, 51, 2), "race"), ((3, 51, 3), None), ((4, 0, 0), None),
    ],
)  # fmt: skip
def test_versions_of_sqlite_with_the_race_deserve_a_remark(version: tuple[int, int, int], word: str | None) -> None:
    note = sqlite_version_note(version)
    assert note is None if word is None else note is not None and word in note


# Games.


async def test_games_are_saved_loaded_listed_and_deleted(database: Database) -> None:
    states: dict[str, object] = {"a": {"x": [1, 2.5, None, "é\N{GRINNING FACE}"]}, "b": [], "c": "text", "d": False}
    for game, state in states.items():
        await database.save_game(game, state)
    assert {game: await database.load_game(game) for game in states} == states
    await database.save_game("a", {"x": 2})
    assert await database.load_game("a") == {"x": 2}
    assert {game.game_id for game in await database.list_games()} == set(states)
    assert await database.delete_game("a")
    assert not await database.delete_game("a")
    assert await database.load_game("a") is None
    assert {game.game_id for game in await database.list_games()} == set(states) - {"a"}


@pytest.mark.parametrize("state", [float("nan"), float("inf"), {1, 2}, object(), b"bytes", {("a", "b"): 1}])
async def test_a_state_that_json_cannot_hold_is_refused_and_changes_nothing(database: Database, state: object) -> None:
    await database.save_game("g", "before")
    with pytest.raises((ValueError, TypeError)):
        await database.save_game("g", state)
    assert await database.load_game("g") == "before"


# Roll-ups.

CALL = """
INSERT INTO tool_usage (timestamp, session_uuid, tool_use_id, tool_name, success, error_category, duration_ms, source)
VALUES (?, 's', ?, ?, ?, ?, ?, ?)
"""
UPGRADE = """
UPDATE tool_usage SET timestamp = ?, success = ?, error_category = ?, duration_ms = ?, source = 'hook'
WHERE tool_use_id = ? AND duration_ms IS NULL
"""


def random_call(chance: random.Random) -> tuple[int, int, str | None, float | None]:
    """Time, success, category and duration, with values on and around every border."""
    at = chance.choice([0, 899_999, 900_000, 3_599_999, 3_600_000, chance.randrange(40_000_000)]) + 1_700_000_000_000
    success = chance.random() < 0.6
    bound = bucket_bounds(chance.randrange(40))[0]
    duration = chance.choice([None, 0.0, 0.5, 1.0, bound, bound * (1 - 1e-9), chance.lognormvariate(5, 2)])
    return at, int(success), None if success else chance.choice(["timeout", "blocked", "tool_error"]), duration


@pytest.mark.parametrize("seed", range(6))
async def test_the_roll_ups_say_what_the_rows_say(database: Database, seed: int) -> None:
    chance = random.Random(seed)
    for batch in range(12):
        writes = []
        for number in range(chance.randrange(40)):
            at, success, category, duration = random_call(chance)
            tool = chance.choice(["Read", "Bash", "Edit"])
            source = "hook" if duration is not None else "inferred"
            writes.append(Write.one(CALL, (at, f"{batch}-{number}", tool, success, category, duration, source)))
        for _ in range(chance.randrange(15)):
            key = f"{chance.randrange(batch + 1)}-{chance.randrange(40)}"
            writes.append(Write.one(UPGRADE, (*random_call(chance), key)))
        if chance.random() < 0.4:
            writes.append(Write.one("INSERT INTO rolling_calls (upto) SELECT coalesce(max(id), 0) FROM tool_usage"))
        await database.apply(writes)
    await database.apply([Write.one("INSERT INTO rolling_calls (upto) SELECT coalesce(max(id), 0) FROM tool_usage")])
    for table, keys, values, rows in (
        ("tool_rollup", "grain, slot, tool_name", "calls, successes, timed, round(duration_sum, 6), duration_max",
         "SELECT grain, timestamp / grain, tool_name, count(*), sum(success), count(duration_ms),"
         " round(total(duration_ms), 6), max(duration_ms) FROM tool_usage, rollup_grain GROUP BY 1, 2, 3"),
        ("error_rollup", "grain, slot, tool_name, error_category", "calls",
         "SELECT grain, timestamp / grain, tool_name, error_category, count(*) FROM tool_usage, rollup_grain"
         " WHERE success = 0 GROUP BY 1, 2, 3, 4"),
    ):  # fmt: skip
        kept = await database.query(f"SELECT {keys}, {values} FROM {table}")
        assert sorted(kept) == sorted(await database.query(rows)), table
    histogram: dict[tuple[int, int, str, int], int] = {}
    for at, tool, duration in await database.query(
        "SELECT timestamp, tool_name, duration_ms FROM tool_usage WHERE duration_ms IS NOT NULL"
    ):
        bucket = next(b for b in range(81) if bucket_bounds(b)[1] > duration)
        for grain in DURATION_GRAINS:
            place = (grain, at // grain, tool, bucket)
            histogram[place] = histogram.get(place, 0) + 1
    kept_histogram = {row[:4]: row[4] for row in await database.query("SELECT * FROM duration_rollup")}
    assert kept_histogram == histogram


async def test_the_grain_table_holds_the_grains_that_spans_are_made_of(database: Database) -> None:
    rows = await database.query("SELECT grain, durations FROM rollup_grain ORDER BY grain")
    assert tuple(grain for grain, _ in rows) == GRAINS
    assert tuple(grain for grain, durations in rows if durations) == DURATION_GRAINS


async def test_a_timed_call_is_never_replaced(database: Database) -> None:
    await database.apply([Write.one(CALL, (1, "t", "Read", 1, None, 5.0, "hook"))])
    with pytest.raises(StoreError, match="timed call"):
        await database.apply([Write.one("UPDATE tool_usage SET success = 0, error_category = 'timeout'")])


async def test_the_bucket_table_holds_the_bounds_that_the_tracker_computes(database: Database) -> None:
    rows = await database.query("SELECT bucket, lower_ms FROM duration_bucket ORDER BY bucket")
    assert [bucket for bucket, _ in rows] == list(range(81))
    assert [lower for _, lower in rows] == [bucket_bounds(bucket)[0] for bucket, _ in rows]


ROLL = Write.one("INSERT INTO rolling_calls (upto) SELECT coalesce(max(id), 0) FROM tool_usage")
ROLL_FILES = Write.one("INSERT INTO rolling_files (upto) SELECT coalesce(max(id), 0) FROM files")
BELONGING = """
INSERT INTO tool_usage (timestamp, session_uuid, task_id, agent_type, tool_use_id, tool_name, success, error_category,
                        duration_ms, source, model, fingerprint)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
USES = """
SELECT dimension, grain, CASE grain WHEN 0 THEN 0 ELSE timestamp / grain END AS slot,
       CASE dimension WHEN 'workflow' THEN (SELECT workflow FROM tasks WHERE tasks.task_id = u.task_id)
       WHEN 'agent_type'
       THEN coalesce(nullif(u.agent_type, ''), (SELECT agent_type FROM tasks WHERE tasks.task_id = u.task_id), '')
       WHEN 'model' THEN coalesce(model, '') WHEN 'fingerprint' THEN fingerprint WHEN 'session' THEN session_uuid
       WHEN 'task' THEN task_id END AS value,
       tool_name, coalesce(error_category, ''), count(*), count(duration_ms), round(total(duration_ms), 6)
FROM tool_usage AS u CROSS JOIN use_grain WHERE value IS NOT NULL GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 1, 2, 3, 4, 5, 6
"""


@pytest.mark.parametrize("seed", range(6))
async def test_the_roll_ups_by_what_calls_belong_to_say_what_the_rows_say(database: Database, seed: int) -> None:
    chance = random.Random(seed)
    task = "INSERT INTO tasks (task_id, user_id, description, workflow, agent_type, created_at) VALUES (?, 1, 'd', ?, ?, 1)"
    await database.apply([Write(task, [("t1", "fix", "coder"), ("t2", None, None), ("t3", "fix", None)])])
    for batch in range(8):
        writes = []
        for number in range(chance.randrange(30)):
            at, success, category, duration = random_call(chance)
            source = "hook" if duration is not None else "transcript"
            belonging = (
                chance.choice("ab"),
                chance.choice([None, "t1", "t2", "t3"]),
                chance.choice([None, "", "Explore"]),
            )
            mark = None if success else chance.choice(["f1", "f2"])
            row = (
                at,
                *belonging,
                f"{batch}-{number}",
                chance.choice(["Read", "Bash"]),
                success,
                category,
                duration,
                source,
            )
            writes.append(Write.one(BELONGING, (*row, chance.choice([None, "opus"]), mark)))
        for _ in range(chance.randrange(12)):
            key = f"{chance.randrange(batch + 1)}-{chance.randrange(30)}"
            model = ("UPDATE tool_usage SET model = ? WHERE tool_use_id = ?", (chance.choice(["opus", "haiku"]), key))
            writes.append(chance.choice([Write.one(*model), Write.one(UPGRADE, (*random_call(chance), key))]))
        if chance.random() < 0.5:
            writes.append(ROLL)
        await database.apply(writes)
    await database.apply([ROLL])
    columns = "dimension, grain, slot, value, tool_name, error_category"
    kept = f"SELECT {columns}, calls, timed, round(duration_sum, 6) FROM use_rollup ORDER BY {columns}"
    assert await database.query(kept) == await database.query(USES)


async def test_a_thousand_calls_are_rolled_up_by_themselves(database: Database) -> None:
    rows = [(number, "a", None, None, f"t{number}", "Read", 1, None, 1.0, "hook", None, None) for number in range(1030)]
    await database.apply([Write(BELONGING, rows)])
    assert await database.query("SELECT upto FROM rolled WHERE source = 'tool_usage'") == [(1024,)]
    assert await database.query("SELECT sum(calls) FROM tool_rollup WHERE grain = 86400000") == [(1024,)]


@pytest.mark.parametrize("order", ["ASC", "DESC"])
async def test_calls_under_the_ids_of_deleted_ones_are_counted(database: Database, order: str) -> None:
    def calls(first: int, count: int) -> Write:
        rows = [(n, "a", None, None, f"{first}-{n}", "Read", 1, None, 1.0, "hook", None, None) for n in range(count)]
        return Write(BELONGING, rows)

    await database.apply([calls(1, 20), ROLL, calls(2, 3)])
    doomed = await database.query(f"SELECT id FROM tool_usage WHERE id > 15 ORDER BY id {order}")
    await database.apply([Write("DELETE FROM tool_usage WHERE id = ?", doomed)])
    await database.apply([calls(3, 7), ROLL])
    # What was rolled up is kept when its rows go: 20 of the first; of the second nothing; all of the third.
    assert await database.query("SELECT sum(calls) FROM tool_rollup WHERE grain = 86400000") == [(27,)]


async def test_file_accesses_are_rolled_up_with_rereads_and_contention(database: Database) -> None:
    touch = "INSERT INTO files (timestamp, path, action, session_uuid, agent_id, tool_use_id) VALUES (?, ?, ?, ?, ?, ?)"
    minute = 60_000
    accesses = [
        (0, "/a", "read", "s1", None),
        (1 * minute, "/a", "read", "s1", None),  # again
        (2 * minute, "/a", "read", "s1", "sub"),  # another agent's first
        (3 * minute, "/a", "edit", "s1", None),
        (10 * minute, "/a", "edit", "s2", None),  # within half an hour of one by another agent before it
        (50 * minute, "/a", "write", "s2", None),  # within half an hour of nobody else's
        (70 * minute, "/a", "read", "s1", None),  # again, in a later batch
    ]
    for number, access in enumerate(accesses):
        await database.apply([Write.one(touch, (*access, f"t{number}"))])
        if number in (4, 6):
            await database.apply([ROLL_FILES])
    day = "SELECT reads, rereads, writes, edits, contended FROM file_rollup WHERE grain = 86400000"
    assert await database.query(day) == [(4, 2, 1, 2, 1)]
    hours = "SELECT slot, reads, rereads FROM file_rollup WHERE grain = 3600000 ORDER BY slot"
    assert await database.query(hours) == [(0, 3, 1), (1, 1, 1)]
    assert await database.query(
        "SELECT session_uuid, agent_id, reads, writes, edits, first_at, last_at, edited_at FROM file_use"
    ) == [
        ("s1", "", 3, 0, 1, 0, 70 * minute, 3 * minute),
        ("s1", "sub", 1, 0, 0, 2 * minute, 2 * minute, None),
        ("s2", "", 0, 1, 1, 10 * minute, 50 * minute, 50 * minute),
    ]
