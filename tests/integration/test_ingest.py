"""What the ingester makes of events: real files, the real store, rows compared."""

import json
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tasks.config import load
from tasks.database import Database, Write
from tasks.errors import StoreUnavailable
from tasks.history import events as stored_events
from tasks.ingest import Ingest
from tasks.redaction import Redactor
from tasks.spool import Quarantine, Spool
from tasks.words import PrivacyLevel

SESSION = "11111111-2222-4333-8444-555555555555"
START = 1_700_000_000_000  # epoch milliseconds


class History:
    """A spool to write events to and a store to look at."""

    def __init__(self, root: Path, level: PrivacyLevel = PrivacyLevel.DEFAULT) -> None:
        self.settings = load(data_dir=root, environ={})
        self.spool = Spool(self.settings.spool_dir, self.settings.spool)
        self.quarantine = Quarantine(self.settings.quarantine_dir, self.settings.spool_dir, self.settings.spool, "test")
        self.database = Database(self.settings.database_file)
        self.redactor = Redactor(b"test", level)
        self.now = START
        self.files = 0
        self.ingest: Ingest

    async def open(self) -> "History":
        await self.database.open()
        await self.restart()
        return self

    async def restart(self) -> None:
        """A new ingester over the same store and spool, as after a restart of the daemon."""
        self.ingest = Ingest(self.settings, self.database, self.spool, self.quarantine, self.redactor)
        await self.ingest.start()

    def event(
        self,
        kind: str,
        *,
        at: int | None = None,
        session: str = SESSION,
        task: str = "-",
        pid: int = 0,
        plugin: bool = False,
        **fields: Any,
    ) -> Path:
        """Drop an event 10 ms after the last one, or at `at`."""
        self.now = self.now + 10 if at is None else at
        common = {"session_id": session, "transcript_path": "/t.jsonl", "cwd": "/home/dev/project", "prompt_id": "p1"}
        return self.raw(
            json.dumps(common | {"hook_event_name": kind} | fields).encode(), task=task, pid=pid, plugin=plugin
        )

    def raw(
        self, payload: bytes, *, task: str = "-", pid: int = 0, plugin: bool = False, at: int | None = None
    ) -> Path:
        self.files += 1
        path = self.settings.spool_dir / f"{task}.{pid}.{4_000_000 + self.files}.{'p' if plugin else ''}0.json"
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        os.write(fd, payload)
        os.close(fd)
        stamp = (self.now if at is None else at) * 1_000_000
        os.utime(path, ns=(stamp, stamp))
        return path

    def call(self, name: str, id_: str, **more: Any) -> dict[str, Any]:
        return {"tool_name": name, "tool_use_id": id_, "tool_input": {"command": f"run {id_}"}} | more

    def batch(self, *calls: tuple[str, str, Any], **more: Any) -> Path:
        entries = [self.call(name, id_, tool_response=response) for name, id_, response in calls]
        return self.event("PostToolBatch", tool_calls=entries, **more)

    async def rows(self, statement: str) -> list[tuple[Any, ...]]:
        return await self.database.query(statement)

    async def calls(self) -> list[tuple[Any, ...]]:
        """(tool_use_id, success, error_category, source) in order of id."""
        return await self.rows(
            "SELECT tool_use_id, success, error_category, source FROM tool_usage ORDER BY tool_use_id"
        )

    async def status(self, session: str = SESSION) -> str:
        rows = await self.rows(f"SELECT status FROM sessions WHERE session_uuid = '{session}'")
        return str(rows[0][0])

    async def changes(self) -> list[str]:
        return [row[0] for row in await self.rows("SELECT status FROM agent_status WHERE agent_id IS NULL ORDER BY id")]

    def left(self) -> list[str]:
        return sorted(name for name in os.listdir(self.settings.spool_dir) if not name.startswith("."))


@pytest.fixture
async def history(tmp_path: Path) -> AsyncIterator[History]:
    made = await History(tmp_path).open()
    yield made
    made.ingest.close()
    await made.database.close()


# Tool calls.


async def test_a_start_and_its_result_make_one_call(history: History) -> None:
    history.event("PreToolUse", **history.call("Bash", "t1"))
    history.event("PostToolUse", **history.call("Bash", "t1"), tool_response={"stdout": "x"}, duration_ms=12)
    assert await history.ingest.step() == 2
    assert await history.calls() == [("t1", 1, None, "hook")]
    assert await history.rows("SELECT duration_ms, parameters FROM tool_usage") == [(12.0, '{"command":"run t1"}')]
    assert await history.rows("SELECT * FROM tool_running") == []
    assert history.left() == []


