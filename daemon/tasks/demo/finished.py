"""The tasks of the past week: what their agents did, and their rows as the daemon would have left them."""

import json
import random
import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from tasks.database import Value, Write
from tasks.demo.bill import dollars
from tasks.demo.conversation import Conversation, Tokens, unique
from tasks.demo.orders import ASKING, ERRORS, FATES, Fate, Order, error_of, orders
from tasks.demo.past import PastStage, moments
from tasks.demo.place import Place
from tasks.demo.projects import Merged
from tasks.demo.sessions import MINUTE, Scene
from tasks.demo.work import LAST_WORDS, SMALL, STRONG, SUBAGENTS, UNPRICED, USUAL, Work
from tasks.enforcer import Verdict, verdict_write
from tasks.manager.task import COLUMNS, RUN_COLUMNS
from tasks.prices import PriceBook
from tasks.words import RuleMode, Stage

_TASK = f"INSERT INTO tasks ({', '.join(COLUMNS)}) VALUES ({', '.join(':' + name for name in COLUMNS)})"
_RUN = f"INSERT INTO runs ({', '.join(RUN_COLUMNS)}) VALUES ({', '.join(':' + name for name in RUN_COLUMNS)})"

#: Fates in which nothing says how the agent ended.
_SILENT = frozenset(("timeout", "no_progress", "lost", "stopped", "kept"))
#: Milliseconds that a run may take by default.
_LONGEST = 120 * MINUTE
_EXITS: Mapping[Fate, int | None] = {
    "timeout": 137,
    "kept": 137,
    "no_progress": 137,
    "stopped": 130,
    "lost": None,
    "not_started": None,
}


@dataclass(frozen=True, slots=True)
class Finished:
    """A task that is over. Times in epoch milliseconds."""

    task_id: str
    order: Order
    fate: Fate
    priority: int
    model: str | None
    user_id: int
    created_at: int
    started_at: int
    finished_at: int
    session: str | None
    spent: Mapping[str, Tokens]
    turns: int
    cost_usd: float
    activity: tuple[tuple[int, str], ...]
    result: str | None = None
    merge_commit: str | None = None
    #: of one whose work is kept
    worktree: str | None = None
    base_commit: str | None = None
    merge_paths: tuple[str, ...] = ()

    @property
    def merged(self) -> Merged:
        return Merged(self.task_id, self.order.description, self.finished_at + 1500)

    @property
    def is_failed(self) -> bool:
        return self.fate in ERRORS

    def said_of(self, fate: Fate) -> str | None:
        return error_of(fate, self.order.project, turns=self.turns, dollars=self.cost_usd)


