"""Pages about tasks. `now` and all times are epoch milliseconds."""

from __future__ import annotations

from tasks.cli.page import BAD, FAINT, GOOD, NOTICE, STRONG, Cell, Column, Facts, Table
from tasks.cli.views import folder, spent, when, words
from tasks.text import ago, count, moment, span

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from tasks.cli.page import Block

    Record = Mapping[str, Any]

OVER = ("completed", "failed", "stopped")
#: Dollars by which our figure and the client's may differ before both are shown.
SAME = 0.00005
_TONES = {"running": GOOD, "completed": GOOD, "failed": BAD, "stopped": FAINT}
_MERGE_TONES = {"conflict": NOTICE, "waiting": NOTICE, "kept": NOTICE, "merged": GOOD}
#: Lines of a description or a result, paths, and entries of activity that `show` shows.
LINES, PATHS, ENTRIES = 12, 20, 20


def tasks(answer: Sequence[Record], now: int) -> list[Block]:
    columns = [
        Column("task"), Column("status"), Column("since"), Column("description", flexible=True, room=24),
        Column("now", flexible=True, room=24), Column("merge"), Column("priority", optional=True),
        Column("cost", right=True, optional=True), Column("folder", flexible=True, optional=True),
    ]  # fmt: skip
    table = Table("", columns, "no tasks")
    for one in answer:
        since = one["finished_at"] or one["started_at"] or one["created_at"]
        merge = one["merge_state"]
        table.add(
            one["task_id"], status(one["status"]), when(since, now), _first_line(one["description"]), doing(one),
            Cell("-" if merge == "none" else merge, _MERGE_TONES.get(merge, "")), one["priority"],
            dollars(one["cost_usd"]), folder(one["workspace"]),
        )  # fmt: skip
    return [table]


def status(word: str) -> Cell:
    return Cell(words(word), _TONES.get(word, ""))


def doing(one: Record) -> str:
    """What a task is at, waits for, or ended with, in one line."""
    if one["status"] == "failed":
        return _first_line(one["error"] or words(one["failure"]))
    if one["status"] in OVER:
        return _first_line(one["merge_detail"] if one["merge_state"] in ("conflict", "waiting", "kept") else None)
    if one["hold_reason"]:
        return _first_line(one["hold_reason"])
    last = one.get("last_activity")
    return _first_line(_inside(one, last["message"]) if last else None)


def _inside(one: Record, message: str) -> str:
    """Paths in its worktree without it: what differs is at their end, which a narrow column would cut."""
    return message.replace(one["worktree"] + "/", "") if one["worktree"] else message


def dollars(value: float | None) -> str:
    return "-" if value is None else f"${value:.2f}" if value >= 0.1 else f"${value:.4f}"


def task(answer: Record, now: int) -> list[Block]:
    from tasks.advice import advice

    one, facts = answer, Facts()
    facts.add("task", Cell(one["task_id"], STRONG))
    facts.add("status", status(one["status"]), _since(one, now))
    reason = one["why"] or one["hold_reason"]
    if reason and reason != one["merge_detail"]:
        until = one["hold_until"]
        again = f" (looked at again {moment(until)})" if until and until > now and not one["why"] else ""
        facts.add("why", Cell(reason + again, NOTICE))
    if one["error"] or one["failure"]:
        facts.add("error", Cell(": ".join(filter(None, (words(one["failure"]), one["error"]))), BAD))
    _add_merge(facts, one)
    _add_lines(facts, "next", advice(one))
    _add_lines(facts, "description", _some(one["description"].splitlines(), LINES, "line"))
    if one["workspace"]:
        facts.add("workspace", one["workspace"] + ("" if one["isolate"] else " (works in it directly)"))
    _add_setting(facts, one)
    if one["result"]:
        _add_lines(facts, "result", _some(one["result"].splitlines(), LINES, "line"))
    _add_figures(facts, one)
    for label, key in (("created", "created_at"), ("started", "started_at"), ("finished", "finished_at")):
        if one[key] is not None:
            facts.add(label, f"{moment(one[key])} ({ago(one[key], now)})")
    tables = (_runs(one, now), _running(one, now), _calls(one), _verdicts(one), _activity(one))
    return [facts, *(table for table in tables if table.rows)]


