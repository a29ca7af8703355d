"""How a span of time is made of the slots that schema.sql keeps roll-ups for. Pure."""

from collections.abc import Sequence
from itertools import pairwise

MINUTE = 60_000  # milliseconds
HOUR = 60 * MINUTE
DAY = 24 * HOUR

#: Slot lengths of tool_rollup and error_rollup, and of duration_rollup; see rollup_grain in schema.sql. Each divides the next.
GRAINS = (MINUTE, 15 * MINUTE, HOUR, 6 * HOUR, DAY)
DURATION_GRAINS = (HOUR, 6 * HOUR, DAY)

#: The rows that no roll-up of schema.sql holds yet, at most about a thousand. To be asked in one statement with the roll-ups.
UNROLLED_CALLS = "id > (SELECT upto FROM rolled WHERE source = 'tool_usage')"
UNROLLED_FILES = "id > (SELECT upto FROM rolled WHERE source = 'files')"

#: (grain, first slot, last slot)
Slots = tuple[int, int, int]


def cover(since: int, until: int | None, grains: Sequence[int] = GRAINS) -> tuple[int, list[Slots]]:
    """The slots that cover [since, until], as few as possible, and where the first of them begins.

    What lies between `since` and that time (less than the shortest grain) has to be asked of the rows. The slot that
    `until` falls into counts whole; None: everything from `since` on, which costs the fewest slots.
    """
    finest = grains[0]
    start = -(-since // finest) * finest
    end = None if until is None else (until // finest + 1) * finest
    slots: list[Slots] = []
    position = start
    # Up: short slots until the next longer one begins.
    for grain, longer in pairwise(grains):
        border = -(-position // longer) * longer
        if end is not None and border + longer > end:
            break
        if border > position:
            slots.append((grain, position // grain, border // grain - 1))
        position = border
    else:
        if end is None:
            return start, [*slots, (grains[-1], position // grains[-1], _FOREVER // grains[-1])]
    if end is None:
        raise AssertionError("without an end there always is a longer slot")
    # Down: long slots as far as they fit.
    for grain in reversed(grains):
        if position % grain == 0 and position + grain <= end:
            slots.append((grain, position // grain, end // grain - 1))
            position = end // grain * grain
    return start, slots


def end_of(until: int | None, finest: int = MINUTE) -> int:
    """Where the last slot of `cover(…, until)` ends."""
    return _FOREVER if until is None else (until // finest + 1) * finest


def span_clause(slots: Sequence[Slots]) -> str:
    """The rows of a CTE `span (grain, first, last)`. Numbers only, nothing to bind."""
    return ", ".join(f"({grain}, {first}, {last})" for grain, first, last in slots) or "(0, 0, -1)"


#: The end of time: year 5138, in milliseconds.
_FOREVER = 100_000_000_000_000
