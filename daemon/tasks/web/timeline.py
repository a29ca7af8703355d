"""What happened to a task, in one order: what it reported, its runs, verdicts and calls."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.api.calls import Call
from tasks.api.tasks import Run, TaskDetails

#: Entries of one page.
MOST = 80


@dataclass(frozen=True, slots=True)
class Entry:
    """`kind`: said, call, begun, ended, verdict; `what`: the message, or the call, run or verdict itself."""

    at: int
    kind: str
    what: Any
    key: str
    #: the day that it is the first entry of on its page, else ""
    day: str = ""


@dataclass(frozen=True, slots=True)
class Timeline:
    #: newest first
    entries: list[Entry]
    #: where the next page begins: `before` the call of this id, and with the `left` oldest of all other entries
    before: int | None
    left: int
    more: bool


def timeline(task: TaskDetails, calls: Sequence[Call], *, before: int | None, left: int | None, limit: int) -> Timeline:
    """One page. `calls` are those before the call `before`, newest first, `limit` of them unless there are fewer; `left` is
    how many other entries are left (None: all).
    """
    notes = sorted(_notes(task), key=lambda one: one.at)
    notes = notes if left is None else notes[:left]
    done = [Entry(one.timestamp, "call", one, f"c{one.id}") for one in calls]
    merged = sorted([*reversed(notes), *done], key=lambda one: -one.at)
    shown = merged[:MOST]
    last = next((one.what.id for one in reversed(shown) if one.kind == "call"), before)
    rest = len(notes) - sum(one.kind != "call" for one in shown)
    more = len(merged) > len(shown) or len(calls) == limit
    return Timeline(_with_days(shown), last, rest, more)


def _notes(task: TaskDetails) -> Iterator[Entry]:
    # What an agent's output says of calls is told by the calls themselves, with more.
    tools = {*task.calls, *(one.tool_name for one in task.running)}
    for one in task.activity:
        if not (tools and _tool_of(one.message) in tools):
            yield Entry(one.at, "said", one.message, f"a{one.id}")
    for run in task.runs:
        yield Entry(run.started_at, "begun", run, f"b{run.attempt}")
        if run.finished_at is not None:
            yield Entry(run.finished_at, "ended", run, f"e{run.attempt}")
    for number, verdict in enumerate(task.verdicts):
        yield Entry(verdict.timestamp, "verdict", verdict, f"v{number}.{verdict.timestamp}")


def _tool_of(message: str) -> str:
    """The tool that an entry of activity may name: `Bash: make`, `[Explore] Read: a.py`."""
    if message.startswith("["):
        message = message.partition("] ")[2]
    return message.partition(":")[0]


def _with_days(entries: Sequence[Entry]) -> list[Entry]:
    found, last = [], None
    for one in entries:
        day = _day(one.at)
        found.append(Entry(one.at, one.kind, one.what, one.key, day if day != last else ""))
        last = day
    return found


def _day(at: int) -> str:
    try:
        return time.strftime("%Y-%m-%d", time.localtime(at / 1000))
    except (OverflowError, ValueError, OSError):
        return "?"


def took(run: Run) -> int | None:
    """Milliseconds; None: it goes on."""
    return None if run.finished_at is None else run.finished_at - run.started_at
