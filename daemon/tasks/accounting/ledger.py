"""One transaction's work: what a chunk of a transcript told, once, whatever else tells it too."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from tasks.accounting import expected, results
from tasks.accounting.contexts import CONTEXT_COLUMNS, find_context, move_context, spread_project
from tasks.accounting.messages import Holder, Stored, load, price, price_ids, save, settle
from tasks.accounting.rollup import Context, change_messages
from tasks.accounting.sessions import note_session
from tasks.accounting.told import Told
from tasks.database import Connection, Row
from tasks.prices import PriceBook
from tasks.redaction import Redactor
from tasks.transcripts import Chunk, Position, TranscriptFile, peek, stored_name
from tasks.transcripts.purged import purged_name

T = TypeVar("T")

#: Rank of a file in which no line has a time: it holds no message.
UNDATED = 253_402_300_799_999


class Store(Protocol):
    """Where a synchronous process does this, beside a daemon or without: `tasks.database.SyncDatabase`. The daemon itself:
    `await database.transaction(lambda connection: account(connection, …))`.
    """

    def transaction(self, work: Callable[[Connection], T]) -> T: ...

    def query(self, statement: str, parameters: Any = ()) -> list[Row]: ...


@dataclass(frozen=True, slots=True)
class Accounted:
    """What one chunk changed. Numbers are differences: a message that is found again changes nothing."""

    #: False: another process had read the file from there; nothing was written
    applied: bool
    #: new ones
    messages: int = 0
    #: new ones, and others whose usage or credit changed
    changed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    #: picodollars
    cost: int = 0
    #: model → new messages without a price
    unpriced: Mapping[str, int] = field(default_factory=dict)


def rank(path: Path) -> int:
    """The `began_at` of a file, in milliseconds. FileNotFoundError when there is none, OSError when it cannot be read."""
    found = peek(path)
    return UNDATED if found is None else found


def stored_position(query: Callable[[str, Sequence[Any]], list[Row]], path: Path) -> Position:
    """How far a file was accounted: where the next reading begins. `Position()` for a file that was not yet."""
    name = stored_name(path)
    rows = query(f"SELECT {_POSITION} FROM transcripts WHERE path IN (?, ?)", (name, purged_name(name)))
    return _position(rows[0]) if rows else Position()


def account(
    connection: Connection,
    file: TranscriptFile,
    chunk: Chunk,
    began_at: int,
    book: PriceBook,
    *,
    expect: Position,
    redactor: Redactor,
    now: int | None = None,
    read_at: int | None = None,
    told: Told | None = None,
) -> Accounted:
    """Store what `chunk` tells and how far the file is read, in the caller's transaction.

    `began_at`: the file's `rank`. `expect`: the position that the chunk was read from; when the stored one is another by now
    (another process was faster), nothing is written. `now`: epoch milliseconds. `read_at`: from when on hooks get their time
    to report the calls; None: `now`. `told`: what `tell` says of the chunk, when that is known already.

    The outcome depends on what the files say and on nothing else, neither on the order of reading nor on the chunks. Of all
    lines with a message's id, the one of the greatest `Message.weight` tells the usage. Of all files with that id, the least
    by (copied, began_at, path) is credited: session, agent, task, project, prompt, and the time, which is that of its
    earliest line. Both are total orders, so what is stored of a message is all that is needed to compare the next line with.
    """
    now = time.time_ns() // 1_000_000 if now is None else now
    name = stored_name(file.path)
    names = (name, purged_name(name))
    row = connection.execute(f"SELECT {_ROW} FROM transcripts WHERE path IN (?, ?)", names).fetchone()
    if (_position(row) if row else Position()) != expect:
        return Accounted(applied=False)
    if chunk.size == 0 and not chunk.restarted:
        return Accounted(applied=True)
    known = Context(*row[8:]) if row else None
    context = find_context(connection, file, chunk.cwd, known)
    if row is None:
        transcript_id = _insert(connection, file, chunk, began_at, context)
    else:
        transcript_id, began_at = int(row[6]), min(began_at, row[7])
        # A session that was purged and goes on has its name again, and is read from where it was.
        connection.execute("UPDATE transcripts SET path = ? WHERE transcript_id = ? AND path = ?",
                           (names[0], transcript_id, names[1]))  # fmt: skip
        _advance(connection, transcript_id, chunk, began_at)
        move_context(connection, transcript_id, context)
    if file.agent_id is None and context.project != (known.project if known else ""):
        spread_project(connection, file.session_uuid)
    note_session(connection, file, chunk, context, None if began_at == UNDATED else began_at, now)
    holder = Holder(transcript_id, began_at, name, context)
    changes = _take(connection, chunk, holder, book)
    moved = {
        new.message.message_id: old.holder.context.session_uuid
        for old, new in changes.written
        if old is not None and old.holder.context.session_uuid != new.holder.context.session_uuid
    }
    expected.withdraw(connection, chunk, moved)
    waiting = now if read_at is None else read_at
    expected.note(connection, transcript_id, file.session_uuid, chunk, changes.owned, waiting, redactor, told)
    for session_uuid in sorted(
        {stored.holder.context.session_uuid for pair in changes.written for stored in pair if stored}
    ):
        results.adjust(connection, session_uuid, book)
    return changes.summed()


@dataclass(frozen=True, slots=True)
class _Changes:
    """What a chunk does to the stored messages."""

    #: (before, after); what stays as it is, is not in it
    written: list[tuple[Stored | None, Stored]]
    #: messages of the chunk that are credited to its file
    owned: set[str]

    def summed(self) -> Accounted:
        sums: Counter[str] = Counter()
        unpriced: Counter[str] = Counter()
        for old, new in self.written:
            for stored, sign in ((old, -1), (new, 1)):
                if stored is not None:
                    m = stored.message
                    sums["input_tokens"] += sign * m.input_tokens
                    sums["output_tokens"] += sign * m.output_tokens
                    sums["cache_read_tokens"] += sign * m.cache_read_tokens
                    sums["cache_write_tokens"] += sign * (m.cache_write_5m_tokens + m.cache_write_1h_tokens)
                    sums["cost"] += sign * (stored.cost or 0)
            if old is None:
                sums["messages"] += 1
                unpriced[new.message.model] += new.cost is None
        return Accounted(applied=True, changed=len(self.written), unpriced=+unpriced, **sums)


def _take(connection: Connection, chunk: Chunk, holder: Holder, book: PriceBook) -> _Changes:
    stored = load(connection, [message.message_id for message in chunk.messages])
    settled = []
    owned = set()
    for one in chunk.messages:
        old = stored.get(one.message_id)
        message, credited = settle(one, holder, old)
        if credited is holder or credited.transcript_id == holder.transcript_id:
            owned.add(one.message_id)
        if old is None or message != old.message or credited.transcript_id != old.holder.transcript_id:
            settled.append((old, message, credited, *price(book, message)))
    ids = price_ids(connection, {rate for *_, rate, _ in settled if rate is not None})
    written = [
        (old, Stored(message, credited, None if rate is None else ids[rate], cost))
        for old, message, credited, rate, cost in settled
    ]
    save(connection, [new for _, new in written])
    change_messages(connection, ((old.entry() if old else None, new.entry()) for old, new in written))
    return _Changes(written, owned)


_POSITION = "offset, device, inode, anchor, prompt_id, last_at"
_ROW = f"{_POSITION}, transcript_id, began_at, {', '.join(CONTEXT_COLUMNS)}"


def _position(row: Row) -> Position:
    offset, device, inode, anchor, prompt_id, last_at = row[:6]
    return Position(offset, device, inode, anchor or b"", prompt_id, last_at or None)


def _insert(connection: Connection, file: TranscriptFile, chunk: Chunk, began_at: int, context: Context) -> int:
    values = _values(chunk, began_at) | {name: getattr(context, name) for name in CONTEXT_COLUMNS}
    values |= {"path": stored_name(file.path), "agent_id": file.agent_id}
    statement = f"INSERT INTO transcripts ({', '.join(values)}) VALUES ({', '.join(f':{name}' for name in values)})"
    inserted = connection.execute(f"{statement} RETURNING transcript_id", values)
    return int(inserted.fetchone()[0])


def _advance(connection: Connection, transcript_id: int, chunk: Chunk, began_at: int) -> None:
    values = _values(chunk, began_at)
    lines = ":bad_lines" if chunk.restarted else "bad_lines + :bad_lines"
    assignments = ", ".join(f"{name} = {lines if name == 'bad_lines' else f':{name}'}" for name in values)
    statement = f"UPDATE transcripts SET {assignments} WHERE transcript_id = :transcript_id"
    connection.execute(statement, values | {"transcript_id": transcript_id})


def _values(chunk: Chunk, began_at: int) -> dict[str, Any]:
    position = chunk.position
    return {
        "offset": position.offset,
        "device": position.device,
        "inode": position.inode,
        "anchor": position.anchor,
        "prompt_id": position.prompt_id,
        "began_at": began_at,
        "last_at": position.last_at or 0,
        "bad_lines": chunk.bad_lines,
    }
