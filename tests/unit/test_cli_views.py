import io
from typing import Any

import pytest
from rich.console import Console
from tasks import advice
from tasks.cli import overview, plain, styled, taskviews, views, waiting
from tasks.cli.page import Cell, Column, Table
from tasks.words import Failure

NOW = 1_800_000_000_000
HOSTILE = "\x1b]0;owned\x07[bold red]markup[/] \x9b2J"

EVENT = {
    "seq": 7, "timestamp": NOW - 3000, "session_uuid": "00000000-0000-4000-8000-000000000000", "kind": "Stop\x1b[2J",
    "task_id": None, "agent_id": HOSTILE, "tool_name": HOSTILE, "tool_use_id": None, "flags": None,
    "body": {"message": HOSTILE, "nested": {HOSTILE: [HOSTILE]}, HOSTILE: 1},
    "parameters": None, "error_category": None, "error": None,
}  # fmt: skip


def _status(**changes: Any) -> dict[str, Any]:
    status: dict[str, Any] = {
        "daemon": {"pid": 42, "uptime_s": 3725.0, "version": "1.2.3", "data_dir": "/srv/d", "privacy": "default"},
        "spool": {"pending": 0, "oldest_age_s": None, "bytes": 0, "full": False, "dropped": 0, "quarantined": 0},
        "ingest": {"events_total": 1234, "last_event_at": NOW - 3000, "duplicates": 0, "degraded": None},
        "sessions": {"starting": 0, "working": 2, "waiting_permission": 1, "waiting_input": 2, "idle": 0,
                     "ended": 4, "failed": 0, "lost": 1},
        "tasks": {"statuses": dict.fromkeys(("pending", "queued", "running", "completed", "failed", "stopped"), 0),
                  "merges": dict.fromkeys(("waiting", "merging", "conflict", "kept"), 0), "held": 0, "conflicts": []},
        "pool": {"total_workers": 3, "active_workers": 0, "queued_tasks": 0, "queue_size": 1000, "paused": False,
                 "hold_reason": None, "hold_until": None},
        "accounting": {"transcripts": 2, "behind_bytes": 0, "degraded": None, "expected": 40, "seen": 39, "added": 1,
                       "messages": 1200, "unpriced": 0},
        "watcher": "watching",
        "web": "off",
    }  # fmt: skip
    for name, value in changes.items():
        status[name] = status[name] | value if isinstance(value, dict) else value
    return status


def _plain(page: Any) -> str:
    return plain.render(page)


def _styled(page: Any, *, width: int = 100, colour: bool = True) -> str:
    target = io.StringIO()
    console = Console(file=target, width=width, force_terminal=colour, highlight=False, markup=False, emoji=False)
    console.print(styled.page(page, width))
    return target.getvalue()


def _line(text: str, label: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(label)).removeprefix(label).strip()


def test_status_says_everything_that_makes_silence_unambiguous() -> None:
    text = _plain(overview.status(_status(), NOW))
    assert _line(text, "daemon") == "running, pid 42, version 1.2.3, up 1 h 2 min"
    assert _line(text, "spool") == "nothing waiting"
    assert _line(text, "dropped") == "0 events"
    assert _line(text, "quarantined") == "0 files"
    assert _line(text, "events") == "1,234 stored"
    assert _line(text, "last event").endswith("(3 s ago)")
    assert _line(text, "watcher") == "watching"


@pytest.mark.parametrize(
    ("web", "told"),
    [
        ("off", "off (web.enabled)"),
        ("http://127.0.0.1:7447", "http://127.0.0.1:7447, `tasksd dashboard` opens it"),
        ("not served: port 7447 is taken", "not served: port 7447 is taken"),
    ],
)
def test_status_says_where_the_page_is_or_why_there_is_none(web: str, told: str) -> None:
    assert _line(_plain(overview.status(_status(web=web), NOW)), "page") == told


def test_status_of_an_older_daemon_says_nothing_of_a_page() -> None:
    older = _status()
    del older["web"]
    assert "page" not in _plain(overview.status(older, NOW))


