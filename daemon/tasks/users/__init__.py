"""Accounts of people: passwords, logins, tokens, and what they did. Knows nothing of HTTP.

The database has the accounts and logins; the keys are in files of their own. Whoever takes the database has no password and
no login of it.
"""

from tasks.users.audit import Deed
from tasks.users.audit import entry as audit_entry
from tasks.users.audit import prune as prune_audit
from tasks.users.authority import Authority, Ticket
from tasks.users.keys import KeyRing, load_pepper
from tasks.users.logins import prune as prune_logins
from tasks.users.principal import Principal, owner
from tasks.users.records import Login, User
from tasks.users.refusals import (
    InvalidToken,
    LastAdmin,
    NameRefused,
    NoSuchLogin,
    NoSuchUser,
    Overloaded,
    PasswordRefused,
    TooManyAttempts,
    UserExists,
    WrongCredentials,
)

__all__ = [
    "Authority",
    "Deed",
    "InvalidToken",
    "KeyRing",
    "LastAdmin",
    "Login",
    "NameRefused",
    "NoSuchLogin",
    "NoSuchUser",
    "Overloaded",
    "PasswordRefused",
    "Principal",
    "Ticket",
    "TooManyAttempts",
    "User",
    "UserExists",
    "WrongCredentials",
    "audit_entry",
    "load_pepper",
    "owner",
    "prune_audit",
    "prune_logins",
]
