"""Text for people: nothing that an agent wrote may steer the terminal; times, spans and sizes in few words; CSV."""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

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

#: What a spreadsheet takes for the beginning of a formula.
_FORMULA = tuple("=+-@＝＋－＠")
_SPANS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def printable(text: str) -> str:
    """`text` on one line, with every control character visible instead of obeyed."""
    if text.isascii() and text.isprintable():
        return text
    return text.translate(_ESCAPES).encode("utf-8", "backslashreplace").decode()  # also lone surrogates


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


def spelled(value: Any) -> str:
    """`value` as compact JSON with every character as it is, for people."""
    if value is None or value is True or value is False:
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, dict):
        return "{" + ",".join(f"{spelled(name)}:{spelled(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(spelled, value)) + "]"
    return str(value)


def csv_text(rows: Iterable[Mapping[str, object]], columns: Sequence[str]) -> str:
    """The named columns of the rows as CSV (RFC 4180), under a line of names; lines end in CR LF.

    None and what a row does not have is an empty cell; True is `true`; lists and mappings are JSON. Text that a spreadsheet
    would take for a formula gets an apostrophe before it; numbers do not. Control characters other than line feeds are
    escaped as on pages, since stdout may be a terminal.
    """
    lines = [columns, *([row.get(column) for column in columns] for row in rows)]
    return "".join(",".join(map(_cell, line)) + "\r\n" for line in lines)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        text = "\n".join(map(printable, value.split("\n")))
        if value[:1] in ("\t", "\r", "\n") or value.lstrip().startswith(_FORMULA):
            text = "'" + text
    else:
        text = spelled(value)
    return '"' + text.replace('"', '""') + '"' if any(one in text for one in ',"\n') or text != text.strip() else text
