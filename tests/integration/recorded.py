"""Random histories of calls and files in a real store, as far rolled up as a test wants; and what was put in."""

import random
from pathlib import Path
from typing import Any

from tasks.database import SyncDatabase, Write
from tasks.rollups import DAY, HOUR

#: An hour and something in the past.
NOW = 1_700_000_000_000 // HOUR * HOUR + 2_345_678
SESSIONS = tuple(f"{n}0000000-1111-4111-8111-111111111111" for n in range(4))
#: task → its workflow and agent type
TASKS = {"aaaaaa": ("code-task", "code_agent"), "bbbbbb": ("review", None), "cccccc": (None, "docs_agent")}
TOOLS = ("Bash", "Read", "Edit", "mcp__demo__search")
#: How much is rolled up: all, nothing, half, and as the triggers do it themselves.
ROLLED = {"rolled": 1.0, "unrolled": 0.0, "half": 0.5, "by_itself": None}

_TASK = (
    "INSERT INTO tasks (task_id, user_id, description, workflow, agent_type, created_at) VALUES (?, 1, 'x', ?, ?, 0)"
)
_CALL = """
INSERT INTO tool_usage (timestamp, session_uuid, task_id, agent_type, tool_use_id, tool_name, success, error_category,
                        duration_ms, model, source)
VALUES (:timestamp, :session, :task, :agent_type, :tool_use_id, :tool, :success, :category, :duration, :model, 'hook')
"""
_FILE = """
INSERT INTO files (timestamp, path, action, session_uuid, agent_id, tool_use_id)
VALUES (:timestamp, :path, :action, :session, :agent, :tool_use_id)
"""

Entry = dict[str, Any]


class Recorded:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.database = SyncDatabase(root / "tasks.db")
        self.query = self.database.query
        self.database.apply([Write(_TASK, [(task, *of) for task, of in TASKS.items()])])

    def calls(self, entries: list[Entry], rolled: float | None) -> None:
        self._add(_CALL, entries, "rolling_calls", rolled)

    def files(self, entries: list[Entry], rolled: float | None) -> None:
        self._add(_FILE, entries, "rolling_files", rolled)

    def _add(self, statement: str, entries: list[Entry], view: str, rolled: float | None) -> None:
        for number, entry in enumerate(entries, 1):
            entry["id"] = number
        self.database.apply([Write(statement, entries)])
        if rolled:
            self.write(f"INSERT INTO {view} (upto) VALUES ({round(len(entries) * rolled)})")

    def write(self, statement: str) -> None:
        self.database.apply([Write.one(statement)])


def some_calls(seed: int, count: int = 600, days: float = 5) -> list[Entry]:
    rng = random.Random(seed)
    return [
        {
            "timestamp": NOW - rng.randrange(round(days * DAY)), "session": rng.choice((*SESSIONS, None)),
            "task": rng.choice((*TASKS, None)), "agent_type": rng.choice((None, "", "Explore", "Plan")),
            "tool_use_id": f"t{number}", "tool": rng.choice(TOOLS), "success": int(good),
            "category": None if good else rng.choice(("timeout", "command_failed")),
            "duration": rng.choice((None, rng.lognormvariate(4, 2))), "model": rng.choice((None, "opus", "haiku")),
        }
        for number in range(count)
        for good in (rng.random() < 0.8,)
    ]  # fmt: skip


def some_files(seed: int, count: int = 500, paths: int = 12, days: float = 3) -> list[Entry]:
    """In bursts, so that agents come in each other's way; not in the order of time."""
    rng = random.Random(seed)
    bursts = [NOW] * (count // 60) + [NOW - rng.randrange(round(days * DAY)) for _ in range(count // 10)]
    return [
        {
            "timestamp": rng.choice(bursts) - rng.randrange(HOUR),
            "path": f"/srv/{rng.choice(('one', 'one-b', 'two'))}/{min(rng.randrange(paths), rng.randrange(paths))}.py",
            "action": rng.choice(("read", "read", "edit", "write")), "session": rng.choice(SESSIONS),
            "agent": rng.choice((None, None, "sub")), "tool_use_id": f"t{number}",
        }
        for number in range(count)
    ]  # fmt: skip
