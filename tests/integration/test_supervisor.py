"""Sessions whose processes end without a word, against a real store and real processes."""

import asyncio
import os
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tasks import process
from tasks.config import load, secret_key
from tasks.database import Database, Write
from tasks.database.writes import Value
from tasks.ingest import Ingest
from tasks.process import ProcessIdentity
from tasks.redaction import Redactor
from tasks.spool import Quarantine, Spool
from tasks.supervisor import Supervisor

INSERT = """
INSERT INTO sessions (session_uuid, status, status_since, host, pid, process_started, boot, started_at, last_event_at)
VALUES (:id, :status, :at, :host, :pid, :started, :boot, :at, :at)
"""


class Watch:
    """A supervisor, the store it looks at, and a spool that is read when the test says so."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.scans = 0
        self.lost: list[str] = []
        self.supervisor = Supervisor(database, empty_scans=lambda: self.scans, lose=self._lose)

    async def _lose(self, sessions: Any) -> None:
        self.lost += sessions
        await self.database.apply(
            [Write("UPDATE sessions SET status = 'lost' WHERE session_uuid = ?", [(one,) for one in sessions])]
        )

    async def session(
        self, id_: str, pid: int | None, identity: ProcessIdentity | None = None, *, status: str = "working",
        at: int | None = None, host: str | None = None,
    ) -> None:  # fmt: skip
        row: dict[str, Value] = {
            "id": id_, "status": status, "at": at or time.time_ns() // 1_000_000,
            "host": host or socket.gethostname(), "pid": pid,
            "started": identity.started if identity else None, "boot": identity.boot if identity else None,
        }  # fmt: skip
        await self.database.apply([Write.one(INSERT, row)])

    async def step(self, empty_scans: int = 0) -> list[str]:
        self.scans += empty_scans
        return await self.supervisor.step()

    async def steps_to_lose(self, limit: int = 10) -> int:
        """How many empty scans, each followed by a look, it takes until something is lost."""
        for scans in range(1, limit):
            if await self.step(empty_scans=1):
                return scans
        return limit


@pytest.fixture
async def watch(tmp_path: Path) -> AsyncIterator[Watch]:
    async with Database(tmp_path / "tasks.db") as database:
        yield Watch(database)


@pytest.fixture
def start() -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Starts processes that do nothing until they are killed."""
    started: list[subprocess.Popen[bytes]] = []

    def make() -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen(["sleep", "600"]))
        return started[-1]

    yield make
    for one in started:
        one.kill()
        one.wait()


def identity_of(pid: int) -> ProcessIdentity:
    identity = process.identify(pid)
    assert identity is not None
    return identity