async def test_a_call_in_flight_is_running_and_then_is_not(history: History) -> None:
    history.event("PreToolUse", **history.call("Bash", "t1"))
    await history.ingest.step()
    assert await history.rows("SELECT tool_use_id, started_at FROM tool_running") == [("t1", START + 10)]
    assert await history.calls() == []
    history.event("PostToolUseFailure", **history.call("Bash", "t1"), error="Exit code 3", duration_ms=5)
    await history.ingest.step()
    assert await history.rows("SELECT tool_use_id FROM tool_running") == []
    assert await history.calls() == [("t1", 0, "command_failed", "hook")]


@pytest.mark.parametrize("together", [True, False])
async def test_a_result_that_arrives_before_its_start_is_one_finished_call(history: History, together: bool) -> None:
    history.event("PostToolUse", **history.call("Bash", "t1"), duration_ms=1)
    if not together:
        await history.ingest.step()
    history.event("PreToolUse", **history.call("Bash", "t1"))
    await history.ingest.step()
    history.event("Stop")
    await history.ingest.step()
    assert await history.calls() == [("t1", 1, None, "hook")]
    assert await history.rows("SELECT * FROM tool_running") == []


async def test_a_refused_call_is_known_from_the_batch_alone(history: History) -> None:
    refusal = "<tool_use_error>String to replace not found in file.\nString: x</tool_use_error>"
    history.batch(("Edit", "t1", refusal), ("Bash", "t2", "fine"))
    await history.ingest.step()
    assert await history.calls() == [("t1", 0, "stale_edit", "batch")]


@pytest.mark.parametrize(
    ("text", "category"),
    [
        ("http says no", "blocked"),
        ("The user doesn't want to proceed with this tool use.", "user_rejected"),
        ("Claude requested permissions to write to /x, but you haven't granted it yet.", "blocked"),
    ],
)
async def test_a_denied_call_is_a_start_and_a_text_without_a_result(history: History, text: str, category: str) -> None:
    history.event("PreToolUse", **history.call("Bash", "t1"))
    history.batch(("Bash", "t1", text))
    await history.ingest.step()
    assert await history.calls() == [], "its result may still be under way"
    await history.restart()
    history.event("Stop")
    await history.ingest.step()
    assert await history.calls() == [("t1", 0, category, "batch")]
    assert await history.rows("SELECT * FROM tool_running") == []
    assert await history.rows("SELECT error FROM tool_usage") == [(text,)]


@pytest.mark.parametrize("together", [True, False])
async def test_the_hooks_word_replaces_what_the_batch_made_believe(history: History, together: bool) -> None:
    history.event("PreToolUse", **history.call("Bash", "t1"))
    history.batch(("Bash", "t1", "output of a success"))
    if not together:
        history.event("Stop")
        await history.ingest.step()
        assert await history.calls() == [("t1", 0, "blocked", "batch")]
    history.event("PostToolUse", **history.call("Bash", "t1"), duration_ms=7)
    await history.ingest.step()
    assert await history.calls() == [("t1", 1, None, "hook")]
    await history.database.apply([Write.one("INSERT INTO rolling_calls (upto) SELECT max(id) FROM tool_usage")])
    sums = await history.rows("SELECT DISTINCT calls, successes, timed, duration_sum FROM tool_rollup")
    assert sums == [(1, 1, 1, 7.0)]
    assert await history.rows("SELECT * FROM error_rollup") == []


@pytest.mark.parametrize("ending", ["Stop", "SessionEnd", "UserPromptSubmit"])
async def test_a_call_left_open_is_closed_as_interrupted(history: History, ending: str) -> None:
    history.event("PreToolUse", **history.call("Bash", "t1"))
    history.event(ending, prompt="next")
    await history.ingest.step()
    assert await history.calls() == [("t1", 0, "interrupted", "inferred")]
    assert await history.rows("SELECT * FROM tool_running") == []


async def test_a_call_left_open_after_a_question_is_closed_as_rejected(history: History) -> None:
    history.event("PreToolUse", **history.call("Bash", "t1"))
    history.event("PreToolUse", **history.call("Bash", "t2"))
    history.event("PermissionRequest", tool_name="Bash", tool_input={"command": "run t1"})
    await history.ingest.step()
    assert await history.status() == "waiting_permission"
    history.event("UserPromptSubmit", prompt="do something else")
    await history.ingest.step()
    assert await history.calls() == [("t1", 0, "user_rejected", "inferred"), ("t2", 0, "interrupted", "inferred")]


async def test_a_late_result_replaces_the_interruption(history: History) -> None:
    history.event("PreToolUse", **history.call("Bash", "t1"))
    history.event("Stop")
    await history.ingest.step()
    history.event("PostToolUse", **history.call("Bash", "t1"), duration_ms=3)
    await history.ingest.step()
    assert await history.calls() == [("t1", 1, None, "hook")]
    assert await history.status() == "idle", "a straggler does not wake a session"


