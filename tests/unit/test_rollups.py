from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from tasks.rollups import DAY, DURATION_GRAINS, GRAINS, HOUR, MINUTE, Slots, cover

TIMES = st.integers(10**12, 10**12 + 10 * DAY)


def covered(slots: list[Slots], start: int) -> int:
    """Where the slots end; they must follow one another without gap or overlap."""
    position = start
    for begin, end in sorted((first * grain, (last + 1) * grain) for grain, first, last in slots):
        assert begin == position
        position = end
    return position


@given(TIMES, st.integers(0, 10 * DAY), st.sampled_from([GRAINS, DURATION_GRAINS]))
def test_slots_cover_a_span_without_gap_or_overlap(since: int, length: int, grains: tuple[int, ...]) -> None:
    start, slots = cover(since, since + length, grains)
    assert 0 <= start - since < grains[0]
    assert covered(slots, start) == max(start, ((since + length) // grains[0] + 1) * grains[0])


@given(TIMES, st.sampled_from([GRAINS, DURATION_GRAINS]))
def test_a_span_without_end_covers_all_that_is_to_come(since: int, grains: tuple[int, ...]) -> None:
    start, slots = cover(since, None, grains)
    assert 0 <= start - since < grains[0]
    assert covered(slots, start) > 10**14


@given(TIMES, st.integers(0, 10 * DAY))
def test_no_span_needs_more_than_a_few_slots_below_a_day(since: int, length: int) -> None:
    for until in (since + length, None):
        _, slots = cover(since, until)
        assert sum(last - first + 1 for grain, first, last in slots if grain < DAY) <= 2 * (14 + 3 + 5 + 3)


def test_each_grain_divides_the_next_one() -> None:
    assert all(longer % grain == 0 for grain, longer in pairwise(GRAINS))
    assert set(DURATION_GRAINS) <= set(GRAINS) and GRAINS[0] == MINUTE and HOUR in DURATION_GRAINS