def end(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.wait()


async def test_a_session_of_a_living_process_is_left_alone(watch: Watch, start: Any) -> None:
    child = start()
    await watch.session("alive", child.pid, identity_of(child.pid))
    for _ in range(5):
        assert await watch.step(empty_scans=1) == []


async def test_a_session_is_lost_only_after_its_spool_was_read_to_the_end(watch: Watch, start: Any) -> None:
    child = start()
    await watch.session("s", child.pid, identity_of(child.pid))
    assert await watch.step(empty_scans=5) == []
    end(child)
    for _ in range(5):
        assert await watch.step(empty_scans=0) == []
    assert await watch.steps_to_lose() == 2, (
        "the first scan to end may have begun before the process wrote its last word"
    )
    assert watch.lost == ["s"]
    assert await watch.step(empty_scans=1) == []


async def test_only_the_sessions_of_the_process_that_is_gone_are_lost(watch: Watch, start: Any) -> None:
    one, other = start(), start()
    await watch.session("one", one.pid, identity_of(one.pid))
    await watch.session("forked", one.pid, identity_of(one.pid), status="idle")
    await watch.session("other", other.pid, identity_of(other.pid))
    end(one)
    await watch.step()
    await watch.steps_to_lose()
    assert sorted(watch.lost) == ["forked", "one"]


async def test_a_session_that_ended_meanwhile_is_not_lost(watch: Watch, start: Any) -> None:
    child = start()
    await watch.session("s", child.pid, identity_of(child.pid))
    end(child)
    assert await watch.step() == []
    await watch.database.apply([Write.one("UPDATE sessions SET status = 'ended'")])
    assert await watch.steps_to_lose(4) == 4


@pytest.mark.parametrize("status", ["ended", "failed", "lost"])
async def test_a_session_that_is_over_is_not_looked_at(watch: Watch, start: Any, status: str) -> None:
    child = start()
    await watch.session("s", child.pid, identity_of(child.pid), status=status)
    end(child)
    assert await watch.steps_to_lose(4) == 4


async def test_sessions_of_other_hosts_and_without_a_process_are_not_looked_at(watch: Watch, start: Any) -> None:
    child = start()
    await watch.session("elsewhere", child.pid, identity_of(child.pid), host="another-host")
    await watch.session("unknown", None)
    end(child)
    assert await watch.steps_to_lose(4) == 4


async def test_a_recycled_pid_is_another_process(watch: Watch, start: Any) -> None:
    stranger = start()
    known = identity_of(stranger.pid)
    await watch.session("recycled", stranger.pid, ProcessIdentity(known.pid, known.started - 1, known.boot))
    await watch.session("rebooted", stranger.pid, ProcessIdentity(known.pid, known.started, "an earlier boot"))
    await watch.session("true", stranger.pid, known)
    await watch.step()
    await watch.steps_to_lose()
    assert sorted(watch.lost) == ["rebooted", "recycled"]


async def test_a_session_never_seen_alive_is_lost_when_nobody_has_its_pid(watch: Watch, start: Any) -> None:
    child = start()
    await watch.session("gone", child.pid)
    await watch.session("impossible", 2**40)
    end(child)
    await watch.step()
    await watch.steps_to_lose()
    assert sorted(watch.lost) == ["gone", "impossible"]


async def test_a_session_never_seen_alive_is_lost_when_its_pid_has_a_later_process(watch: Watch, start: Any) -> None:
    child = start()
    hour_ago = time.time_ns() // 1_000_000 - 3_600_000
    await watch.session("before", child.pid, at=hour_ago)
    await watch.session("since", child.pid)
    await watch.step()
    await watch.steps_to_lose()
    assert watch.lost == ["before"]


async def test_a_process_that_is_gone_once_and_there_again_starts_anew(watch: Watch, start: Any) -> None:
    child = start()
    await watch.session("s", 2**22 + 12_345)
    assert await watch.step() == []
    await watch.database.apply([Write.one("UPDATE sessions SET pid = ?", (child.pid,))])
    assert await watch.step(empty_scans=5) == []
    await watch.database.apply([Write.one("UPDATE sessions SET pid = ?", (2**22 + 12_345,))])
    assert await watch.step(empty_scans=5) == []


@pytest.mark.parametrize(("number", "ending"), [(5, ""), (6, " and 1 more"), (40, " and 35 more")])
async def test_the_log_names_at_most_five_lost_sessions(
    watch: Watch, caplog: pytest.LogCaptureFixture, number: int, ending: str
) -> None:
    for n in range(number):
        await watch.session(f"id-{n:02}", 2**40)
    await watch.step()
    with caplog.at_level("INFO", "tasks.supervisor"):
        await watch.steps_to_lose()
    [line] = [record.getMessage() for record in caplog.records if "without a SessionEnd" in record.getMessage()]
    assert line.count("id-") == 5
    assert line.endswith(ending or line[-5:])
    assert ("more" in line) == bool(ending)
    assert len(watch.lost) == number


BLIND = """
import asyncio, os, socket, subprocess, time
from pathlib import Path
from tasks import process
from tasks.database import Database, Write
from tasks.supervisor import Supervisor
made = subprocess.run(["mount", "--make-rprivate", "/"], capture_output=True, text=True)
if made.returncode: say("SKIP cannot mount", made.stderr.strip()); sys.exit()
insert, folder = args
child = subprocess.Popen(["sleep", "600"])
identity = process.identify(child.pid)
child.kill(); child.wait()
async def lose(sessions): say("lost", *sorted(sessions))
async def main():
    scans = 0
    async with Database(Path(folder) / "tasks.db") as database:
        for id_, started, boot in (("seen", identity.started, identity.boot), ("unseen", None, None)):
            at = time.time_ns() // 1_000_000
            row = {"id": id_, "status": "idle", "at": at, "host": socket.gethostname(), "pid": child.pid,
                   "started": started, "boot": boot}
            await database.apply([Write.one(insert, row)])
        supervisor = Supervisor(database, empty_scans=lambda: scans, lose=lose)
        hidden = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/proc"], capture_output=True, text=True)
        if hidden.returncode: say("SKIP cannot hide /proc", hidden.stderr.strip()); return
        for scans in range(5): await supervisor.step()
        say("blind")
        subprocess.run(["umount", "/proc"], check=True)
        for scans in range(5, 10):
            if await supervisor.step(): break
asyncio.run(main())
"""


def test_a_probe_that_fails_loses_nobody(programs: Any, tmp_path: Path) -> None:
    ended = programs.run(BLIND, INSERT, tmp_path, prefix=programs.unshared("-m"))
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines() == ["blind", "lost seen unseen"]


# With the ingester: what the lost session looks like, and what a late word changes.


async def test_a_killed_client_becomes_lost_and_its_last_word_still_counts(tmp_path: Path, start: Any) -> None:
    settings = load(data_dir=tmp_path, environ={"HOME": str(tmp_path)})
    spool = Spool(settings.spool_dir, settings.spool)
    quarantine = Quarantine(settings.quarantine_dir, settings.spool_dir, settings.spool, "1")
    async with Database(settings.database_file) as database:
        ingest = Ingest(settings, database, spool, quarantine, Redactor(secret_key(settings), settings.privacy.level))
        await ingest.start()
        supervisor = Supervisor(database, empty_scans=lambda: ingest.health.empty_scans, lose=ingest.lose)
        client, number = start(), 0

        def leave(kind: str, fields: str = "") -> None:
            nonlocal number
            number += 1
            path = spool.path / f"-.{client.pid}.{os.getpid()}.{number}.json"
            path.touch(0o600)
            path.write_text(f'{{"session_id": "s", "hook_event_name": "{kind}", "cwd": "/x"{fields}}}')

        async def status() -> str:
            return str((await database.query("SELECT status FROM sessions"))[0][0])

        leave("SessionStart", ', "source": "startup"')
        leave("PreToolUse", ', "tool_name": "Bash", "tool_use_id": "t1", "tool_input": {"command": "sleep 9"}')
        await ingest.step()
        assert await supervisor.step() == []
        end(client)
        assert await supervisor.step() == []
        leave("UserPromptSubmit", ', "prompt": "written just before the end"')
        await ingest.step()  # not empty: this was read after the process was found gone
        assert await supervisor.step() == []
        for _ in range(5):
            await ingest.step()
            if await supervisor.step():
                break
        assert await status() == "lost"
        calls = await database.query("SELECT tool_use_id, success, error_category FROM tool_usage")
        assert calls == [("t1", 0, "interrupted")]
        assert await database.query("SELECT count(*) FROM tool_running") == [(0,)]
        changes = await database.query("SELECT status, cause FROM agent_status ORDER BY id DESC LIMIT 1")
        assert changes == [("lost", "process_gone")]
        leave("SessionEnd", ', "reason": "other"')
        await ingest.step()
        assert await status() == "ended"
        await asyncio.to_thread(ingest.close)