async def test_denial_in_auto_mode_is_blocked_once(history: History) -> None:
    history.event("PreToolUse", **history.call("Bash", "t1"))
    history.event("PermissionDenied", **history.call("Bash", "t1"), reason="bad")
    history.batch(("Bash", "t1", "Permission for this action was denied by the Claude Code auto mode classifier."))
    await history.ingest.step()
    assert await history.calls() == [("t1", 0, "blocked", "batch")]


async def test_background_commands_are_told_apart(history: History) -> None:
    background = {"stdout": "", "backgroundTaskId": "b1"}
    history.event("PostToolUse", **history.call("Bash", "t1"), tool_response=background, duration_ms=2000)
    asked = history.call("Bash", "t2", tool_input={"command": "x", "run_in_background": True})
    history.event("PostToolUse", **asked, tool_response=background, duration_ms=3)
    history.event("PostToolUse", **history.call("Bash", "t3"), tool_response={"stdout": ""}, duration_ms=3)
    await history.ingest.step()
    rows = await history.rows("SELECT tool_use_id, background FROM tool_usage ORDER BY tool_use_id")
    assert rows == [("t1", "automatic"), ("t2", "requested"), ("t3", None)]


async def test_equal_call_ids_of_two_sessions_are_two_calls(history: History) -> None:
    for session in ("s1", "s2"):
        history.event("PostToolUse", session=session, **history.call("Bash", "t1"), duration_ms=1)
    await history.ingest.step()
    assert len(await history.calls()) == 2


async def test_files_that_tools_touched_are_known(history: History) -> None:
    for number, (tool, parameter) in enumerate([("Read", "file_path"), ("Write", "file_path"), ("Edit", "file_path"),
                                                ("NotebookEdit", "notebook_path"), ("Bash", "file_path")]):  # fmt: skip
        path = "sub/../a.py" if tool == "Edit" else f"/x/{tool}"
        history.event(
            "PostToolUse",
            task="abc123",
            **history.call(tool, f"t{number}", tool_input={parameter: path}),
            duration_ms=1,
        )
    history.event("PostToolUseFailure", **history.call("Read", "t9", tool_input={"file_path": "/y"}), error="no")
    await history.ingest.step()
    assert await history.rows("SELECT path, action, task_id, session_uuid FROM files ORDER BY id") == [
        ("/x/Read", "read", "abc123", SESSION),
        ("/x/Write", "write", "abc123", SESSION),
        ("/home/dev/project/a.py", "edit", "abc123", SESSION),
        ("/x/NotebookEdit", "edit", "abc123", SESSION),
    ]


# Sessions.


async def test_a_session_goes_through_its_states(history: History) -> None:
    history.event("SessionStart", source="startup", model="claude-sonnet-5")
    history.event("UserPromptSubmit", prompt="go")
    history.event("PreToolUse", **history.call("Bash", "t1"))
    history.event("Notification", notification_type="permission_prompt", message="Claude needs your permission")
    history.event("PostToolUse", **history.call("Bash", "t1"), duration_ms=1)
    history.event("Stop")
    history.event("Notification", notification_type="idle_prompt", message="Claude is waiting for your input")
    history.event("UserPromptSubmit", prompt="more")
    history.event("SessionEnd", reason="other")
    await history.ingest.step()
    assert await history.changes() == [
        "starting", "working", "waiting_permission", "working", "idle", "waiting_input", "working", "ended"
    ]  # fmt: skip
    row = await history.rows("SELECT status, origin, model, prompts, events, end_reason, ended_at FROM sessions")
    assert row == [("ended", "startup", "claude-sonnet-5", 2, 9, "other", START + 90)]


async def test_the_same_events_one_by_one_give_the_same_history(history: History, tmp_path: Path) -> None:
    source = Path(__file__).parents[1] / "data/transcripts"
    other = await History(tmp_path / "other").open()
    for run in ("t_subagent", "perm_default", "max_turns", "t_failed", "t_compact", "t_resume2"):
        for line in (source / run / "hooks.jsonl").read_bytes().splitlines():
            for one in (history, other):
                one.now += 10
                one.raw(line)
            await other.ingest.step()
    await history.ingest.step()
    for table in (
        "sessions",
        "agent_status",
        "tool_usage",
        "files",
        "subagents",
        "tool_running",
        "tool_rollup",
        "events",
    ):
        statement = f"SELECT * FROM {table}"
        assert await history.rows(statement) == await other.rows(statement), table
    other.ingest.close()
    await other.database.close()


async def test_a_failed_turn_stays_visible_after_the_end(history: History) -> None:
    history.event("UserPromptSubmit", prompt="go")
    history.event("StopFailure", error="rate_limit")
    history.event("SessionEnd", reason="other")
    await history.ingest.step()
    assert await history.rows("SELECT status, status_detail, end_reason FROM sessions") == [
        ("failed", "rate_limit", "other")
    ]


