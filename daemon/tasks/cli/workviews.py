"""Turns statistics of errors and tasks into pages. Times are epoch milliseconds, money dollars."""

from __future__ import annotations

from tasks.cli.charts import bar, sparkline
from tasks.cli.costviews import dollars, least
from tasks.cli.page import BAD, FAINT, GOOD, NOTICE, STRONG, Cell, Column, Facts, Table
from tasks.cli.statsviews import WIDTH, name, percent
from tasks.cli.views import when, words
from tasks.text import count, span

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from tasks.cli.page import Block

    Record = Mapping[str, Any]

_TRENDS = {"new": BAD, "rising": BAD, "falling": GOOD}
#: What a task is named by that was handed over without one.
_UNSAID = {"model": "(default)"}
#: Days of a sparkline.
_DAYS = 30


def errors(answer: Record, span_words: str, now: int) -> list[Block]:
    if not answer["categories"]:
        return [Table("", [Column("")], f"no failed calls in {span_words}")]
    total = sum(answer["categories"].values())
    calls = sum(one["calls"] for one in answer["tools"])
    facts = Facts()
    facts.add("failed", Cell(f"{total:,}", STRONG), f" of {count(calls, 'call')} ({percent(total / max(calls, 1))})")
    table = Table("", [Column("category"), Column("calls", right=True), Column("", optional=True)], "")
    for category, number in answer["categories"].items():
        table.add(category, f"{number:,}", Cell(bar(number / total, WIDTH), FAINT))
    return [facts, table, *kinds(answer["kinds"], span_words, now)]


def kinds(answer: Sequence[Record], span_words: str, now: int) -> list[Block]:
    columns = [
        Column("calls", right=True), Column("share", right=True, optional=True), Column("trend"),
        Column("by day", optional=True), Column("tool"), Column("category", optional=True),
        Column("error", flexible=True, room=30), Column("first", optional=True), Column("last"),
    ]  # fmt: skip
    table = Table("", columns, f"no failed calls in {span_words}")
    for one in answer:
        table.add(
            f"{one['calls']:,}", percent(one["share"]), Cell(one["trend"], _TRENDS.get(one["trend"], "")),
            Cell(sparkline(one["daily"][-_DAYS:]), FAINT), one["tool_name"], one["error_category"],
            one["message"] or Cell(f"(not stored) {one['fingerprint']}", FAINT), when(one["first_seen"], now),
            when(one["last_seen"], now),
        )  # fmt: skip
    return [table]


def rates(answer: Sequence[Record], dimension: str, span_words: str) -> list[Block]:
    columns = [
        Column(words(dimension), flexible=True, room=22), Column("calls", right=True), Column("failed", right=True),
        Column("rate", right=True), Column("of failures", right=True, optional=True), Column("", optional=True),
    ]  # fmt: skip
    table = Table("", columns, f"no {'failed ' * (dimension == 'category')}calls in {span_words}")
    for one in answer:
        table.add(
            name(one["value"], dimension), f"{one['calls']:,}", f"{one['failures']:,}",
            Cell(percent(one["rate"]), _failing(one["rate"])), percent(one["share"]),
            Cell(bar(one["share"], WIDTH), FAINT),
        )  # fmt: skip
    return [table]


def daily(answer: Sequence[Record]) -> list[Block]:
    columns = [
        Column("day"), Column("calls", right=True), Column("failed", right=True), Column("rate", right=True),
        Column("", optional=True), Column("mostly", flexible=True, optional=True),
    ]  # fmt: skip
    table = Table("", columns, "no days")
    most = max((one["failures"] for one in answer), default=0) or 1
    for one in answer:
        rate = one["rate"]
        table.add(
            one["date"], f"{one['calls']:,}", f"{one['failures']:,}",
            Cell("-") if rate is None else Cell(percent(rate), _failing(rate)),
            Cell(bar(one["failures"] / most, WIDTH), FAINT), _named(one["categories"], 3),
        )  # fmt: skip
    return [table]