def _since(one: Record, now: int) -> str:
    begun, ended = one["started_at"], one["finished_at"]
    if ended is not None:
        took = f", took {span((ended - begun) / 1000)}" if begun is not None else ""
        return f" {ago(ended, now)}{took}"
    return f" for {span((now - (begun if one['status'] == 'running' and begun else one['created_at'])) / 1000)}"


def _add_merge(facts: Facts, one: Record) -> None:
    if one["branch"]:
        where = f" from {one['base_branch']}" if one["base_branch"] else ""
        gone = one["status"] in OVER and not one["worktree"] and one["merge_state"] in ("none", "merged")
        facts.add("branch", f"{one['branch']}{where}, {count(one['commits'], 'commit')}{', removed' * gone}")
    if one["worktree"]:
        facts.add("worktree", one["worktree"])
    state = one["merge_state"]
    if state != "none":
        commit = f" as {one['merge_commit'][:12]}" if one["merge_commit"] else ""
        # What was said when it was merged may be out of date: that its worktree is in use, say.
        stale = state == "merged" and not one["worktree"]
        detail = f": {one['merge_detail']}" if one["merge_detail"] and not stale else ""
        facts.add("merge", Cell(state, _MERGE_TONES.get(state, "")), f"{commit}{detail}")
        _add_lines(facts, "", _some([f"  {path}" for path in one["merge_paths"]], PATHS, "file"))


def _add_setting(facts: Facts, one: Record) -> None:
    kinds = [f"priority {one['priority']}"]
    kinds += [f"{label} {one[key]}" for label, key in (
        ("agent type", "agent_type"), ("workflow", "workflow"), ("model", "model"), ("at most turns:", "max_turns"),
    ) if one[key] is not None]  # fmt: skip
    if one["budget_usd"] is not None:
        kinds.append(f"budget {dollars(one['budget_usd'])}")
    facts.add("settings", ", ".join(kinds))
    for label, key in (("session", "session_uuid"), ("pid", "pid" if one["status"] == "running" else "")):
        if key and one[key] is not None:
            facts.add(label, str(one[key]))


def _add_figures(facts: Facts, one: Record) -> None:
    if one["cost_usd"] is not None or one["turns"] is not None:
        tokens = [
            f"{one[key]:,} tokens {label}"
            for label, key in (("in", "input_tokens"), ("out", "output_tokens"), ("from cache", "cache_read_tokens"))
            if one[key]
        ]
        turns = [] if one["turns"] is None else [count(one["turns"], "turn")]
        facts.add("cost", ", ".join([dollars(one["cost_usd"]), *turns, *tokens]))
    told = one["spent"]
    if told["messages"] and (told["unpriced"] or abs(told["cost"] - (one["cost_usd"] or 0)) > SAME):
        facts.add("by us" if one["cost_usd"] is not None else "cost", spent(told))
    if one["denied"]:
        facts.add("denied", Cell(f"{count(one['denied'], 'call')}: `tasksd logs {one['task_id']}` shows which, "
                                 "agent.allowed_tools in config.toml allows more", NOTICE))  # fmt: skip
    files = one["files"]
    if any(files.values()):
        facts.add("files", f"{files['read']:,} read, {files['write']:,} written, {files['edit']:,} edited")


def _runs(one: Record, now: int) -> Table:
    columns = [
        Column("run", right=True), Column("started"), Column("took"), Column("outcome"), Column("exit", right=True),
        Column("turns", right=True, optional=True), Column("cost", right=True, optional=True),
        Column("session", optional=True),
    ]  # fmt: skip
    table = Table("runs", columns, "")
    for run in one["runs"]:
        end = run["finished_at"] or (now if one["status"] == "running" else None)
        resumed = " (resumed)" if run["resumed"] else ""
        table.add(
            run["attempt"], when(run["started_at"], now),
            "-" if end is None else span((end - run["started_at"]) / 1000),
            words(run["outcome"]) if run["finished_at"] else Cell("running", GOOD),
            "-" if run["exit_status"] is None else run["exit_status"], "-" if run["turns"] is None else run["turns"],
            dollars(run["cost_usd"]), f"{run['session_uuid'] or '-'}{resumed}",
        )  # fmt: skip
    return table