async def test_notifications_of_background_work_are_no_prompts_of_a_person(history: History) -> None:
    history.event("UserPromptSubmit", prompt="go")
    history.event("Stop")
    history.event("UserPromptSubmit", prompt="<task-notification>\n<task-id>b1</task-id>")
    await history.ingest.step()
    assert await history.rows("SELECT prompts, status FROM sessions") == [(1, "working")]


async def test_a_fork_is_linked_and_the_original_is_left_as_it_was(history: History) -> None:
    history.event("SessionStart", session="old", source="startup", pid=0)
    history.event("SessionEnd", session="old", reason="other")
    await history.ingest.step()
    history.event("SessionStart", session="old", source="resume", pid=4242)
    history.event("UserPromptSubmit", session="new", prompt="go", pid=4242)
    history.event("SessionEnd", session="new", reason="other", pid=4242)
    await history.ingest.step()
    rows = await history.rows("SELECT session_uuid, status, origin, parent_uuid FROM sessions ORDER BY session_uuid")
    assert rows == [("new", "ended", "fork", "old"), ("old", "ended", "startup", None)]


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("source", ["startup", "resume", "clear"])
async def test_a_start_that_its_first_prompt_overtook_does_not_stop_the_work(
    history: History, source: str, together: bool
) -> None:
    history.event("UserPromptSubmit", prompt="go", pid=4242)
    if not together:
        await history.ingest.step()
        await history.restart()
    history.event("SessionStart", source=source, pid=4242)
    await history.ingest.step()
    assert await history.status() == "working"
    assert await history.rows("SELECT origin, before_resume FROM sessions") == [(source, None)]


@pytest.mark.parametrize("together", [True, False])
async def test_a_fork_that_overtook_its_start_is_linked(history: History, together: bool) -> None:
    history.event("UserPromptSubmit", session="old", prompt="go", pid=4241)
    history.event("Stop", session="old", pid=4241)
    await history.ingest.step()
    history.event("UserPromptSubmit", session="new", prompt="go", pid=4242)
    if not together:
        await history.ingest.step()
        await history.restart()
    history.event("SessionStart", session="old", source="resume", pid=4242)
    await history.ingest.step()
    rows = await history.rows("SELECT session_uuid, status, pid, parent_uuid FROM sessions ORDER BY session_uuid")
    assert rows == [("new", "working", 4242, "old"), ("old", "idle", 4241, None)]


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("has_ended", [True, False])
async def test_a_fork_takes_neither_process_nor_end_from_the_original(
    history: History, has_ended: bool, together: bool
) -> None:
    history.event("UserPromptSubmit", session="old", prompt="go", pid=4241)
    history.event("SessionEnd" if has_ended else "Stop", session="old", reason="other", pid=4241)
    await history.ingest.step()
    before = await history.rows("SELECT status, pid, ended_at, end_reason FROM sessions")
    history.event("SessionStart", session="old", source="resume", pid=4242)
    if not together:
        await history.ingest.step()
        await history.restart()
    history.event("UserPromptSubmit", session="new", prompt="go", pid=4242)
    await history.ingest.step()
    assert (
        await history.rows("SELECT status, pid, ended_at, end_reason FROM sessions WHERE session_uuid = 'old'")
        == before
    )
    assert await history.rows("SELECT pid, parent_uuid FROM sessions WHERE session_uuid = 'new'") == [(4242, "old")]


@pytest.mark.parametrize("together", [True, False])
async def test_a_clear_starts_a_session_that_knows_where_it_came_from(history: History, together: bool) -> None:
    history.event("UserPromptSubmit", session="a", prompt="go", pid=4242)
    if not together:
        await history.ingest.step()
        await history.restart()
    history.event("SessionEnd", session="a", reason="clear", pid=4242)
    history.event("SessionStart", session="b", source="clear", pid=4242)
    await history.ingest.step()
    rows = await history.rows("SELECT session_uuid, status, origin, parent_uuid FROM sessions ORDER BY session_uuid")
    assert rows == [("a", "ended", None, None), ("b", "starting", "clear", "a")]


async def test_a_resumed_session_lives_again(history: History) -> None:
    history.event("SessionStart", source="startup")
    history.event("SessionEnd", reason="other")
    history.event("SessionStart", source="resume")
    history.event("UserPromptSubmit", prompt="go")
    await history.ingest.step()
    assert await history.rows("SELECT status, ended_at, end_reason, origin FROM sessions") == [
        ("working", None, None, "startup")
    ]


