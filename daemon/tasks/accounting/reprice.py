"""Prices changed: what is stored at the old ones is put at the new ones."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from tasks.accounting.ledger import Store
from tasks.accounting.messages import load, price, price_ids
from tasks.accounting.rollup import Change, change_messages
from tasks.database import Connection, Row
from tasks.prices import PriceBook
from tasks.transcripts import Message

#: Messages looked at in one go, and changed in one transaction: some ten milliseconds in which a daemon waits.
_BATCH = 500


class Source(Protocol):
    """What can be asked: `tasks.database.Reader` or `SyncDatabase`."""

    def query(self, statement: str, parameters: Any = ()) -> list[Row]: ...


@dataclass(slots=True)
class Repriced:
    """One model's messages, by the prices that were stored and by the present ones. Sums are picodollars and leave out what
    has no price."""

    model: str
    messages: int = 0
    #: of these, those whose cost is another one now
    changed: int = 0
    before: int = 0
    after: int = 0
    #: had no price and have one now; the other way round; neither had nor has one
    newly_priced: int = 0
    newly_unpriced: int = 0
    unpriced: int = 0

    def add(self, old: int | None, new: int | None) -> None:
        self.messages += 1
        self.changed += old != new
        self.before += old or 0
        self.after += new or 0
        self.newly_priced += old is None and new is not None
        self.newly_unpriced += old is not None and new is None
        self.unpriced += old is None and new is None


def compare(
    source: Source, book: PriceBook, since: int | None = None, progress: Callable[[int], None] | None = None
) -> list[Repriced]:
    """What `reprice` would change, by model, the largest change first. Writes nothing.

    `since`: epoch milliseconds; earlier messages are left out. `progress` is told how many messages were looked at.
    """
    found: dict[str, Repriced] = {}
    for batch in _batches(source, since):
        _look(batch, book, found)
        if progress:
            progress(len(batch))
    return _sorted(found)


def reprice(
    store: Store, book: PriceBook, since: int | None = None, progress: Callable[[int], None] | None = None
) -> list[Repriced]:
    """Give every message the cost that `book` says, and cost_rollup the differences; both in one transaction per 500 messages.

    Beside a daemon or without one. A message whose cost stays the same keeps the price it was given. When this is ended half
    way, what was done is whole, and the next run does the rest. Returns what was changed, as `compare` does.
    """
    found: dict[str, Repriced] = {}
    for batch in _batches(store, since):
        # Looked at without a transaction first: most batches have nothing to change, and then nobody waits.
        different = _look(batch, book, found)
        if different:
            store.transaction(lambda connection, ids=different: _rewrite(connection, book, ids))  # type: ignore[misc]
        if progress:
            progress(len(batch))
    return _sorted(found)


def _look(batch: Sequence[Row], book: PriceBook, found: dict[str, Repriced]) -> list[str]:
    """Count the messages; returns the ids of those whose cost is another one."""
    different = []
    for *fields, old in batch:
        message = Message(*fields)
        _, new = price(book, message)
        if (sums := found.get(message.model)) is None:
            sums = found[message.model] = Repriced(message.model)
        sums.add(old, new)
        if new != old:
            different.append(message.message_id)
    return different


def _rewrite(connection: Connection, book: PriceBook, ids: Sequence[str]) -> None:
    stored = load(connection, ids)  # again: another process may have changed them since
    changes: list[Change] = []
    rates = {}
    for one in stored.values():
        rate, new = price(book, one.message)
        if new != one.cost:
            rates[one.message.message_id] = rate, new
    rows = price_ids(connection, {rate for rate, _ in rates.values() if rate is not None})
    for message_id, (rate, new) in sorted(rates.items()):
        price_id = None if rate is None else rows[rate]
        connection.execute(
            "UPDATE messages SET price_id = ?, cost = ? WHERE message_id = ?", (price_id, new, message_id)
        )
        before = stored[message_id].entry()
        changes.append((before, replace(before, cost=new)))
    change_messages(connection, changes)


def _batches(source: Source, since: int | None) -> Iterator[list[Row]]:
    after = ""
    while batch := source.query(_PAGE, (after, -(2**63) if since is None else since, _BATCH)):
        yield batch
        after = batch[-1][0]


def _sorted(found: dict[str, Repriced]) -> list[Repriced]:
    return sorted(found.values(), key=lambda one: (-abs(one.after - one.before), -one.messages, one.model))


_PAGE = f"""
SELECT {", ".join(Message.__slots__)}, cost FROM messages
WHERE message_id > ? AND timestamp >= ? ORDER BY message_id LIMIT ?
"""
