"""kill -9 of the daemon right before and after every step of one task's life: the next daemon brings it to the same end."""

import json
from http.client import HTTPException

import pytest

from .rig.waiting import until
from .rig.work import OVER, Record, Work, commit

#: Kills the daemon at the AT-th of its steps, counted from when the file ARMED is there.
SOURCE = """
import os, signal
from tasks import process
from tasks.database import Database
from tasks.git import Merger, Worktrees
count = 0

def point():
    global count
    if os.path.exists(os.environ["ARMED"]):
        count += 1
        if count == int(os.environ["AT"]):
            os.kill(os.getpid(), signal.SIGKILL)

def around(place, name):
    step = getattr(place, name)
    def stepped(*args, **options):
        point()
        result = step(*args, **options)
        point()
        return result
    setattr(place, name, stepped)

for place, name in ((Worktrees, "create"), (Worktrees, "remove"), (Merger, "merge"), (process, "spawn")):
    around(place, name)
transaction = Database.transaction

async def stepped(self, work):
    point()
    result = await transaction(self, work)
    point()
    return result
Database.transaction = stepped
"""

#: Steps of a life, with some to spare: whoever has fewer is killed after the last one.
STEPS = 36
SOME = (4, 10, 13, 22, 26, 29)


def settled(tasks: list[Record]) -> bool:
    return all(one["status"] in OVER and one["merge_state"] != "merging" and not one["worktree"] for one in tasks)


@pytest.mark.parametrize("kind", ["completed", "cancelled"])
@pytest.mark.parametrize(
    "at", [pytest.param(at, marks=[] if at in SOME else [pytest.mark.slow]) for at in range(1, STEPS)]
)
def test_a_daemon_killed_at_any_step_of_a_task_leaves_it_to_the_next(work: Work, kind: str, at: int) -> None:
    armed, starts = work.folder / "armed", work.folder / "starts"
    work.daemon.start(SOURCE, ARMED=str(armed), AT=str(at))
    process = work.daemon.process
    assert process is not None
    armed.touch()
    script = commit("x") if kind == "completed" else "while :; do sleep 0.1; done\n"
    try:
        one = work.submit(f"echo start >> {starts}\n{script}")
        if kind == "cancelled":
            until(lambda: process.poll() is not None or work.marked(one), "the agent")
            work.ask("POST", f"/v1/tasks/{one}/cancel")
        until(lambda: process.poll() is not None or settled([work.task(one)]), "the kill, or the end")
    except (OSError, AssertionError, HTTPException, ValueError):
        assert process.wait(10) == -9
    work.daemon.kill()
    work.daemon.start()
    tasks = work.ask("GET", "/v1/tasks")
    for task in tasks:
        if kind == "cancelled" and task["status"] not in OVER:
            work.ask("POST", f"/v1/tasks/{task['task_id']}/cancel")
    until(lambda: settled(work.ask("GET", "/v1/tasks")), "the end", timeout=40)
    until(lambda: (work.worktrees(), work.branches(), work.marked()) == ([], {"main"}, []), "nothing left", timeout=40)
    for task in work.ask("GET", "/v1/tasks"):
        wanted = ("completed", "merged") if kind == "completed" else ("stopped", "none")
        assert (task["status"], task["merge_state"]) == wanted, json.dumps(task, indent=1)
    started = len(starts.read_text().split()) if starts.exists() else 0
    assert started <= 1
    if kind == "completed" and tasks:
        assert started == 1
        assert (work.repository / "x").exists()
    work.daemon.stop()
