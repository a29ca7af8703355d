"""`tasksd purge`: no byte of the text is left, beside a daemon or without one, however often it was killed half-way."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tasks.accounting.backfill import backfill
from tasks.config import load
from tasks.database import Reader, SyncDatabase, Write
from tasks.retention import for_session, purge

from .rig.daemon import Daemon, _script
from .rig.events import NOBODY
from .rig.waiting import until
from .rig.work import Work

CANARY = "Kn4rieX"
#: The same for what must not be touched.
OTHER = "Oth3rText"
OTHER_SESSION = "22222222-2222-4222-8222-222222222222"
SHARED = "/home/dev/shared/a.py"

DAY = 86_400_000
SUMS = (
    "SELECT * FROM tool_rollup", "SELECT * FROM error_rollup", "SELECT * FROM duration_rollup", "SELECT * FROM use_rollup",
    "SELECT * FROM messages", "SELECT sum(messages), sum(cost), sum(input_tokens) FROM cost_rollup GROUP BY dimension, grain",
    "SELECT id, timestamp, tool_name, success, error_category, duration_ms, session_uuid, tool_use_id FROM tool_usage",
    "SELECT * FROM reconciliations", f"SELECT * FROM file_rollup WHERE path = '{SHARED}'",
)  # fmt: skip


def text(place: str) -> str:
    return f"{CANARY}-{place}"


def forms(word: str) -> dict[str, bytes]:
    return {
        "utf-8": word.encode(),
        "utf-16-le": word.encode("utf-16-le"),
        "utf-16-be": word.encode("utf-16-be"),
        "escaped": "".join(f"\\u{ord(letter):04x}" for letter in word).encode(),
        "hex": word.encode().hex().encode(),
    }


def found_in(folder: Path, word: str = CANARY) -> dict[str, list[str]]:
    """The files below that hold the word in any form; names of files count too."""
    found: dict[str, list[str]] = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.is_symlink():
            continue
        content = path.read_bytes() + os.fsencode(path.name)
        if hits := [form for form, wanted in forms(word).items() if wanted in content]:
            found[path.relative_to(folder).as_posix()] = hits
    return found


class Recorded:
    """A data directory in which one session has left its text in every place there is."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.daemon = work.daemon
        self.data = work.daemon.data_dir
        self._count = 0
        self.daemon.start()
        self.task = work.submit(f"# {text('description')}\necho {text('output')}\necho {text('errors')} >&2\n")
        work.completed(self.task)
        self.session = str(self.daemon.value("SELECT session_uuid FROM runs WHERE session_uuid IS NOT NULL"))
        self._tell()
        self.daemon.drained()
        self.daemon.stop()
        self._account()
        self.run("db", "backup")
        (self.data / "tasksd.log").write_text(f"a log: {text('log')}\n")

    def drop(self, payload: bytes, *, task: str = "-", client: int = 0) -> Path:
        self._count += 1
        path = self.data / "spool" / f"{task}.{client}.{NOBODY + self._count}.0.json"
        path.write_bytes(payload)
        path.chmod(0o600)
        return path

    def event(self, kind: str, *, session: str = "", word: str = CANARY, **fields: Any) -> None:
        session = session or self.session
        common = {"session_id": session, "transcript_path": f"/home/dev/.claude/projects/-{word}/{session}.jsonl",
                  "cwd": f"/home/dev/{word}-cwd", "hook_event_name": kind}  # fmt: skip
        self.drop(json.dumps(common | fields).encode(), task=self.task if session == self.session else "-")

    def story(self, session: str, word: str) -> None:
        def tell(kind: str, **fields: Any) -> None:
            self.event(kind, session=session, word=word, **fields)

        def call(name: str, id_: str, **given: str) -> dict[str, Any]:
            return {"tool_name": name, "tool_use_id": f"{session[:4]}{id_}", "tool_input": given}

        tell("SessionStart", source="startup", model="claude-sonnet")
        tell("UserPromptSubmit", prompt=f"{word}-prompt")
        bash = call("Bash", "a", command=f"echo {word}-input")
        tell("PreToolUse", **bash)
        tell("PostToolUse", **bash, tool_response={"stdout": f"{word}-stdout"}, duration_ms=12)
        tell("PostToolUseFailure", **call("Bash", "b", command=f"{word}-failing"), error=f"Exit code 2\n{word}-error")
        for id_, path in (("c", f"/home/dev/{word}-file.py"), ("d", SHARED)):
            tell(
                "PostToolUse",
                **call("Read", id_, file_path=path),
                tool_response={"file": f"{word}-content"},
                duration_ms=3,
            )
        tell(
            "PostToolUse",
            **call("Write", "e", file_path=f"{word}-relative.py", content=f"{word}-written"),
            duration_ms=4,
        )
        tell("PreToolUse", **call("Bash", "f", command=f"{word}-never-answered"))
        tell("PermissionRequest", **call("Bash", "g", command=f"{word}-asked"))
        tell("Notification", message=f"{word}-note", notification_type="permission_prompt")
        tell("SubagentStart", agent_id="sub", agent_type="Explore")
        tell("SubagentStop", agent_id="sub", agent_type="Explore", last_assistant_message=f"{word}-sub")
        tell("Stop", last_assistant_message=f"{word}-last")
        tell("SessionEnd", reason="other")

    def _tell(self) -> None:
        self.story(OTHER_SESSION, OTHER)
        self.daemon.drained()
        self.story(self.session, CANARY)
        self.daemon.drained()
        self.drop(b'{"session_id": "%s", "broken": "%s' % (self.session.encode(), text("torn").encode()))
        self.drop(b'{"broken": "%s"' % text("nameless").encode(), task=self.task)
        self.daemon.drained()
        until(lambda: len(self.daemon.quarantined()) == 2, "two files in quarantine")

    def _account(self) -> None:
        """What is told by transcripts, rules and failed calls, as the parts that do so store it."""
        now = time.time_ns() // 1_000_000  # what is a year old would be pruned sooner or later
        with sqlite3.connect(self.data / "tasks.db") as store:
            for number, (session, word) in enumerate(((self.session, CANARY), (OTHER_SESSION, OTHER)), 1):
                project, path = f"/home/dev/{word}-project", f"/home/dev/.claude/projects/-{word}/{session}.jsonl"
                store.execute(
                    "INSERT INTO transcripts (transcript_id, path, session_uuid, project, began_at, last_at)"
                    " VALUES (?, ?, ?, ?, 1, 1)"
                    " ON CONFLICT (path) DO UPDATE SET transcript_id = excluded.transcript_id, project = excluded.project",
                    (number, path, session, project),
                )
                store.execute(
                    "INSERT INTO messages (message_id, transcript_id, timestamp, model, input_tokens, output_tokens,"
                    " cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens, web_searches)"
                    " VALUES (?, ?, 1, 'm', 1, 2, 3, 4, 5, 6)", (f"msg{number}", number)
                )  # fmt: skip
                for dimension, value in (("all", ""), ("project", project), ("session", session)):
                    for grain in (900_000, DAY):
                        store.execute(
                            "INSERT INTO cost_rollup VALUES (?, ?, 0, ?, 'm', 1, 1, 2, 3, 4, 5, 6, 7, 1)"
                            " ON CONFLICT DO UPDATE SET messages = messages + 1, cost = cost + 7",
                            (dimension, grain, value),
                        )
                store.execute(
                    "INSERT INTO expected_calls (session_uuid, tool_use_id, transcript_id, tool_name, called_at, parameters,"
                    " error, read_at) VALUES (?, 'x', ?, 'Bash', ?, ?, ?, 1)",
                    (session, number, now - 60 * DAY, f"{word}-p", f"{word}-e"),
                )  # fmt: skip
                store.execute("INSERT OR IGNORE INTO reconciliations VALUES (?, 3, 2, 1, 1)", (session,))
                store.execute(
                    "INSERT INTO guarded_sessions VALUES (?, ?, 0, 1)", (session, json.dumps({f"{word}.py": 1}))
                )
                store.execute("INSERT INTO error_kinds VALUES (?, 'Bash', 'timeout', ?, ?, 1, 1)"
                              " ON CONFLICT DO NOTHING", (f"f{number}", f"{word}-kind", session))  # fmt: skip
                store.execute(
                    "INSERT INTO verdicts (timestamp, stage, mode, passed, message, workspace, session_uuid)"
                    " VALUES (?, 'stop', 'warn', 0, ?, ?, ?)", (now, f"{word}-dirty", f"/home/dev/{word}", session)
                )  # fmt: skip
            store.execute("INSERT INTO rolling_files (upto) SELECT max(id) FROM files")
        store.close()

    def environment(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "HOME": str(self.work.folder), "LANG": "C.UTF-8",
                "TASKSD_DATA_DIR": str(self.data)}  # fmt: skip

    def run(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run([str(_script()), *arguments], env=self.environment(), capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, check=False)  # fmt: skip
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr, self.daemon.log)
        return done

    def sums(self) -> list[Any]:
        """All that is counted and paid, everything rolled up, in a copy."""
        copy = sqlite3.connect(":memory:")
        with self.daemon.database() as connection:
            connection.backup(copy)
        copy.execute("INSERT INTO rolling_calls (upto) SELECT coalesce(max(id), 0) FROM tool_usage")
        copy.execute("INSERT INTO rolling_files (upto) SELECT coalesce(max(id), 0) FROM files")
        return [copy.execute(question).fetchall() for question in SUMS]

    def others(self) -> list[Any]:
        """All that the other session has, row by row."""
        tables = ("events", "tool_usage", "files", "agent_status", "subagents", "sessions", "transcripts", "expected_calls",
                  "guarded_sessions", "verdicts", "error_kinds", "file_use")  # fmt: skip
        return [self.daemon.rows(f"SELECT * FROM {table} WHERE session_uuid = '{OTHER_SESSION}'") for table in tables]


