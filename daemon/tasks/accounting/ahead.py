"""Reads transcripts in a process of its own while the caller stores what it has: parsing is about half of a backfill."""

import contextlib
import logging
import pickle
import queue
import struct
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import IO, Self, TypeAlias

from tasks.transcripts import Chunk, Position, read

log = logging.getLogger(__name__)

#: Files that the reader is told of in advance, and answers that wait for the caller.
ASKED, WAITING = 32, 8

_LENGTH = struct.Struct("<Q")
#: What the reader says of a file: a chunk of it, that there is no more, or why it could not be read.
_Answer: TypeAlias = Chunk | OSError | None


def chunks(path: Path, position: Position, limit: int) -> Iterator[Chunk]:
    """What is new behind `position`, the last line included where it is whole. Raises OSError."""
    while True:
        chunk = read(path, position, limit=limit, final=True)
        yield chunk
        if chunk.done:
            return
        position = chunk.position


class Reader:
    """Reads files in the order of `plan`, ahead of who asks for them. `with` ends its process.

    Should that process die, the rest is read here: a backfill does not depend on it. Texts of answers that tell of no
    failure are left out, nobody asks for them.
    """

    def __init__(self, plan: Iterable[tuple[Path, Position]], limit: int) -> None:
        self._limit = limit
        self._plan = iter(plan)
        self._asked: deque[tuple[Path, Position]] = deque()
        self._answers: queue.Queue[bytes | None] = queue.Queue(WAITING)
        self._over = threading.Event()
        self._child = subprocess.Popen(
            [sys.executable, "-I", "-c", "from tasks.accounting.ahead import main; main()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
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

    def next(self) -> Iterator[Chunk]:
        """The chunks of the next file of the plan. Raises OSError when it cannot be read."""
        self._ask()
        path, position = self._asked.popleft()
        while (raw := self._answers.get()) is not None:
            answer: _Answer = pickle.loads(raw)  # noqa: S301  (our own child's answer)
            if isinstance(answer, Chunk):
                position = answer.position
                yield answer
            elif answer is None:
                return
            else:
                raise answer
        self._answers.put(None)  # for the files after this one
        yield from chunks(path, position, self._limit)

    def _ask(self) -> None:
        while len(self._asked) < ASKED and (one := next(self._plan, None)) is not None:
            self._asked.append(one)
            with contextlib.suppress(OSError):  # it died: `next` finds out
                _send(_stream(self._child.stdin), (*one, self._limit))

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
    """The reader: files to read come on standard input, what they say goes to standard output."""
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    while (raw := _receive(requests)) is not None:
        path, position, limit = pickle.loads(raw)  # noqa: S301  (our own parent's request)
        try:
            for chunk in chunks(path, position, limit):
                _send(answers, _lightened(chunk))
        except BrokenPipeError:
            return
        except OSError as error:
            _send(answers, error)
        else:
            _send(answers, None)


def _lightened(chunk: Chunk) -> Chunk:
    return replace(chunk, answers=[replace(one, text="") if one.success else one for one in chunk.answers])


def _send(stream: IO[bytes], what: object) -> None:
    raw = pickle.dumps(what, pickle.HIGHEST_PROTOCOL)
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
