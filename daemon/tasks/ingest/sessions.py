"""What the ingester knows of a session while it folds events into it, and the status graph."""

import json
from dataclasses import dataclass, field, replace

from tasks.ingest.digest import CallDigest
from tasks.words import SessionStatus

#: An event older than the last change by more than this is a clock that stepped back, not a straggler.
CLOCK_STEP = 60_000  # milliseconds


@dataclass(slots=True)
class OpenCall:
    """A tool call in flight: a row of tool_running."""

    session_uuid: str
    tool_use_id: str
    tool_name: str
    started_at: int
    task_id: str | None = None
    agent_id: str | None = None
    agent_type: str | None = None
    prompt_id: str | None = None
    parameters: str | None = None
    permission_requested: int = 0
    answered_at: int | None = None
    answer: str | None = None
    answer_category: str | None = None


@dataclass(slots=True)
class SessionState:
    """A row of sessions, and its calls in flight."""

    session_uuid: str
    status: str
    status_since: int
    host: str
    started_at: int
    last_event_at: int
    task_id: str | None = None
    status_detail: str | None = None
    before_resume: str | None = None
    origin: str | None = None
    parent_uuid: str | None = None
    cwd: str | None = None
    transcript_path: str | None = None
    model: str | None = None
    permission_mode: str | None = None
    pid: int | None = None
    process_started: int | None = None
    boot: str | None = None
    ended_at: int | None = None
    end_reason: str | None = None
    events: int = 0
    prompts: int = 0
    #: by tool_use_id
    open_calls: dict[str, OpenCall] = field(default_factory=dict)
    #: calls of the last batch that were answered with a text and of which nothing else was known; not stored
    answered: dict[str, CallDigest] = field(default_factory=dict)
    #: permissions asked for since the last batch or prompt whose call was not known: tool, agent, parameters; not stored
    asked: list[tuple[str, str | None, str | None]] = field(default_factory=list)

    def take_over(self, told: "SessionState") -> None:
        """Keep what transcripts told of a session before its first event. That it was over is their guess, not known."""
        self.started_at = min(self.started_at, told.started_at)
        self.task_id = self.task_id or told.task_id
        self.cwd, self.transcript_path, self.model = told.cwd, told.transcript_path, told.model

    def note_resume(self, *, is_new: bool) -> None:
        """Remember in `before_resume` what to take back when the resume turns out to be a fork."""
        before = {name: getattr(self, name) for name in _CHANGED_BY_RESUME}
        self.before_resume = json.dumps(before | ({"status": SessionStatus.ENDED} if is_new else {}))

    def undo_resume(self) -> SessionStatus:
        """Take the resume back, but for the status, which is returned."""
        before = json.loads(self.before_resume or "{}")
        self.before_resume = None
        status = SessionStatus(before.pop("status"))
        for name, value in before.items():
            setattr(self, name, value)
        return status

    def copy(self) -> "SessionState":
        calls = {key: replace(call) for key, call in self.open_calls.items()}
        return replace(self, open_calls=calls, answered=dict(self.answered), asked=list(self.asked))


_CHANGED_BY_RESUME = ("status", "pid", "process_started", "boot", "ended_at", "end_reason")

#: Columns of `sessions`, in the order of the fields above.
COLUMNS = tuple(name for name in SessionState.__slots__ if name not in ("open_calls", "answered", "asked"))
CALL_COLUMNS = tuple(OpenCall.__slots__)

#: States that no time is counted in.
OVER = frozenset((SessionStatus.ENDED, SessionStatus.FAILED, SessionStatus.LOST))
#: What an event that merely shows activity may interrupt. An idle session is woken by new work only, not by the stragglers
#: of the turn that just ended; a failed or ended one by nothing but a new start or prompt.
_ROUSED_BY_ACTIVITY = frozenset(
    (SessionStatus.STARTING, SessionStatus.WAITING_PERMISSION, SessionStatus.WAITING_INPUT, SessionStatus.LOST)
)
_ROUSED_BY_NEW_CALL = _ROUSED_BY_ACTIVITY | {SessionStatus.IDLE}


def is_straggler(at: int, since: int, now: int) -> bool:
    """Whether an event at time `at`, read at time `now`, tells of something older than what began at `since`.

    An event that is much older, but was read as it happened, comes from a clock that stepped back.
    """
    return at < since and (at > since - CLOCK_STEP or at < now - CLOCK_STEP)


def may_change(state: SessionState, to: SessionStatus, at: int, trigger: str, now: int) -> bool:
    """Whether an event of kind `trigger` at time `at`, read at time `now`, moves the session to `to`."""
    current = state.status
    if is_straggler(at, state.status_since, now):
        return False
    if trigger in ("SessionStart", "UserPromptSubmit"):
        return True
    if to is SessionStatus.LOST:
        return current not in OVER
    if to is SessionStatus.ENDED:
        # A turn that failed stays visible after the end that follows it.
        return current not in (SessionStatus.ENDED, SessionStatus.FAILED)
    if current in (SessionStatus.ENDED, SessionStatus.LOST) and to is not SessionStatus.WORKING:
        return current == SessionStatus.LOST
    if to is SessionStatus.WORKING:
        return current in (_ROUSED_BY_NEW_CALL if trigger == "PreToolUse" else _ROUSED_BY_ACTIVITY)
    if to is SessionStatus.WAITING_INPUT:
        return current not in (SessionStatus.FAILED,)
    return True
