"""Events → writes. A pure fold over sessions: no I/O, no clock, no randomness; the same events give the same rows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tasks.database import Write
from tasks.events import models as m
from tasks.ingest import origins, statements
from tasks.ingest.calls import Calls
from tasks.ingest.digest import CallDigest, Digest, Failure
from tasks.ingest.sessions import COLUMNS, OpenCall, SessionState, is_straggler, may_change
from tasks.ingest.spent import TimeSpent
from tasks.words import CallSource, SessionStatus

#: A UserPromptSubmit that the client wrote itself, when background work finished.
_NOTIFICATION_PREFIX = "<task-notification>"

_PERMISSION_NOTES = ("permission_prompt",)
_INPUT_NOTES = ("idle_prompt", "elicitation_dialog")


@dataclass(frozen=True, slots=True)
class Process:
    """What is known of a client's process: its identity, when it could be taken."""

    started: int | None
    boot: str | None


@dataclass(slots=True)
class Fold:
    """Folds events, oldest first, into `sessions` and collects what is to be written.

    `sessions` holds copies of the stored state of every session that the events name; sessions that are not in it are new.
    """

    sessions: dict[str, SessionState]
    host: str
    #: makes a Failure of (tool name, text) for a call that was answered with nothing but a text
    deny: Callable[[str, str], Failure]
    #: epoch milliseconds when the events were read
    now: int
    processes: Mapping[int, Process] = field(default_factory=dict)
    _events: list[tuple[Any, ...]] = field(default_factory=list)
    _changed: dict[str, SessionState] = field(default_factory=dict)
    _status: list[tuple[Any, ...]] = field(default_factory=list)
    _spent: TimeSpent = field(default_factory=TimeSpent)
    _calls: Calls = field(default_factory=Calls)
    _subagents: list[Write] = field(default_factory=list)

    def add(self, digest: Digest) -> None:
        event, file = digest.event, digest.file
        state = self._session(digest)
        self._events.append(
            (digest.event_id, digest.at, event.session_id, event.hook_event_name, state.task_id, event.agent_id,
             event.prompt_id, getattr(event, "tool_name", None), getattr(event, "tool_use_id", None), file.client_pid,
             digest.flags, digest.body)
        )  # fmt: skip
        if handler := _HANDLERS.get(type(event)):
            handler(self, digest, state)

    def lose(self, session_uuid: str, at: int) -> None:
        """The session's process is gone and no SessionEnd came."""
        state = self._changed.setdefault(session_uuid, self.sessions[session_uuid])
        if may_change(state, SessionStatus.LOST, max(at, state.status_since), "process_gone", self.now):
            self._move(state, SessionStatus.LOST, max(at, state.status_since), "process_gone", None)
            self._end(state, at, "process_gone", "lost")

    def writes(self) -> list[Write]:
        """In the order in which foreign keys need them."""
        return [
            Write(statements.EVENT, self._events),
            Write(statements.SESSION, [tuple(getattr(s, name) for name in COLUMNS) for s in self._changed.values()]),
            Write(statements.STATUS_CHANGE, self._status),
            self._spent.write(),
            *self._calls.writes(),
            *self._subagents,
        ]

    # Sessions.

    def _session(self, digest: Digest) -> SessionState:
        event, file, at = digest.event, digest.file, digest.at
        known = self.sessions.get(event.session_id)
        is_new = known is None or known.events == 0
        if known is not None and not is_new:
            state = known
        else:
            state = SessionState(event.session_id, SessionStatus.STARTING, at, self.host, at, at, file.task_id)
            if known is not None:
                state.take_over(known)
            self.sessions[event.session_id] = state
            if not isinstance(event, m.SessionStart):
                self._adopt_fork(state, digest)
            self._record(state, None, at, event.hook_event_name, None)
        if (
            isinstance(event, m.SessionStart)
            and event.source == "resume"
            and not origins.was_overtaken(state, digest.file.client_pid, digest.at)
        ):
            state.note_resume(is_new=is_new)
        self._changed[event.session_id] = state
        state.events += 1
        state.last_event_at = max(state.last_event_at, at)
        state.task_id = file.task_id or state.task_id
        state.cwd = event.cwd or state.cwd
        state.transcript_path = event.transcript_path or state.transcript_path
        if event.permission_mode is not None:
            state.permission_mode = str(event.permission_mode)[:64]
        if file.client_pid is not None:
            process = self.processes.get(file.client_pid)
            if process is not None or state.pid != file.client_pid:
                state.pid = file.client_pid
                state.process_started, state.boot = (process.started, process.boot) if process else (None, None)
        return state

    def _adopt_fork(self, state: SessionState, digest: Digest) -> None:
        """A session without a SessionStart is a fork: its start was reported under the id that it was forked from."""
        pid = digest.file.client_pid
        known = self.processes.get(pid) if pid is not None else None
        other = origins.forked_from(self.sessions.values(), pid, known.started if known else None)
        if other is not None and other is not state:
            state.origin, state.parent_uuid = "fork", other.session_uuid
            self._changed[other.session_uuid] = other
            self._move(other, other.undo_resume(), digest.at, "forked", state.session_uuid)

    def _move(self, state: SessionState, to: SessionStatus, at: int, cause: str, detail: str | None) -> None:
        if not to.is_over:
            state.ended_at = state.end_reason = None
        if state.status != to:
            previous = state.status
            self._spent.add(previous, state.status_since, at)
            state.status, state.status_since = str(to), at
            state.status_detail = detail
            self._record(state, previous, at, cause, detail)
        else:
            state.status_detail = detail

    def _change(self, digest: Digest, state: SessionState, to: SessionStatus, detail: str | None = None) -> bool:
        if not may_change(state, to, digest.at, digest.event.hook_event_name, self.now):
            return False
        self._move(state, to, digest.at, digest.event.hook_event_name, detail)
        return True

    def _record(self, state: SessionState, previous: str | None, at: int, cause: str, detail: str | None) -> None:
        self._status.append((at, state.session_uuid, state.task_id, None, state.status, previous, cause, detail))

    def _end(self, state: SessionState, at: int, reason: str | None, subagents: str) -> None:
        state.ended_at, state.end_reason, state.before_resume = at, reason, None
        self._close_calls(state, at)
        self._subagents.append(Write.one(statements.SUBAGENTS_OF_ENDED, (subagents, at, state.session_uuid)))

    def _close_calls(self, state: SessionState, at: int, which: Callable[[OpenCall], bool] = lambda call: True) -> None:
        """Close what was in flight at `at`; what began after that goes on."""
        self._calls.close(state, at, lambda call: which(call) and not is_straggler(at, call.started_at, self.now))

    def session_start(self, digest: Digest, state: SessionState) -> None:
        event: Any = digest.event
        if event.source == "compact":
            return  # the same session goes on
        if isinstance(event.model, str):
            state.model = event.model
        if state.origin is None:
            state.origin = event.source
        if event.source == "clear":
            self._find_cleared(state, digest)
        if event.source == "resume" and state.before_resume is not None:
            if (fork := origins.fork_ahead(self.sessions.values(), state, digest.at)) is not None:
                fork.origin, fork.parent_uuid = "fork", state.session_uuid
                self._changed[fork.session_uuid] = fork
                state.undo_resume()
                return
            self._close_calls(state, digest.at)
        if state.events > 1 and not origins.was_overtaken(state, digest.file.client_pid, digest.at):
            self._change(digest, state, SessionStatus.STARTING, event.source)

    def _find_cleared(self, state: SessionState, digest: Digest) -> None:
        if (cleared := origins.cleared(self.sessions.values(), state, digest.file.client_pid)) is None:
            return
        state.parent_uuid = cleared.session_uuid
        if may_change(cleared, SessionStatus.ENDED, digest.at, "cleared", self.now):
            self._changed[cleared.session_uuid] = cleared
            self._move(cleared, SessionStatus.ENDED, digest.at, "cleared", None)
            self._end(cleared, digest.at, "clear", "ended")

    def session_end(self, digest: Digest, state: SessionState) -> None:
        event: Any = digest.event
        reason = str(event.reason)[:64] if event.reason is not None else None
        if self._change(digest, state, SessionStatus.ENDED, reason) or SessionStatus(state.status).is_over:
            self._end(state, digest.at, reason, "ended")

    # Turns.

    def prompt(self, digest: Digest, state: SessionState) -> None:
        event: Any = digest.event
        self._close_calls(state, digest.at, _of_main_agent)
        state.asked = []
        if not (isinstance(event.prompt, str) and event.prompt.startswith(_NOTIFICATION_PREFIX)):
            state.prompts += 1
        state.before_resume = None
        self._change(digest, state, SessionStatus.WORKING)

    def stop(self, digest: Digest, state: SessionState) -> None:
        if digest.event.agent_id is not None:
            return
        self._close_calls(state, digest.at, _of_main_agent)
        self._change(digest, state, SessionStatus.IDLE)

    def stop_failure(self, digest: Digest, state: SessionState) -> None:
        event: Any = digest.event
        detail = digest.failure.error if digest.failure else None
        if event.agent_id is not None:
            self._end_subagent(digest, state, "failed", detail)
            return
        self._close_calls(state, digest.at, _of_main_agent)
        self._change(digest, state, SessionStatus.FAILED, detail)

    def notification(self, digest: Digest, state: SessionState) -> None:
        event: Any = digest.event
        if event.notification_type in _PERMISSION_NOTES:
            self._change(digest, state, SessionStatus.WAITING_PERMISSION, state.status_detail)
        elif event.notification_type in _INPUT_NOTES:
            self._change(digest, state, SessionStatus.WAITING_INPUT)

    def elicitation(self, digest: Digest, state: SessionState) -> None:
        self._change(digest, state, SessionStatus.WAITING_INPUT)

    def activity(self, digest: Digest, state: SessionState) -> None:
        self._change(digest, state, SessionStatus.WORKING)

    # Subagents.

    def subagent_start(self, digest: Digest, state: SessionState) -> None:
        event = digest.event
        if event.agent_id is None:
            return
        self._subagents.append(
            Write.one(
                statements.SUBAGENT_STARTED, (event.session_id, event.agent_id, event.agent_type or None, digest.at)
            )
        )
        self._record_subagent(digest, state, "working", None)

    def subagent_stop(self, digest: Digest, state: SessionState) -> None:
        if digest.event.agent_id is not None:
            self._end_subagent(digest, state, "ended", None)

    def _end_subagent(self, digest: Digest, state: SessionState, status: str, detail: str | None) -> None:
        event = digest.event
        self._close_calls(state, digest.at, lambda call: call.agent_id == event.agent_id)
        row = (event.session_id, event.agent_id, event.agent_type or None, status, digest.at, detail)
        self._subagents.append(Write.one(statements.SUBAGENT_ENDED, row))
        self._record_subagent(digest, state, status, detail)

    def _record_subagent(self, digest: Digest, state: SessionState, status: str, detail: str | None) -> None:
        event = digest.event
        self._status.append(
            (digest.at, event.session_id, state.task_id, event.agent_id, status, None, event.hook_event_name, detail)
        )

    # Tool calls.

    def pre_tool(self, digest: Digest, state: SessionState) -> None:
        event: Any = digest.event
        if not self._calls.begin(digest, state):
            return
        self.activity(digest, state)
        call = state.open_calls[event.tool_use_id]
        if (answered := state.answered.pop(event.tool_use_id, None)) is not None:
            self._answer(digest, call, answered)
        if state.status in (SessionStatus.ENDED, SessionStatus.LOST):
            self._calls.close(state, digest.at, lambda one: one is call)

    def permission_request(self, digest: Digest, state: SessionState) -> None:
        event: Any = digest.event
        self._change(digest, state, SessionStatus.WAITING_PERMISSION, event.tool_name)
        self._calls.ask(digest, state)

    def permission_denied(self, digest: Digest, state: SessionState) -> None:
        event: Any = digest.event
        self.activity(digest, state)
        if event.tool_use_id is not None:
            self._calls.finish(
                digest, state, event, parameters=digest.parameters, failure=digest.failure, source=CallSource.BATCH
            )

    def post_tool(self, digest: Digest, state: SessionState) -> None:
        self.activity(digest, state)
        self._calls.finish(
            digest, state, digest.event, parameters=digest.parameters, failure=digest.failure, source=CallSource.HOOK
        )

    def batch(self, digest: Digest, state: SessionState) -> None:
        """A batch only adds what no hook of its own told: calls that were refused or denied. A hook's word replaces it."""
        agent_id = digest.event.agent_id
        self.activity(digest, state)
        # Whatever was answered in an earlier batch of this agent and got no result since, will get none.
        self._calls.close(state, digest.at, lambda one: one.answered_at is not None and one.agent_id == agent_id)
        state.answered, state.asked = {}, []
        for call in digest.calls:
            running = state.open_calls.get(call.tool_use_id)
            if call.failure is not None or (running is not None and call.text is None):
                self._calls.finish(
                    digest, state, call, parameters=call.parameters, failure=call.failure, source=CallSource.BATCH
                )
            elif running is not None:
                self._answer(digest, running, call)
            elif call.text is not None:
                state.answered[call.tool_use_id] = call

    def _answer(self, digest: Digest, call: OpenCall, answered: CallDigest) -> None:
        self._calls.answer(call, self.deny(answered.tool_name, answered.text or ""), digest.at)


def _of_main_agent(call: OpenCall) -> bool:
    return call.agent_id is None


_HANDLERS: Mapping[type[m.Event], Callable[[Fold, Digest, SessionState], None]] = {
    m.SessionStart: Fold.session_start,
    m.SessionEnd: Fold.session_end,
    m.UserPromptSubmit: Fold.prompt,
    m.Stop: Fold.stop,
    m.StopFailure: Fold.stop_failure,
    m.Notification: Fold.notification,
    m.Elicitation: Fold.elicitation,
    m.ElicitationResult: Fold.activity,
    m.PreCompact: Fold.activity,
    m.SubagentStart: Fold.subagent_start,
    m.SubagentStop: Fold.subagent_stop,
    m.PreToolUse: Fold.pre_tool,
    m.PostToolUse: Fold.post_tool,
    m.PostToolUseFailure: Fold.post_tool,
    m.PostToolBatch: Fold.batch,
    m.PermissionRequest: Fold.permission_request,
    m.PermissionDenied: Fold.permission_denied,
}
