"""What transcripts tell of tool calls, made fit to be stored. Needs no store: another process may do it."""

import json
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_json

from tasks.categories import categorize
from tasks.categories.fingerprints import fingerprint
from tasks.redaction import Redactor, may_contain_secret
from tasks.transcripts import Answer, Call, Chunk
from tasks.words import FILE_TOOLS, PrivacyLevel

#: Longest error text stored, in characters, before the privacy level cuts it.
ERROR_LIMIT = 12_000
#: Bytes of a call's input below which nothing in it is long enough to be cut at any privacy level.
SMALL = 8 << 10


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a call failed, as it may be stored."""

    category: str
    fingerprint: str
    #: None: no text may be kept
    error: str | None
    #: of its kind; None: it has none, or none may be kept
    message: str | None


@dataclass(frozen=True, slots=True)
class Told:
    """What a chunk says of calls, as it may be stored."""

    #: of each call of the chunk, in that order: the JSON of its input; None: it has none, or none may be kept
    parameters: list[str | None]
    #: tool_use_id → of the answers to calls of the chunk
    failures: dict[str, Failure]


def tell(chunk: Chunk, redactor: Redactor) -> Told:
    """Take the secrets out of what `chunk` says: most of the work of `note`, for which nobody has to wait."""
    names = {call.tool_use_id: call.tool_name for call in chunk.calls}
    return Told(
        [parameters_of(call, redactor) for call in chunk.calls],
        {
            answer.tool_use_id: failure_of(answer, name, redactor)
            for answer in chunk.answers
            if not answer.success and (name := names.get(answer.tool_use_id)) is not None
        },
    )


def parameters_of(call: Call, redactor: Redactor) -> str | None:
    """The JSON of the call's input as it may be stored; None when there is none, or none may be kept.

    At the lowest privacy level that is a JSON string, the file that the call touches: `reconcile` knows it by that.
    """
    raw = call.parameters
    if redactor.level is PrivacyLevel.MINIMAL:
        return _file_name(call, redactor)
    if raw in (b"", b"{}", b"null"):
        return None
    if len(raw) < SMALL and b"\\u" not in raw and not may_contain_secret(raw):
        return raw.decode(errors="replace")
    try:
        value: Any = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return to_json(redactor.value(value), inf_nan_mode="strings").decode()


def _file_name(call: Call, redactor: Redactor) -> str | None:
    if call.tool_name not in FILE_TOOLS:
        return None
    try:
        value = json.loads(call.parameters)
    except (ValueError, RecursionError):
        return None
    path = value.get(FILE_TOOLS[call.tool_name][1]) if isinstance(value, dict) else None
    return to_json(redactor.text(path)).decode() if isinstance(path, str) else None


def failure_of(answer: Answer, tool_name: str, redactor: Redactor) -> Failure:
    """Why the call of `tool_name` failed that `answer` belongs to."""
    text = answer.text[:ERROR_LIMIT]
    category = categorize(answer.text, tool_name=tool_name)
    error = redactor.text(text)
    kind = fingerprint(tool_name, category, redactor.ends(answer.text, error if text == answer.text else None))
    if redactor.level is PrivacyLevel.MINIMAL:
        return Failure(category, kind.id, None, None)
    return Failure(category, kind.id, error, kind.message or None)
