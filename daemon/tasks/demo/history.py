"""Makes the past of a demo: a week of sessions and tasks, real repositories, and what is left to be decided by a person."""

import random
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tasks.config import Settings
from tasks.database import SyncDatabase
from tasks.demo.finished import Finished, FinishedTasks, kept, rows
from tasks.demo.ground import environment
from tasks.demo.orders import Order
from tasks.demo.past import Archive
from tasks.demo.place import Place, program
from tasks.demo.projects import PEOPLE, PROJECTS, Project, git, make_repository, tuned
from tasks.demo.sessions import MINUTE, Scene
from tasks.git import Worktrees
from tasks.prices import PriceBook

#: The same content every time.
SEED = 20
_WEEK = 7 * 86_400_000


@dataclass(frozen=True, slots=True)
class Made:
    """How much there is."""

    sessions: int
    tasks: int


def make_history(place: Place, settings: Settings, *, seed: int = SEED) -> Made:
    """Write everything that happened before now. The daemon of these settings must not run yet; `place` is prepared, and its
    environment is that of this process. Raises OSError, CalledProcessError, and what the store and git raise.
    """
    until = time.time_ns() // 1_000_000 - MINUTE
    people = subprocess.Popen(
        program("sessions", str(place.folder), str(until), str(seed)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    try:
        finished = _make_tasks(place, settings, until, seed)
        told, _ = people.communicate()
    except BaseException:
        people.kill()
        people.wait()
        raise
    if people.returncode:
        raise subprocess.CalledProcessError(people.returncode, people.args)
    return Made(int(told), finished)


def _make_tasks(place: Place, settings: Settings, until: int, seed: int) -> int:
    """Play the tasks of a week, make their repositories, and store their rows. Returns how many."""
    archive = Archive(place.spool)
    tasks = FinishedTasks(Scene(archive, place, until), PriceBook.of(settings), seed)
    finished = tasks.play_week()
    finished = _with_repositories(place, finished, until - _WEEK, seed)
    finished += _left_to_people(place, settings, tasks, until, seed)
    archive.save()
    store = SyncDatabase(settings.database_file)
    try:
        store.apply([write for task in finished for write in rows(task, place)])
    finally:
        store.close()
    return len(finished)


def _with_repositories(place: Place, finished: Sequence[Finished], since: int, seed: int) -> list[Finished]:
    """Make the repositories, with the merges of those tasks that have one. Returns the tasks with their merge commits."""
    commits: dict[str, str] = {}
    for project in PROJECTS:
        merged = [one.merged for one in finished if one.order.project is project and one.fate == "merged"]
        merged.sort(key=lambda one: one.at)
        folder = place.workspace(project)
        commits |= make_repository(folder, project, merged, since, seed=seed, environ=environment(place))
    return [replace(one, merge_commit=commits.get(one.task_id)) for one in finished]


def _left_to_people(place: Place, settings: Settings, tasks: FinishedTasks, until: int, seed: int) -> list[Finished]:
    """A branch that really does not fit into main, and one of a task that failed after it had committed."""
    rng = random.Random(f"left {seed}")  # noqa: S311 - invented content
    harbor, lumen = PROJECTS[:2]
    worktrees = Worktrees(settings.worktrees_dir, settings.repository_locks_dir, settings.git)
    order = Order(harbor, "Let sessions expire after the shorter of two limits", "fixer", "bug-triage")
    one = tasks.play(order, "conflict", until - 75 * MINUTE)
    path = harbor.files[1]
    conflict = _with_worktree(worktrees, place, one, path, rng, paths=(path,))
    # Somebody changes the same line on main.
    workspace = place.workspace(harbor)
    _change(workspace / path, rng)
    _commit(place, harbor, str(workspace), "Tighten the limit of sessions", until - 30 * MINUTE, person=PEOPLE[2])
    order = Order(lumen, "Draw the legend of charts below them on phones", None, None)
    one = tasks.play(order, "kept", until - 190 * MINUTE)
    return [conflict, _with_worktree(worktrees, place, one, lumen.files[1], rng)]


def _with_worktree(
    worktrees: Worktrees, place: Place, task: Finished, path: str, rng: random.Random, *, paths: tuple[str, ...] = ()
) -> Finished:
    """With a worktree as the daemon makes it, and a commit in it."""
    made = worktrees.create(task.task_id, place.workspace(task.order.project))
    _change(made.workdir / path, rng)
    _commit(place, task.order.project, str(made.workdir), task.order.description, task.finished_at)
    return kept(task, worktree=str(made.path), base_commit=made.base_commit, paths=paths)


def _change(path: Path, rng: random.Random) -> None:
    path.write_text(tuned(path, rng, 0)[2], encoding="utf-8")


def _commit(
    place: Place, project: Project, folder: str, message: str, at: int, person: tuple[str, str] | None = None
) -> None:
    environ = environment(place)
    dates = {"GIT_AUTHOR_DATE": f"{at // 1000} +0000", "GIT_COMMITTER_DATE": f"{at // 1000} +0000"}
    if person is not None:
        dates |= {"GIT_AUTHOR_NAME": person[0], "GIT_AUTHOR_EMAIL": person[1],
                  "GIT_COMMITTER_NAME": person[0], "GIT_COMMITTER_EMAIL": person[1]}  # fmt: skip
    git(place.workspace(project).parent / folder, "commit", "-q", "-a", "-m", message, environ=environ | dates)