def test_status_says_how_far_transcripts_are_read_and_what_hooks_missed() -> None:
    assert _line(_plain(overview.status(_status(), NOW)), "transcripts") == (
        "2 files followed; 1,200 messages; last 7 days: 40 calls, 39 reported by hooks, 1 added"
    )
    behind = _status(accounting={"behind_bytes": 5_000_000, "unpriced": 3})
    line = _line(_plain(overview.status(behind, NOW)), "transcripts")
    assert line.startswith("2 files followed (5.0 MB to read); 1,200 messages, 3 unpriced; ")
    waits = _status(accounting={"degraded": "disk full"})
    assert _line(_plain(overview.status(waits, NOW)), "transcripts") == "waiting: disk full"
    older = _status()
    del older["accounting"]
    assert "transcripts" not in _plain(overview.status(older, NOW))


def test_sessions_that_wait_for_a_person_come_first() -> None:
    line = _line(_plain(overview.status(_status(), NOW)), "sessions")
    assert line == (
        "3 waiting for a person (1 for a permission, 2 for an answer), 2 working; last 24 hours: 4 ended, 1 lost"
    )


def test_a_full_spool_and_a_waiting_ingester_are_red() -> None:
    status = _status(
        spool={"full": True, "pending": 3, "oldest_age_s": 75.0, "bytes": 4_000}, ingest={"degraded": "disk full"}
    )
    text = _plain(overview.status(status, NOW))
    assert _line(text, "spool") == "FULL, hooks drop events; 3 events waiting (4.0 kB), the oldest for 1 min 15 s"
    assert _line(text, "ingest") == "waiting: disk full"
    assert "\x1b[1;31mwaiting: disk full" in _styled(overview.status(status, NOW))


def test_a_daemon_that_is_gone_is_the_first_thing_said() -> None:
    text = _plain(overview.status(_status(daemon=None, ingest=None, watcher="not running"), NOW))
    assert text.splitlines()[0].split() == ["daemon", "not", "running"]


@pytest.mark.parametrize("render", [_plain, _styled])
def test_events_cannot_steer_the_terminal(render: Any) -> None:
    shown = render(views.events([EVENT]))
    assert "\x1b]" not in shown
    assert "\x1b[2J" not in shown
    assert "\x9b" not in shown
    assert "\x07" not in shown
    assert "\\x1b]0;owned\\x07" in _plain(views.events([EVENT]))


def test_markup_in_events_is_shown_and_not_obeyed() -> None:
    table = Table("", [Column("a")], "")
    table.add(Cell("[bold red]x[/] :smile:"))
    assert "[bold red]x[/] :smile:" in _styled([table])


def test_a_line_of_followed_events_cannot_steer_the_terminal() -> None:
    assert "\x1b" not in styled.line(views.event(EVENT)).plain


def test_plain_tables_are_aligned_and_cut_nothing() -> None:
    failure = {
        "timestamp": NOW, "session_uuid": "s" * 36, "task_id": None, "agent_id": None, "tool_name": "Bash",
        "error_category": "timeout", "error": "long " * 200, "parameters": None,
    }  # fmt: skip
    text = _plain(views.failures([failure, failure | {"tool_name": "LongerName", "error": "short"}], NOW))
    head, first, second = text.splitlines()
    assert head.index("category") == first.index("timeout") == second.index("timeout")
    assert "long " * 199 + "long" in first
    assert "\x1b" not in text
    assert not set("│─┃━") & set(text)


def test_a_narrow_terminal_cuts_the_long_columns_and_keeps_the_short_ones() -> None:
    long = EVENT | {"kind": "PostToolUse", "agent_id": None, "tool_name": "Bash", "body": {"x": "long " * 100}}
    shown = _styled(views.events([long]), width=90, colour=False)
    assert "PostToolUse" in shown
    assert "00000000" in shown
    assert "…" in shown
    assert max(map(len, shown.splitlines())) <= 90


def test_a_rate_never_rounds_to_perfect_or_to_hopeless() -> None:
    def rate(value: float) -> str:
        stats = {"count": 9, "success_rate": value, "errors": {}} | dict.fromkeys(
            ("avg_duration_ms", "p50_duration_ms", "p95_duration_ms", "max_duration_ms")
        )
        return _plain(views.tools({"Read": stats}, "24")).splitlines()[1].split()[2]

    assert [rate(1.0), rate(0.99999), rate(0.00001), rate(0.0)] == ["100.0%", "99.9%", "0.1%", "0.0%"]