async def test_subagents_belong_to_their_session(history: History) -> None:
    agent: dict[str, Any] = {"agent_id": "a1", "agent_type": "Explore"}
    history.event("UserPromptSubmit", prompt="go")
    history.event("SubagentStart", **agent)
    history.event("PreToolUse", **history.call("Bash", "t1"), **agent)
    history.event("PreToolUse", **history.call("Bash", "t2"))
    history.event("SubagentStop", **agent)
    await history.ingest.step()
    assert await history.calls() == [("t1", 0, "interrupted", "inferred")], "only the subagent's call was closed"
    assert await history.rows("SELECT agent_id, agent_type, status FROM subagents") == [("a1", "Explore", "ended")]
    assert await history.rows("SELECT agent_id, agent_type FROM tool_usage") == [("a1", "Explore")]
    assert await history.status() == "working"


async def test_an_api_error_of_a_subagent_is_not_the_sessions(history: History) -> None:
    history.event("UserPromptSubmit", prompt="go")
    history.event("SubagentStart", agent_id="a1", agent_type="x")
    history.event("StopFailure", agent_id="a1", agent_type="x", error="server_error")
    await history.ingest.step()
    assert await history.rows("SELECT status, detail FROM subagents") == [("failed", "server_error")]
    assert await history.status() == "working"


async def test_a_lost_session_closes_what_it_left_open(history: History) -> None:
    history.event("SubagentStart", agent_id="a1", agent_type="x")
    history.event("PreToolUse", **history.call("Bash", "t1"))
    await history.ingest.step()
    await history.ingest.lose([SESSION, "unknown"])
    assert await history.status() == "lost"
    assert await history.calls() == [("t1", 0, "interrupted", "inferred")]
    assert await history.rows("SELECT status FROM subagents") == [("lost",)]
    assert (await history.rows("SELECT cause FROM agent_status ORDER BY id DESC"))[0] == ("process_gone",)
    await history.ingest.lose([SESSION])
    assert (await history.changes()).count("lost") == 1


@pytest.mark.parametrize("sign", ["PreToolUse", "UserPromptSubmit", "Stop"])
async def test_a_lost_session_that_gives_a_sign_of_life_has_no_end(history: History, sign: str) -> None:
    history.event("UserPromptSubmit", prompt="go")
    await history.ingest.step()
    await history.ingest.lose([SESSION])
    lost = await history.rows("SELECT status_since, ended_at IS NULL, end_reason FROM sessions")
    assert lost == [(lost[0][0], 0, "process_gone")]
    history.event(sign, at=lost[0][0] + 10, prompt="more", **history.call("Bash", "t1"))
    await history.ingest.step()
    assert await history.rows("SELECT ended_at, end_reason FROM sessions") == [(None, None)]


@pytest.mark.parametrize("together", [True, False])
async def test_a_cleared_session_is_found_though_another_event_comes_first(history: History, together: bool) -> None:
    history.event("SessionStart", source="startup", session="before", pid=7)
    await history.ingest.step()
    await history.restart()
    history.event("InstructionsLoaded", session="after", pid=7)
    if not together:
        await history.ingest.step()
    history.event("SessionStart", source="clear", session="after", pid=7)
    await history.ingest.step()
    rows = await history.rows("SELECT session_uuid, parent_uuid, status FROM sessions ORDER BY session_uuid DESC")
    assert rows[0] == ("before", None, "ended")
    assert rows[1][:2] == ("after", "before")


async def test_the_clock_may_step_back_without_freezing_a_session(history: History) -> None:
    now = time.time_ns() // 1_000_000
    history.event("UserPromptSubmit", prompt="go", at=now + 86_400_000)
    history.event("PreToolUse", **history.call("Bash", "t1"))
    history.event("Stop", at=now)
    await history.ingest.step()
    await history.ingest.step()
    history.event("UserPromptSubmit", prompt="more", at=now + 10)
    history.event("Stop")
    await history.ingest.step()
    assert await history.status() == "idle"
    assert await history.calls() == [("t1", 0, "interrupted", "inferred")]


@pytest.mark.parametrize("kind", ["UserPromptSubmit", "Stop", "SessionEnd"])
@pytest.mark.parametrize("late", [5_000, 600_000])
async def test_an_event_that_arrives_late_undoes_nothing_that_began_after_it(
    history: History, kind: str, late: int
) -> None:
    history.event("UserPromptSubmit", prompt="go")
    history.event("Stop", at=START + late)
    history.event("UserPromptSubmit", prompt="more")
    history.event("PreToolUse", **history.call("Bash", "t1"))
    await history.ingest.step()
    history.event(kind, at=START + 100, prompt="from quarantine", reason="other")
    await history.ingest.step()
    assert await history.status() == "working"
    assert await history.rows("SELECT tool_use_id FROM tool_running") == [("t1",)]
    assert await history.calls() == []
    assert await history.rows("SELECT ended_at FROM sessions") == [(None,)]


