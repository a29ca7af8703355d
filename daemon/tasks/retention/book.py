"""How far pruning has come: one row of daemon_state, changed in the same transaction as what it tells of."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from tasks.database import Connection, Row

_NAME = "retention"
_GET = "SELECT value FROM daemon_state WHERE name = 'retention'"
_SET = f"""
INSERT INTO daemon_state (name, value) VALUES ('{_NAME}', ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value
"""


@dataclass(slots=True)
class Book:
    """Positions and sums; times are epoch milliseconds."""

    #: events.seq up to which bodies are gone
    events: int = 0
    #: bodies of calls, status changes, verdicts and sessions that are older than this are gone
    calls: int = 0
    changes: int = 0
    verdicts: int = 0
    sessions: int = 0
    #: tool_usage.id up to which calls were looked at for being older than `calls`; None: none yet
    calls_seen: int | None = None
    #: every row and every body from this time on is there
    rows_since: int = 0
    bodies_since: int = 0
    #: ever
    pruned_rows: int = 0
    pruned_bodies: int = 0
    #: bytes by which the database is larger than `max_bytes` although nothing is left to prune
    short_by: int = 0

    @classmethod
    def read(cls, query: Callable[[str], list[Row]]) -> Self:
        rows = query(_GET)
        try:
            known: dict[str, Any] = json.loads(rows[0][0]) if rows else {}
            return cls(**{field.name: known[field.name] for field in fields(cls) if field.name in known})
        except (ValueError, TypeError):
            return cls()  # all of it is found again by looking once more

    @classmethod
    def open(cls, connection: Connection) -> Self:
        return cls.read(lambda statement: connection.execute(statement).fetchall())

    def keep(self, connection: Connection) -> None:
        connection.execute(_SET, (json.dumps(asdict(self)),))
