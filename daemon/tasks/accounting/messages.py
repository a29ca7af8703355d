"""Which file a message is credited to, which of its lines counts, and what that costs. See `account` for the rule."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from tasks.accounting.rollup import Context, Entry
from tasks.database import Connection, Row
from tasks.prices import PriceBook, Rate, cost
from tasks.transcripts import Message

#: Picodollars ($100,000) above which a message is none: unpriced, so that sums never overflow.
COST_LIMIT = 10**17
#: Beginning of the ids under which stands what only the result of a run told.
RESULT_PREFIX = "result:"
#: Messages asked for at once: SQLite takes no more than 32,766 parameters.
_BATCH = 500


@dataclass(frozen=True, slots=True)
class Holder:
    """A transcript, as one that messages may be credited to."""

    transcript_id: int
    began_at: int
    path: str
    context: Context

    def rank(self, message: Message) -> tuple[bool, int, str]:
        """Of all who have a message, the one with the smallest rank is credited with it."""
        return message.copied, self.began_at, self.path


@dataclass(frozen=True, slots=True)
class Stored:
    """A message with the transcript that is credited with it. Its time and prompt are that one's."""

    message: Message
    holder: Holder
    price_id: int | None
    #: picodollars; None: unpriced
    cost: int | None

    def entry(self) -> Entry:
        m = self.message
        return Entry(
            self.holder.context, m.timestamp, m.model, m.input_tokens, m.output_tokens, m.cache_read_tokens,
            m.cache_write_5m_tokens, m.cache_write_1h_tokens, m.web_searches, self.cost,
        )  # fmt: skip


def load(connection: Connection, message_ids: Sequence[str]) -> dict[str, Stored]:
    """Those of the messages that are stored."""
    found = {}
    holders: dict[int, Holder] = {}
    for start in range(0, len(message_ids), _BATCH):
        some = message_ids[start : start + _BATCH]
        for row in connection.execute(f"{_LOAD} IN ({', '.join('?' * len(some))})", some):
            stored = _stored(row, holders)
            found[stored.message.message_id] = stored
    return found


def settle(new: Message, holder: Holder, known: Stored | None) -> tuple[Message, Holder]:
    """The message as it stands when `holder` has it as `new`, and who is credited with it."""
    if known is None:
        return new, holder
    old = known.message
    best = new if new.weight > old.weight else old
    if known.holder.transcript_id == holder.transcript_id:
        prompt_id = old.prompt_id if old.prompt_id is not None else new.prompt_id
        timestamp, copied = min(old.timestamp, new.timestamp), old.copied and new.copied
    elif holder.rank(new) < known.holder.rank(old):
        prompt_id, timestamp, copied = new.prompt_id, new.timestamp, new.copied
    else:
        holder, prompt_id, timestamp, copied = known.holder, old.prompt_id, old.timestamp, old.copied
    return best.seen(timestamp, prompt_id, copied=copied), holder


def price(book: PriceBook, message: Message) -> tuple[Rate, int] | tuple[None, None]:
    """The rate and picodollars of a message; None for both: unpriced."""
    read, short, long = message.cache_read_tokens, message.cache_write_5m_tokens, message.cache_write_1h_tokens
    # What only a result tells is the sum of several requests: how long the context of each was, is not known.
    is_sum = message.message_id.startswith(RESULT_PREFIX)
    context = 0 if is_sum else message.input_tokens + read + short + long
    rate = book.rate(message.model, message.timestamp, message.modifiers, context)
    if rate is None:
        return None, None
    picodollars = cost(
        rate,
        input_tokens=message.input_tokens,
        output_tokens=message.output_tokens,
        cache_read_tokens=read,
        cache_write_5m_tokens=short,
        cache_write_1h_tokens=long,
        web_searches=message.web_searches,
    )
    return (rate, picodollars) if picodollars <= COST_LIMIT else (None, None)


def price_ids(connection: Connection, rates: Collection[Rate]) -> dict[Rate, int]:
    """The rows of `prices` for these rates; made where there are none yet."""
    ids = {}
    for rate in rates:
        values = [getattr(rate, name) for name in _RATE]
        found = connection.execute(_FIND_PRICE, values).fetchone()
        if found is None:
            found = connection.execute(_ADD_PRICE, values).fetchone()
        ids[rate] = int(found[0])
    return ids


def save(connection: Connection, messages: Iterable[Stored]) -> None:
    """Write messages, new ones or others. The roll-ups are the caller's: see `change_messages`."""
    rows = []
    for one in sorted(messages, key=lambda one: one.message.message_id):
        values = [getattr(one.message, name) for name in _MESSAGE]
        rows.append((*values, one.holder.transcript_id, one.price_id, one.cost))
    connection.executemany(_SAVE, rows)


def _stored(row: Row, holders: dict[int, Holder]) -> Stored:
    size = len(_MESSAGE)
    price_id, picodollars, transcript_id, began_at, path = row[size : size + 5]
    if (holder := holders.get(transcript_id)) is None:
        holder = holders[transcript_id] = Holder(transcript_id, began_at, path, Context(*row[size + 5 :]))
    message = Message(*row[:size])
    return Stored(message, holder, price_id, picodollars)


#: Columns of messages, in the order of Message's fields.
_MESSAGE = tuple(Message.__slots__)

_LOAD = f"""
SELECT {", ".join("m." + name for name in _MESSAGE)}, price_id, cost, t.transcript_id, began_at, path,
       session_uuid, agent_type, task_id, workflow, project
FROM messages AS m JOIN transcripts AS t USING (transcript_id) WHERE message_id"""

_SAVE = f"""
INSERT INTO messages ({", ".join(_MESSAGE)}, transcript_id, price_id, cost)
VALUES ({", ".join("?" * (len(_MESSAGE) + 3))})
ON CONFLICT (message_id) DO UPDATE SET
    {", ".join(f"{name} = excluded.{name}" for name in (*_MESSAGE[1:], "transcript_id", "price_id", "cost"))}
"""

#: Columns of prices, in the order of Rate's fields.
_RATE = tuple(Rate.__slots__)

_FIND_PRICE = f"SELECT price_id FROM prices WHERE {' AND '.join(f'{name} = ?' for name in _RATE)}"

_ADD_PRICE = f"""
INSERT INTO prices ({", ".join(_RATE)}) VALUES ({", ".join("?" * len(_RATE))}) RETURNING price_id
"""
