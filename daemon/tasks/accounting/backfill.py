"""All the client's history at once, in the caller's process, beside a daemon or without one."""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from tasks import config
from tasks.accounting.ahead import Reader, chunks
from tasks.accounting.contexts import settle_contexts
from tasks.accounting.ledger import UNDATED, Accounted, Store, account, rank, stored_position
from tasks.accounting.reconcile import Reconciled, reconcile
from tasks.accounting.told import Told, tell
from tasks.config import Settings
from tasks.database import Connection, SyncDatabase
from tasks.errors import StoreBusy, StoreCorrupt, StoreError, StoreUnavailable
from tasks.prices import PriceBook
from tasks.redaction import Redactor
from tasks.transcripts import Chunk, Position, TranscriptFile, find, projects_dir, stored_name

#: Of one chunk, and about of one transaction: a few ten milliseconds in which a daemon waits.
BATCH_BYTES, BATCH_FILES, BATCH_ITEMS = 4 << 20, 64, 600
#: Bytes from which on another process reads while this one stores; to start it takes about a tenth of a second.
AHEAD_FROM = 16 << 20
#: Expected calls settled in one transaction.
RECONCILED = 500
#: How often a file is tried again that another process read at the same time.
_TRIES = 5


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is."""

    #: read or found to be read already, and all
    bytes: int
    total_bytes: int
    files: int
    total_files: int


@dataclass(slots=True)
class Backfilled:
    """What was found. Numbers of messages, tokens and money are of what was not stored before."""

    projects: Path
    #: files that are accounted now; of these, those that had something new
    files: int = 0
    read: int = 0
    #: bytes read
    bytes: int = 0
    messages: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    #: picodollars, of the messages that have a price
    cost: int = 0
    #: tool calls that hooks had reported, that were added, and that no answer came to
    calls_seen: int = 0
    calls_added: int = 0
    #: of calls with a result: those that hooks have some more time to report
    calls_waiting: int = 0
    calls_unanswered: int = 0
    #: model → new messages without a price
    unpriced: Counter[str] = field(default_factory=Counter)
    #: files that could not be read, or not be stored, and why
    skipped: list[tuple[Path, str]] = field(default_factory=list)
    seconds: float = 0.0


def backfill(
    settings: Settings,
    since: int | None = None,
    progress: Callable[[Progress], None] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    store: Store | None = None,
) -> Backfilled:
    """Account every transcript in the client's folder, the oldest first, and match their calls with what hooks reported.

    `since`: epoch milliseconds; files that were last written before are left out. May be run at any time and again: it goes
    on where it, or the daemon, ended; when it is killed nothing is lost or counted twice. `store`: instead of the database
    of the settings. Files that cannot be read are named in the result. Raises StoreUnavailable (disk full), StoreBusy or
    StoreCorrupt, and then what was read so far is stored.
    """
    began = time.monotonic()
    projects = projects_dir(settings, os.environ if environ is None else environ)
    files = [file for file in find(projects) if since is None or file.mtime_ns >= since * 1_000_000]
    with ExitStack() as stack:
        if store is None:
            store = stack.enter_context(closing(SyncDatabase(settings.database_file)))
        run = _Run(settings, store, Backfilled(projects), progress or _silent)
        try:
            run.all(files)
        except (StoreBusy, StoreUnavailable) as error:
            raise type(error)(f"{error}; what was read so far is stored, run it again to go on") from error
    run.found.seconds = time.monotonic() - began
    return run.found


@dataclass(frozen=True, slots=True)
class _Piece:
    """One chunk of one file, to be accounted."""

    file: TranscriptFile
    chunk: Chunk
    told: Told
    began_at: int
    expect: Position


class _Run:
    def __init__(
        self, settings: Settings, store: Store, found: Backfilled, progress: Callable[[Progress], None]
    ) -> None:
        self.found = found
        self._store = store
        self._progress = progress
        self._book = PriceBook.of(settings)
        self._secret, self._level = config.secret_key(settings), settings.privacy.level
        self._redactor = Redactor(self._secret, self._level)
        self._grace = settings.transcripts.grace
        self._pending: list[_Piece] = []
        self._again: list[TranscriptFile] = []
        self._done = 0  # bytes
        self._passed = 0  # files
        self._total = (0, 0)

    def all(self, files: list[TranscriptFile]) -> None:
        self._total = sum(file.size for file in files), len(files)
        self._report()
        self._read_all(files)
        for _ in range(_TRIES):
            again, self._again = self._again, []
            self._read_all(again)
        self.found.skipped += [(file.path, "another process reads it all the time") for file in self._again]
        self._reconcile()
        waiting = "SELECT count(*) FROM expected_calls WHERE answered_at IS NOT NULL"
        self.found.calls_waiting = self._store.query(waiting)[0][0]
        while self._store.transaction(settle_contexts):
            pass

    def _read_all(self, files: list[TranscriptFile]) -> None:
        positions = {file.path: stored_position(self._store.query, file.path) for file in files}
        known = sum(min(positions[file.path].offset, file.size) for file in files)
        self._done += known
        with self._reader(sum(file.size for file in files) - known) as reader:
            # Another process needs a moment to begin. The price list is loaded before others wait for a transaction.
            self._book.rate("claude", time.time_ns() // 1_000_000)
            todo = self._ranked(files)
            plan = iter([(file.path, positions[file.path]) for file, _ in todo])
            if reader is not None:
                reader.follow(plan)
            for file, began_at in todo:
                found = self._chunks(*next(plan)) if reader is None else reader.next()
                try:
                    for piece in self._pieces(file, began_at, positions[file.path], found):
                        self._pending.append(piece)
                        if self._is_enough():
                            self._flush()
                    self.found.files += 1
                except FileNotFoundError:
                    pass  # the client has deleted it meanwhile
                except OSError as error:
                    self.found.skipped.append((file.path, error.strerror or str(error)))
                self._passed += 1
            self._flush()

    def _reader(self, unread: int) -> AbstractContextManager[Reader | None]:
        """Another process, when there are enough bytes to read."""
        return nullcontext() if unread < AHEAD_FROM else Reader(BATCH_BYTES, self._secret, self._level)

    def _chunks(self, path: Path, position: Position) -> Iterator[tuple[Chunk, Told]]:
        return ((chunk, tell(chunk, self._redactor)) for chunk in chunks(path, position, BATCH_BYTES))

    def _ranked(self, files: list[TranscriptFile]) -> list[tuple[TranscriptFile, int]]:
        """The files with their `began_at`, the oldest first."""
        stored = self._store.query("SELECT path, began_at FROM transcripts")
        known = {path: began_at for path, began_at in stored if path and began_at != UNDATED}
        ranked = [(file, known.get(stored_name(file.path)) or _rank(file)) for file in files]
        return sorted(ranked, key=lambda one: (one[1], str(one[0].path)))

    def _pieces(
        self, file: TranscriptFile, began_at: int, position: Position, found: Iterator[tuple[Chunk, Told]]
    ) -> Iterator[_Piece]:
        is_new = False
        for chunk, told in found:
            if chunk.restarted:
                self._done -= min(position.offset, file.size)
                began_at = rank(file.path)
            if chunk.size or chunk.restarted:
                is_new = True
                yield _Piece(file, chunk, told, began_at, position)
            position = chunk.position
        self.found.read += is_new

    def _is_enough(self) -> bool:
        return (
            len(self._pending) >= BATCH_FILES
            or sum(piece.chunk.size for piece in self._pending) >= BATCH_BYTES // 2
            or sum(len(piece.chunk.messages) + len(piece.chunk.calls) for piece in self._pending) >= BATCH_ITEMS
        )

    def _flush(self) -> None:
        pieces, self._pending = self._pending, []
        if not pieces:
            return
        try:
            outcomes, settled = self._store.transaction(lambda connection: self._account_all(connection, pieces))
            self._note(pieces, outcomes)
            self._note_settled(settled)
        except (StoreBusy, StoreUnavailable, StoreCorrupt):
            raise
        except (StoreError, OverflowError):
            # One of them holds what cannot be stored; which one shows when they are alone.
            for piece in pieces:
                self._flush_alone(piece)
        self._report()

    def _account_all(self, connection: Connection, pieces: list[_Piece]) -> tuple[list[Accounted], Reconciled]:
        outcomes = [self._account(connection, one) for one in pieces]
        # Most of what is expected is settled before it was ever written to the disk.
        now = time.time_ns() // 1_000_000
        return outcomes, reconcile(connection, now, self._grace, limit=RECONCILED, reading=True)

    def _flush_alone(self, piece: _Piece) -> None:
        try:
            self._note([piece], [self._store.transaction(lambda connection: self._account(connection, piece))])
        except (StoreBusy, StoreUnavailable, StoreCorrupt):
            raise
        except (StoreError, OverflowError) as error:
            self.found.skipped.append((piece.file.path, str(error)))

    def _account(self, connection: Connection, piece: _Piece) -> Accounted:
        now = time.time_ns() // 1_000_000
        return account(
            connection, piece.file, piece.chunk, piece.began_at, self._book, expect=piece.expect, redactor=self._redactor,
            now=now, read_at=min(now, piece.file.mtime_ns // 1_000_000), told=piece.told,
        )  # fmt: skip

    def _note(self, pieces: list[_Piece], outcomes: list[Accounted]) -> None:
        found = self.found
        for piece, outcome in zip(pieces, outcomes, strict=True):
            if not outcome.applied:
                if piece.file not in self._again:
                    self._again.append(piece.file)
                continue
            self._done += piece.chunk.size
            found.bytes += piece.chunk.size
            found.messages += outcome.messages
            found.input_tokens += outcome.input_tokens
            found.output_tokens += outcome.output_tokens
            found.cache_read_tokens += outcome.cache_read_tokens
            found.cache_write_tokens += outcome.cache_write_tokens
            found.cost += outcome.cost
            found.unpriced.update(outcome.unpriced)

    def _reconcile(self) -> None:
        done = False
        while not done:
            now = time.time_ns() // 1_000_000
            turn = self._store.transaction(lambda one, now=now: reconcile(one, now, self._grace, limit=RECONCILED))  # type: ignore[misc]
            self._note_settled(turn)
            done = turn.done

    def _note_settled(self, turn: Reconciled) -> None:
        self.found.calls_seen += turn.seen
        self.found.calls_added += turn.added
        self.found.calls_unanswered += turn.unanswered

    def _report(self) -> None:
        total_bytes, total_files = self._total
        self._progress(Progress(min(self._done, total_bytes), total_bytes, min(self._passed, total_files), total_files))


def _rank(file: TranscriptFile) -> int:
    try:
        return rank(file.path)
    except OSError:
        return UNDATED  # reading it says why


def _silent(progress: Progress) -> None:
    return