def test_an_empty_table_says_so() -> None:
    assert _plain(views.errors({}, "7")) == "no failed calls in the last 7 days\n"
    assert _plain(views.tools({}, "1")) == "no calls in the last 1 hour\n"


@pytest.mark.parametrize("width", [40, 60, 80])
def test_the_long_name_of_a_tool_does_not_push_its_numbers_out(width: int) -> None:
    stats = {"count": 12_345, "success_rate": 0.5, "errors": {"command_failed": 9}}
    durations = {f"{key}_duration_ms": 1234.5 for key in ("avg", "p50", "p95", "max")}
    name = "mcp__claude_ai_Google_Calendar__list_calendar_events"
    text = _styled(views.tools({name: stats | durations}, "24"), width=width, colour=False)
    assert "12,345" in text and "50.0%" in text
    assert max(map(len, text.splitlines())) <= width


def test_an_event_tells_what_was_done_went_wrong_or_was_said() -> None:
    def details(**changes: Any) -> str:
        return views.event(EVENT | {"body": None} | changes)[-1].text

    assert details(kind="PreToolUse", parameters={"description": "d", "command": "make test"}) == "make test"
    assert details(kind="PreToolUse", parameters={"odd": 1}) == '{"odd":1}'
    failure = {"error_category": "stale_edit", "error": "<tool_use_error>String not found</tool_use_error>"}
    assert (
        details(kind="PostToolUseFailure", parameters={"file_path": "/x"}, **failure) == "stale_edit: String not found"
    )
    stop = {"effort": {"level": "high"}, "stop_hook_active": False, "last_assistant_message": "Done."}
    assert details(kind="Stop", body=stop) == "Done."
    assert details(kind="PostToolBatch") == "-"


SPENT = {
    "cost": 0.25, "messages": 3, "unpriced": 0, "input_tokens": 1200, "output_tokens": 30, "cache_read_tokens": 0,
    "cache_write_5m_tokens": 40, "cache_write_1h_tokens": 5,
}  # fmt: skip
TASK = {
    "task_id": "3f2a1c", "user_id": 1, "description": f"fix it\n{HOSTILE}", "status": "queued", "priority": "high",
    "agent_type": "code_agent", "workflow": None, "model": "sonnet", "workspace": "/srv/my project", "isolate": True,
    "hold_reason": None, "hold_until": None, "attempt": 1, "session_uuid": None, "pid": None,
    "worktree": "/d/work trees/3f2a1c", "branch": "task/3f2a1c", "base_branch": "main", "commits": 2,
    "merge_state": "none", "merge_detail": None, "merge_commit": None, "failure": None, "error": None, "turns": 3,
    "input_tokens": 1200, "output_tokens": 30, "cache_read_tokens": None, "cache_write_tokens": None, "cost_usd": 0.25,
    "created_at": NOW - 90_000, "started_at": NOW - 60_000, "finished_at": None, "budget_usd": 2.0, "max_turns": None,
    "host": None, "base_commit": "c" * 40, "merge_paths": [], "result": None, "activity": [], "runs": [],
    "verdicts": [], "calls": {}, "denied": 0, "running": [], "files": {"read": 0, "write": 0, "edit": 0}, "why": None,
    "spent": SPENT,
}  # fmt: skip


def _task(**changes: Any) -> str:
    return _plain(taskviews.task(TASK | changes, NOW))


def test_a_task_that_waits_says_why_right_below_its_status() -> None:
    lines = _task(why="number 2 in the queue: 3 of 3 agents are busy").splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["task", "status", "why"]
    assert "3 of 3 agents are busy" in lines[2]


def test_our_figure_stands_beside_the_clients_where_they_differ_and_alone_where_it_told_none() -> None:
    def costs(**changes: Any) -> list[str]:
        lines = [line.split(maxsplit=1) for line in _task(**changes).splitlines()]
        return [f"{label} {rest}" for label, *rest_ in lines if label in ("cost", "by") for rest in rest_]

    assert costs() == ["cost $0.25, 3 turns, 1,200 tokens in, 30 tokens out"]
    ours = "$0.30, 3 answers, 1,200 tokens in, 30 tokens out, 0 tokens from cache, 45 to it"
    assert [line.split() for line in costs(spent=SPENT | {"cost": 0.3})[1:]] == [f"by us {ours}".split()]
    assert costs(spent=SPENT | {"cost": 0.3}, cost_usd=None, turns=None) == [f"cost {ours}"]
    assert costs(spent=SPENT | {"unpriced": 3}, cost_usd=None, turns=None)[0].startswith("cost unpriced, 3 ")


