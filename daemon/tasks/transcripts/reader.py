"""Reading a file from where the last reading ended: whole lines, in chunks of flat memory."""

import os
import stat
from collections.abc import Iterator
from hashlib import blake2b
from io import FileIO
from pathlib import Path

from tasks.transcripts import lines
from tasks.transcripts.places import agent_of
from tasks.transcripts.records import Answer, Call, Chunk, Message, Position

#: Bytes of a chunk, unless one line is longer.
CHUNK = 4 << 20
#: Bytes of a line above which it is skipped.
LINE_LIMIT = 64 << 20
#: Bytes before an offset that tell whether a file was rewritten.
ANCHOR = 512
#: Bytes of a file in which its birth is looked for.
_PEEK = 64 << 20
_PEEK_BLOCK = 64 << 10


def read(
    path: Path, position: Position, *, limit: int = CHUNK, final: bool = False, only_failures: bool = False
) -> Chunk:
    """What the whole lines from `position` on say: about `limit` bytes of them, at least one line.

    A last line without its newline waits for it; `final` takes it when it is whole, for a client that writes no more.
    Lines that are not JSON are counted and skipped. A file that is shorter than the offset, another one than before, or
    different in the bytes before the offset is read from its beginning. `only_failures`: answers that tell of none have no
    text, which makes it a fifth faster.
    FileNotFoundError when there is no such file, OSError when it cannot be read.
    """
    with _open(path) as file:
        status = os.fstat(file.fileno())
        restarted = position.offset > 0 and not _is_same(file, status, position)
        if restarted:
            position = Position()
        data, consumed, bad, done = _take(file, position.offset, limit, final=final)
        end = position.offset + consumed
        anchor = _anchor(file, end)
    reading = _Reading(position, status.st_mtime_ns // 1_000_000, only_failures=only_failures)
    for raw in _lines_of(data):
        found, torn = lines.parse(raw)
        bad += torn
        for line in found:
            reading.add(line)
    return Chunk(
        messages=list(reading.messages.values()),
        calls=list(reading.calls.values()),
        answers=list(reading.answers.values()),
        position=Position(end, status.st_dev, status.st_ino, anchor, reading.prompt_id, reading.latest),
        session_uuid=reading.session_uuid,
        agent_id=agent_of(path),
        cwd=reading.cwd,
        began_at=reading.birth.at,
        last_at=reading.last_at,
        bad_lines=bad,
        size=consumed,
        done=done,
        restarted=restarted,
    )


def peek(path: Path) -> int | None:
    """Milliseconds when the file itself was begun: of two with the same unmarked message, the smaller one is the original.

    Copies keep the time of the original, so it is that of the first line behind those that are marked as copied; without
    marks the first time in the file: what a client in print mode writes before it copies. The same at any size of the
    file, unless it still holds nothing but copies. None when no line has a time. Errors as those of `read`.
    """
    birth = _Birth()
    with _open(path) as file:
        offset = 0
        while offset < _PEEK and not birth.is_sure:
            data, consumed, _, done = _take(file, offset, _PEEK_BLOCK, final=True)
            for raw in _lines_of(data):
                for line in lines.parse(raw)[0]:
                    birth.add(line, lines.milliseconds(line.timestamp))
            offset += consumed
            if done:
                break
    return birth.at


class _Birth:
    """When a file was begun, from its first lines on."""

    def __init__(self) -> None:
        self.is_sure = False
        self._first: int | None = None
        self._copied: int | None = None
        self._own: int | None = None

    @property
    def at(self) -> int | None:
        if self._copied is None:
            return self._first
        return max(self._copied, self._first or 0) if self._own is None else self._own

    def add(self, line: lines.Line, timestamp: int | None) -> None:
        if self.is_sure or timestamp is None:
            return
        if self._first is None:
            self._first = timestamp
        if line.is_copied:
            self._copied, self._own = timestamp, None
        elif line.type == "assistant":
            # Copies stand before everything that the session said itself.
            self.is_sure = True
        if not line.is_copied and self._own is None:
            self._own = timestamp


class _Reading:
    """What the lines of one chunk said so far."""

    def __init__(self, position: Position, mtime: int, *, only_failures: bool) -> None:
        self.messages: dict[str, Message] = {}
        self.calls: dict[str, Call] = {}
        self.answers: dict[str, Answer] = {}
        self.prompt_id = position.prompt_id
        self.latest = position.last_at
        self.session_uuid: str | None = None
        self.cwd: str | None = None
        self.birth = _Birth()
        self.last_at: int | None = None
        self._mtime = mtime
        self._only_failures = only_failures
        #: id → usage and model of its latest line
        self._told: dict[str, tuple[bytes, object]] = {}

    def add(self, line: lines.Line) -> None:
        timestamp = self._time(line)
        if self.session_uuid is None and isinstance(line.session_id, str):
            self.session_uuid = line.session_id or None
        if self.cwd is None and isinstance(line.cwd, str):
            self.cwd = line.cwd or None
        body = line.message
        if line.type == "user":
            if isinstance(line.prompt_id, str) and line.prompt_id:
                self.prompt_id = line.prompt_id
            if body is not None:
                for answer in lines.answers_in(body, timestamp, only_failures=self._only_failures):
                    self.answers.setdefault(answer.tool_use_id, answer)
        elif line.type == "assistant" and body is not None:
            message = self._message(line, body, timestamp)
            if message is not None and not message.copied:
                for call in lines.calls_in(body, message, timestamp):
                    self.calls.setdefault(call.tool_use_id, call)

    def _message(self, line: lines.Line, body: lines.Body, timestamp: int) -> Message | None:
        """Its message, as this line tells it, put beside what other lines told of it."""
        told = bytes(body.usage), body.model
        known = self.messages.get(body.id) if isinstance(body.id, str) else None
        if (
            known is not None
            and self._told[known.message_id] == told
            and (known.model, known.prompt_id, known.copied) == (body.model, self.prompt_id, line.is_copied)
            and known.timestamp <= timestamp
        ):
            return known  # most lines of a message say the same again, of another block
        message = lines.message_in(line, body, timestamp, self.prompt_id)
        if message is not None:
            known = self.messages.get(message.message_id)
            self.messages[message.message_id] = lines.joined(known, message) if known else message
            self._told[message.message_id] = told
        return message

    def _time(self, line: lines.Line) -> int:
        timestamp = lines.milliseconds(line.timestamp)
        if timestamp is None:
            return self.latest if self.latest is not None else self._mtime
        if not self.birth.is_sure:
            self.birth.add(line, timestamp)
        if self.last_at is None or timestamp > self.last_at:
            self.last_at = timestamp
        if self.latest is None or timestamp > self.latest:
            self.latest = timestamp
        return timestamp


def _lines_of(data: bytes) -> Iterator[memoryview]:
    """Without their newlines. To copy them would take a fifth of the time of reading."""
    view, begin = memoryview(data), 0
    while (end := data.find(b"\n", begin)) >= 0:
        yield view[begin:end]
        begin = end + 1
    yield view[begin:]


def _open(path: Path) -> FileIO:
    def opener(name: str, flags: int) -> int:
        # Nobody may ever write into a pipe of that name.
        return os.open(name, flags | os.O_NONBLOCK | os.O_CLOEXEC)

    file = FileIO(str(path), "r", opener=opener)
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise FileNotFoundError(f"reading the transcript {path}: it is no regular file")
    return file


def _is_same(file: FileIO, status: os.stat_result, position: Position) -> bool:
    # Devices are numbered anew at each boot; a copy that took a file's place has an inode of its own. Of a file that is
    # shorter by now, fewer bytes are hashed.
    return status.st_ino == position.inode and _anchor(file, position.offset) == position.anchor


def _anchor(file: FileIO, offset: int) -> bytes:
    begin = max(offset - ANCHOR, 0)
    return blake2b(os.pread(file.fileno(), offset - begin, begin), digest_size=16).digest()


def _take(file: FileIO, offset: int, limit: int, *, final: bool) -> tuple[bytes, int, int, bool]:
    """Whole lines from `offset` on: their bytes, how many bytes were consumed, bad lines, whether the end was reached."""
    file.seek(offset)
    data = file.read(max(limit, 1)) or b""
    length, end = len(data), data.rfind(b"\n") + 1
    if data and not end:
        data, length, end = _longer(file, data)
        if length > LINE_LIMIT and not end:
            return b"", *_skip(file, length)
    done = offset + length >= os.fstat(file.fileno()).st_size
    if done and final and end < length and lines.parse(data[end:])[1] == 0:
        end = length
    return data[:end], end, 0, done


def _longer(file: FileIO, begun: bytes) -> tuple[bytes, int, int]:
    """Read on until a line is whole, too long, or not written any further: the bytes, how many were read, and where the
    last newline ends. Of a line that is too long nothing is kept."""
    data = bytearray(begun)
    while len(data) <= LINE_LIMIT and (block := file.read(1 << 20)):
        data += block
        if newline := block.rfind(b"\n") + 1:
            return bytes(data), len(data), len(data) - len(block) + newline
    return bytes(data) if len(data) <= LINE_LIMIT else b"", len(data), 0


def _skip(file: FileIO, consumed: int) -> tuple[int, int, bool]:
    """Read on behind the next newline, keeping nothing. At the end of the file the rest of the line is still to come."""
    while block := file.read(1 << 20):
        found = block.find(b"\n") + 1
        if found:
            return consumed + found, 1, False
        consumed += len(block)
    return consumed, 1, True