def _calls(one: Record) -> Table:
    table = Table("calls", [Column("tool"), Column("calls", right=True), Column("failed", right=True)], "")
    for tool, (total, failed) in one["calls"].items():
        table.add(tool, total, Cell(failed, BAD if failed else ""))
    return table


def _running(one: Record, now: int) -> Table:
    table = Table("running", [Column("tool"), Column("since"), Column("parameters", flexible=True)], "")
    for call in one["running"]:
        table.add(call["tool_name"], when(call["started_at"], now), call["parameters"] or "-")
    return table


def _verdicts(one: Record) -> Table:
    table = Table("verdicts", [Column("time"), Column("rule"), Column("verdict"), Column("message", wraps=True)], "")
    for verdict in one["verdicts"]:
        said = Cell("passed", GOOD) if verdict["passed"] else Cell(f"not met ({verdict['mode']})", NOTICE)
        table.add(moment(verdict["timestamp"]), words(verdict["stage"]), said, verdict["message"] or "-")
    return table


def _activity(one: Record) -> Table:
    entries = one["activity"]
    more = f", the last {ENTRIES} of {len(entries):,} (`tasksd logs {one['task_id']}` shows all)"
    table = Table(f"activity{more if len(entries) > ENTRIES else ''}",
                  [Column("time"), Column("message", flexible=True)], "")  # fmt: skip
    for entry in entries[-ENTRIES:]:
        table.add(moment(entry["at"]), Cell(entry["message"], short=_inside(one, entry["message"])))
    return table


def entry(one: Record) -> list[Cell]:
    """One line of activity."""
    return [Cell(moment(one["at"]), FAINT), Cell("  "), Cell(one["message"])]


def pool(answer: Record, now: int) -> list[Block]:
    from tasks.cli.overview import pool_line

    facts = Facts()
    facts.add("pool", *pool_line(answer, now))
    facts.add("may wait", count(answer["queue_size"], "task"))
    columns = [Column("place", right=True), Column("task"), Column("priority"), Column("why", flexible=True)]
    table = Table("waiting", columns, "")
    for one in answer["waiting"]:
        table.add(one["position"], one["task_id"], one["priority"], one["reason"] or "-")
    columns = [Column("task"), Column("priority"), Column("why", wraps=True), Column("looked at again")]
    held = Table("held", columns, "")
    for one in answer["held"]:
        held.add(one["task_id"], one["priority"], one["reason"] or "-", moment(one["until"]))
    return [facts, *(each for each in (table, held) if each.rows)]


def cleaned(answer: Sequence[Record], dry_run: bool) -> list[Block]:
    columns = [Column("task"), Column("what", flexible=True), Column("done"), Column("why", flexible=True)]
    table = Table("", columns, "nothing to clean")
    gone = "would be removed" if dry_run else "removed"
    for one in answer:
        done = Cell(gone, GOOD) if one["removed"] else Cell("kept", NOTICE)
        table.add(one["task_id"], one["what"], done, one["reason"] or "-")
    return [table]


def _add_lines(facts: Facts, label: str, lines: Sequence[str]) -> None:
    for number, line in enumerate(lines):
        facts.add("" if number else label, line)


def _some(lines: Sequence[str], most: int, noun: str) -> list[str]:
    left = len(lines) - most
    return [*lines[:most], f"… and {count(left, 'more ' + noun)}"] if left > 0 else list(lines)


def _first_line(text: str | None) -> str:
    return next((line.strip() for line in (text or "").splitlines() if line.strip()), "-")
