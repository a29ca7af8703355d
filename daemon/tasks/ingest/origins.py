"""Where a session came from, found out from what else ran in the same process. Pure."""

from collections.abc import Iterable

from tasks.ingest.sessions import SessionState
from tasks.words import SessionStatus

#: Milliseconds within which an event of a background hook may be overtaken by the one after it.
OVERTAKING = 5_000


def forked_from(sessions: Iterable[SessionState], pid: int | None, started: int | None) -> SessionState | None:
    """The session whose resume was reported by the process (`pid`, `started`) of a session that has no start of its own.

    Clients before 2.1.330 report the start of a fork under the id that it was forked from.
    """
    for other in sessions:
        is_resumed = other.status == SessionStatus.STARTING and other.before_resume is not None
        if pid is not None and is_resumed and (other.pid, other.process_started) == (pid, started):
            return other
    return None


def fork_ahead(sessions: Iterable[SessionState], state: SessionState, at: int) -> SessionState | None:
    """The fork of `state` whose first event overtook the start at `at`, which is reported under the id of `state`."""
    for other in sessions:
        is_same = other.pid == state.pid is not None and other.process_started == state.process_started
        if other is not state and is_same and other.origin is None and 0 <= at - other.started_at < OVERTAKING:
            return other
    return None


def cleared(sessions: Iterable[SessionState], state: SessionState, pid: int | None) -> SessionState | None:
    """The session of the process `pid` that /clear replaced by `state`: the one that was active last."""
    candidates = [other for other in sessions if other is not state and pid is not None and other.pid == pid]
    return max(candidates, key=lambda other: other.last_event_at, default=None)


def was_overtaken(state: SessionState, pid: int | None, at: int) -> bool:
    """Whether the first prompt of the process `pid` came before its SessionStart at `at`."""
    is_same = state.pid == pid is not None
    return is_same and state.status == SessionStatus.WORKING and 0 <= at - state.status_since < OVERTAKING
