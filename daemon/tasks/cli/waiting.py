"""Staying with a task until it is over: live in a terminal, line by line elsewhere. Leaving does not end the task."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from tasks.advice import advice
from tasks.cli import asking, taskviews
from tasks.cli.app import EXIT_INTERRUPTED, say
from tasks.cli.page import BAD, FAINT, NOTICE, STRONG, Cell
from tasks.client import Client
from tasks.config import Settings
from tasks.errors import EXIT_FAILED, EXIT_OK, DaemonNotRunning
from tasks.text import moment, span

#: Seconds between two looks.
LOOK = 1.0
#: Seconds for which a merge may not begin, or wait for something, before it is not waited for any longer.
MERGE_PATIENCE = 60.0


class _Display(Protocol):
    def show(self, task: Any, note: str | None) -> None: ...


def wait_for(id_: str, settings: Settings) -> tuple[bytes, int]:
    """Stay until the task is over. Returns the API's last answer about it and the exit code."""
    client = asking.client_for(settings)
    body = b""
    try:
        with _display(client) as display:
            for look in _looks(client, id_):
                body, task, note = look
                display.show(task, note)
    except KeyboardInterrupt:
        say(f"task {id_} goes on: `tasksd show {id_}` tells how it is, `tasksd cancel {id_}` stops it")
        return body, EXIT_INTERRUPTED
    task = json.loads(body)
    _conclude(task)
    return body, EXIT_OK if _succeeded(task) else EXIT_FAILED


def _looks(client: Client, id_: str) -> Iterator[tuple[bytes, Any, str | None]]:
    """(answer, the same parsed, what is wrong meanwhile) again and again, also while no daemon runs."""
    body, task, over_since = b"", None, 0.0
    while True:
        note = None
        try:
            body = client.fetch(f"/v1/tasks/{id_}")
            task = json.loads(body)
        except DaemonNotRunning as error:
            note = f"{error}; waiting for it"
        if task is not None:
            yield body, task, note
            if task["status"] in taskviews.OVER and note is None:
                over_since = over_since or time.monotonic()
                if _is_settled(task, time.monotonic() - over_since):
                    return
        time.sleep(LOOK)


def _is_settled(task: dict[str, Any], seconds: float) -> bool:
    """Whether nothing more is to be expected, `seconds` after its end was seen."""
    match task["merge_state"]:
        case "merging":
            return False
        case "waiting":
            return seconds > MERGE_PATIENCE
        case "none":
            return task["worktree"] is None or seconds > MERGE_PATIENCE
        case _:
            return True


def _succeeded(task: dict[str, Any]) -> bool:
    nothing_to_merge = task["merge_state"] == "none" and not (task["worktree"] and task["commits"])
    return bool(task["status"] == "completed" and (task["merge_state"] == "merged" or nothing_to_merge))


def _conclude(task: Any) -> None:
    """How it ended, and what to do now."""
    id_, state = task["task_id"], task["merge_state"]
    end = f"task {id_} {task['status']}"
    if task["status"] == "completed" and state != "none":
        how = {"merged": "merged", "conflict": "its merge conflicts", "waiting": "its merge waits", "kept": "kept"}
        end += f", {how.get(state, state)}"
        end += f" into {task['base_branch']}" if state == "merged" and task["base_branch"] else ""
        end += f": {task['merge_detail']}" if task["merge_detail"] and (state != "merged" or task["worktree"]) else ""
    elif task["error"]:
        end += f": {task['error']}"
    say(end)
    for path in task["merge_paths"]:
        say(f"  {path}")
    for line in advice(task):
        say(line)


@contextmanager
def _display(client: Client) -> Iterator[_Display]:
    if sys.stderr is None or not sys.stderr.isatty():
        yield _Lines(client)
        return
    from rich.live import Live

    from tasks.cli import styled

    console = styled.console(stderr=True)
    with Live(console=console, auto_refresh=False, transient=True) as view:

        class OneLine:
            def show(self, task: Any, note: str | None) -> None:
                text = styled.line(_progress(task, note))
                text.truncate(console.width, overflow="ellipsis")
                view.update(text, refresh=True)

        yield OneLine()


class _Lines:
    """Prints what is new, a line each."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._seen: str | None = None
        self._status: tuple[str, str] | None = None
        self._note: str | None = None

    def show(self, task: Any, note: str | None) -> None:
        for entry in task["activity"][self._place(task["activity"]) :]:
            say(f"{moment(entry['at'])[11:]} {task['task_id']} {entry['message']}")
            self._seen = entry["id"]
        status = (task["status"], task["why"] or task["hold_reason"] or "")
        if status != self._status:
            say(f"{moment(asking.now_ms())[11:]} {task['task_id']} {': '.join(filter(None, status))}")
        if note and note != self._note:
            say(note)
        self._status, self._note = status, note

    def _place(self, entries: Any) -> int:
        """Where what was not seen yet begins."""
        if self._seen is None:
            return 0
        at = int(self._seen.partition(".")[0])
        places = [index for index, one in enumerate(entries) if one["id"] == self._seen or one["at"] < at]
        return max(places, default=-1) + 1


def _progress(task: Any, note: str | None) -> list[Cell]:
    begun = task["started_at"] or task["created_at"]
    end = task["finished_at"] or asking.now_ms()
    cells = [
        Cell(f"{task['task_id']}  ", STRONG), taskviews.status(task["status"]), Cell(f"  {span((end - begun) / 1000)}"),
    ]  # fmt: skip
    if task["cost_usd"] is not None:
        cells.append(Cell(f"  {taskviews.dollars(task['cost_usd'])}"))
    if note:
        return [*cells, Cell(f"  {note}", BAD)]
    if task["status"] in taskviews.OVER:
        detail = f": {task['merge_detail']}" if task["merge_state"] == "waiting" and task["merge_detail"] else ""
        return [*cells, Cell(f"  merge: {task['merge_state']}{detail}", NOTICE if detail else FAINT)]
    if task["status"] != "running" and (why := task["why"] or task["hold_reason"]):
        return [*cells, Cell(f"  {why}", NOTICE)]
    last = taskviews.doing(task | {"last_activity": task["activity"][-1] if task["activity"] else None})
    return [*cells, Cell(f"  {last}", FAINT)]
