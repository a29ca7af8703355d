"""What a transcript tells: plain values, no behaviour."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Message:
    """One answer of the API: the line with the highest output_tokens of those in the chunk, whole."""

    #: the API's id; of a line without one, the line's own uuid
    message_id: str
    #: milliseconds, of the earliest of its lines in the chunk
    timestamp: int
    model: str
    prompt_id: str | None
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_5m_tokens: int
    cache_write_1h_tokens: int
    web_searches: int
    #: '' or sorted words that change the price: "batch fast geo_us"
    modifiers: str = ""
    #: each of its lines is marked as another session's: it never takes the credit from one that is not. Older clients mark
    #: nothing; there the file with the smaller `peek` has the original.
    copied: bool = False

    @property
    def weight(self) -> tuple[int, int, int, int, int, int, str, str]:
        """Of several lines of one message the one with the greatest weight counts, whole: in the first place, that with most
        output. A total order, so that it does not matter which line is read first.
        """
        return (
            self.output_tokens, self.input_tokens, self.cache_read_tokens, self.cache_write_5m_tokens,
            self.cache_write_1h_tokens, self.web_searches, self.model, self.modifiers,
        )  # fmt: skip

    def seen(self, timestamp: int, prompt_id: str | None, *, copied: bool) -> "Message":
        """The same usage, said at that time and place. `replace` would take several times as long."""
        return Message(
            self.message_id, timestamp, self.model, prompt_id, self.input_tokens, self.output_tokens, self.cache_read_tokens,
            self.cache_write_5m_tokens, self.cache_write_1h_tokens, self.web_searches, self.modifiers, copied,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Call:
    """One tool call that the client was asked for. Tools that the API runs itself are none, nor are copies that are marked."""

    tool_use_id: str
    tool_name: str
    message_id: str
    model: str
    prompt_id: str | None
    #: milliseconds
    timestamp: int
    #: the input, as the JSON that stands in the file
    parameters: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model was told about a call."""

    tool_use_id: str
    #: milliseconds
    timestamp: int
    success: bool
    #: at most TEXT_LIMIT characters
    text: str


@dataclass(frozen=True, slots=True)
class Position:
    """How far a file was read, and what tells whether it still is that file. `Position()` is the beginning of any file."""

    #: bytes
    offset: int = 0
    device: int = 0
    inode: int = 0
    #: hash of the bytes just before `offset`
    anchor: bytes = b""
    #: that the line at `offset` belongs to
    prompt_id: str | None = None
    #: latest time that stood in a line before `offset` (`Chunk.last_at`), for lines that tell none; None: not known
    last_at: int | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """What some lines told. It began at `position.offset - size`."""

    messages: list[Message]
    calls: list[Call]
    answers: list[Answer]
    #: where the next read begins
    position: Position
    #: that the lines name; None: no line did
    session_uuid: str | None
    #: from the file's name
    agent_id: str | None
    #: of the first line that names one
    cwd: str | None
    #: milliseconds; of a chunk at 0 what `peek` says, as far as the chunk reaches, else the first time in it; None: no time
    began_at: int | None
    #: latest time that stood in a line, milliseconds; None: in no line
    last_at: int | None
    #: lines that are not JSON objects, and those above LINE_LIMIT
    bad_lines: int
    #: bytes consumed
    size: int
    #: the end of the file was reached; what may follow is a line that is still being written
    done: bool
    #: the file is not what `position` was in any more: this chunk began at 0
    restarted: bool


@dataclass(frozen=True, slots=True)
class TranscriptFile:
    """One transcript in the client's folder."""

    path: Path
    #: of the session; a subagent's file belongs to its parent's
    session_uuid: str
    #: None: the main agent's
    agent_id: str | None
    #: as the file beside a subagent's tells; None: it does not
    agent_type: str | None
    #: bytes
    size: int
    mtime_ns: int
