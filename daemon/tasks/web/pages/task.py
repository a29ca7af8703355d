"""One task: where it stands and what to do about it; what happened, its calls, changes, output and conflict."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import groupby
from pathlib import Path

from fastapi import HTTPException

from tasks import history
from tasks.advice import advice
from tasks.analytics.drift import drift
from tasks.api.calls import list_task_calls
from tasks.api.diff import Conflict, Diff, read_conflict, read_diff
from tasks.api.logs import Stream, read_logs
from tasks.api.tasks import TaskDetails, read_task
from tasks.history import Record
from tasks.web import patches
from tasks.web.frame import Data, Look, Page
from tasks.web.kept import Kept
from tasks.web.links import linker
from tasks.web.tables import Table
from tasks.web.timeline import timeline
from tasks.words import MergeState

#: Calls of one page.
CALLS = 50
#: Files that its agents touched, files of its difference, paths that are not committed.
TOUCHED, CHANGED, LOOSE = 25, 150, 50
#: Bytes of a patch, lines of it that are shown unasked, lines of one file in conflict.
PATCH, OPEN_LINES, CONFLICT_LINES = 96 << 10, 250, 250
#: Bytes of output.
TAIL = 64 << 10

#: Of a line: (whether it is a command, text).
Pieces = list[tuple[bool, str]]

_diffs: Kept[Diff] = Kept(5.0)
_conflicts: Kept[Conflict] = Kept(5.0)
_tails: Kept[Data] = Kept(1.0)
_touched: Kept[list[Record]] = Kept(2.0)


async def load(look: Look) -> Data:
    ctx = look.ctx
    task = await read_task(ctx, look.path["task_id"])
    id_ = task.task_id
    views = ("timeline", "calls", "changes", "output", *(["conflict"] * (task.merge_state == MergeState.CONFLICT)))
    view = look.choice("view", views)
    touched = await _touched.get(
        (id(ctx), id_),
        lambda: ctx.database.read(lambda reader: history.files_of_task(reader.query, id_, limit=TOUCHED + 1)),
    )
    ids = {one for one in (task.session_uuid, *(run.session_uuid for run in task.runs)) if one}
    sessions = await ctx.database.read(lambda reader: history.known_sessions(reader.query, ids))
    limit = ctx.settings.costs.drift
    off = None if task.cost_usd is None else drift(task.cost_usd, task.spent.cost)
    return {
        "task": task,
        "reason": _pieces(task.why or task.hold_reason or ""),
        "steps": steps(advice(task.model_dump())),
        "sessions": sessions,
        # Where its paths begin, also when the worktree is gone.
        "inside": f"{task.worktree or ctx.settings.worktrees_dir / id_}/",
        "takes_tasks": ctx.dispatcher is not None,
        "views": views,
        "view": view,
        "drift": off,
        "drifts": off is not None and abs(off) > limit and not task.spent.unpriced,
        "touched": touched[:TOUCHED],
        "more_touched": len(touched) > TOUCHED,
        "to": linker(look.query),
    } | await _VIEWS[view](look, task)


def steps(lines: Sequence[str]) -> list[tuple[bool, str | list[Pieces]]]:
    """Advice for a page: (True, commands to copy, as one text), or (False, its lines in pieces)."""
    found: list[tuple[bool, str | list[Pieces]]] = []
    for are_commands, group in groupby(lines, key=lambda line: line.startswith(("  ", "git ", "tasksd "))):
        if are_commands:
            found.append((True, "\n".join(line.strip() for line in group)))
        else:
            found.append((False, [_pieces(line) for line in group]))
    return found


def _pieces(line: str) -> Pieces:
    """A line divided where `…` stands in it."""
    return [(number % 2 == 1, piece) for number, piece in enumerate(line.split("`")) if piece]


async def _timeline(look: Look, task: TaskDetails) -> Data:
    before = look.number("before", 0, most=1 << 62) or None
    left = look.number("left", -1, least=0, most=10_000)
    calls = await list_task_calls(look.ctx, task.task_id, before=before, limit=CALLS)
    page = timeline(task, calls, before=before, left=None if left < 0 else left, limit=CALLS)
    return {"timeline": page, "is_older": before is not None or left >= 0}


async def _calls(look: Look, task: TaskDetails) -> Data:
    before = look.number("before", 0, most=1 << 62) or None
    calls = await list_task_calls(look.ctx, task.task_id, before=before, limit=CALLS)
    return {"calls": calls, "more": len(calls) == CALLS, "is_older": before is not None}


async def _changes(look: Look, task: TaskDetails) -> Data:
    # What may have changed it is part of the key, so that a merge or a new run is seen at once.
    key = (id(look.ctx), task.task_id, task.status, task.merge_state, task.attempt)
    diff = await _diffs.get(key, lambda: read_diff(look.ctx, task.task_id, limit_bytes=PATCH))
    shown = diff.files[:CHANGED]
    return {
        "diff": diff,
        "files": patches.by_file(shown, diff.patch, most_open=OPEN_LINES),
        "more_files": len(diff.files) - len(shown) + diff.more_files,
        "loose": diff.uncommitted[:LOOSE],
        "more_loose": max(0, len(diff.uncommitted) - LOOSE) + diff.more_uncommitted,
    }


async def _conflict(look: Look, task: TaskDetails) -> Data:
    key = (id(look.ctx), task.task_id, task.merge_detail)
    found = await _conflicts.get(key, lambda: read_conflict(look.ctx, task.task_id))
    files = [
        (one, patches.conflict_blocks(one.text, most=CONFLICT_LINES) if one.text is not None else [])
        for one in found.files
    ]
    return {"conflict": found, "files": files}


async def _output(look: Look, task: TaskDetails) -> Data:
    stream: Stream = "errors" if look.query.get("stream") == "errors" else "output"
    key = (id(look.ctx), task.task_id, task.attempt, stream)
    return {"stream": stream} | await _tails.get(key, lambda: _tail(look, task, stream))


async def _tail(look: Look, task: TaskDetails, stream: Stream) -> Data:
    """`tail`: the end of what the agent of the latest run wrote; `tail_cut`: bytes before it; `no_tail`: why there is none."""
    path = look.ctx.settings.runs_dir / task.task_id / str(task.attempt) / stream
    begin = max(0, await asyncio.to_thread(_size, path) - TAIL)
    try:
        answer = await read_logs(
            look.ctx, task.task_id, stream=stream, attempt=None, offset=begin, limit=TAIL, follow=False, after=None,
            last_event_id=None,
        )  # fmt: skip
    except HTTPException as error:
        return {"tail": "", "tail_cut": 0, "no_tail": str(error.detail)}
    return {"tail": bytes(answer.body).decode()[-TAIL:], "tail_cut": begin, "no_tail": ""}


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


_VIEWS: dict[str, Callable[[Look, TaskDetails], Awaitable[Data]]] = {
    "timeline": _timeline,
    "calls": _calls,
    "changes": _changes,
    "output": _output,
    "conflict": _conflict,
}

PAGES = (
    Page("/tasks/{task_id}", "task", "Task", load, ("head", "running", "view", "facts", "money", "work"), menu="tasks"),
)
TABLES: tuple[Table, ...] = ()
