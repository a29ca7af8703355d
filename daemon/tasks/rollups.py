"""How a span of time is made of the slots that schema.sql keeps roll-ups for, and what their histograms say. Pure."""

import json
import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

MINUTE = 60_000  # milliseconds
HOUR = 60 * MINUTE
DAY = 24 * HOUR

#: Slot lengths of tool_rollup and error_rollup, and of duration_rollup; see rollup_grain in schema.sql. Each divides the next.
GRAINS = (MINUTE, 15 * MINUTE, HOUR, 6 * HOUR, DAY)
DURATION_GRAINS = (HOUR, 6 * HOUR, DAY)
#: Those of use_rollup (but for all-time ones), file_rollup and state_rollup.
COARSE_GRAINS = (HOUR, DAY)

#: No agent is in one state for longer, in milliseconds: what looks like it is a clock that was set.
LONGEST_STATE = 366 * DAY

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


def rows_since(query: Callable[[str], list[tuple[Any, ...]]]) -> int:
    """From this time on (epoch milliseconds, a whole hour) all rows are there; of earlier ones roll-ups alone may be left."""
    rows = query("SELECT value FROM daemon_state WHERE name = 'retention'")
    return int(json.loads(rows[0][0]).get("rows_since", 0)) if rows else 0


def widened(since: int, kept: int, finest: int = MINUTE) -> int:
    """Where a span that begins at `since` has to begin when rows before `kept` are gone: at its first slot, whole, because
    nothing else tells of a part of it."""
    return since if since >= kept else since // finest * finest


def percentile(ordered: Sequence[float], part: float) -> float:
    """Linear interpolation between the closest ranks (Hyndman and Fan's type 7) of a sorted, non-empty sequence."""
    position = (len(ordered) - 1) * part
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def histogram_percentile(histogram: Sequence[tuple[int, float]], part: float) -> float:
    """The percentile from (bucket, calls), buckets ascending, taking the calls of one bucket as spread over it evenly."""
    reached: list[float] = []
    total = 0.0
    for _, count in histogram:
        total += count
        reached.append(total)
    index = min(bisect_left(reached, total * part), len(histogram) - 1)
    bucket, count = histogram[index]
    before = reached[index] - count
    within = (total * part - before) / count if count else 0.0
    lower, upper = bucket_bounds(bucket)
    return lower + (upper - lower) * within


def bucket_bounds(bucket: int) -> tuple[float, float]:
    """The durations, in milliseconds, that bucket `bucket` of duration_rollup holds; see schema.sql."""
    return (0.0 if bucket == 0 else _third_octave(bucket - 1)), _third_octave(bucket)


def _third_octave(step: int) -> float:
    """2^(step/3), rounded as in schema.sql."""
    return float(1 << step // 3) * (1.0, 1.2599210498948732, 1.5874010519681994)[step % 3]


#: The end of time: year 5138, in milliseconds.
_FOREVER = 100_000_000_000_000
