"""Money and tokens: from transcripts to the store, exactly once."""

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