class FinishedTasks:
    """Plays the tasks of a week."""

    def __init__(self, scene: Scene, book: PriceBook, seed: int) -> None:
        self._scene = scene
        self._book = book
        self._rng = random.Random(f"tasks {seed}")  # noqa: S311 - invented content

    def play_week(self) -> list[Finished]:
        """Those that are merged, failed or stopped, oldest first."""
        waiting: list[Order] = []
        found = []
        for number, at in enumerate(moments(self._rng, self._scene.until, weekday=8, weekend=2)):
            waiting = waiting or orders(self._rng)
            fate = FATES[number % len(FATES)]
            if fate in ("timeout", "no_progress") and at > self._scene.until - 2 * _LONGEST:
                fate = "merged"
            found.append(self.play(waiting.pop(), fate, at))
        # Whatever time of day it is.
        for minutes in (200, 140, 90, 45):
            waiting = waiting or orders(self._rng)
            found.append(self.play(waiting.pop(), "merged", self._scene.until - minutes * MINUTE))
        return sorted(found, key=lambda one: one.created_at)

    def play(self, order: Order, fate: Fate, created_at: int) -> Finished:
        """One task from being handed over to its end."""
        rng = self._rng
        task_id = f"{rng.getrandbits(24):06x}"
        model = rng.choices((None, STRONG, USUAL, SMALL, UNPRICED), (46, 30, 12, 8, 4))[0]
        runs = self._scene.place.runs / task_id
        archive = self._scene.archive
        started_at = created_at + int(rng.lognormvariate(9.2, 1.1))
        stage = PastStage(archive, started_at, archive.pid(), task_id, runs / "1/output")
        one = Conversation(
            stage, rng, unique(rng), self._scene.place.worktrees / task_id, self._scene.place.transcripts, model or USUAL,
            branch=f"task/{task_id}", thinking=9.2,
        )  # fmt: skip
        runs.mkdir(mode=0o700, parents=True)
        (runs / "prompt").write_text(order.description, encoding="utf-8")
        result = None
        if fate != "not_started":
            result = self._play(one, order, fate)
        return Finished(
            task_id=task_id, order=order, fate=fate, priority=rng.choices((0, 1, 2), (22, 58, 20))[0], model=model,
            user_id=rng.randint(1, ASKING), created_at=created_at, started_at=started_at, finished_at=stage.now(),
            session=None if fate == "not_started" else one.session, spent=dict(one.spent), turns=one.turns,
            cost_usd=dollars(self._book, one.spent, stage.now()), activity=_activity(one, started_at, order), result=result,
        )  # fmt: skip

    def _play(self, one: Conversation, order: Order, fate: Fate) -> str | None:
        """What its agent does. Returns its last words when it ends well."""
        rng, stage = self._rng, one.stage
        work = Work(rng, order.project, one.cwd, care=rng.uniform(0.88, 0.97), attended=False)
        began = stage.now()
        one.start()
        one.prompt(order.description)
        for _ in range(rng.randint(9, 34) if fate != "nothing" else 6):
            if stage.now() > self._scene.until - 2 * MINUTE:
                break
            if rng.random() < 0.05:
                agent = rng.choice(SUBAGENTS)
                one.delegate(agent, f"Find what uses {work.name()}", SMALL, work.side_work(rng.randint(3, 8)))
            else:
                work.go_on(one, 1)
        if fate not in ("nothing", "policy"):
            commit = work.command(f"git commit -qam '{order.description}'", "Commit the work", "", 60)
            one.answer("", [commit])
        if fate == "no_progress":
            stage.wait(20 * MINUTE)
        if fate in ("timeout", "kept"):
            stage.wait(max(0, began + _LONGEST - stage.now()))
        if fate in _SILENT:
            one.end()
            return None
        if fate in ("agent_error", "max_turns", "budget"):
            cost = dollars(self._book, one.spent, stage.now())
            error = error_of(fate, order.project, turns=one.turns, dollars=cost) or ""
            one.fail("server_error" if fate == "agent_error" else "unknown", error)
            one.result(error, cost, is_error=True, terminal_reason=fate)
            one.end()
            return None
        words = (
            "There was nothing to change: it is done that way already." if fate == "nothing" else rng.choice(LAST_WORDS)
        )
        one.stop(words)
        one.result(words, dollars(self._book, one.spent, stage.now()))
        one.end()
        return words


def rows(task: Finished, place: Place) -> list[Write]:
    """What the store holds of a task that is over."""
    usage = _usage(task)
    run: dict[str, Value] = dict.fromkeys(RUN_COLUMNS) | usage | {
        "task_id": task.task_id, "attempt": 1, "session_uuid": task.session, "resumed": 0, "host": socket.gethostname(),
        "started_at": task.started_at, "started_monotonic": 0.0, "finished_at": task.finished_at,
        "exit_status": _EXITS.get(task.fate, 1 if task.is_failed and task.fate != "policy" else 0),
        "outcome": _outcome(task),
    }  # fmt: skip
    writes = [Write.one(_TASK, _row(task, place, usage)), Write.one(_RUN, run)]
    if task.fate == "policy" or (task.fate == "merged" and task.turns % 7 == 0):
        verdict = Verdict(
            Stage.POST_TASK, RuleMode.BLOCK if task.fate == "policy" else RuleMode.WARN, passed=False,
            message=task.said_of("policy") or "", workspace=str(place.worktrees / task.task_id),
            agent_type=task.order.agent_type, task_id=task.task_id, session_uuid=task.session,
        )  # fmt: skip
        writes.append(verdict_write(verdict, timestamp=task.finished_at))
    return writes