def tasks(answer: Record, span_words: str) -> list[Block]:
    facts = Facts()
    if not answer["tasks"]:
        facts.add("tasks", f"none were handed over in {span_words}")
        return [facts]
    statuses = ", ".join(f"{number:,} {status}" for status, number in answer["statuses"].items() if number)
    facts.add("tasks", Cell(f"{answer['tasks']:,}", STRONG), f" handed over in {span_words}: {statuses}")
    facts.add("success", _rate(answer["success_rate"]), " of those that completed or failed")
    if answer["failures"]:
        facts.add("failures", _named(answer["failures"], 10))
    for label, key in (("duration", "duration_s"), ("running", "running_s"), ("queued", "queued_s")):
        if answer[key]:
            facts.add(label, f"median {_seconds(answer[key]['p50'])}, 95 % within {_seconds(answer[key]['p95'])}")
    if answer["retries"]:
        facts.add("retries", f"{answer['retries']:,} of {count(answer['retried_tasks'], 'task')}")
    merges = [f"{answer[key]:,} {word}" for key, word in
              (("merged", "merged"), ("conflict", "in conflict"), ("kept", "kept")) if answer[key]]  # fmt: skip
    facts.add("branches", ", ".join(merges) or "none merged, none in conflict, none kept")
    _add_money(facts, answer)
    return [facts]


def _add_money(facts: Facts, answer: Record) -> None:
    if answer["cost_usd"] is None:
        facts.add("cost", "not known" + (f": {_unpriced(answer)}" if answer["unpriced"] else ""))
        return
    notes = [_unpriced(answer)] if answer["unpriced"] else []
    if answer["reported_only"]:
        notes.append(f"of {count(answer['reported_only'], 'task')} only what the client reported")
    facts.add("cost", Cell(_cost(answer, "cost_usd"), STRONG), f" ({'; '.join(notes)})" if notes else "")
    if answer["reported_usd"] is not None:
        facts.add("reported", f"{dollars(answer['reported_usd'])} by the client itself")
    failed, stopped = _least(answer, "failed_usd", "failed_unpriced"), _least(answer, "stopped_usd", "stopped_unpriced")
    facts.add("lost", f"{failed} on failed tasks, {stopped} on stopped ones")
    if answer["cost_per_merged_usd"] is not None:
        own = ""
        if answer["merged_task_usd"] is not None:
            own = f"; on such a task itself {_least(answer, 'merged_task_usd', 'merged_unpriced')}"
        facts.add("per merge", f"{_cost(answer, 'cost_per_merged_usd')} on all tasks for each merged one{own}")


def task_groups(answer: Sequence[Record], dimension: str, span_words: str) -> list[Block]:
    columns = [
        Column(words(dimension), flexible=True, room=16), Column("tasks", right=True), Column("", optional=True),
        Column("success", right=True), Column("failed", right=True), Column("median", right=True, optional=True),
        Column("retries", right=True, optional=True), Column("merged", right=True), Column("cost", right=True),
        Column("lost", right=True, optional=True), Column("per merge", right=True, optional=True),
    ]  # fmt: skip
    table = Table("", columns, f"no tasks in {span_words}")
    most = max((one["tasks"] for one in answer), default=1)
    for one in answer:
        duration = one["duration_s"]
        table.add(
            Cell(one["value"]) if one["value"] else Cell(_UNSAID.get(dimension, "(none)"), FAINT), f"{one['tasks']:,}",
            Cell(bar(one["tasks"] / most, WIDTH), FAINT), _rate(one["success_rate"]), f"{one['statuses']['failed']:,}",
            _seconds(duration["p50"]) if duration else "-", f"{one['retries']:,}", f"{one['merged']:,}",
            _cost(one, "cost_usd"), _lost(one),
            _cost(one, "cost_per_merged_usd"),
        )  # fmt: skip
    return [table]


def _cost(one: Record, key: str) -> str:
    """Where answers without a price are among them, the least that it is."""
    if one[key] is None:
        return "unpriced" if one["unpriced"] else "-"
    return least(one) + dollars(one[key])


def _lost(one: Record) -> str:
    unpriced = one["failed_unpriced"] + one["stopped_unpriced"]
    return least({"unpriced": unpriced}) + dollars(one["failed_usd"] + one["stopped_usd"])


def _least(one: Record, key: str, unpriced: str) -> str:
    return least({"unpriced": one[unpriced]}) + dollars(one[key])


def _unpriced(answer: Record) -> str:
    return f"{count(answer['unpriced'], 'answer')} of models without a price not counted"


def _rate(rate: float | None) -> Cell:
    return Cell("-") if rate is None else Cell(percent(rate), GOOD if rate == 1 else NOTICE if rate >= 0.5 else BAD)


def _failing(rate: float) -> str:
    return GOOD if rate == 0 else NOTICE if rate <= 0.5 else BAD


def _seconds(value: float) -> str:
    return f"{value:.1f} s" if 0 < value < 10 else span(value)


def _named(counts: Mapping[str, int], most: int) -> str:
    named = [f"{one} {number:,}" for one, number in list(counts.items())[:most]]
    return ", ".join(named + ["…"] * (len(counts) > most)) or "-"