async def test_a_start_that_is_told_twice_leaves_no_call_in_flight(history: History) -> None:
    history.event("PreToolUse", **history.call("Bash", "t1"))
    await history.ingest.step()
    history.event("PreToolUse", **history.call("Bash", "t1"))
    history.event("PostToolUse", **history.call("Bash", "t1"), duration_ms=1)
    await history.ingest.step()
    assert await history.calls() == [("t1", 1, None, "hook")]
    assert await history.rows("SELECT tool_use_id FROM tool_running") == []


async def test_the_clients_process_is_identified(history: History) -> None:
    history.event("UserPromptSubmit", prompt="go", pid=os.getpid(), at=time.time_ns() // 1_000_000)
    await history.ingest.step()
    ((pid, started, boot),) = await history.rows("SELECT pid, process_started, boot FROM sessions")
    assert pid == os.getpid() and started is not None and boot


# Exactly once.


async def test_files_that_come_back_after_a_crash_change_nothing(history: History) -> None:
    paths = [
        history.event("UserPromptSubmit", prompt="go"),
        history.event("PreToolUse", **history.call("Bash", "t1")),
        history.event("PostToolUse", **history.call("Bash", "t1"), duration_ms=1),
        history.event("Stop"),
    ]
    contents = [(path, path.read_bytes(), path.stat().st_mtime_ns) for path in paths]
    await history.ingest.step()
    tables = ("events", "sessions", "tool_usage", "tool_rollup", "agent_status", "counters")
    before = {table: await history.rows(f"SELECT * FROM {table}") for table in tables}
    for path, content, mtime in contents:
        path.write_bytes(content)
        path.chmod(0o600)
        os.utime(path, ns=(mtime, mtime))
    await history.restart()
    assert await history.ingest.step() == 0
    assert {table: await history.rows(f"SELECT * FROM {table}") for table in tables} == before
    assert history.left() == []


async def test_equal_payloads_at_different_times_are_different_events(history: History) -> None:
    history.event("Notification", notification_type="idle_prompt")
    history.event("Notification", notification_type="idle_prompt")
    assert await history.ingest.step() == 2


@pytest.mark.parametrize("together", [True, False])
async def test_plugin_and_settings_registered_at_once_count_nothing_twice(history: History, together: bool) -> None:
    for number in range(3):
        for plugin in (number % 2 == 0, number % 2 == 1):
            history.event("UserPromptSubmit", prompt="same", plugin=plugin, pid=77)
            if not together:
                await history.ingest.step()
    await history.ingest.step()
    assert await history.rows("SELECT count(*), (SELECT prompts FROM sessions) FROM events") == [(3, 3)]
    assert history.ingest.health.duplicates == 3
    assert history.left() == []


# Trouble.


async def test_a_bad_event_delays_no_other(history: History) -> None:
    history.event("Stop")
    history.raw(b'{"hook_event_name": 7}')
    history.raw(b"not json at all, and long ago")
    history.event("Stop")
    assert await history.ingest.step() == 2
    assert sorted(one.reason for one in history.quarantine.list()) == ["bad_json", "schema"]
    assert history.left() == []


async def test_a_file_that_is_being_written_is_left_alone(history: History) -> None:
    now = time.time_ns() // 1_000_000
    path = history.raw(b'{"session_id": "s", "hook_event', at=now)
    assert await history.ingest.step() == 0
    assert history.left() == [path.name]
    path.write_bytes(b'{"session_id": "s", "hook_event_name": "Stop"}')
    assert await history.ingest.step() == 1
    assert history.quarantine.list() == []


async def test_a_file_that_was_never_finished_is_torn(history: History) -> None:
    history.raw(b'{"session_id": "s", "hook_event', at=START)
    await history.ingest.step()
    assert [one.reason for one in history.quarantine.list()] == ["torn"]


async def test_what_the_store_will_not_take_is_set_aside_alone(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    history.event("Stop")
    history.event("Notification", notification_type="poison")
    history.event("Stop")
    apply = Database.apply

    async def refuse(self: Database, writes: Any, **more: Any) -> None:
        if any("poison" in str(row) for write in writes for row in write.rows):
            raise ValueError("not with me")
        await apply(self, writes, **more)

    monkeypatch.setattr(Database, "apply", refuse)
    assert await history.ingest.step() == 2
    assert [(one.reason, one.detail) for one in history.quarantine.list()] == [("internal", "ValueError: not with me")]
    assert history.left() == []


async def test_a_failing_environment_loses_nothing_and_is_tried_again(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    history.event("Stop")
    apply = Database.apply

    async def full(self: Database, writes: Any, **more: Any) -> None:
        raise StoreUnavailable("database or disk is full")

    monkeypatch.setattr(Database, "apply", full)
    assert await history.ingest.step() == 0
    assert "full" in str(history.ingest.health.degraded)
    assert history.quarantine.list() == [] and len(history.left()) == 1
    monkeypatch.setattr(Database, "apply", apply)
    monkeypatch.setattr(history.ingest, "_retry_at", 0.0)
    assert await history.ingest.step() == 1
    assert history.ingest.health.degraded is None


async def test_a_file_that_crashes_the_reader_three_times_is_set_aside(history: History) -> None:
    history.event("Stop")
    suspect = history.event("Stop")
    journal = history.settings.data_dir / "ingest.journal"
    for _ in range(3):
        history.ingest.close()
        content = json.loads(journal.read_text())
        journal.write_text(json.dumps(content | {"in_hand": [suspect.name]}))
        await history.restart()
    assert await history.ingest.step() == 1
    assert [one.reason for one in history.quarantine.list()] == ["crash_suspect"]


# Privacy.


@pytest.mark.parametrize("level", list(PrivacyLevel))
async def test_no_secret_reaches_the_store_at_any_level(tmp_path: Path, level: PrivacyLevel) -> None:
    history = await History(tmp_path, level).open()
    secret = "sk-ant-api03-" + "Zq8" * 30
    call = history.call("Bash", "t1", tool_input={"command": f"curl -H 'x-api-key: {secret}' localhost"})
    history.event("UserPromptSubmit", prompt=f"use {secret}")
    history.event("PreToolUse", **call)
    history.event("PostToolUseFailure", **call, error=f"Exit code 1\n{secret}", duration_ms=1)
    history.event("Unheard-of", anything={"deep": [secret]})
    history.batch(("Bash", "t2", f"<tool_use_error>{secret}</tool_use_error>"))
    assert await history.ingest.step() == 5
    await history.database.checkpoint()
    await history.database.close()
    history.ingest.close()
    for path in tmp_path.iterdir():
        if path.is_file():
            assert b"Zq8Zq8" not in path.read_bytes(), path.name


async def test_at_the_minimal_level_no_text_of_the_agent_is_stored(tmp_path: Path) -> None:
    history = await History(tmp_path, PrivacyLevel.MINIMAL).open()
    call = history.call("Bash", "t1", tool_input={"command": "canary-in"})
    history.event("UserPromptSubmit", prompt="canary-prompt")
    history.event("PostToolUse", **call, tool_response={"stdout": "canary-out"}, duration_ms=1)
    history.event("PostToolUseFailure", **history.call("Bash", "t2"), error="Exit code 1\ncanary-err", duration_ms=1)
    history.event("Stop", last_assistant_message="canary-said")
    await history.ingest.step()
    await history.database.checkpoint()
    content = history.settings.database_file.read_bytes()
    assert b"canary" not in content
    assert await history.calls() == [("t1", 1, None, "hook"), ("t2", 0, "command_failed", "hook")]
    history.ingest.close()
    await history.database.close()


async def test_long_texts_are_cut_but_whole_events_are_kept(history: History) -> None:
    history.event("PostToolUse", **history.call("Write", "t1", tool_input={"content": "x" * 2_000_000}),
                  tool_response={"content": "y" * 2_000_000}, duration_ms=1)  # fmt: skip
    assert await history.ingest.step() == 1
    ((parameters, body),) = await history.rows("SELECT parameters, (SELECT body FROM events) FROM tool_usage")
    assert len(parameters) < 10_000 and "cut" in parameters
    assert len(body) < 10_000 and json.loads(body)["tool_response"]


@pytest.mark.parametrize("together", [True, False])
async def test_a_denial_that_overtakes_the_start_of_its_call_is_still_a_denial(
    history: History, together: bool
) -> None:
    history.batch(("Bash", "t1", "http says no"))
    if not together:
        await history.ingest.step()
    history.event("PreToolUse", **history.call("Bash", "t1"))
    history.event("Stop")
    await history.ingest.step()
    assert await history.calls() == [("t1", 0, "blocked", "batch")]
    assert await history.rows("SELECT * FROM tool_running") == []


async def test_reasons_of_denials_and_failed_turns_are_redacted(history: History) -> None:
    secret = "ghp_" + "A1b2" * 9
    history.event("PreToolUse", **history.call("Bash", "t1"))
    history.event("PermissionDenied", **history.call("Bash", "t1"), reason=f"it holds {secret}")
    history.event("StopFailure", error=f"odd: {secret}")
    await history.ingest.step()
    texts = await history.rows("SELECT error FROM tool_usage UNION ALL SELECT status_detail FROM sessions")
    assert len(texts) == 2
    assert all("REDACTED:github" in text and secret not in text for (text,) in texts)


@pytest.mark.parametrize("together", [True, False])
async def test_a_start_that_arrives_late_does_not_wake_a_failed_turn(history: History, together: bool) -> None:
    history.event("UserPromptSubmit", prompt="go")
    history.event("PostToolUse", **history.call("Bash", "t1"), duration_ms=1)
    history.event("StopFailure", error="server_error")
    if not together:
        await history.ingest.step()
    history.event("PreToolUse", **history.call("Bash", "t1"))
    history.event("SessionEnd", reason="other")
    await history.ingest.step()
    assert await history.status() == "failed"


async def test_a_start_whose_result_is_known_does_not_wake_an_idle_session(history: History) -> None:
    history.event("UserPromptSubmit", prompt="go")
    history.event("PostToolUse", **history.call("Bash", "t1"), duration_ms=1)
    history.event("Stop")
    history.event("PreToolUse", **history.call("Bash", "t1"))
    await history.ingest.step()
    assert await history.status() == "idle"


@pytest.mark.parametrize("together", [True, False])
async def test_a_result_that_comes_after_the_batch_was_never_a_denial(history: History, together: bool) -> None:
    history.event("PreToolUse", **history.call("Bash", "t1"))
    history.batch(("Bash", "t1", "output of a success"))
    if not together:
        await history.ingest.step()
        assert await history.calls() == []
    history.event("PostToolUse", **history.call("Bash", "t1"), duration_ms=7)
    await history.ingest.step()
    assert await history.calls() == [("t1", 1, None, "hook")]


async def test_the_next_batch_of_the_same_agent_settles_a_denial(history: History) -> None:
    history.event("PreToolUse", **history.call("Bash", "t1"))
    history.batch(("Bash", "t1", "http says no"))
    await history.ingest.step()
    history.batch(("Read", "t0", "x"), agent_id="a1", agent_type="Explore")
    await history.ingest.step()
    assert await history.calls() == []
    history.batch(("Read", "t2", "x"))
    await history.ingest.step()
    assert await history.calls() == [("t1", 0, "blocked", "batch")]


@pytest.mark.parametrize("together", [True, False])
async def test_a_question_that_overtakes_its_call_is_still_asked_about_it(history: History, together: bool) -> None:
    history.event("PermissionRequest", tool_name="Bash", tool_input={"command": "run t1"})
    if not together:
        await history.ingest.step()
    history.event("PreToolUse", **history.call("Bash", "t1"))
    history.event("UserPromptSubmit", prompt="no, do this")
    await history.ingest.step()
    assert await history.calls() == [("t1", 0, "user_rejected", "inferred")]


async def test_a_start_that_comes_after_the_end_leaves_nothing_running(history: History) -> None:
    history.event("UserPromptSubmit", prompt="go")
    history.event("SessionEnd", reason="other")
    await history.ingest.step()
    history.event("PreToolUse", **history.call("Bash", "t1"))
    await history.ingest.step()
    assert await history.rows("SELECT * FROM tool_running") == []
    assert await history.calls() == [("t1", 0, "interrupted", "inferred")]
    assert await history.status() == "ended"


@pytest.mark.parametrize("duration", [-5, 2**70, "soon", True])
async def test_an_impossible_duration_is_left_out_and_the_call_is_kept(history: History, duration: Any) -> None:
    history.event("PostToolUse", **history.call("Bash", "t1"), duration_ms=duration)
    assert await history.ingest.step() == 1
    assert await history.rows("SELECT success, duration_ms FROM tool_usage") == [(1, None)]
    assert await history.rows("SELECT flags FROM events") == [("duration",)]


async def test_an_empty_agent_id_is_the_main_agent(history: History) -> None:
    history.event("PostToolUse", **history.call("Bash", "t1"), duration_ms=1, agent_id="", prompt_id="")
    assert await history.ingest.step() == 1
    assert await history.rows("SELECT agent_id, prompt_id FROM tool_usage") == [(None, None)]


async def test_events_are_shown_with_what_their_calls_did(history: History) -> None:
    history.event("PreToolUse", **history.call("Bash", "t1"))
    history.event("PreToolUse", **history.call("Bash", "t2"))
    history.event("PostToolUseFailure", **history.call("Bash", "t2"), error="Exit code 3", duration_ms=5)
    await history.ingest.step()
    shown = await history.database.read(lambda reader: stored_events(reader.query, limit=10))
    assert [(one["kind"], one["parameters"], one["error_category"], one["error"]) for one in shown] == [
        ("PreToolUse", {"command": "run t1"}, None, None),
        ("PreToolUse", {"command": "run t2"}, None, None),
        ("PostToolUseFailure", {"command": "run t2"}, "command_failed", "Exit code 3"),
    ]
