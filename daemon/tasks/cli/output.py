"""Writing to standard output."""

import sys


def emit(text: str | bytes) -> None:
    """Write data to stdout at once; what its encoding cannot say is escaped. Raises OSError, BrokenPipeError."""
    if sys.stdout is None:  # closed by whoever started us
        return
    raw = text if isinstance(text, bytes) else text.encode(sys.stdout.encoding or "utf-8", "backslashreplace")
    sys.stdout.buffer.write(raw)
    sys.stdout.buffer.flush()
