"""What `create_task` takes until its row can be read by another process, against the bare insert of the same row.

Floor: one INSERT into the same table with the same pragmas, in a transaction of its own, and a SELECT over another
connection. `create_task` also redacts, writes the prompt to a file of its own and makes that durable before the row; the
second floor does the same by hand (write, fsync, fsync of both folders). Rounds of all three take turns.
Run: python tests/benchmarks/bench_manager.py [tasks]
"""

import asyncio
import os
import sqlite3
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from tasks.database import SyncDatabase
from tasks.manager import TaskManager

ROUNDS = 5
PROMPT = (
    "Fix the authentication bug in auth.py: sessions end after a minute. Add a test that fails without the fix.\n" * 5
)

#: Those of tasks.database.engine.
PRAGMAS = (
    "journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "trusted_schema = OFF", "cell_size_check = ON",
    "secure_delete = FAST", "journal_size_limit = 16777216", "temp_store = MEMORY", "mmap_size = 0", "cache_size = -16000",
)  # fmt: skip
INSERT = """
INSERT INTO tasks (task_id, user_id, description, model, workspace, agent_type, workflow, created_at)
VALUES (?, 1, ?, 'sonnet', '/home/dev/project', 'code_agent', 'smart-fix', ?)
"""
READ = "SELECT * FROM tasks WHERE task_id = ?"


class Bare:
    """sqlite3 and os, and nothing else."""

    def __init__(self, root: Path) -> None:
        SyncDatabase(root / "tasks.db").close()
        self._count = 0
        self._runs = root / "runs"
        self._runs.mkdir()
        self._writer = sqlite3.connect(root / "tasks.db", isolation_level=None)
        for pragma in PRAGMAS:
            self._writer.execute(f"PRAGMA {pragma}")
        self._reader = sqlite3.connect(f"file:{root / 'tasks.db'}?mode=ro", uri=True)

    def insert(self) -> None:
        self._count += 1
        task_id = f"{self._count:06x}"
        self._writer.execute("BEGIN IMMEDIATE")
        self._writer.execute(INSERT, (task_id, PROMPT, time.time_ns() // 1_000_000))
        self._writer.execute("COMMIT")
        assert self._reader.execute(READ, (task_id,)).fetchone()

    def insert_with_prompt(self) -> None:
        folder = self._runs / uuid.uuid4().hex
        folder.mkdir(mode=0o700)
        fd = os.open(folder / "prompt", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        os.write(fd, PROMPT.encode())
        os.fsync(fd)
        os.close(fd)
        for path in (folder, self._runs):
            fd = os.open(path, os.O_RDONLY)
            os.fsync(fd)
            os.close(fd)
        self.insert()

    def close(self) -> None:
        self._writer.close()
        self._reader.close()


async def create(root: Path, count: int) -> list[float]:
    """Seconds of each."""
    times = []
    async with TaskManager(root) as manager:
        await manager.create_task(1, PROMPT)
        reader = sqlite3.connect(f"file:{root / 'tasks.db'}?mode=ro", uri=True)
        for _ in range(count):
            started = time.perf_counter()
            task = await manager.create_task(
                1, PROMPT, model="sonnet", workspace="/home/dev/project", agent_type="code_agent", workflow="smart-fix"
            )
            assert reader.execute(READ, (task.task_id,)).fetchone()
            times.append(time.perf_counter() - started)
        reader.close()
    return times


def each(function: Callable[[], None], count: int) -> list[float]:
    times = []
    for _ in range(count):
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return times


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    ours: list[float] = []
    rows: list[float] = []
    files: list[float] = []
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        bare = Bare(Path(other))
        for _ in range(ROUNDS):
            rows += each(bare.insert, count)
            files += each(bare.insert_with_prompt, count)
            ours += asyncio.run(create(Path(one), count))
        bare.close()
    row, file, task = (statistics.median(times) * 1e3 for times in (rows, files, ours))
    print(f"create_task, row read by another connection; {count} tasks x {ROUNDS}, median in ms")
    print(f"  bare insert                {row:7.3f}")
    print(f"  bare insert, prompt stored {file:7.3f}   ratio to the bare insert {file / row:.2f}")
    print(
        f"  create_task                {task:7.3f}   ratio to the bare insert {task / row:.2f}, with prompt {task / file:.2f}"
    )


if __name__ == "__main__":
    main()
