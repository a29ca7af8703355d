"""Every older schema becomes the present one, whenever it is interrupted."""

import re
import shutil
import sqlite3
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tasks import assets
from tasks.database import SyncDatabase, Write
from tasks.database.engine import Writer
from tasks.database.maintenance import vacuum
from tasks.database.migrations import APPLICATION_ID, VERSION, migrate, statements
from tasks.database.steps import MIGRATIONS

FROZEN = Path(__file__).parents[1] / "data/schemas"

#: Three steps from here on: one that adds, one that moves rows, one that rebuilds a table others refer to.
ADDS, MOVES, REBUILDS = VERSION + 1, VERSION + 2, VERSION + 3
STEPS: Mapping[int, str] = {
    ADDS: """
CREATE TABLE extras (id INTEGER PRIMARY KEY, note TEXT NOT NULL) STRICT;
INSERT INTO extras (note) SELECT name FROM counters;
""",
    MOVES: """
ALTER TABLE games ADD COLUMN title TEXT;
UPDATE games SET title = upper(game_id);
CREATE TRIGGER games_title AFTER INSERT ON games WHEN NEW.title IS NULL BEGIN
    UPDATE games SET title = upper(NEW.game_id) WHERE game_id = NEW.game_id;
END;
""",
    REBUILDS: """
CREATE TABLE sessions_new (session_uuid TEXT PRIMARY KEY, status TEXT NOT NULL) STRICT;
INSERT INTO sessions_new SELECT session_uuid, status FROM sessions;
DROP TABLE sessions;
ALTER TABLE sessions_new RENAME TO sessions;
""",
}


#: Tables whose rows belong to the schema.
SEEDED = ("duration_bucket", "rolled", "rollup_grain", "use_grain")


def dump(connection: sqlite3.Connection) -> str:
    """The schema as a script that depends on nothing but the schema, tables first."""
    objects = connection.execute(
        """
        SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND name <> 'sqlite_sequence'  -- SQLite makes that one itself
        ORDER BY type = 'trigger', type = 'index', name
        """
    )
    script = [normalised(sql) for (sql,) in objects]
    seeds: list[str] = [
        f"INSERT INTO {table} VALUES {', '.join(map(_literal, rows))}"
        for table in SEEDED
        if any(f"CREATE TABLE {table} " in statement for statement in script)
        and (rows := connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall())
    ]
    return "".join(f"{statement};\n" for statement in [*script, *seeds])


def _literal(row: tuple[Any, ...]) -> str:
    return f"({', '.join(f'{value:.10g}' if isinstance(value, float) else repr(value) for value in row)})"


def normalised(sql: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"--[^\n]*", "", sql)).strip()


