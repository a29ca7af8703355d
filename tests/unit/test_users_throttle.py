"""How often a login may be attempted, by a clock that the test moves."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tasks.users import TooManyAttempts
from tasks.users.throttle import ACCOUNTS, BURST, FREE, LONGEST_DELAY, MEMORY, RATE, Throttle


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def throttle(clock: Clock) -> Throttle:
    return Throttle(clock)


def refusal(throttle: Throttle, name: str = "ada") -> int:
    """Seconds to wait; 0: it was let through."""
    try:
        throttle.admit(name)
    except TooManyAttempts as error:
        assert str(error.retry_after) in str(error)
        return error.retry_after
    return 0


def test_five_failures_cost_nothing_and_each_one_after_doubles_the_delay(throttle: Throttle, clock: Clock) -> None:
    assert [refusal(throttle) for _ in range(FREE)] == [0] * FREE
    delays = []
    for _ in range(9):
        delays.append(refusal(throttle))
        clock.seconds += delays[-1]
        assert refusal(throttle) == 0
    assert delays == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_refused_attempt_does_not_prolong_the_delay(throttle: Throttle, clock: Clock) -> None:
    for _ in range(FREE + 3):
        refusal(throttle)
        clock.seconds += 4
    refusal(throttle)
    waits = [refusal(throttle) for _ in range(100)]
    assert set(waits) == {waits[0]}
    clock.seconds += waits[0]
    assert refusal(throttle) == 0


def test_success_forgets_what_was_counted(throttle: Throttle) -> None:
    for _ in range(3):
        assert [refusal(throttle) for _ in range(FREE)] == [0] * FREE
        throttle.succeeded("ADA")


def test_nobody_is_locked_out_for_good(throttle: Throttle, clock: Clock) -> None:
    for _ in range(1000):
        refusal(throttle)
        clock.seconds += LONGEST_DELAY
    assert refusal(throttle) == 0


def test_names_are_one_however_they_are_written(throttle: Throttle) -> None:
    for name in ("Zoë", "zoë", "ZOË", "zoe\u0308", "ZOE\u0308"):
        assert refusal(throttle, name) == 0
    assert refusal(throttle, "zoë") == 1
    assert refusal(throttle, "zoe") == 0


def test_an_attempt_that_was_not_carried_out_does_not_count(throttle: Throttle) -> None:
    for _ in range(FREE + 5):
        assert refusal(throttle) == 0
        throttle.withdrawn("ada")


def test_what_is_long_past_is_forgotten(throttle: Throttle, clock: Clock) -> None:
    for _ in range(FREE):
        refusal(throttle)
    clock.seconds += MEMORY
    assert [refusal(throttle) for _ in range(FREE)] == [0] * FREE


def test_over_all_accounts_attempts_run_out_and_come_back(throttle: Throttle, clock: Clock) -> None:
    assert [refusal(throttle, f"name {n}") for n in range(int(BURST))] == [0] * int(BURST)
    assert refusal(throttle, "another") == 1
    clock.seconds += 1 / RATE
    assert refusal(throttle, "another") == 0
    assert refusal(throttle, "one more") == 1
    clock.seconds += 1e6
    assert [refusal(throttle, f"later {n}") for n in range(int(BURST) + 1)] == [0] * int(BURST) + [1]


def test_hammering_one_account_does_not_use_up_what_others_have(throttle: Throttle) -> None:
    for _ in range(1000):
        refusal(throttle, "ada")
    assert refusal(throttle, "grace") == 0


def test_names_that_nobody_has_take_bounded_memory(throttle: Throttle, clock: Clock) -> None:
    for number in range(ACCOUNTS + 500):
        clock.seconds += 1
        assert refusal(throttle, f"{number}" + "x" * 100_000) == 0
    assert len(throttle._accounts) == ACCOUNTS
    assert max(map(len, throttle._accounts)) <= 4 * 128


@given(st.lists(st.floats(0, 100), min_size=1, max_size=200))
def test_no_rhythm_gets_more_guesses_through_than_the_delays_allow(pauses: list[float]) -> None:
    clock = Clock()
    throttle = Throttle(clock)
    began, admitted = clock.seconds, 0
    for pause in pauses:
        clock.seconds += pause
        if refusal(throttle) == 0:
            admitted += 1
            beyond = admitted - FREE
            needed = sum(min(LONGEST_DELAY, 2.0**n) for n in range(beyond)) if beyond > 0 else 0.0
            assert clock.seconds - began >= needed - 1e-6


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.floats(0, 1)), max_size=200))
def test_over_all_accounts_never_more_than_the_burst_and_the_rate(attempts: list[tuple[str, float]]) -> None:
    clock = Clock()
    throttle = Throttle(clock)
    began, admitted = clock.seconds, 0
    for name, pause in attempts:
        clock.seconds += pause
        if refusal(throttle, name) == 0:
            throttle.succeeded(name)
            admitted += 1
        assert admitted <= math.floor(BURST + (clock.seconds - began) * RATE + 1e-6)
