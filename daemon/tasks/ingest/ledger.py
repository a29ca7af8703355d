"""The writing half: digests → rows, in one transaction; and the session states that this needs to remember."""

import logging
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from tasks import process
from tasks.database import Database, Row, Write
from tasks.errors import ProbeError, StoreBusy, StoreCorrupt, StoreUnavailable
from tasks.ingest import statements
from tasks.ingest.digest import CONTENT_ID_SIZE, Digest, Failure
from tasks.ingest.fold import Fold, Process
from tasks.ingest.sessions import CALL_COLUMNS, COLUMNS, OpenCall, SessionState
from tasks.ingest.twins import WINDOW, Twins

log = logging.getLogger(__name__)

#: Session states kept in memory; the rest is read again when needed.
REMEMBERED = 1000


@dataclass(slots=True)
class Stored:
    """What became of the digests of one batch."""

    #: in the database now, or before; their files may go
    done: list[Digest] = field(default_factory=list)
    #: of those, the events that are new
    fresh: list[Digest] = field(default_factory=list)
    duplicates: int = 0
    #: what the store would not take, with the reason
    refused: list[tuple[Digest, str]] = field(default_factory=list)


class Ledger:
    """Stores digests exactly once: an event that is there already changes nothing, whatever it would have meant."""

    def __init__(self, database: Database, deny: Callable[[str, str], Failure]) -> None:
        self._database = database
        self._deny = deny
        self._host = socket.gethostname()
        self._twins = Twins()
        #: epoch milliseconds of the newest event that an earlier process stored; None: not looked up yet
        self._inherited_until: int | None = None
        self._states: dict[str, SessionState] = {}

    async def store(self, digests: Sequence[Digest], *, on_commit: Callable[[], None] | None = None) -> Stored:
        """Store what is not stored yet. `on_commit` is called while the disk is being waited for.

        Raises StoreUnavailable, StoreBusy or StoreCorrupt, and then nothing was stored.
        """
        outcome = Stored(done=list(digests))
        known = await self._known(digests)
        await self._recall([one for one in digests if one.event_id not in known])
        for one in digests:
            if one.event_id in known:
                continue
            known.add(one.event_id)
            if self._twins.is_second_copy(one):
                outcome.duplicates += 1
            else:
                outcome.fresh.append(one)
        try:
            await self._write(outcome.fresh, outcome.duplicates, on_commit)
        except (StoreUnavailable, StoreBusy, StoreCorrupt):
            raise
        except Exception as error:
            if not outcome.fresh:
                raise
            log.warning("a batch could not be stored, trying its events one by one error=%s", error)
            await self._write_apart(outcome)
        return outcome

    async def lose(self, session_uuids: Sequence[str]) -> None:
        """Record that the processes of these sessions are gone without a SessionEnd."""
        sessions = await self._load(set(session_uuids), set())
        now = time.time_ns() // 1_000_000
        fold = Fold(sessions, self._host, self._deny, now)
        for session_uuid in session_uuids:
            if session_uuid in sessions:
                fold.lose(session_uuid, now)
        await self._commit(fold, [])

    async def _write_apart(self, outcome: Stored) -> None:
        fresh, outcome.fresh = outcome.fresh, []
        for one in fresh:
            try:
                await self._write([one], 0)
                outcome.fresh.append(one)
            except (StoreUnavailable, StoreBusy, StoreCorrupt):
                raise
            except Exception as error:
                log.exception("an event could not be stored name=%s", one.file.name)
                outcome.done.remove(one)
                outcome.refused.append((one, f"{type(error).__name__}: {error}"))

    async def _write(
        self, fresh: Sequence[Digest], duplicates: int, on_commit: Callable[[], None] | None = None
    ) -> None:
        if not fresh and not duplicates:
            return
        names = {one.event.session_id for one in fresh}
        # What starts may have come from another session of the same process.
        starters = {
            one.file.client_pid
            for one in fresh
            if one.event.session_id not in self._states or one.event.hook_event_name == "SessionStart"
        }
        sessions = await self._load(names, {pid for pid in starters if pid is not None})
        fold = Fold(sessions, self._host, self._deny, time.time_ns() // 1_000_000, _identify(fresh, sessions))
        # File times move in ticks of some milliseconds; within one, the recorder started first has the lower pid.
        for one in sorted(fresh, key=lambda one: (one.file.mtime_ns, one.file.recorder_pid)):
            fold.add(one)
        counts = [("events", len(fresh)), ("duplicates", duplicates)]
        await self._commit(fold, [Write(statements.COUNT, [count for count in counts if count[1]])], on_commit)

    async def _commit(self, fold: Fold, more: list[Write], on_commit: Callable[[], None] | None = None) -> None:
        # Whatever happens, what is in memory must not be ahead of the store.
        for session_uuid in fold.sessions:
            self._states.pop(session_uuid, None)
        await self._database.apply(fold.writes() + more, on_commit=on_commit)
        self._states.update(fold.sessions)
        while len(self._states) > REMEMBERED:
            del self._states[next(iter(self._states))]

    async def _known(self, digests: Sequence[Digest]) -> set[bytes]:
        """Which of the events are stored: those whose files a crash kept from being unlinked."""
        if not digests:
            return set()
        ids = [one.event_id for one in digests]
        rows = await self._database.query(f"SELECT event_id FROM events WHERE event_id IN ({_marks(ids)})", ids)
        return {row[0] for row in rows}

    async def _recall(self, digests: Sequence[Digest]) -> None:
        """Remember what an earlier process stored, where it may be the other copy of one of these."""
        if self._inherited_until is None:
            newest = (await self._database.query("SELECT max(last_event_at) FROM sessions"))[0][0]
            self._inherited_until = -WINDOW if newest is None else int(newest)
        horizon = self._inherited_until + WINDOW
        unsure = {one.content_id: one.at for one in digests if one.at <= horizon and not self._twins.remembers(one)}
        if not unsure:
            return
        ranges = [bound for content in unsure for bound in (content, content + b"\xff" * 9)]
        rows = await self._database.query(
            f"WITH wanted (low, high) AS (VALUES {', '.join(['(?, ?)'] * len(unsure))}) "
            "SELECT event_id, pid, timestamp FROM wanted CROSS JOIN events ON event_id BETWEEN low AND high",
            ranges,
        )
        for event_id, pid, at in rows:
            if abs(at - unsure[event_id[:CONTENT_ID_SIZE]]) <= WINDOW:
                self._twins.recall(event_id, pid, at)

    async def _load(self, names: set[str], pids: set[int]) -> dict[str, SessionState]:
        """Copies of the states of these sessions, and of recent ones of these processes."""
        loaded = {name: self._states[name].copy() for name in names if name in self._states}
        missing = [name for name in names if name not in loaded]
        rows: list[Row] = []
        if missing:
            rows += await self._database.query(f"{_SELECT} WHERE session_uuid IN ({_marks(missing)})", missing)
        if pids:
            rows += await self._database.query(
                f"{_SELECT} WHERE pid IN ({_marks(pids)}) AND host = ? ORDER BY last_event_at DESC LIMIT 100",
                [*pids, self._host],
            )
        read = {row[0]: SessionState(*row) for row in rows if row[0] not in loaded}
        if read:
            calls = f"SELECT {', '.join(CALL_COLUMNS)} FROM tool_running WHERE session_uuid IN ({_marks(read)})"
            for row in await self._database.query(calls, list(read)):
                call = OpenCall(*row)
                read[call.session_uuid].open_calls[call.tool_use_id] = call
        return loaded | read


_SELECT = f"SELECT {', '.join(COLUMNS)} FROM sessions"


def _marks(values: Iterable[object]) -> str:
    return ", ".join("?" for _ in values)


def _identify(digests: Iterable[Digest], sessions: dict[str, SessionState]) -> dict[int, Process]:
    """Identities of the clients that are not known yet. A process that started after its event is a stranger's."""
    found: dict[int, Process] = {}
    for one in digests:
        pid = one.file.client_pid
        state = sessions.get(one.event.session_id)
        if pid is None or pid in found or (state is not None and state.pid == pid and state.boot is not None):
            continue
        try:
            identity = process.identify(pid)
        except ProbeError:
            continue
        if identity is not None and process.started_at_ms(identity) <= one.at + 1000:
            found[pid] = Process(identity.started, identity.boot)
    return found
