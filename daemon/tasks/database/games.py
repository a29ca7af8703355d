"""States of games: JSON documents by name."""

import json
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tasks.database.writes import Write

SAVE = """
INSERT INTO games (game_id, state, created_at, updated_at) VALUES (:game_id, :state, :now, :now)
ON CONFLICT (game_id) DO UPDATE SET state = excluded.state, updated_at = excluded.updated_at
"""
LOAD = "SELECT state FROM games WHERE game_id = :game_id"
LIST = "SELECT game_id, created_at, updated_at FROM games ORDER BY updated_at DESC, game_id"
DELETE = "DELETE FROM games WHERE game_id = :game_id"


@dataclass(frozen=True, slots=True)
class Game:
    game_id: str
    #: epoch milliseconds
    created_at: int
    updated_at: int


def save(game_id: str, state: object) -> Write:
    """Raises ValueError or TypeError when `state` is nothing that JSON can hold (NaN included)."""
    text = json.dumps(state, allow_nan=False, separators=(",", ":"))
    return Write.one(SAVE, {"game_id": game_id, "state": text, "now": time.time_ns() // 1_000_000})


def state_of(rows: Sequence[tuple[str, ...]]) -> object | None:
    return json.loads(rows[0][0]) if rows else None


def listed(rows: Sequence[tuple[object, ...]]) -> list[Game]:
    return [Game(str(game_id), int(str(created)), int(str(updated))) for game_id, created, updated in rows]


def delete(connection: sqlite3.Connection, game_id: str) -> bool:
    return connection.execute(DELETE, {"game_id": game_id}).rowcount > 0
