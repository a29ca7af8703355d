"""Which transcripts are worth a look now: a list that events, running tasks and growing files keep."""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tasks.accounting.results import DONE_NAME, EndedRun
from tasks.database import Database, Row, Write
from tasks.transcripts import Chunk, Position, TranscriptFile
from tasks.words import SessionStatus

#: Seconds between looks at a session in which something happened lately, and at one that waits.
BUSY_INTERVAL, QUIET_INTERVAL = 2.0, 30.0
#: Seconds for which a session counts as busy after an event or a new line.
BUSY_FOR = 30.0
#: Seconds without an event or a new line after which a session is forgotten until its next event.
FORGOTTEN_AFTER = 3600.0
#: Seconds after its last sign of life for which the files of a session that is over are looked at: last lines come late.
LINGER = 20.0
#: Seconds between looks at the tasks that run, and between notes of how far events were taken in.
RUNS_INTERVAL, NOTE_INTERVAL = 3.0, 60.0
#: Milliseconds of the past that a new daemon looks at.
RECENT = 86_400_000
#: Milliseconds by which looks for ended runs overlap: clocks step, transactions take a while.
OVERLAP = 600_000
#: Sessions asked about in one statement.
_MANY = 500

_STATE = "transcripts.events"
_SESSIONS = "SELECT session_uuid, transcript_path, status FROM sessions WHERE session_uuid IN ({marks})"
_RECENT = "SELECT session_uuid FROM sessions WHERE last_event_at >= ? AND events > 0"
_STIRRED = "SELECT session_uuid, min(seq), max(seq) FROM events WHERE seq > ? GROUP BY session_uuid"
_RUNNING = """
SELECT r.session_uuid
FROM tasks AS t JOIN runs AS r ON r.task_id = t.task_id AND r.attempt = t.attempt
WHERE t.status = 'running' AND r.session_uuid IS NOT NULL AND r.finished_at IS NULL
"""
_UNSETTLED = f"""
SELECT task_id, attempt, session_uuid, started_at, finished_at FROM runs
WHERE finished_at >= :since AND session_uuid IS NOT NULL
  AND NOT EXISTS (SELECT 1 FROM daemon_state WHERE name = {DONE_NAME})
"""
_NOTE = "INSERT INTO daemon_state (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"

_OVER = frozenset(status for status in SessionStatus if status.is_over)


@dataclass(slots=True)
class File:
    """A transcript and how far it is read."""

    found: TranscriptFile
    #: None: to be asked of the store
    position: Position | None = None
    began_at: int | None = None
    #: deleted, or not to be read: left alone until it changes
    is_over: bool = False
    #: left alone for good
    is_poisoned: bool = False
    #: size and time of change with which it was read to its end
    _read: tuple[int, int] | None = None
    _is_final: bool = False

    @property
    def path(self) -> Path:
        return self.found.path

    @property
    def behind(self) -> int:
        """Bytes that are not read yet."""
        return (
            0
            if self.is_over or self.is_poisoned or self.position is None
            else max(0, self.found.size - self.position.offset)
        )

    def wants_reading(self, *, final: bool) -> bool:
        if self.is_over or self.is_poisoned:
            return False
        if self.position is None or self._read != (self.found.size, self.found.mtime_ns):
            return True
        return final and not self._is_final and self.behind > 0

    def took(self, chunk: Chunk, *, final: bool) -> None:
        self.position = chunk.position
        if chunk.done or (chunk.size == 0 and not chunk.restarted):
            self._read = (self.found.size, self.found.mtime_ns)
            self._is_final = final