def test_a_conflict_names_its_files_and_the_commands_to_resolve_it() -> None:
    text = _task(status="completed", merge_state="conflict", merge_paths=["src/a b.py", "c"], finished_at=NOW)
    assert "  src/a b.py\n" in text
    assert "  cd '/d/work trees/3f2a1c'\n" in text
    assert "  git merge main\n" in text
    assert "  tasksd merge 3f2a1c\n" in text


@pytest.mark.parametrize("failure", [str(one) for one in Failure])
def test_every_failure_says_what_to_do_next(failure: str) -> None:
    one = TASK | {"status": "failed", "failure": failure, "error": "because", "finished_at": NOW}
    assert any("3f2a1c" in line or "--" in line for line in advice.advice(one))
    assert _line(_task(**one), "error").endswith("because")


def test_a_finished_task_leaves_nothing_to_do() -> None:
    one = TASK | {"status": "completed", "merge_state": "merged", "merge_commit": "a" * 40, "finished_at": NOW}
    one |= {"worktree": None, "merge_detail": "the worktree is kept: out of date"}
    assert advice.advice(one) == []
    assert _line(_task(**one), "branch") == "task/3f2a1c from main, 2 commits, removed"
    assert _line(_task(**one), "status") == "completed just now, took 1 min"
    assert _line(_task(**one), "merge") == "merged as aaaaaaaaaaaa"


def test_a_worktree_that_could_not_be_removed_says_why_and_what_becomes_of_it() -> None:
    reason = "the worktree /d is kept: somebody is in it"
    text = _task(status="completed", merge_state="merged", merge_detail=reason, why=reason, finished_at=NOW)
    assert text.count(reason) == 1
    assert "tasksd clean" in _line(text, "next")
    assert ", removed" not in text


def test_work_that_is_kept_is_looked_at_committed_and_merged_or_gone_on_with() -> None:
    kept = {"merge_state": "kept", "merge_detail": "not clean: a", "why": "not clean: a", "finished_at": NOW}
    text = _task(status="failed", failure="policy", error="no commit", **kept)
    assert text.count("not clean: a") == 1
    commands = [line.strip() for line in text.partition("\ndescription")[0].splitlines() if line.startswith("  ")]
    assert [command.partition("  ")[0] for command in commands] == [
        "cd '/d/work trees/3f2a1c'", "git log main..task/3f2a1c", "git status", "cd -", "tasksd merge 3f2a1c",
        "or let it go on there: tasksd retry 3f2a1c",
    ]  # fmt: skip
    assert "tasksd retry" not in _task(status="completed", **kept)
    assert "git log" not in _task(status="completed", commits=0, **kept)
    assert "--into BRANCH" in _task(status="completed", base_branch=None, **kept)
    assert "git -C '/srv/my project' log main..task/3f2a1c\n" in _task(status="completed", worktree=None, **kept)


@pytest.mark.parametrize(("failure", "field"), [("budget", "budget_usd"), ("max_turns", "max_turns")])
def test_a_limit_of_the_task_itself_is_not_looked_for_in_the_configuration(failure: str, field: str) -> None:
    one = {"status": "failed", "failure": failure, "error": "too much", "finished_at": NOW}
    assert "config.toml" not in _line(_task(**one, **{field: 2}), "next")
    assert f"raise agent.{field} in config.toml and restart the daemon" in _line(_task(**one, **{field: None}), "next")


@pytest.mark.parametrize("render", [_plain, _styled])
def test_tasks_cannot_steer_the_terminal(render: Any) -> None:
    hostile = TASK | {
        "error": HOSTILE, "failure": "agent_error", "result": HOSTILE, "merge_paths": [HOSTILE], "merge_state": "conflict",
        "worktree": HOSTILE, "activity": [{"id": "1.1", "at": NOW, "message": HOSTILE}], "why": HOSTILE,
        "calls": {HOSTILE: [1, 1]}, "last_activity": {"at": NOW, "message": HOSTILE},
    }  # fmt: skip
    for page in (taskviews.task(hostile, NOW), taskviews.tasks([hostile], NOW)):
        shown = render(page)
        assert not {"\x1b]", "\x1b[2J", "\x9b", "\x07"} & {
            shown[i : i + n] for i in range(len(shown)) for n in (1, 2, 4)
        }


