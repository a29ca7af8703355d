"""What an agent wrote, read from its files piece by piece: whole lines, without secrets, never much of it at once."""

import os
from collections.abc import Callable
from pathlib import Path

#: Bytes read at once, and roughly the size of a piece.
BLOCK = 64 << 10
#: Bytes of the longest line that is given whole; redaction cannot take longer ones.
LONGEST_LINE = 512 << 10
#: Bytes that are shown of a longer one, and read beyond them so that a secret on the cut is seen whole.
SHOWN, _OVERLAP = 64 << 10, 4 << 10
#: Bytes for which lines of a private key are held back, so that it is seen whole.
_LONGEST_KEY = 32 << 10

_KEY_BEGINS, _KEY_ENDS = b"-----BEGIN ", b"-----END "


class Output:
    """Reads the file at `path`, which may still grow, from the first line that begins at byte `offset` or later.

    `redact` takes secrets out of some lines of text. `offset` is where to go on after the pieces given so far.
    """

    def __init__(self, path: Path, redact: Callable[[str], str], offset: int = 0) -> None:
        self._path = path
        self._redact = redact
        self.offset = offset
        self._held = b""
        # From the middle of a line a secret could not be recognised.
        self._skipping = offset > 0 and self._read(offset - 1, 1) != b"\n"

    def piece(self, *, final: bool) -> str | None:
        """The next lines, at most some 512 KiB; None when there are none (yet). `final`: nothing will be added any more,
        so a last line without an end is one too. A missing file is an empty one.
        """
        while True:
            if self._held and (text := self._whole_lines()) is not None:
                return text
            if len(self._held) > LONGEST_LINE:
                return self._beginning_of_long_line()
            block = self._read(self.offset + len(self._held), BLOCK)
            if not block:
                break
            self._held += block
            if self._skipping:
                self._skip()
        if not final or not self._held:
            return None
        return self._take(len(self._held))

    def _read(self, offset: int, size: int) -> bytes:
        try:
            with self._path.open("rb", buffering=0) as file:
                return os.pread(file.fileno(), size, offset)
        except FileNotFoundError:
            return b""

    def _whole_lines(self) -> str | None:
        end = self._held.rfind(b"\n") + 1
        begins = self._held.rfind(_KEY_BEGINS, 0, end)
        if 0 <= end - begins <= _LONGEST_KEY and begins >= 0 and self._held.find(_KEY_ENDS, begins, end) < 0:
            end = self._held.rfind(b"\n", 0, begins) + 1
        return self._take(end) if end else None

    def _take(self, end: int) -> str:
        taken, self._held = self._held[:end], self._held[end:]
        self.offset += len(taken)
        return self._redact(taken.decode("utf-8", "replace"))

    def _beginning_of_long_line(self) -> str:
        window = self._redact(self._held[: SHOWN + _OVERLAP].decode("utf-8", "replace"))
        self.offset += len(self._held)
        self._held, self._skipping = b"", True
        return f"{window[: max(0, len(window) - _OVERLAP)]}…[cut: the line is longer than {LONGEST_LINE >> 10} KiB]\n"

    def _skip(self) -> None:
        end = self._held.find(b"\n") + 1
        self.offset += end or len(self._held)
        self._held = self._held[end:] if end else b""
        self._skipping = not end
