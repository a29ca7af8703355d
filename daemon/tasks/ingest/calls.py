"""What becomes of the tool calls of one batch of events: which began, which ended and how. Pure."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tasks.categories.fingerprints import Fingerprint, fingerprint
from tasks.database import ERROR_KIND, Write
from tasks.ingest import statements
from tasks.ingest.digest import Digest, Failure
from tasks.ingest.sessions import CALL_COLUMNS, OpenCall, SessionState
from tasks.words import CallSource, ErrorCategory

_STRENGTH = {source: strength for strength, source in enumerate(CallSource)}

_NO_RESULT = "No result was reported before the turn or the process ended"
_NOT_ALLOWED = "The person was asked about this call, and no result was reported"

#: (session, tool_use_id)
Key = tuple[str, str]


@dataclass(slots=True)
class Calls:
    """Collects the rows of tool_usage, tool_running and files; the calls in flight themselves are in the SessionState."""

    _finished: dict[Key, tuple[Any, ...]] = field(default_factory=dict)
    #: begun or changed: rows of tool_running to write
    _opened: dict[Key, OpenCall] = field(default_factory=dict)
    _begun: set[Key] = field(default_factory=set)
    _closed: set[Key] = field(default_factory=set)
    _files: list[tuple[Any, ...]] = field(default_factory=list)
    #: fingerprint → message
    _said: dict[str, str] = field(default_factory=dict)

    def begin(self, digest: Digest, state: SessionState) -> bool:
        """A PreToolUse. Whether it begins anything: one that arrives after its result does not, nor does a second one."""
        event: Any = digest.event
        key = (event.session_id, event.tool_use_id)
        if key in self._finished or event.tool_use_id in state.open_calls:
            return False
        call = OpenCall(
            event.session_id, event.tool_use_id, event.tool_name, digest.at, state.task_id, event.agent_id,
            event.agent_type or None, event.prompt_id, digest.parameters,
        )  # fmt: skip
        state.open_calls[event.tool_use_id] = self._opened[key] = call
        self._begun.add(key)
        # Background hooks may overtake each other: the question and the answer may be here before their call.
        if (question := (call.tool_name, call.agent_id, call.parameters)) in state.asked:
            state.asked.remove(question)
            call.permission_requested = 1
        return True

    def ask(self, digest: Digest, state: SessionState) -> None:
        """A PermissionRequest. It does not name the call; tool, agent and parameters do."""
        event: Any = digest.event
        question = (event.tool_name, event.agent_id, digest.parameters)
        asked = [
            call for call in state.open_calls.values() if (call.tool_name, call.agent_id, call.parameters) == question
        ]
        for call in asked:
            call.permission_requested = 1
            self._opened[(call.session_uuid, call.tool_use_id)] = call
        if not asked:
            state.asked.append(question)

    def answer(self, call: OpenCall, failure: Failure, at: int) -> None:
        """The model was told a text. Unless a result still comes, that was a denial: `close` will say so."""
        call.answered_at, call.answer, call.answer_category = at, failure.error, failure.category
        self._opened[(call.session_uuid, call.tool_use_id)] = call

    def finish(
        self,
        digest: Digest,
        state: SessionState,
        call: Any,
        *,
        parameters: str | None,
        failure: Failure | None,
        source: CallSource,
    ) -> None:
        """`call` (anything with tool_name and tool_use_id) ended, as `source` says; `failure` None: it went well."""
        event = digest.event
        state.open_calls.pop(call.tool_use_id, None)
        self._store(
            source,
            (digest.at, event.session_id, state.task_id, event.agent_id, event.agent_type or None, event.prompt_id,
             call.tool_use_id, call.tool_name, parameters, 0 if failure else 1, failure.error if failure else None,
             failure.category if failure else None, digest.duration_ms, digest.tokens,
             digest.background, failure.kind.id if failure and failure.kind else None, source),
            failure.kind if failure else None,
        )  # fmt: skip
        if digest.touched is not None:
            action, path = digest.touched
            self._files.append(
                (digest.at, path, action, event.session_id, state.task_id, event.agent_id, call.tool_use_id)
            )

    def close(self, state: SessionState, at: int, which: Callable[[OpenCall], bool]) -> None:
        """The calls of `state` that are still in flight will get no result: their turn or their process ended."""
        for call in [call for call in state.open_calls.values() if which(call)]:
            del state.open_calls[call.tool_use_id]
            if call.answered_at is not None:
                source, error, category = CallSource.BATCH, call.answer, call.answer_category
            elif call.permission_requested:
                source, error, category = CallSource.INFERRED, _NOT_ALLOWED, ErrorCategory.USER_REJECTED
            else:
                source, error, category = CallSource.INFERRED, _NO_RESULT, ErrorCategory.INTERRUPTED
            kind = fingerprint(call.tool_name, category or "", error or "")
            self._store(
                source,
                (call.answered_at or at, call.session_uuid, call.task_id, call.agent_id, call.agent_type, call.prompt_id,
                 call.tool_use_id, call.tool_name, call.parameters, 0, error, category, None, None, None, kind.id, source),
                kind,
            )  # fmt: skip

    def writes(self) -> list[Write]:
        opened = [
            {name: getattr(call, name) for name in CALL_COLUMNS}
            for key, call in self._opened.items()
            if key not in self._closed
        ]
        # What began and ended in one batch never was in tool_running.
        closed = [key for key in self._closed if key not in self._begun]
        reported = [key for key, row in self._finished.items() if row[-1] != CallSource.INFERRED]
        return [
            Write(statements.REPORTED_LATE, reported),
            Write(statements.TOOL_USAGE, list(self._finished.values())),
            Write(ERROR_KIND, self._kinds()),
            Write(statements.CALL_OPENED, opened),
            Write(statements.CALL_CLOSED, closed),
            Write(statements.FILE_TOUCHED, self._files),
        ]

    def _kinds(self) -> list[tuple[Any, ...]]:
        """One row for each kind of failure among the finished calls."""
        kinds: dict[str, tuple[Any, ...]] = {}
        for row in self._finished.values():
            at, session_uuid, tool_name, category, kind = row[0], row[1], row[7], row[11], row[-2]
            if kind is None:
                continue
            if (known := kinds.get(kind)) is not None:
                kinds[kind] = (*known[:5], min(known[5], at), max(known[6], at))
            else:
                kinds[kind] = (kind, tool_name, category, self._said.get(kind), session_uuid, at, at)
        return list(kinds.values())

    def _store(self, source: CallSource, row: tuple[Any, ...], kind: Fingerprint | None) -> None:
        if kind is not None and kind.message:
            self._said.setdefault(kind.id, kind.message)
        key = (row[1], row[6])
        earlier = self._finished.get(key)
        if earlier is None or _STRENGTH[source] > _STRENGTH[earlier[-1]]:
            self._finished[key] = row
        self._closed.add(key)