def of_version(version: int) -> sqlite3.Connection:
    """A database as that version left it."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    for statement in statements((FROZEN / f"{version}.sql").read_text(encoding="utf-8")):
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {version}")
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    return connection


def newest() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    for statement in statements(assets.path("schema.sql").read_text(encoding="utf-8")):
        connection.execute(statement)
    return connection


def filled(path: Path) -> None:
    """A database of this version with rows that the steps above touch."""
    database = SyncDatabase(path)
    database._writer.run(
        lambda connection: [
            connection.execute("INSERT INTO counters VALUES ('a', 1), ('b', 2)"),
            connection.execute("INSERT INTO games VALUES ('chess', '{}', 1, 1)"),
            connection.execute(
                "INSERT INTO sessions (session_uuid, status, status_since, host, started_at, last_event_at)"
                " VALUES ('s', 'idle', 1, 'h', 1, 1)"
            ),
            connection.execute(
                "INSERT INTO agent_status (timestamp, session_uuid, status, cause) VALUES (1, 's', 'idle', 'Stop')"
            ),
        ]
    )
    database.close()


def migrated_state(path: Path) -> dict[str, Any]:
    connection = sqlite3.connect(path)
    state = {
        "version": connection.execute("PRAGMA user_version").fetchone()[0],
        "extras": connection.execute("SELECT note FROM extras ORDER BY note").fetchall(),
        "games": connection.execute("SELECT game_id, title FROM games").fetchall(),
        "sessions": connection.execute("SELECT * FROM sessions").fetchall(),
        "changes": connection.execute("SELECT session_uuid, status FROM agent_status").fetchall(),
        "integrity": connection.execute("PRAGMA integrity_check").fetchall(),
        "orphans": connection.execute("PRAGMA foreign_key_check").fetchall(),
    }
    connection.close()
    return state


WANTED = {"version": REBUILDS, "extras": [("a",), ("b",)], "games": [("chess", "CHESS")], "sessions": [("s", "idle")],
          "changes": [("s", "idle")], "integrity": [("ok",)], "orphans": []}  # fmt: skip


def test_schema_sql_is_the_frozen_schema_of_its_version() -> None:
    """Whoever changes schema.sql adds a version, its migration, and its frozen text (write the dump below there)."""
    frozen = FROZEN / f"{VERSION}.sql"
    assert frozen.exists(), f"freeze the schema of version {VERSION} as {frozen.name}:\n{dump(newest())}"
    assert dump(newest()).splitlines() == frozen.read_text(encoding="utf-8").splitlines()


def test_every_version_is_frozen_and_every_step_exists() -> None:
    assert sorted(int(path.stem) for path in FROZEN.glob("*.sql")) == list(range(1, VERSION + 1))
    assert sorted(MIGRATIONS) == list(range(2, VERSION + 1))


@pytest.mark.parametrize("version", range(1, VERSION + 1))
def test_a_frozen_version_migrates_to_schema_sql(version: int, tmp_path: Path) -> None:
    old = of_version(version)
    migrate(old, tmp_path / "absent.db", tmp_path)
    assert dump(old) == dump(newest())


def test_a_new_database_has_the_schema_of_schema_sql(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "tasks.db")
    assert writer.run(dump) == dump(newest())
    writer.close()


def test_a_new_file_can_be_vacuumed_bit_by_bit_and_an_old_one_after_its_next_vacuum(tmp_path: Path) -> None:
    new = Writer(tmp_path / "new.db")
    assert new.run(lambda connection: connection.execute("PRAGMA auto_vacuum").fetchone()) == (2,)
    new.close()
    made = of_version(1)
    made.execute("VACUUM INTO ?", (str(tmp_path / "old.db"),))
    made.close()
    old = Writer(tmp_path / "old.db")
    vacuum(old)
    assert old.run(lambda connection: connection.execute("PRAGMA auto_vacuum").fetchone()) == (2,)
    old.close()


def test_opening_again_changes_nothing_and_makes_no_backup(tmp_path: Path) -> None:
    Writer(tmp_path / "tasks.db").close()
    before = (tmp_path / "tasks.db").read_bytes()
    Writer(tmp_path / "tasks.db").close()
    assert (tmp_path / "tasks.db").read_bytes() == before
    assert not (tmp_path / "backups").exists()


def test_a_backup_of_the_old_state_is_made_before_the_first_step(tmp_path: Path) -> None:
    filled(tmp_path / "tasks.db")
    connection = sqlite3.connect(tmp_path / "tasks.db", isolation_level=None)
    connection.execute("PRAGMA foreign_keys = ON")
    migrate(connection, tmp_path / "tasks.db", tmp_path / "backups", target=REBUILDS, steps=STEPS)
    assert connection.execute("PRAGMA foreign_keys").fetchone() == (1,)
    connection.close()
    assert migrated_state(tmp_path / "tasks.db") == WANTED
    (copy,) = (tmp_path / "backups").iterdir()
    assert copy.name.endswith(f"-before-v{REBUILDS}.db")
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    old = sqlite3.connect(copy)
    assert old.execute("PRAGMA user_version").fetchone() == (VERSION,)
    assert old.execute("SELECT count(*) FROM counters").fetchone() == (2,)
    old.close()


def test_a_step_that_leaves_orphans_is_undone(tmp_path: Path) -> None:
    filled(tmp_path / "tasks.db")
    connection = sqlite3.connect(tmp_path / "tasks.db", isolation_level=None)
    connection.execute("PRAGMA foreign_keys = ON")
    with pytest.raises(Exception, match="agent_status"):
        migrate(connection, tmp_path / "tasks.db", tmp_path / "b", target=ADDS, steps={ADDS: "DELETE FROM sessions;"})
    assert connection.execute("SELECT count(*) FROM sessions").fetchone() == (1,)
    assert connection.execute("PRAGMA user_version").fetchone() == (VERSION,)
    connection.close()


def test_a_step_that_fails_is_undone_and_the_steps_before_it_stay(tmp_path: Path) -> None:
    filled(tmp_path / "tasks.db")
    connection = sqlite3.connect(tmp_path / "tasks.db", isolation_level=None)
    broken = {ADDS: STEPS[ADDS], MOVES: STEPS[MOVES] + "INSERT INTO no_such_table VALUES (1);"}
    with pytest.raises(sqlite3.OperationalError):
        migrate(connection, tmp_path / "tasks.db", tmp_path / "b", target=MOVES, steps=broken)
    assert connection.execute("PRAGMA user_version").fetchone() == (ADDS,)
    assert "title" not in [row[1] for row in connection.execute("PRAGMA table_info(games)")]
    connection.close()


MIGRATE = """
import os, signal, sqlite3
from pathlib import Path
from tasks.database.engine import WriteLock
from tasks.database.migrations import migrate
path, fatal, steps = Path(args[0]), int(args[1]), eval(args[2])
target = max(steps)
connection = sqlite3.connect(path, isolation_level=None, timeout=10)
connection.execute("PRAGMA foreign_keys = ON")
left = fatal
def count(statement):
    global left
    left -= 1
    if left == 0: os.kill(os.getpid(), signal.SIGKILL)
