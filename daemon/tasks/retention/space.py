"""What the database takes of the disk, and giving back what it does not need."""

from collections.abc import Callable
from dataclasses import dataclass

from tasks.database import Connection, Row
from tasks.retention.book import Book

Query = Callable[[str], list[Row]]

#: Part of the file that may stay free for what comes next, and the pages that may in any case.
SLACK_PART, SLACK_PAGES = 64, 256


@dataclass(frozen=True, slots=True)
class Space:
    page_size: int
    pages: int
    free_pages: int
    #: whether the file can be made smaller without rewriting it
    shrinks: bool

    @property
    def used(self) -> int:
        """Bytes that hold something."""
        return (self.pages - self.free_pages) * self.page_size

    def spare(self, max_bytes: int) -> int:
        """Pages to give back: what is more than a slack, and what `max_bytes` (0: none) leaves no room for."""
        over = max(0, self.free_pages - max(SLACK_PAGES, self.pages // SLACK_PART))
        if max_bytes:
            over = max(over, min(self.free_pages, self.pages - max_bytes // self.page_size))
        return over if self.shrinks else 0


def measure(query: Query) -> Space:
    (page_size,), (pages,), (free,), (mode,) = (
        query(f"PRAGMA {name}")[0] for name in ("page_size", "page_count", "freelist_count", "auto_vacuum")
    )
    return Space(page_size, pages, free, mode == 2)


def give_back(connection: Connection, pages: int) -> None:
    """Cut so many free pages off the file. In a transaction."""
    for _ in range(pages):
        # One page a call: it is a statement without columns, and Python takes a single step of those.
        connection.execute("PRAGMA incremental_vacuum(1)").close()


@dataclass(frozen=True, slots=True)
class State:
    """What is kept, for the status. Times are epoch milliseconds; None: nothing is stored."""

    #: of the oldest event or call that still has its body, or may have
    oldest_body: int | None
    oldest_row: int | None
    #: statistics of times before this come from roll-ups alone
    rows_since: int
    database_bytes: int
    #: of these, not in use
    free_bytes: int
    #: whether space that is not in use goes back to the disk; if not, `tasksd db vacuum` sees to it
    shrinks: bool
    #: bytes by which the database is larger than `retention.max_bytes` although nothing is left to prune
    short_by: int
    #: ever
    pruned_rows: int
    pruned_bodies: int


def state(query: Callable[..., list[Row]]) -> State:
    """Costs a few look-ups, however much is stored."""
    book, space = Book.read(query), measure(query)
    return State(
        oldest_body=oldest_body(query, book),
        oldest_row=oldest_row(query),
        rows_since=book.rows_since,
        database_bytes=space.pages * space.page_size,
        free_bytes=space.free_pages * space.page_size,
        shrinks=space.shrinks,
        short_by=book.short_by,
        pruned_rows=book.pruned_rows,
        pruned_bodies=book.pruned_bodies,
    )


def oldest_body(query: Callable[..., list[Row]], book: Book) -> int | None:
    return _oldest(query, book.events, book.calls)


def oldest_row(query: Callable[..., list[Row]]) -> int | None:
    return _oldest(query, 0, 0)


def _oldest(query: Callable[..., list[Row]], seq: int, since: int) -> int | None:
    rows = query("SELECT timestamp FROM events WHERE seq > ? ORDER BY seq LIMIT 1", (seq,))
    rows += query("SELECT timestamp FROM tool_usage WHERE timestamp >= ? ORDER BY timestamp LIMIT 1", (since,))
    return min((at for (at,) in rows), default=None)