@dataclass(slots=True)
class Session:
    """A conversation whose files are looked at. Times in seconds of the monotonic clock."""

    session_uuid: str
    path: Path
    #: the first event of it that may tell of unread lines; 0: none
    since_event: int
    #: of its last event or new line
    active_at: float
    due_at: float = 0.0
    is_over: bool = False
    #: nothing more will be read of it
    is_done: bool = False
    looked_at: float = float("-inf")
    files: dict[Path, File] = field(default_factory=dict)

    def note(self, found: TranscriptFile) -> File:
        if (file := self.files.get(found.path)) is None:
            file = self.files[found.path] = File(found)
        if (file.found.size, file.found.mtime_ns) != (found.size, found.mtime_ns):
            file.is_over = False
        file.found = found
        return file

    def is_last_look(self, now: float) -> bool:
        return self.is_over and now - self.active_at >= LINGER

    def looked(self, now: float, *, grew: bool, final: bool) -> None:
        """A look is over that began before `now`."""
        self.looked_at = now
        if grew:
            self.active_at = now
        quiet = now - self.active_at
        self.is_done = (final and not grew) or quiet >= FORGOTTEN_AFTER
        self.due_at = now + (BUSY_INTERVAL if self.is_over or quiet < BUSY_FOR else QUIET_INTERVAL)

    def hurry(self) -> None:
        """There is more to read now."""
        self.due_at, self.is_done = 0.0, False
        self.looked_at = float("-inf")


