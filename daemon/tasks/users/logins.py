"""Logins in the store: begun, seen, ended. A login is good while its row says so."""

from typing import Literal

from tasks.database import Connection, Write
from tasks.users.records import Login, Query

#: Milliseconds without a request, and since the login, after which it is over.
IDLE, ABSOLUTE = 30 * 60_000, 12 * 3_600_000
#: Milliseconds that one that is over is remembered.
KEPT = 30 * 86_400_000

Reason = Literal["logout", "password", "role", "disabled", "killed", "expired"]

_OPEN = "ended_at IS NULL AND last_seen_at >= :now - :idle AND created_at >= :now - :absolute"
_COLUMNS = "login_id, user_id, username, kind, logins.created_at, last_seen_at, address, client"


def begin(connection: Connection, login: Login) -> None:
    connection.execute(
        """
        INSERT INTO logins (login_id, user_id, kind, created_at, last_seen_at, address, client)
        VALUES (:login_id, :user_id, :kind, :at, :at, :address, :client)
        """,
        {
            "login_id": login.login_id, "user_id": login.user_id, "kind": login.kind, "at": login.created_at,
            "address": login.address, "client": login.client,
        },
    )  # fmt: skip
    connection.execute(
        "UPDATE users SET last_login_at = :at WHERE user_id = :user_id",
        {"at": login.created_at, "user_id": login.user_id},
    )


def listed(query: Query, *, now: int, user_id: int | None = None) -> list[Login]:
    """Those that are open, of one account or of all, the last seen first."""
    rows = query(
        f"""
        SELECT {_COLUMNS} FROM logins JOIN users USING (user_id)
        WHERE {_OPEN.replace("created_at", "logins.created_at")} AND (:user_id IS NULL OR user_id = :user_id)
        ORDER BY last_seen_at DESC, login_id
        """,
        {"now": now, "idle": IDLE, "absolute": ABSOLUTE, "user_id": user_id},
    )
    return [Login(*row) for row in rows]


def owner_of(connection: Connection, login_id: str) -> int | None:
    """Whose login it is; None: there is none of that id."""
    row = connection.execute("SELECT user_id FROM logins WHERE login_id = :login_id", {"login_id": login_id}).fetchone()
    return None if row is None else int(row[0])


def seen(login_id: str, *, now: int) -> Write:
    """Time does not go back: a clock that was set back must not end a login."""
    return Write.one(
        "UPDATE logins SET last_seen_at = max(last_seen_at, :now) WHERE login_id = :login_id AND ended_at IS NULL",
        {"login_id": login_id, "now": now},
    )


def ending(login_id: str, reason: Reason, *, now: int) -> Write:
    """Ends it, if it is open."""
    return Write.one(
        "UPDATE logins SET ended_at = :now, end_reason = :reason WHERE login_id = :login_id AND ended_at IS NULL",
        {"login_id": login_id, "reason": reason, "now": now},
    )


def end(connection: Connection, login_id: str, reason: Reason, *, now: int) -> bool:
    """Whether it was open."""
    write = ending(login_id, reason, now=now)
    return connection.execute(write.statement, write.rows[0]).rowcount == 1


def end_all(connection: Connection, user_id: int, reason: Reason, *, now: int, keep: str | None = None) -> int:
    """End all logins of an account but `keep`. Returns how many were open."""
    return connection.execute(
        """
        UPDATE logins SET ended_at = :now, end_reason = :reason
        WHERE user_id = :user_id AND ended_at IS NULL AND login_id IS NOT :keep
        """,
        {"user_id": user_id, "reason": reason, "now": now, "keep": keep},
    ).rowcount


def prune(connection: Connection, *, now: int) -> int:
    """End what has expired by itself, and forget what has been over for 30 days. Returns how many were forgotten."""
    connection.execute(
        """
        UPDATE logins SET ended_at = min(last_seen_at + :idle, created_at + :absolute), end_reason = 'expired'
        WHERE ended_at IS NULL AND (last_seen_at < :now - :idle OR created_at < :now - :absolute)
        """,
        {"now": now, "idle": IDLE, "absolute": ABSOLUTE},
    )
    return connection.execute("DELETE FROM logins WHERE ended_at < :before", {"before": now - KEPT}).rowcount