def _outcome(task: Finished) -> str:
    if task.fate == "kept":
        return "timeout"
    return task.fate if task.fate == "stopped" or (task.is_failed and task.fate != "policy") else "completed"


def _row(task: Finished, place: Place, usage: dict[str, Value]) -> dict[str, Value]:
    order, fate = task.order, task.fate
    has_branch = fate not in ("not_started", "nothing")
    status = "stopped" if fate == "stopped" else "failed" if task.is_failed or fate == "kept" else "completed"
    merge_state = fate if fate in ("merged", "conflict", "kept") else "none"
    return dict.fromkeys(COLUMNS) | usage | {
        "task_id": task.task_id, "user_id": task.user_id, "description": order.description, "status": status,
        "priority": task.priority, "agent_type": order.agent_type, "workflow": order.workflow, "model": task.model,
        "workspace": str(place.workspace(order.project)), "isolate": 1, "attempt": 1,
        "session_uuid": task.session, "host": socket.gethostname(), "worktree": task.worktree,
        "branch": f"task/{task.task_id}" if has_branch else None, "base_branch": "main" if has_branch else None,
        "base_commit": task.base_commit, "commits": int(fate in ("merged", "conflict", "kept")), "merge_state": merge_state,
        "merge_detail": _merge_detail(task), "merge_paths": json.dumps(task.merge_paths) if task.merge_paths else None,
        "merge_commit": task.merge_commit, "result": task.result,
        "error": task.said_of(fate), "failure": _failure(task),
        "activity_log": json.dumps([{"at": at, "message": message} for at, message in task.activity]),
        "created_at": task.created_at, "started_at": None if fate == "not_started" else task.started_at,
        "finished_at": task.finished_at,
    }  # fmt: skip


def _failure(task: Finished) -> str | None:
    if task.fate == "kept":
        return "timeout"
    return task.fate if task.is_failed else None


def _merge_detail(task: Finished) -> str | None:
    branch = f"task/{task.task_id}"
    match task.fate:
        case "conflict":
            return f"{branch} does not fit into main: {', '.join(task.merge_paths)}; merge it by hand, it is kept"
        case "kept":
            return f"the task failed; its 1 commit can be merged with `tasksd merge {task.task_id}`"
        case _:
            return None


def _usage(task: Finished) -> dict[str, Value]:
    if task.session is None:
        return {}
    one, two, three, four, five = (sum(numbers) for numbers in zip(*task.spent.values(), strict=True))
    return {"turns": task.turns, "input_tokens": one, "output_tokens": two, "cache_read_tokens": three,
            "cache_write_tokens": four + five, "cost_usd": task.cost_usd}  # fmt: skip


def _activity(one: Conversation, started_at: int, order: Order) -> tuple[tuple[int, str], ...]:
    """What its page shows of what it did: its calls."""
    notes = [(started_at, f"works in {one.cwd} on branch {one.branch}")]
    for line in one.said:
        content = line["message"]["content"]
        at = int(datetime.fromisoformat(line["timestamp"]).timestamp() * 1000)
        for block in content if isinstance(content, list) else ():
            if block["type"] == "text" and block["text"]:
                notes.append((at, block["text"]))
            elif block["type"] == "tool_use":
                arguments = block["input"]
                subject = next((str(arguments[key]) for key in _SUBJECTS if key in arguments), "")
                notes.append((at, f"{block['name']}: {subject}" if subject else block["name"]))
    return tuple(notes[:60])


_SUBJECTS = ("command", "file_path", "pattern", "url", "description")


def kept(task: Finished, *, worktree: str, base_commit: str, paths: tuple[str, ...] = ()) -> Finished:
    """With what is left of its work."""
    return replace(task, worktree=worktree, base_commit=base_commit, merge_paths=paths)