class Watchlist:
    """Sessions to look at. Asks the store little: nothing at all while nothing happens but that tasks run."""

    def __init__(self, database: Database, projects: Path, runs_dir: Path) -> None:
        self._database = database
        self._projects = projects
        self._runs_dir = runs_dir
        #: events were stored since the last look
        self.stirred = True
        #: something became of a task since the last look
        self.tasks_stirred = True
        self._sessions: dict[str, Session] = {}
        #: events up to this one were taken in; None: not begun yet
        self._seen: int | None = None
        self._noted: tuple[int, float] = (-1, float("-inf"))
        #: sessions of the runs under way
        self._running: set[str] = set()
        #: (task, attempt) → a run whose result is not accounted yet
        self._ended: dict[tuple[str, int], EndedRun] = {}
        self._runs_at = float("-inf")
        #: epoch milliseconds of the last look for ended runs
        self._ended_at = 0

    def count(self) -> int:
        return sum(len(one.files) for one in self._sessions.values())

    def behind(self) -> int:
        return sum(file.behind for one in self._sessions.values() for file in one.files.values())

    async def due(self, now: float) -> list[Session]:
        """The sessions to look at now, those that wait longest first."""
        if self._seen is None:
            await self._begin(now)
        if self.stirred:
            self.stirred = False
            try:
                await self._take_events(now)
            except BaseException:
                self.stirred = True
                raise
        if self.tasks_stirred or now - self._runs_at >= RUNS_INTERVAL:
            await self._take_runs(now)
            self._runs_at = now
        for name in [name for name, one in self._sessions.items() if one.is_done]:
            del self._sessions[name]
        due = [one for one in self._sessions.values() if one.due_at <= now]
        await self._refresh([one.session_uuid for one in due], now)
        return sorted(due, key=lambda one: (one.due_at, one.session_uuid))

    async def ended_runs(self) -> list[EndedRun]:
        """Runs that ended and whose transcripts were read since."""
        return [run for run in self._ended.values() if self._is_read(run)]

    def settled(self, run: EndedRun) -> None:
        self._ended.pop((run.task_id, run.attempt), None)

    async def remember(self, now: float) -> None:
        """Note from time to time up to where a restarted daemon need not look at events again."""
        upto = min((one.since_event - 1 for one in self._sessions.values() if one.since_event), default=self._seen or 0)
        if upto != self._noted[0] and now - self._noted[1] >= NOTE_INTERVAL:
            await self._database.apply([Write.one(_NOTE, (_STATE, str(upto)))])
            self._noted = (upto, now)

    async def _begin(self, now: float) -> None:
        """Take up what an earlier daemon left: what it had not read of, and the sessions and runs of the last day."""
        at = time.time_ns() // 1_000_000
        newest = int((await self._database.query("SELECT max(seq) FROM events"))[0][0] or 0)
        noted = await self._database.query("SELECT value FROM daemon_state WHERE name = ?", [_STATE])
        recent = await self._database.query(_RECENT, [at - RECENT])
        await self._watch({row[0]: 0 for row in recent}, now)
        self._seen = min(int(noted[0][0]), newest) if noted else newest

    async def _take_events(self, now: float) -> None:
        rows = await self._database.query(_STIRRED, [self._seen or 0])
        await self._watch({session: first for session, first, _ in rows}, now)
        self._seen = max((last for _, _, last in rows), default=self._seen)

    async def _take_runs(self, now: float) -> None:
        running = {row[0] for row in await self._database.query(_RUNNING)}
        if self.tasks_stirred or self._running - running:
            self.tasks_stirred = False
            try:
                await self._take_ended(now)
            except BaseException:
                self.tasks_stirred = True
                raise
        self._running = running
        await self._find(running - self._sessions.keys(), now)

    async def _take_ended(self, now: float) -> None:
        """Note the runs that ended since the last look, and look at their sessions once more."""
        at = time.time_ns() // 1_000_000
        rows = await self._database.query(_UNSETTLED, {"since": self._ended_at or at - RECENT})
        found = [run for run in map(self._run, rows) if (run.task_id, run.attempt) not in self._ended]
        for run in found:
            self._ended[run.task_id, run.attempt] = run
        sessions = {run.session_uuid for run in found}
        for session_uuid in sessions & self._sessions.keys():
            self._sessions[session_uuid].hurry()
        await self._find(sessions - self._sessions.keys(), now)
        self._ended_at = at - OVERLAP

    async def _find(self, sessions: set[str], now: float) -> None:
        """Put sessions of tasks on the list."""
        if not sessions:
            return
        await self._watch(dict.fromkeys(sessions, 0), now)
        for session_uuid in sessions - self._sessions.keys():
            # No hook has told of it: hooks may be switched off.
            path = await asyncio.to_thread(self._look_for, session_uuid)
            if path is not None:
                self._sessions[session_uuid] = Session(session_uuid, path, 0, now)

    def _look_for(self, session_uuid: str) -> Path | None:
        return next(self._projects.glob(f"*/{session_uuid}.jsonl"), None)

    async def _watch(self, sessions: dict[str, int], now: float) -> None:
        """Put sessions (→ the first event that is new, or 0) on the list, or look at them again now."""
        rows = await self._rows(session for session in sessions if session not in self._sessions)
        for session_uuid, path, status in rows:
            if path and path.startswith("/") and path.endswith(".jsonl"):
                session = Session(session_uuid, Path(path), sessions[session_uuid], now, is_over=status in _OVER)
                self._sessions[session_uuid] = session
        for session_uuid in sessions:
            if (known := self._sessions.get(session_uuid)) is not None:
                known.active_at, known.due_at, known.is_done = now, 0.0, False
                known.since_event = known.since_event or sessions[session_uuid]

    async def _refresh(self, names: list[str], now: float) -> None:
        """Take over what the store knows by now of sessions on the list."""
        for session_uuid, path, status in await self._rows(names):
            session = self._sessions[session_uuid]
            was_over, session.is_over = session.is_over, status in _OVER and session_uuid not in self._running
            if session.is_over and not was_over:
                session.active_at = now
            if path and path != str(session.path) and path.startswith("/") and path.endswith(".jsonl"):
                session.path = Path(path)

    async def _rows(self, sessions: Iterable[str]) -> list[Row]:
        names, rows = list(sessions), []
        for start in range(0, len(names), _MANY):
            part = names[start : start + _MANY]
            rows += await self._database.query(_SESSIONS.format(marks=", ".join("?" * len(part))), part)
        return rows

    def _run(self, row: Row) -> EndedRun:
        task_id, attempt, session_uuid, started_at, finished_at = row
        output = self._runs_dir / task_id / str(attempt) / "output"
        return EndedRun(task_id, attempt, session_uuid, started_at, finished_at, output)

    def _is_read(self, run: EndedRun) -> bool:
        session = self._sessions.get(run.session_uuid)
        return session is None or session.looked_at > float("-inf")