connection.set_trace_callback(count)
say("ready"); hear()
lock = WriteLock(path)
with lock.held():
    migrate(connection, path, path.parent / "backups", target=target, steps=steps)
say("migrated", fatal - left)
"""


def test_a_migration_killed_at_any_statement_migrates_cleanly_afterwards(programs: Any, tmp_path: Path) -> None:
    filled(tmp_path / "whole/tasks.db")
    ended = go(programs.start(MIGRATE, copy_of(tmp_path, "all"), 0, repr(STEPS)))
    statements_run = int(ended.split()[-1])
    assert statements_run > 20
    for fatal in range(1, statements_run + 1):
        path = copy_of(tmp_path, f"at-{fatal}")
        killed = programs.start(MIGRATE, path, fatal, repr(STEPS))
        assert "migrated" not in go(killed), f"statement {fatal}"
        connection = sqlite3.connect(path, isolation_level=None)
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        migrate(connection, path, path.parent / "backups", target=REBUILDS, steps=STEPS)
        connection.close()
        assert migrated_state(path) == WANTED, f"killed at statement {fatal}"
        shutil.rmtree(path.parent)


#: Tasks as version 1 stored them: task_id, user_id, description, status, priority, session_uuid, host, pid, branch, result,
#: error, activity_log, created_at, started_at, finished_at.
TASKS_OF_1 = [
    ("aaaaaa", 7, "waits", "pending", 1, None, None, None, None, None, None, "[]", 1000, None, None),
    ("bbbbbb", 7, "runs, in a hurry", "running", -3, "s", "h", 42, "task/bbbbbb", None, None,
     '[{"at":1001,"message":"begun"}]', 1001, 1002, None),
    ("cccccc", 8, "done", "completed", 0, "s", "h", 43, "task/cccccc", "it’s done", None, "[]", 1003, 1004, 1005),
    ("dddddd", 8, "broken", "failed", 99, None, "h", None, None, None, "no such file", "[]", 1006, 1007, 1008),
    ("eeeeee", 9, "unwanted", "stopped", 2, None, None, None, None, None, None, "[]", 1009, None, 1010),
]  # fmt: skip
TASKS_OF_2 = [
    ("aaaaaa", 7, "waits", "pending", 1, None, None, None, None, None, None, None, "[]", 1000, None, None),
    ("bbbbbb", 7, "runs, in a hurry", "running", 0, "s", "h", 42, "task/bbbbbb", None, None, None,
     '[{"at":1001,"message":"begun"}]', 1001, 1002, None),
    ("cccccc", 8, "done", "completed", 0, "s", "h", 43, "task/cccccc", "it’s done", None, None, "[]", 1003, 1004, 1005),
    ("dddddd", 8, "broken", "failed", 2, None, "h", None, None, None, "no such file", "agent_error", "[]", 1006, 1007,
     1008),
    ("eeeeee", 9, "unwanted", "stopped", 2, None, None, None, None, None, None, None, "[]", 1009, None, 1010),
]  # fmt: skip


def filled_of_1(path: Path) -> None:
    """A file of version 1 as tasksd left it, with tasks in every status and rows beside them."""
    path.parent.mkdir(parents=True)
    made = of_version(1)
    columns = (
        "task_id, user_id, description, status, priority, session_uuid, host, pid, branch, result, error, activity_log,"
        " created_at, started_at, finished_at"
    )
    made.executemany(f"INSERT INTO tasks ({columns}) VALUES ({', '.join('?' * 15)})", TASKS_OF_1)
    made.execute("INSERT INTO games VALUES ('chess', '{}', 1, 1)")
    made.execute(
        "INSERT INTO tool_usage (timestamp, task_id, tool_name, success, duration_ms, source)"
        " VALUES (1003, 'cccccc', 'Bash', 1, 3.5, 'api')"
    )
    made.execute("VACUUM INTO ?", (str(path),))
    made.close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.close()


def state_of_2(path: Path) -> dict[str, Any]:
    connection = sqlite3.connect(path)
    columns = (
        "task_id, user_id, description, status, priority, session_uuid, host, pid, branch, result, error, failure,"
        " activity_log, created_at, started_at, finished_at"
    )
    state = {
        "version": connection.execute("PRAGMA user_version").fetchone()[0],
        "tasks": connection.execute(f"SELECT {columns} FROM tasks ORDER BY task_id").fetchall(),
        "new": connection.execute(
            "SELECT DISTINCT isolate, attempt, commits, merge_state, worktree FROM tasks"
        ).fetchall(),
        "games": connection.execute("SELECT game_id FROM games").fetchall(),
        "calls": connection.execute("SELECT task_id, tool_name FROM tool_usage").fetchall(),
        "schema": dump(connection).splitlines(),
        "integrity": connection.execute("PRAGMA integrity_check").fetchall(),
        "orphans": connection.execute("PRAGMA foreign_key_check").fetchall(),
    }
    connection.close()
    return state


def wanted_of_2() -> dict[str, Any]:
    schema = (FROZEN / "2.sql").read_text(encoding="utf-8").splitlines()
    return {"version": 2, "tasks": TASKS_OF_2, "new": [(1, 0, 0, "none", None)], "games": [("chess",)],
            "calls": [("cccccc", "Bash")], "schema": schema, "integrity": [("ok",)],
            "orphans": []}  # fmt: skip


def test_tasks_of_version_1_are_tasks_of_version_2(tmp_path: Path) -> None:
    filled_of_1(tmp_path / "whole/tasks.db")
    connection = sqlite3.connect(tmp_path / "whole/tasks.db", isolation_level=None)
    migrate(connection, tmp_path / "whole/tasks.db", tmp_path / "backups", target=2)
    connection.close()
    assert state_of_2(tmp_path / "whole/tasks.db") == wanted_of_2()


def test_a_file_of_version_1_is_opened_as_one_of_this_version(tmp_path: Path) -> None:
    filled_of_1(tmp_path / "data/tasks.db")
    database = SyncDatabase(tmp_path / "data/tasks.db")
    assert database.query("SELECT count(*) FROM tasks") == [(len(TASKS_OF_1),)]
    database.close()
    assert [path.name.rpartition("-")[2] for path in (tmp_path / "data/backups").iterdir()] == [f"v{VERSION}.db"]


def test_the_step_to_version_2_killed_at_any_statement_is_taken_cleanly_afterwards(
    programs: Any, tmp_path: Path
) -> None:
    filled_of_1(tmp_path / "whole/tasks.db")
    steps = {2: MIGRATIONS[2]}
    ended = go(programs.start(MIGRATE, copy_of(tmp_path, "all"), 0, repr(steps)))
    assert state_of_2(tmp_path / "all/tasks.db") == wanted_of_2()
    statements_run = int(ended.split()[-1])
    assert statements_run > len(list(statements(steps[2])))
    for fatal in range(1, statements_run + 1):
        path = copy_of(tmp_path, f"at-{fatal}")
        assert "migrated" not in go(programs.start(MIGRATE, path, fatal, repr(steps))), f"statement {fatal}"
        connection = sqlite3.connect(path, isolation_level=None)
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        migrate(connection, path, path.parent / "backups", target=2)
        connection.close()
        assert state_of_2(path) == wanted_of_2(), f"killed at statement {fatal}"
        shutil.rmtree(path.parent)


def test_accounts_of_version_3_are_accounts_of_version_4(tmp_path: Path) -> None:
    made = of_version(3)
    made.executemany(
        "INSERT INTO users VALUES (?, ?, ?, ?, ?, ?)",
        [(3, "ada", "v1$x", "admin", 0, 1000), (7, "Eve", "v1$y", "viewer", 1, 2000)],
    )
    made.execute("VACUUM INTO ?", (str(tmp_path / "tasks.db"),))
    made.close()
    database = SyncDatabase(tmp_path / "tasks.db")
    assert database.query("SELECT * FROM users ORDER BY user_id") == [
        (3, "ada", "v1$x", "admin", 0, 1000, 1000, None), (7, "Eve", "v1$y", "viewer", 1, 2000, 2000, None),
    ]  # fmt: skip
    made_anew = """
        INSERT INTO users (username, password_hash, role, created_at, password_changed_at) VALUES ('bob', 'z', 'viewer', 1, 1)
    """
    database.apply([Write.one("DELETE FROM users WHERE user_id = 7"), Write.one(made_anew)])
    assert database.query("SELECT user_id FROM users WHERE username = 'bob'") == [(8,)]
    database.close()


def test_two_processes_that_migrate_at_once_migrate_once(programs: Any, tmp_path: Path) -> None:
    filled(tmp_path / "whole/tasks.db")
    path = copy_of(tmp_path, "shared")
    both = [programs.start(MIGRATE, path, 0, repr(STEPS)) for _ in range(2)]
    for program in both:
        assert program.stdout.readline() == "ready\n"
    for program in both:
        program.stdin.write("go\n")
        program.stdin.flush()
    ends = [program.communicate(timeout=30) for program in both]
    assert [(program.returncode, err) for program, (_, err) in zip(both, ends, strict=True)] == [(0, "")] * 2
    assert migrated_state(path) == WANTED


def test_two_processes_that_create_a_database_at_once_create_one(programs: Any, tmp_path: Path) -> None:
    source = """
