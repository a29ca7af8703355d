"""Keeps a demo alive: hands over tasks, lets people work, resolves conflicts, and takes away what is old."""

import contextlib
import logging
import random
import shutil
import subprocess
import threading
import time
import uuid
from pathlib import Path
from typing import Any

from tasks.client import Client, target
from tasks.demo.ground import AGENTS, environment
from tasks.demo.orders import ASKING, Order, orders
from tasks.demo.place import Place, player
from tasks.demo.player import TIGHTEN
from tasks.demo.projects import PEOPLE, PROJECTS, git
from tasks.demo.work import SMALL, STRONG, USUAL
from tasks.errors import TasksError

log = logging.getLogger(__name__)

#: Seconds between two looks.
INTERVAL = 3.0
#: Tasks that are handed over and not finished: some work, the others wait.
_UNFINISHED = AGENTS + 4
#: People who work in their own folders at once.
_PEOPLE = 2
#: Tasks between two that get in each other's way, and looks between two tidyings.
_CLASH, _TIDY = 8, 200
#: Seconds after which a conflict is resolved by somebody, and after which what tasks left is removed.
_RESOLVED_AFTER, _OLD = 150, 6 * 3600


class Driver:
    """Runs in a thread of its own until `stop`. What goes wrong is logged and tried again: a demo goes on."""

    def __init__(self, place: Place, client: Client, *, seed: int) -> None:
        self._place = place
        self._client = client
        self._rng = random.Random(f"driver {seed}")  # noqa: S311 - invented content
        self._began = time.time()
        self._orders: list[Order] = []
        self._people: list[subprocess.Popen[bytes]] = []
        self._begun = 0
        #: tasks since the last two that clash
        self._handed_over = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="demo-driver", daemon=True)
        #: tasks of ours that conflict → since when, monotonic seconds
        self._conflicts: dict[str, float] = {}

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the people and the thread."""
        self._stopping.set()
        self._thread.join(30)
        for one in self._people:
            one.terminate()
        for one in self._people:
            try:
                one.wait(10)
            except subprocess.TimeoutExpired:
                one.kill()
                one.wait()

    def _run(self) -> None:
        looks = 0
        while not self._stopping.wait(INTERVAL if looks else 0):
            try:
                self._look(looks)
            except (TasksError, OSError, subprocess.SubprocessError) as error:
                log.warning("the demo could not go on, trying again error=%s", error)
            looks += 1

    def _look(self, looks: int) -> None:
        self._let_people_work()
        live = self._client.get(target("/v1/tasks", live=True, limit=100))
        # All at once in the beginning, then one at a time.
        missing = _UNFINISHED - len(live)
        for _ in range(missing if looks == 0 else min(missing, 1)):
            self._submit(self._next())
        if self._handed_over >= _CLASH and len(self._conflicts) < 2:
            self._submit_clash()
            self._handed_over = 0
        self._resolve(self._rng)
        if looks % _TIDY == _TIDY - 1:
            self._tidy()

    def _next(self) -> Order:
        self._orders = self._orders or orders(self._rng)
        return self._orders.pop()

    def _submit(self, order: Order, priority: str | None = None) -> None:
        rng = self._rng
        self._handed_over += 1
        self._client.post(
            "/v1/tasks",
            {
                "description": order.description, "workspace": str(self._place.workspace(order.project)),
                "agent_type": order.agent_type, "workflow": order.workflow, "user_id": rng.randint(1, ASKING),
                "priority": priority or rng.choices(("high", "normal", "low"), (25, 50, 25))[0],
                "model": rng.choices((None, STRONG, USUAL, SMALL), (55, 25, 15, 5))[0],
            },
        )  # fmt: skip

    def _submit_clash(self) -> None:
        """Two at once that change the same line."""
        project = self._rng.choice(PROJECTS)
        name = next(iter(project.modules.values()))[0]
        for agent_type in ("fixer", "reviewer"):
            self._submit(Order(project, f"{TIGHTEN}{name}", agent_type, None), "high")

    def _let_people_work(self) -> None:
        self._people = [one for one in self._people if one.poll() is None]
        if len(self._people) < _PEOPLE:
            # One after another in each project, so that two do not sit in the same one.
            self._begun += 1
            folder = self._place.workspace(PROJECTS[self._begun % len(PROJECTS)])
            command = player("person", str(uuid.uuid4()), self._rng.choice((STRONG, USUAL)), self._place.pace)
            started = subprocess.Popen(
                command, cwd=folder, env=environment(self._place), start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            self._people.append(started)

    def _resolve(self, rng: random.Random) -> None:
        """Of the conflicts that came up since, the older ones are resolved: by their agent's version."""
        since = int(self._began * 1000)
        tasks: list[dict[str, Any]] = self._client.get(target("/v1/tasks", status="completed", since=since, limit=200))
        stuck = {one["task_id"]: one for one in tasks if one["merge_state"] == "conflict"}
        now = time.monotonic()
        self._conflicts = {task_id: self._conflicts.get(task_id, now) for task_id in stuck}
        for task_id, task in stuck.items():
            if now - self._conflicts[task_id] >= _RESOLVED_AFTER and task["worktree"]:
                self._conflicts[task_id] = now  # should it not work, it is tried again as late
                name, address = rng.choice(PEOPLE)
                person = {"GIT_AUTHOR_NAME": name, "GIT_AUTHOR_EMAIL": address}
                environ = environment(self._place) | person
                git(Path(task["worktree"]), "merge", "-q", "-X", "ours", "--no-edit", "main", environ=environ)
                self._client.post(f"/v1/tasks/{task_id}/merge")

    def _tidy(self) -> None:
        """What is not looked at any more leaves the disk."""
        self._client.post("/v1/tasks/clean", {"older_than_ms": _OLD * 1000})
        before = time.time() - _OLD
        for path in self._place.transcripts.glob("*/*.jsonl"):
            with contextlib.suppress(FileNotFoundError):
                # Those of the week before are older than the demo, and stay.
                if self._began < path.stat().st_mtime < before:
                    path.unlink()
                    shutil.rmtree(path.with_suffix(""), ignore_errors=True)
        for project in PROJECTS:
            git(self._place.workspace(project), "repack", "-d", "-q", environ=environment(self._place))