@pytest.fixture
def recorded(work: Work) -> Recorded:
    return Recorded(work)


def test_no_byte_of_a_purged_session_is_left_and_nothing_else_is_lost(recorded: Recorded) -> None:
    everywhere = found_in(recorded.data)
    for place in ("tasks.db", "backups/", "runs/", "quarantine/", "tasksd.log"):
        assert any(name.startswith(place) for name in everywhere), f"the test puts nothing into {place}"
    recorded.event("Notification", message=text("waiting"))
    sums, others = recorded.sums(), recorded.others()
    assert all(others), "the other session has a row everywhere"
    recorded.run("purge", "--session", recorded.session, "--yes")
    assert found_in(recorded.data) == {}
    assert recorded.sums() == sums
    assert recorded.others() == others
    assert recorded.daemon.pending() == []
    assert recorded.daemon.rows("SELECT session_uuid FROM sessions") == [(OTHER_SESSION,)]
    assert len(list((recorded.data / "backups").iterdir())) == 1
    recorded.daemon.start()
    recorded.daemon.stop()
    assert found_in(recorded.data) == {}


def test_beside_a_daemon_that_works_on_no_byte_is_left(recorded: Recorded) -> None:
    recorded.daemon.start()
    # What transcripts told is settled first: that changes rows, too.
    until(lambda: recorded.daemon.value("SELECT count(*) FROM expected_calls") == 0, "settled calls")
    others = recorded.others()
    recorded.run("purge", "--session", recorded.session[:8], "--yes")
    assert found_in(recorded.data) == {}
    assert recorded.others() == others
    recorded.story("33333333-3333-4333-8333-333333333333", "later")
    recorded.daemon.drained()
    assert recorded.daemon.value("SELECT count(*) FROM events WHERE session_uuid LIKE '3333%'") == 15
    status = recorded.daemon.status()
    assert status["ingest"]["degraded"] is None
    recorded.daemon.stop()
    assert found_in(recorded.data) == {}


