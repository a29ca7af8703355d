"""One batch of pruning: at most so many rows of one table, in the transaction of whoever calls.

A job is called until it says that it is done. Everything older than `before` goes, the oldest first: by the index on the
time where a table has one, and in order of arrival where it has not (events).
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from tasks.database import Connection
from tasks.retention.book import Book


class Done(NamedTuple):
    """What a batch did."""

    changed: int
    #: whether there may be more of it
    more: bool


#: (connection, book, before in epoch ms, now in epoch ms, rows at most)
Job = Callable[[Connection, Book, int, int, int], Done]

#: Tables pruned by their time: column of the book, what is pruned of a row, whether it has any of that, and how much.
_BODIES = {
    "tool_usage": (
        "calls",
        "parameters = NULL, error = NULL, screenshot_path = NULL",
        "(parameters IS NOT NULL OR error IS NOT NULL OR screenshot_path IS NOT NULL)",
        "coalesce(length(parameters), 0) + coalesce(length(error), 0)",
    ),
    "agent_status": ("changes", "detail = NULL", "detail IS NOT NULL", "0"),
    "verdicts": ("verdicts", "message = ''", "message <> ''", "0"),
}

_OVER = "('ended', 'failed', 'lost')"
#: Bytes freed of neighbouring rows after which their page is worth a look: half of one.
_HALF_A_PAGE = 2048
#: Rows of these ids make the triggers of schema.sql roll up.
_ROLLED_AT = 1024
#: Calls looked at in one batch for having come late: most have not.
_LATE = 4


def event_bodies(connection: Connection, book: Book, before: int, now: int, limit: int) -> Done:
    found = connection.execute(
        "SELECT seq, timestamp FROM events WHERE seq > ? ORDER BY seq LIMIT ?", (book.events, limit)
    ).fetchall()
    due = _due(found, before, now)
    if not due:
        return Done(0, False)
    start = book.events
    book.events = next((seq - 1 for seq, _ in found if seq not in due), found[-1][0])
    sizes = connection.execute(
        f"SELECT seq, length(body) FROM events WHERE seq IN ({_listed(due)}) AND body IS NOT NULL ORDER BY seq"
    ).fetchall()
    connection.execute(f"UPDATE events SET body = NULL WHERE seq IN ({_listed(seq for seq, _ in sizes)})")
    _repack(connection, "events", "seq", sizes)
    # One young row in front of old ones is waited for, unless it is all that is waited for.
    return Done(len(sizes), book.events > start)


def event_rows(connection: Connection, book: Book, before: int, now: int, limit: int) -> Done:
    found = connection.execute("SELECT seq, timestamp FROM events ORDER BY seq LIMIT ?", (limit,)).fetchall()
    due = _due(found, before, now)
    if not due:
        return Done(0, False)
    # The newest stays: numbers that readers follow by must not be given again.
    changed = connection.execute(
        f"DELETE FROM events WHERE seq IN ({_listed(due)}) AND seq < (SELECT max(seq) FROM events)"
    ).rowcount
    return Done(changed, changed > 0)


def _due(found: Sequence[tuple[int, int]], before: int, now: int) -> set[int]:
    """The rows of `found`, which are in order of arrival, that are older than `before`.

    One from the future that arrived before an old one was dated by a wrong clock, and is as old.
    """
    last = max((seq for seq, at in found if at < before), default=0)
    return {seq for seq, at in found if at < before or (at > now and seq < last)}


def bodies_of(table: str) -> Job:
    column, change, has, length = _BODIES[table]

    def job(connection: Connection, book: Book, before: int, now: int, limit: int) -> Done:
        position = getattr(book, column)
        # The first look is answered by the index alone: rows without a body must not make a batch long.
        last = connection.execute(
            f"SELECT max(timestamp) FROM (SELECT timestamp FROM {table} WHERE timestamp >= ? AND timestamp < ? "
            "ORDER BY timestamp LIMIT ?)",
            (position, before, limit),
        ).fetchone()[0]
        if last is None:
            setattr(book, column, max(position, before))
            return Done(0, False)
        found = connection.execute(
            f"SELECT id, {length} FROM {table} WHERE timestamp BETWEEN ? AND ? AND {has} ORDER BY timestamp LIMIT ?",
            (position, last, limit),
        ).fetchall()
        connection.execute(f"UPDATE {table} SET {change} WHERE id IN ({_listed(id_ for id_, _ in found)})")
        if table == "tool_usage":
            _repack_calls(connection, sorted(found))
        if len(found) < limit:  # else there are more of the same time
            setattr(book, column, last + 1)
        return Done(len(found), True)

    return job


def late_calls(connection: Connection, book: Book, before: int, now: int, limit: int) -> Done:
    """Calls that were stored after the bodies of their time had gone: a transcript was read late."""
    newest = connection.execute("SELECT coalesce(max(id), 0) FROM tool_usage").fetchone()[0]
    if book.calls_seen is None or book.calls_seen > newest:
        book.calls_seen = newest
        return Done(0, False)
    until = min(newest, book.calls_seen + _LATE * limit)
    _, change, has, _ = _BODIES["tool_usage"]
    changed = connection.execute(
        f"UPDATE tool_usage SET {change} WHERE id > ? AND id <= ? AND timestamp < ? AND {has}",
        (book.calls_seen, until, book.calls),
    ).rowcount
    book.calls_seen = until
    return Done(changed, until < newest)


def session_bodies(connection: Connection, book: Book, before: int, now: int, limit: int) -> Done:
    """What sessions and subagents that are over were last seen doing. The rows stay: roll-ups and money refer to them."""
    last = connection.execute(
        "SELECT max(last_event_at) FROM (SELECT last_event_at FROM sessions WHERE last_event_at >= ? AND last_event_at < ? "
        "ORDER BY last_event_at LIMIT ?)",
        (book.sessions, before, limit),
    ).fetchone()[0]
    if last is None:
        book.sessions = max(book.sessions, before)
        return Done(0, False)
    window = (book.sessions, last)
    these = f"SELECT session_uuid FROM sessions WHERE last_event_at BETWEEN ? AND ? AND status IN {_OVER}"
    changed = connection.execute(
        f"UPDATE sessions SET status_detail = NULL WHERE session_uuid IN ({these}) AND status_detail IS NOT NULL",
        window,
    ).rowcount
    changed += connection.execute(
        f"UPDATE subagents SET detail = NULL WHERE session_uuid IN ({these}) AND detail IS NOT NULL", window
    ).rowcount
    book.sessions = last + 1
    return Done(changed, True)


def expected_bodies(connection: Connection, book: Book, before: int, now: int, limit: int) -> Done:
    changed = connection.execute(
        "UPDATE expected_calls SET parameters = NULL, error = NULL WHERE (session_uuid, tool_use_id) IN ("
        "SELECT session_uuid, tool_use_id FROM expected_calls WHERE called_at < ? "
        "AND (parameters IS NOT NULL OR error IS NOT NULL) LIMIT ?)",
        (before, limit),
    ).rowcount
    return Done(changed, changed == limit)


def expected_rows(connection: Connection, book: Book, before: int, now: int, limit: int) -> Done:
    changed = connection.execute(
        "DELETE FROM expected_calls WHERE (session_uuid, tool_use_id) IN ("
        "SELECT session_uuid, tool_use_id FROM expected_calls WHERE called_at < ? LIMIT ?)",
        (before, limit),
    ).rowcount
    return Done(changed, changed == limit)


def baselines(connection: Connection, book: Book, before: int, now: int, limit: int) -> Done:
    """What hooks/guard remembered for a stop that never came."""
    changed = connection.execute(
        "DELETE FROM guarded_sessions WHERE session_uuid IN ("
        "SELECT session_uuid FROM guarded_sessions WHERE updated_at < ? LIMIT ?)",
        (before, limit),
    ).rowcount
    return Done(changed, changed == limit)


def _repack(connection: Connection, table: str, key: str, sizes: Sequence[tuple[int, int]]) -> None:
    """Let SQLite merge the pages that the rows of `sizes` (key, bytes freed; in order of the key) have left half empty.

    It looks for that when a row is deleted, and never when one gets smaller: one row of each page goes and comes back.
    """
    freed, touched = 0, []
    for number, size in sizes:
        freed += size
        if freed >= _HALF_A_PAGE:
            touched.append(number)
            freed = 0
    if not touched:
        return
    rows = connection.execute(f"SELECT * FROM {table} WHERE {key} IN ({_listed(touched)})").fetchall()
    connection.execute(f"DELETE FROM {table} WHERE {key} IN ({_listed(touched)})")
    connection.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))})", rows)


def _repack_calls(connection: Connection, sizes: Sequence[tuple[int, int]]) -> None:
    """As above; of the calls only those that no trigger would take for new ones."""
    upto = connection.execute("SELECT upto FROM rolled WHERE source = 'tool_usage'").fetchone()[0]
    _repack(connection, "tool_usage", "id", [(id_, size) for id_, size in sizes if id_ < upto and id_ % _ROLLED_AT])


def rows_of(table: str, rolling: str | None = None) -> Job:
    """`rolling` is the view that rolls the table up: what is not in the roll-ups yet must be before it goes."""

    def job(connection: Connection, book: Book, before: int, now: int, limit: int) -> Done:
        ids = [
            id_
            for (id_,) in connection.execute(
                f"SELECT id FROM {table} WHERE timestamp < ? ORDER BY timestamp LIMIT ?", (before, limit)
            )
        ]
        if not ids:
            return Done(0, False)
        if rolling is not None:
            upto = connection.execute("SELECT upto FROM rolled WHERE source = ?", (table,)).fetchone()[0]
            if max(ids) > upto:
                connection.execute(f"INSERT INTO {rolling} (upto) VALUES (?)", (max(ids),))
        connection.execute(f"DELETE FROM {table} WHERE id IN ({_listed(ids)})")
        return Done(len(ids), len(ids) == limit)

    return job


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))


#: In an order in which the largest goes first.
BODIES: tuple[Job, ...] = (
    event_bodies,
    bodies_of("tool_usage"),
    late_calls,
    bodies_of("agent_status"),
    bodies_of("verdicts"),
    session_bodies,
    expected_bodies,
    baselines,
)
ROWS: tuple[Job, ...] = (
    event_rows,
    rows_of("tool_usage", "rolling_calls"),
    rows_of("files", "rolling_files"),
    rows_of("agent_status"),
    rows_of("verdicts"),
    expected_rows,
)