def test_calls_that_were_denied_are_pointed_out() -> None:
    assert _line(_task(denied=2), "denied").startswith("2 calls: `tasksd logs 3f2a1c` shows which, agent.allowed_tools")
    assert "denied" not in _task()


def test_paths_in_the_worktree_are_shown_without_it_where_room_is_short() -> None:
    message = f"Write: {TASK['worktree']}/src/a.py"
    now = {"status": "running", "last_activity": {"at": NOW, "message": message}}
    assert taskviews.doing(TASK | now) == "Write: src/a.py"
    page = taskviews.task(TASK | {"activity": [{"id": "1.1", "at": NOW, "message": message}]}, NOW)
    assert message in _plain(page)
    assert message not in _styled(page) and "Write: src/a.py" in _styled(page)


def test_who_waits_for_a_merge_is_told_what_it_waits_for() -> None:
    def said(**changes: Any) -> str:
        return styled.line(waiting._progress(TASK | {"status": "completed", "finished_at": NOW} | changes, None)).plain

    assert said(merge_state="waiting", merge_detail="uncommitted changes: a").endswith(
        "waiting: uncommitted changes: a"
    )
    assert said(merge_state="merging", merge_detail="into main").endswith("merge: merging")


def test_the_list_says_what_each_task_is_at() -> None:
    def now(**changes: Any) -> str:
        return taskviews.doing(TASK | {"last_activity": None} | changes)

    assert now(status="running", last_activity={"at": NOW, "message": "Edit a.py"}) == "Edit a.py"
    assert now(hold_reason="Uncommitted changes in /srv") == "Uncommitted changes in /srv"
    assert now(status="failed", error="took too long\nmore") == "took too long"
    assert now(status="completed", merge_state="waiting", merge_detail="main is dirty") == "main is dirty"
    assert now(status="completed", merge_state="merged", merge_detail="x") == "-"


def test_the_status_shows_what_a_person_has_to_do_before_what_goes_by_itself() -> None:
    counts = {
        "statuses": {"pending": 0, "queued": 5, "running": 3, "completed": 9, "failed": 1, "stopped": 0},
        "merges": {"waiting": 2, "merging": 0, "conflict": 1, "kept": 0}, "held": 2, "conflicts": ["3f2a1c"],
    }  # fmt: skip
    text = _plain(overview.status(_status(tasks=counts), NOW))
    assert _line(text, "tasks") == (
        "1 merge conflict (tasksd show 3f2a1c), 2 merges waiting, 3 running, 5 queued (2 held); "
        "last 24 hours: 9 completed, 1 failed"
    )
    assert _line(_plain(overview.status(_status(), NOW)), "tasks") == "none at work"


def test_the_status_says_why_the_pool_starts_nothing() -> None:
    def pool(**changes: Any) -> str:
        return _line(
            _plain(overview.status(_status(pool={"active_workers": 3, "queued_tasks": 5} | changes), NOW)), "pool"
        )

    assert pool() == "3 of 3 busy, 5 waiting"
    assert pool(paused=True) == "paused; 3 of 3 busy, 5 waiting"
    assert pool(queued_tasks=1000).endswith("1,000 waiting, which is all that may wait")
    held = pool(hold_reason="usage limit", hold_until=NOW + 7_200_000)
    assert held.startswith("held until 2027-")
    assert held.endswith("(in 2 h): usage limit; 3 of 3 busy, 5 waiting")


def test_the_pool_names_tasks_that_wait_for_something_of_their_own() -> None:
    held = {"task_id": "3f2a1c", "priority": "low", "reason": "Uncommitted changes in /srv: a", "until": NOW + 15_000}
    answer = _status()["pool"] | {"waiting": [], "held": [held]}
    text = _plain(taskviews.pool(answer, NOW))
    assert "held\n" in text
    assert "3f2a1c  low       Uncommitted changes in /srv: a" in text
    assert "held" not in _plain(taskviews.pool(answer | {"held": []}, NOW))