#: Ends the process at the n-th of the steps that change something.
KILL = """
import os, pathlib, signal
from tasks.database.engine import Writer
from tasks.retention import traces
left = [int(os.environ["KILL_AT"])]
def counted(function):
    def wrapped(*args, **options):
        answer = function(*args, **options)
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer
    return wrapped
for owner, names in ((Writer, ("run", "outside_transaction")), (pathlib.Path, ("unlink", "rename")),
                     (traces, ("remove_runs", "remove_quarantined", "back_up"))):
    for name in names:
        setattr(owner, name, counted(getattr(owner, name)))
from tasks.cli.app import run
import sys
sys.exit(run(sys.argv[1:]))
"""


def test_killed_at_any_step_the_next_purge_finishes_it(recorded: Recorded) -> None:
    whole = recorded.data.with_name("whole")
    shutil.copytree(recorded.data, whole, symlinks=True)
    sums, others = recorded.sums(), recorded.others()
    step, killed = 1, 0
    while True:
        command = [sys.executable, "-c", KILL, "purge", "--session", recorded.session, "--yes"]
        done = subprocess.run(command, env=recorded.environment() | {"KILL_AT": str(step)}, capture_output=True,
                              stdin=subprocess.DEVNULL, check=False)  # fmt: skip
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        killed += 1
        if (recorded.data / "purge.json").exists():
            assert CANARY not in (recorded.data / "purge.json").read_text()
            recorded.run("purge")
            assert found_in(recorded.data) == {}, f"killed at step {step}"
            assert recorded.sums() == sums, f"killed at step {step}"
            assert recorded.others() == others
        shutil.rmtree(recorded.data)
        shutil.copytree(whole, recorded.data, symlinks=True)
        step += 1 if step < 6 else 3
    assert killed > 8
    assert found_in(recorded.data) == {}


