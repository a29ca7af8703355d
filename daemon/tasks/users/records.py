"""What is known of an account and of a login."""

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from tasks.database import Connection, Row
from tasks.text import printable
from tasks.users.refusals import NameRefused
from tasks.words import Role

#: Runs one SELECT.
Query = Callable[[str, Any], list[Row]]
Kind = Literal["cookie", "bearer"]

#: Characters of a name.
LONGEST_NAME = 64


@dataclass(frozen=True, slots=True)
class User:
    """An account, without its password. Times are epoch milliseconds."""

    user_id: int
    username: str
    role: Role
    disabled: bool
    created_at: int
    password_changed_at: int
    #: None: never
    last_login_at: int | None


@dataclass(frozen=True, slots=True)
class Login:
    """A login as it is stored. Times are epoch milliseconds."""

    login_id: str
    user_id: int
    username: str
    kind: Kind
    created_at: int
    last_seen_at: int
    address: str | None
    client: str | None


def name_of(text: str) -> str:
    """`text` as the name of an account: 1 to 64 printable characters without spaces and `/`, composed (NFC).

    Raises NameRefused.
    """
    # Composing what is much longer would take long.
    name = unicodedata.normalize("NFC", text) if len(text) <= 4 * LONGEST_NAME else text
    if not name or len(name) > LONGEST_NAME:
        raise NameRefused(f"a name has 1 to {LONGEST_NAME} characters, not {len(name)}")
    if not name.isprintable() or " " in name or "/" in name or name in (".", ".."):
        raise NameRefused(f"{printable(name)} cannot be a name: no spaces, no control characters, no /")
    return name


def within(connection: Connection) -> Query:
    """Queries that see what the transaction has done so far."""
    return lambda statement, parameters: connection.execute(statement, parameters).fetchall()


def told(text: str | None, longest: int) -> str | None:
    """What a client says about itself, fit to be stored and shown."""
    return printable(text)[:longest] if text else None
