"""Text for people: nothing that an agent wrote may steer the terminal; times, spans and sizes in few words."""

import sys
import time

#: C0 and C1 controls, DEL, and what breaks lines or turns the direction of text around.
_HARMFUL = (
    *range(0x20),
    *range(0x7F, 0xA0),
    0x61C,
    0x200E,
    0x200F,
    *range(0x2028, 0x202F),
    *range(0x2066, 0x206A),
    0xFEFF,
)
_ESCAPES = {code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" for code in _HARMFUL}
_ESCAPES |= {0x0A: "\\n", 0x0D: "\\r", 0x09: "\\t"}

_SPANS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def printable(text: str) -> str:
    """`text` on one line, with every control character visible instead of obeyed."""
    if text.isascii() and text.isprintable():
        return text
    return text.translate(_ESCAPES).encode("utf-8", "backslashreplace").decode()  # also lone surrogates


def emit(text: str | bytes) -> None:
    """Write data to stdout at once; what its encoding cannot say is escaped. Raises OSError, BrokenPipeError."""
    if sys.stdout is None:  # closed by whoever started us
        return
    raw = text if isinstance(text, bytes) else text.encode(sys.stdout.encoding or "utf-8", "backslashreplace")
    sys.stdout.buffer.write(raw)
    sys.stdout.buffer.flush()


def count(number: int, one: str, many: str | None = None) -> str:
    """`1 file`, `12,000 files`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def span(seconds: float) -> str:
    """The two largest units of a length of time: `3 h 2 min`."""
    left = max(0, int(seconds))
    parts: list[str] = []
    for size, unit in _SPANS:
        if left >= size or parts:
            parts.append(f"{left // size} {unit}")
            left %= size
        if len(parts) == 2:
            break
    return " ".join(part for part in parts if not part.startswith("0 ")) or "0 s"


def ago(then_ms: int, now_ms: int) -> str:
    """`just now`, `3 s ago`, `2 h ago`."""
    seconds = (now_ms - then_ms) / 1000
    if seconds < 1:
        return "just now" if seconds > -60 else f"{span(-seconds)} ahead of this clock"
    return next(f"{int(seconds // size)} {unit} ago" for size, unit in _SPANS if seconds >= size)


def moment(then_ms: int) -> str:
    """Local date and time, to the second."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(then_ms / 1000))
    except (OverflowError, ValueError, OSError):
        return f"{then_ms} ms"


def milliseconds(value: float | None) -> str:
    """A duration: `12 ms`, `1.2 s`, `3 min 20 s`; `-` when it is not known."""
    if value is None:
        return "-"
    if value < 1000:
        return f"{value:.1f} ms" if value < 10 and value != int(value) else f"{value:.0f} ms"
    return f"{value / 1000:.1f} s" if value < 60_000 else span(value / 1000)


def size(value: float) -> str:
    """A number of bytes: `512 B`, `1.4 MB` (of 1000)."""
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