def test_what_is_older_than_a_day_is_purged_and_what_came_later_is_not(recorded: Recorded) -> None:
    with sqlite3.connect(recorded.data / "tasks.db") as store:
        moved = {"events": "timestamp", "files": "timestamp", "agent_status": "timestamp", "sessions": "last_event_at"}
        for table, column in moved.items():
            store.execute(
                f"UPDATE {table} SET {column} = {column} - 10 * {DAY} WHERE session_uuid = ?", (recorded.session,)
            )
        store.execute(f"UPDATE tasks SET finished_at = finished_at - 10 * {DAY}")
        store.execute("UPDATE verdicts SET timestamp = 99999999999999 WHERE session_uuid = ?", (OTHER_SESSION,))
        store.execute("UPDATE expected_calls SET called_at = 99999999999999 WHERE session_uuid = ?", (OTHER_SESSION,))
        store.execute(
            "UPDATE guarded_sessions SET updated_at = 99999999999999 WHERE session_uuid = ?", (OTHER_SESSION,)
        )
        store.execute("UPDATE error_kinds SET last_seen = 99999999999999 WHERE session_uuid = ?", (OTHER_SESSION,))
    store.close()
    others = recorded.others()
    day = sqlite3.connect(":memory:").execute("SELECT date('now', '-5 days')").fetchone()[0]
    recorded.run("purge", "--before", day, "--yes")
    assert recorded.others() == others
    assert found_in(recorded.data) == {}


