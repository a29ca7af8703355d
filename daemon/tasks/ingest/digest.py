"""One spool file → what is worth storing of it: parsed, redacted, categorised. Pure, so that it can run anywhere."""

import hashlib
import os.path
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_json

from tasks.categories import categorize
from tasks.categories.fingerprints import Fingerprint, fingerprint
from tasks.events import Event, Parsed, Rejected, parse_event
from tasks.events.models import PermissionDenied, PostToolBatch, PostToolUse, PostToolUseFailure, StopFailure, ToolEvent
from tasks.redaction import Redactor, may_contain_secret
from tasks.spool import SpoolFile
from tasks.words import FILE_TOOLS, ErrorCategory, FileAction, PrivacyLevel

#: Payloads below this need no cutting: no string and no event in them passes the limits of the privacy level.
SMALL = 8 << 10
#: Bytes of an event's id that tell its content alone.
CONTENT_ID_SIZE = 8
#: The longest time a call may claim: a hundred years, in milliseconds.
LONGEST = 3.2e12
#: Longest error text stored, in characters; the client itself cuts at about 10,000.
ERROR_LIMIT = 12_000

_WORD = re.compile(r"[a-z_]{1,40}")
_INTERRUPTED = "The call was interrupted"

#: Fields with a column of their own, here or in tool_usage.
_COLUMNS = frozenset(
    ("session_id", "hook_event_name", "transcript_path", "cwd", "prompt_id", "agent_id", "tool_name", "tool_use_id",
     "tool_input", "tool_calls", "duration_ms", "permission_mode")
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Failure:
    error: str | None
    category: ErrorCategory
    #: of a failed call: its message is '' where none may be stored
    kind: Fingerprint | None = None


@dataclass(frozen=True, slots=True)
class CallDigest:
    """One entry of a PostToolBatch."""

    tool_name: str
    tool_use_id: str
    parameters: str | None
    #: None: it went well, as far as this event knows
    failure: Failure | None
    #: what the model was told, when that was a text; not redacted, not for storing
    text: str | None


@dataclass(slots=True)
class Digest:
    """An event, ready to be folded into the history."""

    file: SpoolFile
    event: Event
    #: content_id, a hash of content and time, and which registration recorded it; see `was_by_plugin`
    event_id: bytes
    #: hash of the payload alone: what the plugin's copy and the settings' copy of one event share
    content_id: bytes
    #: epoch milliseconds
    at: int
    flags: str | None
    #: JSON of every field without a column
    body: str | None
    #: JSON of tool_input
    parameters: str | None = None
    failure: Failure | None = None
    duration_ms: float | None = None
    calls: tuple[CallDigest, ...] = ()
    #: "requested" or "automatic": the call goes on in the background
    background: str | None = None
    tokens: int | None = None
    touched: tuple[FileAction, str] | None = None


def was_by_plugin(event_id: bytes) -> bool:
    """Whether the plugin recorded the event, going by its id."""
    return event_id[-1] == 1


def digest(file: SpoolFile, redactor: Redactor) -> Digest | Rejected:
    """Everything that is to be stored of `file`, with no secret in it; or why it is no event."""
    parsed = parse_event(file.raw)
    if isinstance(parsed, Rejected):
        return parsed
    event = parsed.event
    event.agent_id, event.prompt_id = event.agent_id or None, event.prompt_id or None
    content = hashlib.blake2b(file.raw, digest_size=16).digest()
    moment = hashlib.blake2b(content + file.mtime_ns.to_bytes(12, "big", signed=True), digest_size=7).digest()
    keep = _Keeper(file.raw, redactor)
    made = Digest(
        file=file,
        event=event,
        event_id=content[:CONTENT_ID_SIZE] + moment + bytes([file.by_plugin]),
        content_id=content[:CONTENT_ID_SIZE],
        at=file.mtime_ns // 1_000_000,
        flags=_flags(parsed, file.raw),
        body=keep.json(_remaining_fields(event)),
    )
    if isinstance(event, ToolEvent):
        made.parameters = keep.json(event.tool_input)
        if isinstance(event, PostToolUse | PostToolUseFailure):
            made.duration_ms = _milliseconds(event.duration_ms)
            if made.duration_ms is None and event.duration_ms is not None:
                made.flags = f"{made.flags} duration" if made.flags else "duration"
        if isinstance(event, PostToolUse):
            _digest_success(made, event)
        elif isinstance(event, PostToolUseFailure):
            category = categorize(event.error, tool_name=event.tool_name, is_interrupt=event.is_interrupt)
            made.failure = keep.failure(event.tool_name, category, event.error)
        elif isinstance(event, PermissionDenied):
            reason = "denied" if event.reason is None else str(event.reason)
            made.failure = keep.failure(event.tool_name, ErrorCategory.BLOCKED, reason)
    elif isinstance(event, StopFailure):
        made.failure = Failure(keep.word(event.error), ErrorCategory.TOOL_ERROR)
    elif isinstance(event, PostToolBatch):
        made.calls = tuple(
            CallDigest(
                call.tool_name,
                call.tool_use_id,
                keep.json(call.tool_input),
                _batch_failure(call, keep),
                call.tool_response[:ERROR_LIMIT] if isinstance(call.tool_response, str) else None,
            )
            for call in event.tool_calls
        )
    return made


class _Keeper:
    """Turns values into the text that may be stored, at the privacy level of the redactor."""

    def __init__(self, raw: bytes, redactor: Redactor) -> None:
        self._redactor = redactor
        self._stores = redactor.level is not PrivacyLevel.MINIMAL
        # One look at the raw bytes spares most events every further look.
        self._as_is = len(raw) < SMALL and not may_contain_secret(raw)

    def json(self, value: Any) -> str | None:
        if value is None or value == {} or not self._stores:
            return None
        if not self._as_is:
            value = self._redactor.value(value)
        # What is no JSON (NaN, Infinity) becomes the text of it.
        return to_json(value, inf_nan_mode="strings").decode()

    def word(self, value: Any) -> str | None:
        """One of the client's own words, kept at every level; anything else as a text."""
        if value is None:
            return None
        text = str(value)[:200]
        return text if _WORD.fullmatch(text) else self.text(text)

    def failure(self, tool_name: str, category: ErrorCategory, text: str) -> Failure:
        kind = fingerprint(tool_name, category, text if self._as_is else self._redactor.ends(text))
        return Failure(self.text(text), category, kind if self._stores else kind.unsaid())

    def text(self, value: str) -> str | None:
        if not self._stores:
            return None
        cut = value[:ERROR_LIMIT]
        return cut if self._as_is else self._redactor.text(cut)


def _digest_success(made: Digest, event: PostToolUse) -> None:
    response = event.tool_response
    arguments = event.tool_input if isinstance(event.tool_input, dict) else {}
    if isinstance(response, dict):
        if response.get("backgroundTaskId") or response.get("isAsync") is True:
            made.background = "requested" if arguments.get("run_in_background") else "automatic"
        if response.get("interrupted") is True:
            kind = fingerprint(event.tool_name, ErrorCategory.INTERRUPTED, _INTERRUPTED)
            made.failure = Failure(_INTERRUPTED, ErrorCategory.INTERRUPTED, kind)
        tokens = response.get("totalTokens")
        if isinstance(tokens, int) and 0 <= tokens < 1 << 62:
            made.tokens = tokens
    if made.failure is None:
        made.touched = _touched_file(event, arguments)


def _touched_file(event: PostToolUse, arguments: Mapping[str, Any]) -> tuple[FileAction, str] | None:
    if (known := FILE_TOOLS.get(event.tool_name)) is None:
        return None
    action, parameter = known
    path = arguments.get(parameter)
    if not isinstance(path, str) or not path:
        return None
    return action, os.path.normpath(f"{event.cwd or ''}/{path}") if path[0] != "/" else path


def _milliseconds(value: Any) -> float | None:
    """A time that a call can have taken; None for anything else."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= LONGEST:
        return float(value)
    return None


def _batch_failure(call: Any, keep: _Keeper) -> Failure | None:
    """What a batch says of a call beyond doubt: refused by the client, or failed. Denials look like any other text here."""
    response = call.tool_response
    if isinstance(response, str) and response.startswith("<tool_use_error>"):
        return keep.failure(call.tool_name, categorize(response, tool_name=call.tool_name), response)
    return None


def denial(tool_name: str, text: str, redactor: Redactor) -> Failure:
    """The failure of a call that was answered with `text` although no hook reported a result.

    Hooks may say anything when they deny, so whatever is not one of the client's own phrases is a block.
    """
    category = categorize(text, tool_name=tool_name)
    if category not in (ErrorCategory.USER_REJECTED, ErrorCategory.BLOCKED) and not text.startswith("Exit code "):
        category = ErrorCategory.BLOCKED
    return Failure(None if redactor.level is PrivacyLevel.MINIMAL else redactor.text(text), category)


def _remaining_fields(event: Event) -> dict[str, Any]:
    declared = {key: value for key, value in event.__dict__.items() if value is not None and key not in _COLUMNS}
    if isinstance(event, ToolEvent | PostToolBatch):
        declared.pop("effort", None)
    if isinstance(event, PostToolUseFailure):
        del declared["error"]  # tool_usage has it
    if extra := event.__pydantic_extra__:
        declared.update(extra)
    return declared


def _flags(parsed: Parsed, raw: bytes) -> str | None:
    flags = parsed.flags
    if b"NaN" in raw or b"Infinity" in raw:
        import json

        found: list[str] = []
        json.loads(raw.decode("utf-8", "replace").lstrip("\ufeff"), parse_constant=found.append)
        if found:
            flags += ("nonfinite",)
    return " ".join(flags) or None
