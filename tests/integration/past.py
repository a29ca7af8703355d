"""A past to look back on: money, calls that failed in kinds, files that agents shared; random, up to the present."""

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tasks.database import ERROR_KIND, SyncDatabase, Write
from tasks.rollups import DAY, HOUR

from .money import Run, Spent, fill
from .site import Site

#: What an agent may write.
HOSTILE = '</pre><script>alert("1")</script>\x1b[31m\u202e'
MODELS = ("claude-opus-4-5", "claude-sonnet-5", "claude-haiku-4-5", "m4", "m5", "m6", "m7", "m8")
SESSIONS = tuple(f"{n}f000000-1111-4111-8111-111111111111" for n in range(5))
TOOLS = {
    "Bash": 900.0,
    "Read": 12.0,
    "Edit": 25.0,
    "Grep": 60.0,
    "Task": 90_000.0,
    "mcp__tickets__search_issues": 2200.0,
}
#: Tool, category, what is said, how often.
KINDS = (
    ("Bash", "command_failed", "pytest: <n> failed, <n> passed", 9),
    ("Bash", "timeout", "Command timed out after <n>m", 2),
    ("Edit", "stale_edit", "File has been modified since read", 5),
    ("Read", "file_not_found", "File does not exist: <path>", 6),
    ("mcp__tickets__search_issues", "network_error", f"connection refused {HOSTILE}", 1),
)
TASKS = {"aaaaaa": ("code-task", "code_agent"), "bbbbbb": ("review", None), "cccccc": (None, "docs_agent")}

_CALL = """
INSERT INTO tool_usage (timestamp, session_uuid, task_id, agent_type, tool_use_id, tool_name, parameters, success, error,
                        error_category, fingerprint, duration_ms, model, source)
VALUES (:timestamp, :session, :task, :agent_type, :tool_use_id, :tool, :parameters, :success, :error, :category,
        :fingerprint, :duration, :model, 'hook')
"""
_FILE = """
INSERT INTO files (timestamp, path, action, session_uuid, agent_id, tool_use_id)
VALUES (:timestamp, :path, :action, :session, :agent, :tool_use_id)
"""
_TASK = """
UPDATE tasks SET description = ?, status = ?, failure = ?, workflow = ?, agent_type = ?, merge_state = ?, created_at = ?,
                 started_at = ?, finished_at = ?
WHERE task_id = ?
"""


def site_after(folder: Path, *past: Callable[[Path], None]) -> Iterator[Site]:
    """A site whose store holds this past."""
    made = Site(folder)
    made.data.mkdir(mode=0o700)
    for one in past:
        one(made.data)
    made.start()
    try:
        yield made
    finally:
        made.close()


def spend(path: Path, *, seed: int = 1, days: int = 40, each: int = 12, unpriced: int = 3) -> None:
    """Messages of eight models, `unpriced` of them without a price; three tasks, one of them merged and one failed."""
    rng = random.Random(seed)
    now = time.time_ns() // 1_000_000
    messages = [
        Spent(
            now - back * DAY - rng.randrange(DAY // 2), rng.choices(MODELS, (9, 7, 4, 2, 2, 1, 1, 1))[0], rng.choice(SESSIONS),
            rng.choice((None, *TASKS)), rng.choice((None, "code-task", "review")), rng.choice(("", "Explore", "Plan")),
            rng.choice(("/home/ada/shop", "/home/ada/parser")), rng.randrange(2000), rng.randrange(4000),
            rng.randrange(200_000), 0, rng.randrange(9000),
        )
        for back in range(days)
        for _ in range(rng.randrange(each))
    ]  # fmt: skip
    odd = [Spent(now - HOUR - number, "strange-model-1", "s9", None, priced=False) for number in range(unpriced)]
    runs = [Run(task, now - 2 * DAY, 1, 3.5) for task in TASKS]
    fill(path, [*messages, *odd], runs, {task: f"Mend {task}" for task in TASKS})
    database = SyncDatabase(path / "tasks.db")
    try:
        then = now - 2 * DAY
        ends = (("completed", None, "merged"), ("failed", "timeout", "none"), ("stopped", None, "none"))
        database.apply([
            Write.one(_TASK, (f"Mend {HOSTILE}", status, failure, *of, merge, then, then + 5000, then + HOUR, task))
            for (task, of), (status, failure, merge) in zip(TASKS.items(), ends, strict=True)
        ])  # fmt: skip
    finally:
        database.close()


def work(path: Path, *, seed: int = 2, calls: int = 900, days: int = 9, rolled: float = 0.7) -> None:
    """Calls and files of the last days, `rolled` of them rolled up."""
    rng = random.Random(seed)
    now = time.time_ns() // 1_000_000
    made = sorted((_call(rng, number, now, days) for number in range(calls)), key=lambda one: int(one["timestamp"]))
    files = sorted((_file(rng, number, now, days) for number in range(calls)), key=lambda one: int(one["timestamp"]))
    database = SyncDatabase(path / "tasks.db")
    try:
        database.apply([Write(_CALL, made), Write(_FILE, files)])
        kinds = []
        for number, (tool, category, message, _) in enumerate(KINDS):
            times = [one["timestamp"] for one in made if one["fingerprint"] == f"{number:016x}"]
            if times:
                kinds.append((f"{number:016x}", tool, category, message, SESSIONS[number], min(times), max(times)))
        database.apply([Write(ERROR_KIND, kinds)])
        for view in ("rolling_calls", "rolling_files"):
            database.apply([Write.one(f"INSERT INTO {view} (upto) VALUES (?)", (round(calls * rolled),))])
    finally:
        database.close()


def _call(rng: random.Random, number: int, now: int, days: int) -> dict[str, Any]:
    failed = rng.random() < 0.15
    kind = rng.choices(range(len(KINDS)), [one[3] for one in KINDS])[0] if failed else 0
    tool = KINDS[kind][0] if failed else rng.choices(tuple(TOOLS), (9, 12, 8, 6, 1, 2))[0]
    return {
        "timestamp": now - int(days * DAY * rng.random() ** 1.3), "session": rng.choice(SESSIONS),
        "task": rng.choice((None, *TASKS)), "agent_type": rng.choice((None, "", "Explore", "Plan")),
        "tool_use_id": f"t{number}", "tool": tool, "parameters": '{"command": "make test"}', "success": int(not failed),
        "error": KINDS[kind][2].replace("<n>", "3").replace("<path>", "/srv/a.py") if failed else None,
        "category": KINDS[kind][1] if failed else None, "fingerprint": f"{kind:016x}" if failed else None,
        "duration": rng.choice((None, *[TOOLS[tool] * rng.lognormvariate(0, 1.2)] * 7)),
        "model": rng.choice((None, "claude-opus-4-5", "claude-haiku-4-5")),
    }  # fmt: skip


def _file(rng: random.Random, number: int, now: int, days: int) -> dict[str, Any]:
    burst = now - HOUR - rng.randrange(max(days * 2, 1)) * 11 * HOUR
    name = min(rng.randrange(14), rng.randrange(14))
    return {
        "timestamp": burst - rng.randrange(HOUR // 2),
        "path": f"/home/ada/{rng.choice(('shop', 'parser'))}/src/{'deep/' * (name % 3)}part_{name}.py" if name != 3
        else f"/home/ada/shop/{HOSTILE}.py",
        "action": rng.choice(("read", "read", "read", "edit", "write")), "session": rng.choice(SESSIONS),
        "agent": rng.choice((None, None, "sub")), "tool_use_id": f"f{number}",
    }  # fmt: skip
