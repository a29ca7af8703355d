"""Numbers as bars and as sparklines."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_EIGHTHS = " ▏▎▍▌▋▊▉█"
_LEVELS = "▁▂▃▄▅▆▇█"
_PLAIN_LEVELS = "_.:-=+*#"


def bar(part: float, width: int) -> str:
    """A bar of `part` (0 to 1; what lies outside is cut) of `width` columns, without the space up to `width`.

    What is above 0 is at least a trace. In `#` where stdout cannot say blocks; there, halves count as whole.
    """
    part = min(max(part, 0.0), 1.0) if part == part else 0.0
    if not _can_say_blocks():
        return "#" * max(round(part * width), 1 if part > 0 and width > 0 else 0)
    eighths = max(round(part * width * 8), 1 if part > 0 and width > 0 else 0)
    whole, rest = divmod(eighths, 8)
    return _EIGHTHS[8] * whole + (_EIGHTHS[rest] if rest else "")


def sparkline(values: Iterable[float], *, most: int = 90) -> str:
    """One character a value, in proportion to the greatest; more than `most` values are summed in groups of equal size, the
    latest one full. Only 0 (and what is below) looks like 0.
    """
    heights = [value if 0 < value < float("inf") else 0.0 for value in values]
    size = -(-len(heights) // most) or 1
    first = len(heights) % size
    groups = [heights[:first]] if first else []
    groups += [heights[start : start + size] for start in range(first, len(heights), size)]
    heights = [sum(group) for group in groups]
    top = max(heights, default=0.0)
    levels = _LEVELS if _can_say_blocks() else _PLAIN_LEVELS
    return "".join(levels[0 if height <= 0 else max(1, round(height / top * 7))] for height in heights)


def sayable(text: str) -> bool:
    """Whether stdout's encoding has every character of `text`; what it has not would be escaped."""
    try:
        text.encode((sys.stdout and sys.stdout.encoding) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _can_say_blocks() -> bool:
    return sayable(_EIGHTHS + _LEVELS)
