"""What became of tasks: figures against a model in plain Python, on random histories."""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tasks.analytics import AnalyticsDB
from tasks.analytics import tasks as figures
from tasks.analytics.span import now_ms
from tasks.database import SyncDatabase, Write
from tasks.rollups import DAY, HOUR, percentile
from tasks.words import Failure, TaskStatus

NOW = 1_700_000_000_000
PICO = 10**12

_TASK = """
INSERT INTO tasks (task_id, user_id, description, status, failure, workflow, agent_type, model, merge_state, attempt, cost_usd,
                   created_at, started_at, finished_at)
VALUES (:task_id, 1, 'x', :status, :failure, :workflow, :agent_type, :model, :merge_state, :attempt, :cost_usd,
        :created_at, :started_at, :finished_at)
"""
_RUN = """
INSERT INTO runs (task_id, attempt, host, started_at, started_monotonic, finished_at) VALUES (?, ?, 'here', ?, 0.0, ?)
"""
_COST = """
INSERT INTO cost_rollup (dimension, grain, slot, value, model, messages, input_tokens, output_tokens, cache_read_tokens,
                         cache_write_5m_tokens, cache_write_1h_tokens, web_searches, cost, unpriced)
VALUES (?, ?, ?, ?, ?, ?, 0, 0, 0, 0, 0, 0, ?, ?)
"""

Task = dict[str, Any]