def test_a_live_session_is_refused_and_nothing_changes(recorded: Recorded) -> None:
    live = "44444444-4444-4444-8444-444444444444"
    client = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    recorded.run("quarantine", "drop", "--all", "--yes")
    try:
        recorded.daemon.start()
        payload = {"session_id": live, "cwd": "/w", "hook_event_name": "UserPromptSubmit", "prompt": "x"}
        recorded.drop(json.dumps(payload).encode(), client=client.pid)
        recorded.daemon.drained()
        refused = recorded.run("purge", "--session", live, "--yes", code=1)
        assert f"kill {client.pid}" in refused.stderr
        assert recorded.daemon.value(f"SELECT count(*) FROM sessions WHERE session_uuid = '{live}'") == 1
        assert not (recorded.data / "purge.json").exists()
    finally:
        client.communicate()
    until(
        lambda: recorded.daemon.value(f"SELECT status FROM sessions WHERE session_uuid = '{live}'") == "lost", "its end"
    )
    recorded.run("purge", "--session", live, "--yes")
    assert recorded.daemon.value(f"SELECT count(*) FROM sessions WHERE session_uuid = '{live}'") == 0
    recorded.daemon.stop()


def test_what_may_hold_text_and_is_left_is_named(recorded: Recorded) -> None:
    damaged = recorded.data / "corrupt-20260101T000000-000001"
    damaged.mkdir()
    (damaged / "tasks.db").write_text(text("damaged"))
    said = recorded.run("purge", "--session", recorded.session, "--yes", code=1).stderr
    assert str(damaged) in said
    assert list(found_in(recorded.data)) == [f"{damaged.name}/tasks.db"]
    recorded.run("purge", "--session", OTHER_SESSION, "--yes", "--damaged")
    assert found_in(recorded.data) == {}
    assert found_in(recorded.data, OTHER) == {}


def test_a_dry_run_changes_nothing_and_nobody_is_purged_unasked(recorded: Recorded) -> None:
    def snapshot() -> dict[str, bytes]:
        return {
            str(path): path.read_bytes()
            for path in recorded.data.rglob("*")
            if path.is_file() and not path.name.startswith("tasks.db-")
        }

    before, backups = snapshot(), len(list((recorded.data / "backups").iterdir()))
    told = json.loads(recorded.run("purge", "--session", recorded.session, "--dry-run", "--json").stdout)
    assert (told["sessions"], told["tasks"], told["backups"]) == ([recorded.session], [recorded.task], backups)
    assert "--yes" in recorded.run("purge", "--session", recorded.session, code=2).stderr
    recorded.run("purge", code=2)
    recorded.run("purge", "--before", "2999-01-01", "--yes", code=2)
    assert snapshot() == before


def test_the_store_is_sound_after_a_purge(recorded: Recorded) -> None:
    recorded.run("purge", "--session", recorded.session, "--yes")
    recorded.run("db", "check")
    with recorded.daemon.database() as connection:
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)
    assert recorded.daemon.rows("SELECT description, result, error, workspace FROM tasks") == [("", None, None, None)]


def test_a_purged_session_that_goes_on_is_recorded_again(recorded: Recorded) -> None:
    recorded.daemon.start()
    recorded.run("purge", "--session", recorded.session, "--yes")
    recorded.event("SessionStart", word="fresh", source="resume")
    recorded.event("UserPromptSubmit", word="fresh", prompt="again")
    recorded.daemon.drained()
    assert recorded.daemon.rows(f"SELECT cwd FROM sessions WHERE session_uuid = '{recorded.session}'") == [
        ("/home/dev/fresh-cwd",)
    ]
    recorded.daemon.stop()
    assert found_in(recorded.data) == {}


@pytest.fixture
def small_disk(folder: Path) -> Iterator[Callable[[int], Daemon]]:
    from .rig.namespace import Namespace

    made: list[Any] = []

    def make(megabytes: int) -> Daemon:
        data = folder / "s"
        data.mkdir()
        space = Namespace(f"mount -t tmpfs -o size={megabytes}m,mode=700 none {data}")
        daemon = Daemon(data, prefix=space.prefix, seen_at=space.seen_from_outside(data))
        made.extend((daemon, space))
        return daemon

    yield make
    for one in made:
        one.kill() if isinstance(one, Daemon) else one.close()


