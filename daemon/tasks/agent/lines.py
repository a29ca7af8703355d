"""Cuts a stream of bytes into lines, in linear time and bounded memory."""

from collections.abc import Iterator

#: Bytes; what is longer is left out.
LONGEST_LINE = 64 << 20


class Lines:
    """Lines end in \\n; a \\r before it belongs to the end. Empty lines are not told."""

    def __init__(self, longest: int = LONGEST_LINE) -> None:
        self._longest = longest
        self._pieces: list[bytes] = []
        self._size = 0
        self._skipping = False
        #: lines that were left out because of their length
        self.left_out = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The lines that `data` completes, without their ends. To be exhausted before the next call."""
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            self._keep(data[start:end])
            if line := self._take():
                yield line
            start = end + 1
        self._keep(data[start:])

    def rest(self) -> bytes | None:
        """The last line, when it has no end."""
        return self._take() or None

    def _keep(self, piece: bytes) -> None:
        if self._skipping or not piece:
            return
        self._size += len(piece)
        if self._size > self._longest:
            self._skipping = True
            self._pieces.clear()
        else:
            self._pieces.append(piece)

    def _take(self) -> bytes:
        line = b"".join(self._pieces)
        self.left_out += self._skipping
        self._pieces.clear()
        self._size, self._skipping = 0, False
        return line.rstrip(b"\r")
