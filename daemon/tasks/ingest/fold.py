"""Events → writes. A pure fold over sessions: no I/O, no clock, no randomness; the same events give the same rows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tasks.database import Write
from tasks.events import models as m
from tasks.ingest import statements
from tasks.ingest.digest import Digest, Failure
from tasks.ingest.sessions import CALL_COLUMNS, COLUMNS, OpenCall, SessionState, may_change
from tasks.words import CallSource, ErrorCategory, SessionStatus

_STRENGTH = {source: strength for strength, source in enumerate(CallSource)}

_NO_RESULT = "No result was reported before the turn or the process ended"
_NOT_ALLOWED = "The person did not allow this call"

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
    processes: Mapping[int, Process] = field(default_factory=dict)
    _events: list[tuple[Any, ...]] = field(default_factory=list)
    _changed: dict[str, SessionState] = field(default_factory=dict)
    _status: list[tuple[Any, ...]] = field(default_factory=list)
    _usage: dict[tuple[str, str], tuple[Any, ...]] = field(default_factory=dict)
    _opened: dict[tuple[str, str], OpenCall] = field(default_factory=dict)
    _closed: set[tuple[str, str]] = field(default_factory=set)
    _files: list[tuple[Any, ...]] = field(default_factory=list)
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
        if may_change(state, SessionStatus.LOST, max(at, state.status_since), "process_gone"):
            self._move(state, SessionStatus.LOST, max(at, state.status_since), "process_gone", None)
            self._end(state, at, "process_gone", "lost")

    def writes(self) -> list[Write]:
        """In the order in which foreign keys need them."""
        opened = [
            {name: getattr(call, name) for name in CALL_COLUMNS}
            for key, call in self._opened.items()
            if key not in self._closed
        ]
        # What was opened and closed in one batch never was in tool_running, unless an earlier batch had put it there.
        closed = [key for key in self._closed if key not in self._opened or self._opened[key].permission_requested]
        return [
            Write(statements.EVENT, self._events),
            Write(statements.SESSION, [tuple(getattr(s, name) for name in COLUMNS) for s in self._changed.values()]),
            Write(statements.STATUS_CHANGE, self._status),
            Write(statements.TOOL_USAGE, list(self._usage.values())),
            Write(statements.CALL_OPENED, opened),
            Write(statements.CALL_CLOSED, closed),
            Write(statements.FILE_TOUCHED, self._files),
            *self._subagents,
        ]

    # Sessions.

    def _session(self, digest: Digest) -> SessionState:
        event, file, at = digest.event, digest.file, digest.at
        state = self.sessions.get(event.session_id)
        if state is None:
            state = SessionState(event.session_id, SessionStatus.STARTING, at, self.host, at, at, file.task_id)
            self.sessions[event.session_id] = state
            if not isinstance(event, m.SessionStart):
                self._adopt_fork(state, digest)
            self._record(state, None, at, event.hook_event_name, None)
        self._changed[event.session_id] = state
        state.events += 1
        state.last_event_at = max(state.last_event_at, at)
        state.task_id = file.task_id or state.task_id
        state.cwd = event.cwd or state.cwd
        state.transcript_path = event.transcript_path or state.transcript_path
        if event.permission_mode is not None:
            state.permission_mode = str(event.permission_mode)[:64]
        if file.client_pid is not None:
            known = self.processes.get(file.client_pid)
            if known is not None or state.pid != file.client_pid:
                state.pid = file.client_pid
                state.process_started, state.boot = (known.started, known.boot) if known else (None, None)
        return state

    def _adopt_fork(self, state: SessionState, digest: Digest) -> None:
        """A session without a SessionStart is a fork: its start was reported under the id that it was forked from."""
        if (pid := digest.file.client_pid) is None:
            return
        for other in self.sessions.values():
            if other is state or other.pid != pid or other.before_resume is None:
                continue
            if other.status == SessionStatus.STARTING and other.process_started == self._started(pid):
                state.origin, state.parent_uuid = "fork", other.session_uuid
                before = SessionStatus(other.before_resume)
                other.before_resume = None
                self._changed[other.session_uuid] = other
                self._move(other, before, digest.at, "forked", state.session_uuid)
                return

    def _started(self, pid: int) -> int | None:
        known = self.processes.get(pid)
        return known.started if known else None

    def _move(self, state: SessionState, to: SessionStatus, at: int, cause: str, detail: str | None) -> None:
        if state.status != to:
            previous = state.status
            state.status, state.status_since = str(to), at
            state.status_detail = detail
            self._record(state, previous, at, cause, detail)
        else:
            state.status_detail = detail

    def _change(self, digest: Digest, state: SessionState, to: SessionStatus, detail: str | None = None) -> bool:
        if not may_change(state, to, digest.at, digest.event.hook_event_name):
            return False
        self._move(state, to, digest.at, digest.event.hook_event_name, detail)
        return True

    def _record(self, state: SessionState, previous: str | None, at: int, cause: str, detail: str | None) -> None:
        self._status.append((at, state.session_uuid, state.task_id, None, state.status, previous, cause, detail))

    def _end(self, state: SessionState, at: int, reason: str | None, subagents: str) -> None:
        state.ended_at, state.end_reason, state.before_resume = at, reason, None
        self._close_calls(state, at, lambda call: True)
        self._subagents.append(Write.one(statements.SUBAGENTS_OF_ENDED, (subagents, at, state.session_uuid)))

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
        if event.source == "resume":
            self._close_calls(state, digest.at, lambda call: True)
            state.before_resume = state.status if state.events > 1 else str(SessionStatus.ENDED)
        if state.events > 1 and self._change(digest, state, SessionStatus.STARTING, event.source):
            state.ended_at = state.end_reason = None

    def _find_cleared(self, state: SessionState, digest: Digest) -> None:
        pid = digest.file.client_pid
        candidates = [s for s in self.sessions.values() if s is not state and pid is not None and s.pid == pid]
        if not candidates:
            return
        cleared = max(candidates, key=lambda s: s.last_event_at)
        state.parent_uuid = cleared.session_uuid
        if may_change(cleared, SessionStatus.ENDED, digest.at, "cleared"):
            self._changed[cleared.session_uuid] = cleared
            self._move(cleared, SessionStatus.ENDED, digest.at, "cleared", None)
            self._end(cleared, digest.at, "clear", "ended")

    def session_end(self, digest: Digest, state: SessionState) -> None:
        event: Any = digest.event
        reason = str(event.reason)[:64] if event.reason is not None else None
        self._change(digest, state, SessionStatus.ENDED, reason)
        self._end(state, digest.at, reason, "ended")

    # Turns.

    def prompt(self, digest: Digest, state: SessionState) -> None:
        event: Any = digest.event
        self._close_calls(state, digest.at, lambda call: call.agent_id is None)
        if not (isinstance(event.prompt, str) and event.prompt.startswith(_NOTIFICATION_PREFIX)):
            state.prompts += 1
        state.before_resume = None
        if self._change(digest, state, SessionStatus.WORKING):
            state.ended_at = state.end_reason = None

    def stop(self, digest: Digest, state: SessionState) -> None:
        if digest.event.agent_id is not None:
            return
        self._close_calls(state, digest.at, lambda call: call.agent_id is None)
        self._change(digest, state, SessionStatus.IDLE)

    def stop_failure(self, digest: Digest, state: SessionState) -> None:
        event: Any = digest.event
        detail = str(event.error)[:200] if event.error is not None else None
        if event.agent_id is not None:
            self._end_subagent(digest, state, "failed", detail)
            return
        self._close_calls(state, digest.at, lambda call: call.agent_id is None)
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
        self.activity(digest, state)
        key = (event.session_id, event.tool_use_id)
        if key in self._usage:
            return
        call = OpenCall(
            event.session_id, event.tool_use_id, event.tool_name, digest.at, state.task_id, event.agent_id,
            event.agent_type or None, event.prompt_id, digest.parameters,
        )  # fmt: skip
        state.open_calls[event.tool_use_id] = call
        self._opened[key] = call

    def permission_request(self, digest: Digest, state: SessionState) -> None:
        event: Any = digest.event
        self._change(digest, state, SessionStatus.WAITING_PERMISSION, event.tool_name)
        for call in state.open_calls.values():
            # The event does not name the call; tool, agent and parameters do.
            if (call.tool_name, call.agent_id, call.parameters) == (event.tool_name, event.agent_id, digest.parameters):
                call.permission_requested = 1
                self._opened[(call.session_uuid, call.tool_use_id)] = call

    def permission_denied(self, digest: Digest, state: SessionState) -> None:
        event: Any = digest.event
        self.activity(digest, state)
        if event.tool_use_id is not None:
            reason = str(event.reason) if event.reason is not None else "denied"
            failure = Failure(reason[:1000], ErrorCategory.BLOCKED)
            self._finish(
                digest, state, event.tool_name, event.tool_use_id, digest.parameters, failure, None, CallSource.BATCH
            )

    def post_tool(self, digest: Digest, state: SessionState) -> None:
        event: Any = digest.event
        self.activity(digest, state)
        self._finish(
            digest, state, event.tool_name, event.tool_use_id, digest.parameters, digest.failure, event.duration_ms,
            CallSource.HOOK,
        )  # fmt: skip
        if digest.touched is not None:
            action, path = digest.touched
            self._files.append(
                (digest.at, path, action, event.session_id, state.task_id, event.agent_id, event.tool_use_id)
            )

    def batch(self, digest: Digest, state: SessionState) -> None:
        """A batch only adds what no hook of its own told: calls that were refused or denied. A hook's word replaces it."""
        self.activity(digest, state)
        for call in digest.calls:
            failure = call.failure
            if failure is None:
                if call.tool_use_id not in state.open_calls:
                    continue
                if call.text is not None:
                    # It started, no result came, and the model was told a text: it was denied.
                    failure = self.deny(call.tool_name, call.text)
            self._finish(
                digest, state, call.tool_name, call.tool_use_id, call.parameters, failure, None, CallSource.BATCH
            )

    def _finish(
        self,
        digest: Digest,
        state: SessionState,
        tool_name: str,
        tool_use_id: str,
        parameters: str | None,
        failure: Failure | None,
        duration_ms: float | None,
        source: CallSource,
    ) -> None:
        event = digest.event
        state.open_calls.pop(tool_use_id, None)
        self._store_call(
            source,
            (digest.at, event.session_id, state.task_id, event.agent_id, event.agent_type or None, event.prompt_id,
             tool_use_id, tool_name, parameters, 0 if failure else 1, failure.error if failure else None,
             failure.category if failure else None, duration_ms, digest.tokens, digest.background, source),
        )  # fmt: skip

    def _store_call(self, source: CallSource, row: tuple[Any, ...]) -> None:
        key = (row[1], row[6])
        earlier = self._usage.get(key)
        if earlier is None or _STRENGTH[source] > _STRENGTH[earlier[-1]]:
            self._usage[key] = row
        self._closed.add(key)

    def _close_calls(self, state: SessionState, at: int, which: Callable[[OpenCall], bool]) -> None:
        for call in [call for call in state.open_calls.values() if which(call)]:
            del state.open_calls[call.tool_use_id]
            refused = call.permission_requested
            self._store_call(
                CallSource.INFERRED,
                (at, call.session_uuid, call.task_id, call.agent_id, call.agent_type, call.prompt_id, call.tool_use_id,
                 call.tool_name, call.parameters, 0, _NOT_ALLOWED if refused else _NO_RESULT,
                 ErrorCategory.USER_REJECTED if refused else ErrorCategory.INTERRUPTED, None, None, None,
                 CallSource.INFERRED),
            )  # fmt: skip


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