from pathlib import Path
from tasks.database import SyncDatabase, Write
say("ready"); hear()
database = SyncDatabase(Path(args[0]))
database.apply([Write.one("INSERT INTO games VALUES (?, '{}', 1, 1)", (args[1],))])
database.close()
"""
    for turn in range(5):
        path = tmp_path / f"{turn}/tasks.db"
        both = [programs.start(source, path, name) for name in "ab"]
        for program in both:
            assert program.stdout.readline() == "ready\n"
        for program in both:
            program.stdin.write("go\n")
            program.stdin.flush()
        assert [program.communicate(timeout=30) for program in both] == [("", "")] * 2
        database = SyncDatabase(path)
        assert database.query("SELECT game_id FROM games ORDER BY 1") == [("a",), ("b",)]
        database.close()


@pytest.mark.parametrize(
    ("script", "count"),
    [
        ("", 0),
        ("SELECT 1; -- trailing\n", 1),
        ("SELECT 1;\n-- only a comment\n", 1),
        ("SELECT ';';\nSELECT 2;\n", 2),
        (STEPS[MOVES], 3),
        ("SELECT 1", 1),
    ],
)
def test_a_script_is_split_at_the_ends_of_its_statements(script: str, count: int) -> None:
    connection = sqlite3.connect(":memory:")
    split = [statement for statement in statements(script) if normalised(statement)]
    assert len(split) == count
    assert "".join(statements(script)).strip() == script.strip()
    connection.close()


def copy_of(tmp_path: Path, name: str) -> Path:
    shutil.copytree(tmp_path / "whole", tmp_path / name)
    return tmp_path / name / "tasks.db"


def go(program: Any) -> str:
    """Everything that it prints after having been told to go."""
    out, err = program.communicate("go\n", timeout=30)
    assert program.returncode in (0, -9), err
    return str(out)
