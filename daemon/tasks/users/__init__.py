"""Accounts of people: passwords, logins, tokens, and what they did. Knows nothing of HTTP."""

from tasks.users.principal import Principal, owner

__all__ = ["Principal", "owner"]
