"""Messages in a store as accounting leaves them: the rows, and the roll-up made of all rows at once."""

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.database import SyncDatabase
from tasks.rollups import DAY, HOUR, MINUTE

_LONG, _SHORT = (15 * MINUTE, HOUR, 6 * HOUR, DAY), (15 * MINUTE, DAY)
#: dimension → what its value is of a message and its transcript, slot lengths
_DIMENSIONS = {
    "all": ("''", _LONG), "project": ("project", _LONG), "agent_type": ("agent_type", _LONG),
    "workflow": ("workflow", _LONG), "session": ("session_uuid", _SHORT), "task": ("task_id", _SHORT),
}  # fmt: skip

_ROLL = """
INSERT INTO cost_rollup
SELECT '{dimension}', {grain}, timestamp / {grain}, {value}, model, count(*), sum(input_tokens), sum(output_tokens),
       sum(cache_read_tokens), sum(cache_write_5m_tokens), sum(cache_write_1h_tokens), sum(web_searches),
       coalesce(sum(cost), 0), sum(cost IS NULL)
FROM messages JOIN transcripts USING (transcript_id) WHERE {value} IS NOT NULL GROUP BY 3, 4, 5
"""

#: Picodollars a token: input, output, cache read, 5 m and 1 h cache writes; and a search.
RATES = (3_000_000, 15_000_000, 300_000, 3_750_000, 6_000_000, 10_000_000_000)


@dataclass(frozen=True, slots=True)
class Spent:
    """One message. `cost` in picodollars: by RATES unless given; None: without a price."""

    timestamp: int
    model: str = "claude-sonnet-5"
    session_uuid: str = "s1"
    task_id: str | None = None
    workflow: str | None = None
    agent_type: str = ""
    project: str = "/x"
    input_tokens: int = 10
    output_tokens: int = 100
    cache_read_tokens: int = 1000
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 200
    web_searches: int = 0
    priced: bool = True

    @property
    def tokens(self) -> tuple[int, ...]:
        return (
            self.input_tokens, self.output_tokens, self.cache_read_tokens, self.cache_write_5m_tokens,
            self.cache_write_1h_tokens, self.web_searches,
        )  # fmt: skip

    @property
    def cost(self) -> int | None:
        return sum(map(int.__mul__, self.tokens, RATES)) if self.priced else None


@dataclass(frozen=True, slots=True)
class Run:
    task_id: str
    started_at: int
    attempt: int = 1
    cost_usd: float | None = None


def fill(
    path: Path, messages: Iterable[Spent], runs: Iterable[Run] = (), tasks: Mapping[str, str] | None = None
) -> None:
    """Put messages, runs and tasks (id → description; those of runs are made) into a store, new or not."""
    database = SyncDatabase(path / "tasks.db")
    try:
        database.transaction(lambda connection: _fill(connection, list(messages), list(runs), dict(tasks or {})))
    finally:
        database.close()


def _fill(connection: sqlite3.Connection, messages: list[Spent], runs: list[Run], tasks: dict[str, str]) -> None:
    connection.execute(
        "INSERT OR IGNORE INTO prices VALUES (1, 'claude-sonnet-5', 'config', '', ?, ?, ?, ?, ?, ?)", RATES
    )
    (number,) = connection.execute("SELECT count(*) FROM messages").fetchone()
    transcripts: dict[tuple[Any, ...], int] = {}
    for one in messages:
        key = (one.session_uuid, one.agent_type, one.task_id, one.workflow, one.project)
        if key not in transcripts:
            transcripts[key] = connection.execute(
                "INSERT INTO transcripts (path, session_uuid, agent_type, task_id, workflow, project, began_at, last_at) "
                "VALUES (hex(randomblob(16)), ?, ?, ?, ?, ?, 0, 0)", key
            ).lastrowid or 0  # fmt: skip
        number += 1
        connection.execute(
            "INSERT INTO messages (message_id, transcript_id, timestamp, model, input_tokens, output_tokens, "
            "cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens, web_searches, price_id, cost) "
            f"VALUES ({', '.join('?' * 12)})",
            (
                f"m{number}",
                transcripts[key],
                one.timestamp,
                one.model,
                *one.tokens,
                1 if one.priced else None,
                one.cost,
            ),
        )
    _add_work(connection, runs, tasks)
    connection.execute("DELETE FROM cost_rollup")
    for dimension, (value, grains) in _DIMENSIONS.items():
        for grain in grains:
            connection.execute(_ROLL.format(dimension=dimension, value=value, grain=grain))


def _add_work(connection: sqlite3.Connection, runs: list[Run], tasks: dict[str, str]) -> None:
    for task_id in {run.task_id for run in runs} | set(tasks):
        connection.execute(
            "INSERT OR IGNORE INTO tasks (task_id, user_id, description, created_at) VALUES (?, 1, ?, 0)",
            (task_id, tasks.get(task_id, "work")),
        )
    connection.executemany(
        "INSERT INTO runs (task_id, attempt, host, started_at, started_monotonic, cost_usd) VALUES (?, ?, 'h', ?, 0, ?)",
        [(run.task_id, run.attempt, run.started_at, run.cost_usd) for run in runs],
    )
