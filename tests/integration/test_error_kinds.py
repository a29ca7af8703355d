"""The kinds of errors that ingestion and the tracker keep beside the calls."""

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tasks.categories.fingerprints import fingerprint
from tasks.config import load
from tasks.database import Database, Reader
from tasks.ingest import Ingest
from tasks.redaction import Redactor
from tasks.spool import Quarantine, Spool
from tasks.tracker import ToolUsageTracker
from tasks.words import PrivacyLevel

FIRST, SECOND = "11111111-2222-4333-8444-555555555555", "22222222-2222-4333-8444-555555555555"
START = 1_700_000_000_000  # epoch milliseconds
MISSING = fingerprint("Bash", "file_not_found", "Exit code 1\ncat: /x: No such file or directory")

Kind = tuple[str, str, str, str | None, str | None, int, int]


class History:
    """A spool to write events to, and the kinds that the store has of them."""

    def __init__(self, root: Path, level: PrivacyLevel) -> None:
        settings = load(data_dir=root, environ={})
        self._spool = settings.spool_dir
        spool = Spool(settings.spool_dir, settings.spool)
        quarantine = Quarantine(settings.quarantine_dir, settings.spool_dir, settings.spool, "test")
        self.database = Database(settings.database_file)
        self.redactor = Redactor(b"test", level)
        self.ingest = Ingest(settings, self.database, spool, quarantine, self.redactor)
        self._events = 0

    def event(self, kind: str, at: int, session: str = FIRST, **fields: Any) -> None:
        self._events += 1
        path = self._spool / f"-.0.{self._events}.0.json"
        payload = {
            "session_id": session,
            "cwd": "/home/dev/project",
            "prompt_id": "p1",
            "hook_event_name": kind,
        } | fields
        path.write_text(json.dumps(payload))
        path.chmod(0o600)
        os.utime(path, ns=((START + at) * 1_000_000,) * 2)

    def failure(self, id_: str, error: str, at: int, session: str = FIRST, tool: str = "Bash") -> None:
        call = {"tool_name": tool, "tool_use_id": id_, "tool_input": {"command": "x"}}
        self.event("PostToolUseFailure", at, session, error=error, is_interrupt=False, **call)

    async def kinds(self) -> list[Kind]:
        rows = await self.database.query(
            "SELECT fingerprint, tool_name, error_category, message, session_uuid, first_seen - :start, last_seen - :start "
            "FROM error_kinds ORDER BY message",
            {"start": START},
        )
        return [(*row,) for row in rows]

    async def prints(self) -> dict[str, str | None]:
        return dict(map(tuple, await self.database.query("SELECT tool_use_id, fingerprint FROM tool_usage")))


