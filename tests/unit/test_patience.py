"""Holds end by a clock that nobody sets; failures are left alone for longer each time."""

from dataclasses import replace

import pytest
from tasks.manager.task import COLUMNS, Task
from tasks.runner.patience import FIRST, LONGEST, Patience


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def patience(clock: Clock) -> Patience:
    return Patience(clock)


def held(until: int | None) -> Task:
    row = dict.fromkeys(COLUMNS, None) | {
        "task_id": "abc123", "status": "queued", "priority": 1, "merge_state": "none", "activity_log": "[]",
        "hold_until": until,
    }  # fmt: skip
    return Task.from_row(tuple(row.values()))


def test_a_hold_lasts_until_its_time(patience: Patience, clock: Clock) -> None:
    assert not patience.is_held(held(None), 0)
    assert patience.is_held(held(10_000), 0)
    clock.now += 5
    assert patience.is_held(held(10_000), 5_000)
    assert not patience.is_held(held(10_000), 10_000)


def test_a_clock_set_back_makes_no_hold_longer(patience: Patience, clock: Clock) -> None:
    assert patience.is_held(held(10_000_000), 9_990_000)
    clock.now += 9
    assert patience.is_held(held(10_000_000), 0)
    clock.now += 1
    assert not patience.is_held(held(10_000_000), 0)


def test_another_hold_begins_anew(patience: Patience, clock: Clock) -> None:
    assert patience.is_held(held(10_000), 0)
    clock.now += 11
    assert patience.is_held(replace(held(10_000), hold_until=40_000), 11_000)


def test_a_task_that_fails_again_and_again_is_left_alone_for_longer_each_time(patience: Patience, clock: Clock) -> None:
    waits = []
    for _ in range(20):
        patience.set_back("abc123")
        began = clock.now
        while patience.waits("abc123"):
            clock.now += 1
        waits.append(clock.now - began)
    assert waits[:3] == [FIRST, 2 * FIRST, 4 * FIRST]
    assert waits[-1] == LONGEST
    assert not patience.waits("def456")
    patience.forget("abc123")
    patience.set_back("abc123")
    clock.now += FIRST
    assert not patience.waits("abc123")


def test_a_hold_known_from_its_beginning_lasts_as_long_as_it_was_meant_to(patience: Patience, clock: Clock) -> None:
    """Also when the clock is set back before anybody looks at it."""
    patience.hold("abc123", 3_600_000, 10.0)
    assert patience.is_held(held(3_600_000), 0)
    clock.now += 10
    assert not patience.is_held(held(3_600_000), 10_000)
