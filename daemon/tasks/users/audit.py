"""Who did what: rows that are only ever added, until they are old."""

import time
from dataclasses import dataclass

from tasks.database import Connection, Write
from tasks.users.principal import Principal
from tasks.users.records import Query, told

#: Characters of what is kept of a target, an address and a detail.
LONGEST = 200

_COLUMNS = "id, timestamp, user_id, username, via, action, target, outcome, address, detail"


@dataclass(frozen=True, slots=True)
class Deed:
    """One row. `timestamp` is epoch milliseconds, `outcome` an HTTP status."""

    id: int
    timestamp: int
    user_id: int | None
    username: str
    via: str
    action: str
    target: str | None
    outcome: int
    address: str | None
    detail: str | None


def entry(
    principal: Principal,
    action: str,
    *,
    target: str | None = None,
    outcome: int = 200,
    address: str | None = None,
    detail: str | None = None,
    now: int | None = None,
) -> Write:
    """What adds a row. `now` is the present unless given (epoch milliseconds). Texts are made printable, and cut."""
    return Write.one(
        """
        INSERT INTO audit (timestamp, user_id, username, via, action, target, outcome, address, detail)
        VALUES (:timestamp, :user_id, :username, :via, :action, :target, :outcome, :address, :detail)
        """,
        {
            "timestamp": time.time_ns() // 1_000_000 if now is None else now,
            "user_id": principal.user_id,
            "username": principal.username,
            "via": principal.via if principal.via in ("socket", "cli") else "web",
            "action": action,
            "target": told(target, LONGEST),
            "outcome": outcome,
            "address": told(address, LONGEST),
            "detail": told(detail, LONGEST),
        },
    )


def record(connection: Connection, write: Write) -> None:
    """Add it in a transaction that is under way."""
    connection.execute(write.statement, write.rows[0])


def listed(
    query: Query,
    *,
    user: str | None = None,
    action: str | None = None,
    since: int | None = None,
    before: int | None = None,
    limit: int = 50,
) -> list[Deed]:
    """The newest first; with `before` only those of lower ids, with `since` (epoch milliseconds) none that is older."""
    rows = query(
        f"""
        SELECT {_COLUMNS} FROM audit
        WHERE (:user IS NULL OR username = :user COLLATE NOCASE) AND (:action IS NULL OR action = :action)
          AND (:since IS NULL OR timestamp >= :since) AND (:before IS NULL OR id < :before)
        ORDER BY id DESC LIMIT :limit
        """,
        {"user": user, "action": action, "since": since, "before": before, "limit": limit},
    )
    return [Deed(*row) for row in rows]


def prune(connection: Connection, *, before: int) -> int:
    """Forget what is older (epoch milliseconds). Returns how much that was."""
    return connection.execute("DELETE FROM audit WHERE timestamp < :before", {"before": before}).rowcount