def history(seed: int, count: int = 120) -> list[Task]:
    rng = random.Random(seed)
    tasks = []
    for number in range(count):
        status = rng.choice(list(TaskStatus))
        created = NOW - rng.randrange(40 * DAY)
        began = status not in ("pending", "queued") and rng.random() < 0.95
        attempt = rng.choice((1, 1, 1, 2, 4)) if began else 0
        started = created + rng.randrange(-1000, HOUR) if began else None
        runs: list[tuple[int, int | None]] = []
        at = started or 0
        for one in range(attempt):
            over = at + rng.randrange(HOUR)
            runs.append((at, None if status == "running" and one == attempt - 1 else over))
            at = over + rng.randrange(HOUR)
        messages = rng.choice((0, 0, 1, 30))
        unpriced = rng.choice((0, 0, messages, messages // 2))
        tasks.append({
            "task_id": f"{number:06x}", "status": str(status), "created_at": created, "started_at": started,
            "failure": str(rng.choice(list(Failure))) if status == "failed" else None, "attempt": attempt,
            "finished_at": at if status.is_over else None, "merge_state": rng.choice(("none", "merged", "conflict", "kept")),
            "workflow": rng.choice((None, "review", "fix")), "agent_type": rng.choice((None, "", "Plan")),
            "model": rng.choice((None, "opus")), "cost_usd": rng.choice((None, rng.random())), "runs": runs,
            "messages": messages, "unpriced": unpriced,
            "cost": rng.randrange(10**13) if messages > unpriced else 0,
        })  # fmt: skip
    return tasks


class Store:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.database = SyncDatabase(root / "tasks.db")
        self.query = self.database.query

    def add(self, tasks: list[Task]) -> None:
        keys = [key for key in tasks[0] if key not in ("runs", "messages", "unpriced", "cost")]
        costs = []
        for task in tasks:
            if not task["messages"]:
                continue
            # Over two days and models, at both grains; a session of the same name is somebody else's.
            parts = [
                (task["messages"] - 1, 0, task["cost"] // 3),
                (1, task["unpriced"], task["cost"] - task["cost"] // 3),
            ]
            for number, (messages, unpriced, cost) in enumerate(parts):
                for grain in (15 * 60_000, DAY):
                    slot = (task["created_at"] + number * DAY) // grain
                    costs.append(("task", grain, slot, task["task_id"], f"m{number}", messages, cost, unpriced))
            costs.append(("session", DAY, 1, task["task_id"], "m0", 7, PICO, 0))
        self.database.apply([
            Write(_TASK, [{key: task[key] for key in keys} for task in tasks]),
            Write(_RUN, [(t["task_id"], n + 1, *run) for t in tasks for n, run in enumerate(t["runs"])]),
            Write(_COST, costs),
        ])  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path)
    yield made
    made.database.close()


def money(task: Task) -> float | None:
    if task["messages"] > task["unpriced"]:
        return float(task["cost"] / PICO)
    return None if task["cost_usd"] is None else float(task["cost_usd"])


def spread(milliseconds: Sequence[int]) -> Any:
    ordered = sorted(max(0, one) / 1000 for one in milliseconds)
    return {"p50": percentile(ordered, 0.5), "p95": percentile(ordered, 0.95)} if ordered else None


def model(tasks: list[Task]) -> dict[str, Any]:
    statuses = Counter(task["status"] for task in tasks)
    known = [task for task in tasks if money(task) is not None]
    ended = statuses["completed"] + statuses["failed"]
    merged = [task for task in tasks if task["merge_state"] == "merged"]

    def spent(chosen: list[Task]) -> float:
        return sum(money(task) or 0.0 for task in chosen)

    known_merged = [task for task in merged if task in known]
    reported = [task["cost_usd"] for task in tasks if task["cost_usd"] is not None]
    running = [[end - start for start, end in task["runs"] if end is not None] for task in tasks]
    return {
        "tasks": len(tasks),
        "statuses": {str(one): statuses[one] for one in TaskStatus},
        "success_rate": statuses["completed"] / ended if ended else None,
        "failures": dict(Counter(task["failure"] for task in tasks if task["failure"])),
        "duration_s": spread(
            [t["finished_at"] - t["started_at"] for t in tasks if t["finished_at"] and t["started_at"]]
        ),
        "running_s": spread([sum(times) for times in running if times]),
        "queued_s": spread([t["started_at"] - t["created_at"] for t in tasks if t["started_at"]]),
        "retries": sum(max(0, task["attempt"] - 1) for task in tasks),
        "retried_tasks": sum(task["attempt"] > 1 for task in tasks),
        "merged": len(merged),
        "conflict": sum(task["merge_state"] == "conflict" for task in tasks),
        "kept": sum(task["merge_state"] == "kept" for task in tasks),
        "cost_usd": pytest.approx(spent(known), rel=1e-12) if known else None,
        "reported_usd": pytest.approx(sum(reported), rel=1e-12) if reported else None,
        "reported_only": sum(task["messages"] <= task["unpriced"] for task in known),
        "unpriced": sum(task["unpriced"] for task in tasks),
        "failed_usd": pytest.approx(spent([t for t in known if t["status"] == "failed"]), rel=1e-12),
        "stopped_usd": pytest.approx(spent([t for t in known if t["status"] == "stopped"]), rel=1e-12),
        "cost_per_merged_usd": pytest.approx(spent(known) / len(merged), rel=1e-12) if merged and known else None,
        "merged_task_usd": pytest.approx(spent(known_merged) / len(known_merged), rel=1e-12) if known_merged else None,
        "failed_unpriced": sum(task["unpriced"] for task in tasks if task["status"] == "failed"),
        "stopped_unpriced": sum(task["unpriced"] for task in tasks if task["status"] == "stopped"),
        "merged_unpriced": sum(task["unpriced"] for task in merged),
    }


@pytest.mark.parametrize("seed", range(6))
def test_statistics_agree_with_the_rows(store: Store, seed: int) -> None:
    tasks = history(seed)
    store.add(tasks)
    for since in (0, NOW - 30 * DAY, NOW - 3 * DAY - 1234, NOW):
        assert figures.task_stats(store.query, since=since) == model([t for t in tasks if t["created_at"] >= since])


@pytest.mark.parametrize("by", ["workflow", "agent_type", "model"])
def test_groups_agree_with_the_rows(store: Store, by: figures.By) -> None:
    tasks = history(9)
    store.add(tasks)
    groups = figures.task_groups(store.query, by, since=NOW - 20 * DAY)
    chosen = [task for task in tasks if task["created_at"] >= NOW - 20 * DAY]
    values = {task[by] or "" for task in chosen}
    assert {group["value"]: {k: v for k, v in group.items() if k != "value"} for group in groups} == {
        value: model([task for task in chosen if (task[by] or "") == value]) for value in values
    }
    assert [group["tasks"] for group in groups] == sorted((group["tasks"] for group in groups), reverse=True)


def task(id_: str, **more: Any) -> Task:
    return {
        "task_id": id_, "status": "completed", "failure": None, "workflow": None, "agent_type": None, "model": None,
        "merge_state": "none", "attempt": 1, "cost_usd": None, "created_at": NOW, "started_at": NOW, "finished_at": NOW,
        "runs": [], "messages": 0, "unpriced": 0, "cost": 0,
    } | more  # fmt: skip


def test_transcripts_count_before_the_clients_own_figure(store: Store) -> None:
    store.add([task("a", cost_usd=5.0, messages=3, cost=2 * PICO), task("b", cost_usd=1.5), task("c")])
    found = figures.task_stats(store.query)
    assert (found["cost_usd"], found["reported_usd"], found["reported_only"]) == (3.5, 6.5, 1)


def test_what_has_no_price_is_no_money_but_is_said(store: Store) -> None:
    store.add([task("a", messages=3, unpriced=3)])
    found = figures.task_stats(store.query)
    assert (found["cost_usd"], found["unpriced"]) == (None, 3)


def test_a_merged_task_costs_what_the_others_cost_too(store: Store) -> None:
    store.add([
        task("a", merge_state="merged", cost_usd=1.0), task("b", merge_state="merged", cost_usd=2.0),
        task("c", status="failed", failure="timeout", cost_usd=3.0), task("d", status="stopped", cost_usd=0.5),
    ])  # fmt: skip
    found = figures.task_stats(store.query)
    assert (found["cost_per_merged_usd"], found["merged_task_usd"]) == (3.25, 1.5)
    assert (found["failed_usd"], found["stopped_usd"]) == (3.0, 0.5)
    assert found["success_rate"] == pytest.approx(2 / 3)


def test_no_tasks_are_no_rate_and_no_money(store: Store) -> None:
    found = figures.task_stats(store.query)
    assert (found["tasks"], found["success_rate"], found["cost_usd"], found["duration_s"]) == (0, None, None, None)
    assert figures.task_groups(store.query, "workflow") == []


def test_the_methods_ask_about_the_last_days(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(store.root))
    now = now_ms()
    store.add([
        task("a", created_at=now - DAY, workflow="fix"), task("b", created_at=now - 9 * DAY, status="failed", failure="lost"),
        task("c", created_at=now - 40 * DAY, status="failed", failure="budget"),
    ])  # fmt: skip
    analytics = AnalyticsDB(store.root)
    try:
        assert analytics.get_task_stats()["tasks"] == 2
        assert analytics.get_task_success_rate() == 0.5
        assert analytics.get_task_success_rate(days=2) == 1
        assert analytics.get_task_failures(days=None) == {"budget": 1, "lost": 1}
        assert [one["value"] for one in analytics.get_task_stats_by("workflow")] == ["", "fix"]
    finally:
        analytics.close()