def test_a_full_disk_is_pruned_with_the_room_of_the_reserve(small_disk: Callable[[int], Daemon], folder: Path) -> None:
    config = folder / "small.toml"
    config.write_text("[retention]\nmax_bytes = 4000000\n[pool]\nfree_disk = 0\n")
    daemon = small_disk(60)
    daemon.variables["TASKSD_CONFIG"] = str(config)
    daemon.start()
    daemon.stop()
    # SQLite follows the link of a namespace to the wrong place: made here, and put there.
    made = SyncDatabase(folder / "tasks.db")
    rows = [(n.to_bytes(16, "big"), 1_700_000_000_000 + n * 60_000, "x" * 2500) for n in range(8000)]
    made.apply(
        [
            Write(
                "INSERT INTO events (event_id, timestamp, session_uuid, kind, body) VALUES (?, ?, 's', 'Stop', ?)", rows
            )
        ]
    )
    made.close()
    for name in ("tasks.db-wal", "tasks.db-shm"):  # a backup under way may have kept them
        (daemon.data_dir / name).unlink(missing_ok=True)
    shutil.copyfile(folder / "tasks.db", daemon.data_dir / "tasks.db")
    ballast = daemon.data_dir / "ballast"
    with ballast.open("ab", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 65536)
        except OSError:
            file.truncate(file.tell() - 300_000)  # enough to open the database with, and for no more
    daemon.start()
    until(lambda: (daemon.data_dir / "tasks.db").stat().st_size <= 5_000_000, "a smaller file", timeout=60)
    daemon.stop()
    shutil.copyfile(daemon.data_dir / "tasks.db", folder / "copy.db")
    with sqlite3.connect(folder / "copy.db") as copy:
        assert copy.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert copy.execute("SELECT count(*), sum(body IS NOT NULL) FROM events").fetchone() == (1, 0)
    copy.close()


def test_a_backfill_after_a_purge_brings_nothing_back(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    projects, session = folder / "projects", "55555555-5555-4555-8555-555555555555"
    transcript = projects / f"-home-dev-{CANARY}" / f"{session}.jsonl"
    transcript.parent.mkdir(parents=True)
    call = {"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {"command": f"echo {text('input')}"}}
    usage = {"input_tokens": 3, "output_tokens": 5}
    line = {"type": "assistant", "uuid": "u1", "sessionId": session, "timestamp": "2026-01-01T00:00:00.000Z",
            "cwd": f"/home/dev/{text('cwd')}",
            "message": {"id": "msg_1", "model": "claude-sonnet-4-5", "role": "assistant", "content": [call],
                        "usage": usage}}  # fmt: skip
    answer = {"type": "user", "uuid": "u2", "sessionId": session, "timestamp": "2026-01-01T00:00:01.000Z",
              "message": {"role": "user", "content": [
                  {"type": "tool_result", "tool_use_id": "toolu_1", "is_error": True, "content": text("error")}]}}  # fmt: skip
    transcript.write_text("".join(json.dumps(one) + "\n" for one in (line, answer)))
    data = folder / "b"
    monkeypatch.setenv("TASKSD_TRANSCRIPTS_PROJECTS", str(projects))
    settings = load(data_dir=data)
    assert backfill(settings).messages == 1
    assert found_in(data)
    reader = Reader(settings.database_file)
    sums = "SELECT sum(messages), sum(cost), sum(input_tokens) FROM cost_rollup WHERE dimension IN ('all', 'project')"
    before = reader.query(sums)
    purge(settings, for_session(reader.query, session))
    assert found_in(data) == {}
    backfill(settings)
    assert found_in(data) == {}
    assert reader.query(sums) == before
    assert reader.query("SELECT count(*) FROM messages") == [(1,)]
    with transcript.open("a") as file:  # the session goes on
        more = line | {"uuid": "u3", "message": line["message"] | {"id": "msg_2", "content": []}}  # type: ignore[operator]
        file.write(json.dumps(more) + "\n")
    backfill(settings)
    assert reader.query("SELECT count(*) FROM messages") == [(2,)]
    assert reader.query("SELECT path FROM transcripts") == [(str(transcript),)]
    reader.close()
