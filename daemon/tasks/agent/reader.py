"""Reads what an agent writes to its stdout, as it comes."""

import json
import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime, tzinfo
from typing import Literal

from tasks.agent.lines import LONGEST_LINE, Lines
from tasks.agent.notes import Note, NoteKind, of_message, of_system, one_line
from tasks.agent.quota import Limit, is_limit, parse_reset, sane
from tasks.agent.result import AgentResult, Totals
from tasks.agent.values import amount, count, mapping, sequence, text

#: Lines that are no messages of a client and are kept: a command of another kind says its result there.
KEPT_LINES = 20
#: Characters of such a line that are kept.
_KEPT_CHARACTERS = 2000
#: Notes that one `feed` makes of such lines.
_PLAIN_NOTES = 20
#: Bytes. Longer `user` lines (what tools answered) are not looked into.
_LONG = 64 * 1024
_ANSWER = b'{"type":"user"'


class OutputReader:
    """Makes notes of the output of one process and keeps its result; never fails, whatever is written.

    `now` gives epoch milliseconds, `zone` is the zone of times without one (default: the machine's), `redact` is applied
    to the words of notes before they are cut. Holds at most one line, of at most 64 MiB.
    """

    def __init__(
        self,
        output: Literal["stream-json", "text"] | str = "stream-json",
        *,
        now: Callable[[], int] | None = None,
        zone: tzinfo | None = None,
        redact: Callable[[str], str] | None = None,
        longest_line: int = LONGEST_LINE,
    ) -> None:
        self._reads_messages = output == "stream-json"
        self._now = now or (lambda: time.time_ns() // 1_000_000)
        self._zone = zone
        self._redact = redact
        self._lines = Lines(longest_line)
        self._totals = Totals()
        self._kept: deque[str] = deque(maxlen=KEPT_LINES)
        self._notes: list[Note] = []
        self._plain: deque[str] = deque(maxlen=_PLAIN_NOTES)
        self._plain_seen = 0
        self._last_limit_note = ""
        self._resets_at: int | None = None
        self._said_at: int | None = None
        #: the last `result` line; None: there was none yet
        self.result: AgentResult | None = None
        #: the session's id, as soon as it was said
        self.session: str | None = None
        #: the limit that the last result tells of
        self.limit: Limit | None = None
        #: commands and subagents at work in the background, as far as the client tells
        self.background = 0
        #: it has said its result, and nothing in the background can start another turn
        self.is_done = False

    def feed(self, data: bytes) -> list[Note]:
        """Take in the next bytes. Returns what the lines they complete tell, in order."""
        for line in self._lines.feed(data):
            self._take(line)
        self._tell_plain()
        notes, self._notes = self._notes, []
        return notes

    def finish(self) -> list[Note]:
        """Take in a last line that has no end. Call it when nothing more will come."""
        rest = self._lines.rest()
        return self.feed(rest + b"\n") if rest else []

    @property
    def last_lines(self) -> str:
        """The last lines that are no messages of a client, cut to 2,000 characters each."""
        return "\n".join(self._kept)

    def _take(self, line: bytes) -> None:
        if self._reads_messages and len(line) > _LONG and line.startswith(_ANSWER):
            return
        message = _parsed(line) if self._reads_messages else None
        if message is None:
            self._keep(line)
            return
        self._tell_plain()
        if self.session is None:
            self.session = text(message.get("session_id")) or None
        self._read(message)

    def _read(self, message: Mapping[str, object]) -> None:
        match message.get("type"):
            case "assistant":
                self.is_done = False
                self._note_error(message)
                for kind, mark, words in of_message(message):
                    self._note(kind, words, mark)
            case "system":
                self._take_system(message)
            case "rate_limit_event":
                self._take_quota(mapping(message.get("rate_limit_info")))
            case "result":
                self._take_result(message)

    def _take_system(self, message: Mapping[str, object]) -> None:
        match message.get("subtype"):
            case "init" if self.result is not None:
                self.is_done = False
                return
            case "background_tasks_changed":
                self.background = len(sequence(message.get("tasks")))
                self.is_done = self.is_done and not self.background
        for kind, words in of_system(message):
            self._note(kind, words)

    def _take_quota(self, info: Mapping[str, object]) -> None:
        """Told whenever the state of the quota changes, also when requests are allowed (again)."""
        status, resets = info.get("status"), count(info.get("resetsAt")) * 1000
        self._resets_at = resets or None if status == "rejected" else None
        kind = text(info.get("rateLimitType")).replace("_", " ") or "rate"
        if status == "rejected":
            words = f"{kind} limit reached"
        elif status == "allowed_warning":
            words = f"{amount(info.get('utilization')):.0%} of the {kind} limit used"
        else:
            return
        if sane(resets, self._now()):
            words += (
                f", resets {datetime.fromtimestamp(resets / 1000, self._zone).astimezone(self._zone):%Y-%m-%d %H:%M %z}"
            )
        if words != self._last_limit_note:
            self._last_limit_note = words
            self._note(NoteKind.LIMIT, words)

    def _note_error(self, message: Mapping[str, object]) -> None:
        """What the API refused with stands in the message before the result, more exactly than in the result."""
        if message.get("parent_tool_use_id") or not message.get("is_api_error_message"):
            return
        info = mapping(mapping(message.get("api_error_params")).get("rate_limit_info"))
        self._resets_at = count(info.get("resetsAt")) * 1000 or self._resets_at
        self._said_at = _moment(text(message.get("timestamp")))

    def _take_result(self, message: Mapping[str, object]) -> None:
        result = self.result = self._totals.take(message)
        self.is_done = not self.background
        self.limit = None
        if is_limit(result):
            now = self._now()
            resets = sane(self._resets_at, now) if self._resets_at else None
            if resets is None:
                # Output may be read long after it was written: "resets 3pm" is about the day it was said.
                said = min(self._said_at or now, now)
                named = parse_reset(result.text, said, self._zone)
                resets = sane(named, now) if named else None
            self.limit = Limit(resets, result.text)
        if result.is_error:
            interrupted = (result.terminal_reason or "").startswith("aborted")
            self._note(
                NoteKind.RESULT, result.text or ("interrupted" if interrupted else "no reason given"), "failed: "
            )
        else:
            turns = f"{result.turns} turn{'s' * (result.turns != 1)}"
            self._note(NoteKind.RESULT, f"done: {turns}, ${result.cost_usd:.4f}")

    def _keep(self, line: bytes) -> None:
        words = line[: 4 * _KEPT_CHARACTERS].decode("utf-8", "replace")[:_KEPT_CHARACTERS]
        self._kept.append(words)
        self._plain.append(words)
        self._plain_seen += 1

    def _tell_plain(self) -> None:
        """At most a few notes of many plain lines: their end."""
        if hidden := self._plain_seen - len(self._plain):
            self._note(NoteKind.OTHER, f"… {hidden:,} more lines")
        for words in self._plain:
            self._note(NoteKind.OTHER if self._reads_messages else NoteKind.SAID, words)
        self._plain.clear()
        self._plain_seen = 0

    def _note(self, kind: NoteKind, words: str, mark: str = "") -> None:
        if message := one_line(words, mark=mark, redact=self._redact):
            self._notes.append(Note(message, kind))


def _parsed(line: bytes) -> Mapping[str, object] | None:
    """A message of a client: a JSON object with a `type`."""
    if line.lstrip()[:1] != b"{":
        return None
    try:
        message = json.loads(line.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) and isinstance(message.get("type"), str) else None


def _moment(stamp: str) -> int | None:
    try:
        return int(datetime.fromisoformat(stamp).timestamp() * 1000)
    except (ValueError, OverflowError):
        return None