@pytest.fixture
async def history(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[History]:
    made = History(tmp_path, getattr(request, "param", PrivacyLevel.DEFAULT))
    await made.database.open()
    await made.ingest.start()
    yield made
    made.ingest.close()
    await made.database.close()


async def test_failures_of_one_kind_share_a_row_over_batches_and_sessions(history: History) -> None:
    history.failure("t1", "Exit code 1\ncat: /a: No such file or directory", 50)
    history.failure("t2", "Exit code 1\ncat: /b/c.txt: No such file or directory", 10)
    await history.ingest.step()
    history.failure("t3", "Exit code 1\ncat: nope: No such file or directory", 90, SECOND)
    await history.ingest.step()
    assert await history.kinds() == [
        (MISSING.id, "Bash", "file_not_found", "cat: <path>: No such file or directory", FIRST, 10, 90)
    ]
    assert await history.prints() == {"t1": MISSING.id, "t2": MISSING.id, "t3": MISSING.id}


async def test_a_call_that_went_well_has_no_kind(history: History) -> None:
    history.event("PostToolUse", 0, tool_name="Bash", tool_use_id="t1", tool_input={}, tool_response={"stdout": ""})
    await history.ingest.step()
    assert await history.kinds() == []
    assert await history.prints() == {"t1": None}


async def test_a_stronger_source_brings_its_own_kind(history: History) -> None:
    history.event("PreToolUse", 0, tool_name="Bash", tool_use_id="t1", tool_input={"command": "x"})
    history.event("Stop", 10)
    await history.ingest.step()
    inferred = await history.prints()
    history.failure("t1", "Exit code 1\ncat: /a: No such file or directory", 5)
    await history.ingest.step()
    assert inferred["t1"] not in (None, MISSING.id)
    assert await history.prints() == {"t1": MISSING.id}


async def test_calls_without_a_result_denials_and_interruptions_have_kinds(history: History) -> None:
    call: dict[str, Any] = {"tool_name": "Bash", "tool_input": {"command": "x"}}
    history.event("PreToolUse", 0, tool_use_id="t1", **call)
    history.event("Stop", 10)
    history.event("PermissionDenied", 20, tool_use_id="t2", reason="policy", **call)
    history.event("PostToolUse", 30, tool_use_id="t3", tool_response={"interrupted": True}, **call)
    refused = {"tool_response": "<tool_use_error>Unknown skill: x</tool_use_error>", "tool_use_id": "t4"} | call
    history.event("PreToolUse", 40, tool_use_id="t5", **call)
    denied = {"tool_response": "not on my watch", "tool_use_id": "t5"} | call
    history.event("PostToolBatch", 50, tool_calls=[refused, denied])
    history.event("Stop", 60)
    await history.ingest.step()
    prints = await history.prints()
    assert len(prints) == len(set(prints.values())) == 5
    assert None not in prints.values()
    assert {kind[3] for kind in await history.kinds()} == {
        "No result was reported before the turn or the process ended", "policy", "The call was interrupted",
        "Unknown skill: x", "not on my watch",
    }  # fmt: skip


@pytest.mark.parametrize("history", [PrivacyLevel.MINIMAL], indirect=True, ids=["minimal"])
async def test_at_the_minimal_level_kinds_are_counted_but_say_nothing(history: History) -> None:
    history.failure("t1", "Exit code 1\ncat: /a: No such file or directory", 0)
    await history.ingest.step()
    assert await history.kinds() == [(MISSING.id, "Bash", "file_not_found", None, FIRST, 0, 0)]
    history.redactor.level = PrivacyLevel.DEFAULT
    history.failure("t2", "Exit code 1\ncat: /b: No such file or directory", 10, SECOND)
    history.failure("t3", "Exit code 1\ncat: /b: No such file or directory", 20, FIRST)
    await history.ingest.step()
    assert await history.kinds() == [(MISSING.id, "Bash", "file_not_found", MISSING.message, SECOND, 0, 20)]


@pytest.mark.parametrize("padding", [0, 20_000])
async def test_the_message_of_a_kind_holds_no_secret(history: History, padding: int) -> None:
    secret = "sk-ant-api03-" + "A1b2C3d4" * 12
    history.failure("t1", f"Exit code 1\n{'x ' * (padding // 2)}\nfatal: bad key {secret} for user", 0)
    await history.ingest.step()
    [kind] = await history.kinds()
    assert kind[3] == "fatal: bad key <secret> for user"


async def test_the_reason_at_the_end_of_a_text_that_is_stored_cut_is_found(history: History) -> None:
    history.failure("t1", "Exit code 1\n" + "step done\n" * 1_000 + "fatal: no luck", 0)
    await history.ingest.step()
    assert [kind[3] for kind in await history.kinds()] == ["fatal: no luck"]


def test_calls_recorded_by_hand_have_the_kinds_of_hooks(tmp_path: Path) -> None:
    tracker = ToolUsageTracker(tmp_path)
    tracker.record_tool_usage(tool_name="Bash", success=False, error="Exit code 1\ncat: /q: No such file or directory")
    tracker.record_tool_usage(tool_name="Bash", success=False)
    tracker.record_tool_usage(tool_name="Bash")
    tracker.close()
    reader = Reader(tmp_path / "tasks.db")
    prints = [row[0] for row in reader.query("SELECT fingerprint FROM tool_usage ORDER BY id")]
    kinds = [tuple(row) for row in reader.query("SELECT message, session_uuid FROM error_kinds ORDER BY message")]
    reader.close()
    assert prints[0] == MISSING.id
    assert prints[1] not in (None, MISSING.id)
    assert prints[2] is None
    assert kinds == [(None, None), (MISSING.message, None)]
