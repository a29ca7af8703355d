"""Reads transcripts in a process of its own while the caller stores what it has: that is about half of a backfill."""

import contextlib
import logging
import os
import queue
import struct
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import msgspec

from tasks.accounting.told import Told, tell
from tasks.redaction import Redactor
from tasks.transcripts import Call, Chunk, Position, agent_of, read, stored_name
from tasks.words import PrivacyLevel

log = logging.getLogger(__name__)

#: Files that the reader is told of in advance, and answers that wait for the caller.
ASKED, WAITING = 32, 8

_LENGTH = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class _Order:
    """A file to read. Its path is no text: names may be of any bytes."""

    path: bytes
    position: Position
    limit: int


@dataclass(frozen=True, slots=True)
class _Answer:
    """A chunk of the file, why it could not be read, or (all None) that there is no more of it."""

    chunk: Chunk | None = None
    told: Told | None = None
    #: errno; 0: none
    error: int | None = None
    text: str = ""


_encode = msgspec.msgpack.Encoder().encode
_decode_order = msgspec.msgpack.Decoder(_Order).decode
_decode_answer = msgspec.msgpack.Decoder(_Answer).decode


def chunks(path: Path, position: Position, limit: int) -> Iterator[Chunk]:
    """What is new behind `position`, the last line included where it is whole; of answers that tell of no failure without the
    text, for nobody asks for it. Raises OSError.
    """
    while True:
        chunk = read(path, position, limit=limit, final=True, only_failures=True)
        yield chunk
        if chunk.done:
            return
        position = chunk.position


class Reader:
    """Reads files ahead of who asks for them, and takes the secrets out. `with` ends its process.

    Should that process die, the rest is read here: a backfill does not depend on it. `secret` and `level` are those of
    `Redactor`. Of the calls and answers whose texts are in `Told`, the chunks have none.
    """

    def __init__(self, limit: int, secret: bytes, level: PrivacyLevel) -> None:
        self._limit = limit
        self._redactor = Redactor(secret, level)
        self._plan: Iterator[tuple[Path, Position]] = iter(())
        self._asked: deque[tuple[Path, Position]] = deque()
        self._answers: queue.Queue[bytes | None] = queue.Queue(WAITING)
        self._over = threading.Event()
        self._child = subprocess.Popen(
            [sys.executable, "-I", "-c", "from tasks.accounting.ahead import main; main()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        with contextlib.suppress(OSError):  # it died: `next` finds out
            _send(_stream(self._child.stdin), secret)
            _send(_stream(self._child.stdin), level.encode())
        threading.Thread(target=self._listen, name="tasksd-read-ahead", daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._child.kill()
        self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()

    def follow(self, plan: Iterable[tuple[Path, Position]]) -> None:
        """What to read, in the order in which it will be asked for."""
        self._plan = iter(plan)
        self._ask()

    def next(self) -> Iterator[tuple[Chunk, Told]]:
        """The chunks of the next file of the plan. Raises OSError when it cannot be read."""
        self._ask()
        path, position = self._asked.popleft()
        while (raw := self._answers.get()) is not None:
            answer = _decode_answer(raw)
            if answer.chunk is not None and answer.told is not None:
                position = answer.chunk.position
                yield replace(answer.chunk, agent_id=agent_of(path)), answer.told
            elif answer.error is None:
                return
            else:
                raise _error(answer, path)
        self._answers.put(None)  # for the files after this one
        for chunk in chunks(path, position, self._limit):
            yield _told(chunk, self._redactor)

    def _ask(self) -> None:
        while len(self._asked) < ASKED and (one := next(self._plan, None)) is not None:
            self._asked.append(one)
            with contextlib.suppress(OSError):  # it died: `next` finds out
                order = _Order(os.fsencode(one[0]), one[1], self._limit)
                _send(_stream(self._child.stdin), _encode(order))

    def _listen(self) -> None:
        """Takes the answers out of the pipe, so that the reader goes on while the caller stores."""
        stream = _stream(self._child.stdout)
        while not self._over.is_set():
            try:
                raw = _receive(stream)
            except (OSError, ValueError):  # closed meanwhile
                raw = None
            while not self._over.is_set():
                with contextlib.suppress(queue.Full):
                    self._answers.put(raw, timeout=0.2)
                    break
            if raw is None:
                return


def main() -> None:
    """The reader: secret, privacy level and files to read come on standard input, what they say goes to standard output."""
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    secret, level = _receive(requests), _receive(requests)
    if secret is None or level is None:
        return
    redactor = Redactor(secret, PrivacyLevel(level.decode()))
    while (raw := _receive(requests)) is not None:
        order = _decode_order(raw)
        try:
            for chunk in chunks(Path(os.fsdecode(order.path)), order.position, order.limit):
                light, told = _told(chunk, redactor)
                _send(answers, _encode(_Answer(replace(light, agent_id=None), told)))
        except BrokenPipeError:
            return
        except OSError as error:
            _send(answers, _encode(_Answer(error=error.errno or 0, text=stored_name(error.strerror or str(error)))))
        else:
            _send(answers, _encode(_Answer()))


def _told(chunk: Chunk, redactor: Redactor) -> tuple[Chunk, Told]:
    """A chunk without the texts that nobody needs any more, and what is stored instead of them."""
    told = tell(chunk, redactor)
    calls = [
        Call(c.tool_use_id, c.tool_name, c.message_id, c.model, c.prompt_id, c.timestamp, b"") for c in chunk.calls
    ]
    answers = [replace(one, text="") if one.tool_use_id in told.failures else one for one in chunk.answers]
    return replace(chunk, calls=calls, answers=answers), told


def _error(answer: _Answer, path: Path) -> OSError:
    """As it was raised by the reader, of the same class."""
    return OSError(answer.error, answer.text, str(path)) if answer.error else FileNotFoundError(answer.text)


def _send(stream: IO[bytes], raw: bytes) -> None:
    stream.write(_LENGTH.pack(len(raw)))
    stream.write(raw)
    stream.flush()


def _receive(stream: IO[bytes]) -> bytes | None:
    """None: the other side has ended, perhaps in the middle of something."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    size = _LENGTH.unpack(head)[0]
    raw = stream.read(size)
    return raw if len(raw) == size else None


def _stream(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise RuntimeError("the reader was started without pipes")
    return pipe
