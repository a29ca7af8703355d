"""What of an agent's output is worth telling: each note is one line."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from tasks.agent.values import amount, count, mapping, sequence, text, words

#: Characters of a note.
LONGEST_NOTE = 200
#: Characters that are looked at to make one, so that a secret on the cut is seen whole.
_WINDOW = 4096
#: Everything that ends a line, moves the cursor, or turns the direction of writing.
_CONTROL = re.compile("[\x00-\x20\x7f-\xa0\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]+")
#: The argument that tells best what a tool was asked to do, by name, best first.
_SUBJECTS = (
    "command", "file_path", "notebook_path", "pattern", "path", "url", "query", "description", "skill", "subject",
    "prompt",
)  # fmt: skip


class NoteKind(StrEnum):
    SAID = "said"
    TOOL = "tool"
    RESULT = "result"
    #: what stands between the agent and the API
    LIMIT = "limit"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Note:
    """One line of activity, at most 200 characters, without control characters."""

    message: str
    kind: NoteKind


def one_line(what: str, *, mark: str = "", redact: Callable[[str], str] | None = None) -> str:
    """`what` behind `mark` on one line of at most 200 characters, redacted before it is cut."""
    line = _CONTROL.sub(" ", what[:_WINDOW]).strip()
    line = mark + (redact(line) if redact else line)
    return line if len(line) <= LONGEST_NOTE else line[: LONGEST_NOTE - 1] + "…"


def of_message(line: Mapping[str, object]) -> Iterator[tuple[NoteKind, str, str]]:
    """(kind, mark, words) of what an `assistant` line holds. What the client itself put there (errors) is left out."""
    message = mapping(line.get("message"))
    if line.get("is_api_error_message") or message.get("model") == "<synthetic>":
        return
    agent = text(line.get("subagent_type")) or "subagent"
    mark = f"[{agent[:40]}] " if line.get("parent_tool_use_id") else ""
    content = message.get("content")
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else sequence(content)
    for block in map(mapping, blocks):
        if block.get("type") == "text" and (said := _first_line(text(block.get("text")))):
            yield NoteKind.SAID, mark, said
        elif block.get("type") == "tool_use":
            yield NoteKind.TOOL, mark, _call(block)


def of_system(line: Mapping[str, object]) -> Iterator[tuple[NoteKind, str]]:
    """(kind, words) of a `system` line."""
    match line.get("subtype"):
        case "init":
            yield NoteKind.OTHER, f"session {text(line.get('session_id'))} with {text(line.get('model')) or 'no model'}"
        case "api_retry":
            yield NoteKind.LIMIT, _retry(line)
        case "permission_denied":
            reason = text(line.get("decision_reason")) or text(line.get("message"))
            yield NoteKind.OTHER, f"denied: {text(line.get('tool_name'))}: {_first_line(reason)}"
        case "task_notification":
            summary = _first_line(text(line.get("summary")))
            yield NoteKind.OTHER, f"side work {text(line.get('status')) or 'ended'}: {summary}"
        case "compact_boundary":
            yield NoteKind.OTHER, "the conversation was compacted"
        case "informational" if line.get("level") == "warning":
            yield NoteKind.OTHER, words(line.get("content"))


def _retry(line: Mapping[str, object]) -> str:
    status = count(line.get("error_status"))
    what = " ".join(filter(None, (str(status or ""), text(line.get("error")))))
    seconds = amount(line.get("retry_delay_ms")) / 1000
    tries = f"try {count(line.get('attempt'))} of {count(line.get('max_retries'))}"
    return f"the API answered {what or 'an error'}: {tries} in {seconds:.0f} s"


def _call(block: Mapping[str, object]) -> str:
    arguments = mapping(block.get("input"))
    name = text(block.get("name")) or "?"
    for subject in _SUBJECTS:
        if value := text(arguments.get(subject)).strip():
            return f"{name}: {value}"
    first = next(filter(None, (text(value).strip() for value in arguments.values())), "")
    return f"{name}: {first}" if first else name


def _first_line(what: str) -> str:
    return what.strip().partition("\n")[0]
