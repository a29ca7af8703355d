"""Money and tokens: from transcripts to the store, exactly once."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasks.accounting.contexts import move_context, settle_contexts
    from tasks.accounting.ledger import Accounted, Store, account, rank, stored_position
    from tasks.accounting.rollup import Context, Entry, change_messages

__all__ = [
    "Accounted",
    "Context",
    "Entry",
    "Store",
    "account",
    "change_messages",
    "move_context",
    "rank",
    "settle_contexts",
    "stored_position",
]

_HOMES = {"contexts": ("move_context", "settle_contexts"), "rollup": ("Context", "Entry", "change_messages")}


def __getattr__(name: str) -> object:
    # A process that only reads transcripts starts in half the time without the store and its event loop.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = next((home for home, names in _HOMES.items() if name in names), "ledger")
    return getattr(import_module(f"{__name__}.{home}"), name)
