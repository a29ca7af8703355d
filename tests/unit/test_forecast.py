"""The projection to the end of a month: what it is, and that its interval holds on generated histories."""

import importlib.util
import math
import random
import sys
from datetime import date, timedelta
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tasks.forecast import burn_rate, project


def _bench() -> ModuleType:
    """The generated histories and the back-test are the benchmark's."""
    path = Path(__file__).parents[1] / "benchmarks" / "bench_forecast.py"
    spec = importlib.util.spec_from_file_location("bench_forecast", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


bench = _bench()
HISTORIES = 40  # of each family, five origins in each


def days_before(today: date, values: list[float]) -> list[tuple[date, float]]:
    return [(today - timedelta(days=len(values) - number), value) for number, value in enumerate(values)]


@pytest.mark.parametrize("family", sorted(bench.STATIONARY))
def test_the_interval_holds_where_spending_goes_on_as_it_did(family: str) -> None:
    found = bench.back_test(bench.STATIONARY[family], HISTORIES)
    assert found.origins == 5 * HISTORIES
    assert 0.72 <= found.covered <= 0.92
    assert found.width < 0.9 * found.naive_width
    assert abs(found.bias) < 0.06


@pytest.mark.parametrize("family", sorted(bench.CHANGING))
def test_the_interval_mostly_holds_where_spending_changes(family: str) -> None:
    found = bench.back_test(bench.CHANGING[family], HISTORIES)
    assert found.covered >= 0.65
    assert found.width < 0.35
    assert abs(found.bias) < 0.12


@pytest.mark.parametrize("family", ["constant", "weekly", "bursts", "sprints"])
def test_with_little_history_it_is_wide_rather_than_wrong(family: str) -> None:
    few, some = (bench.back_test(bench.STATIONARY[family], 20, known=known) for known in (3, 14))
    assert few.covered >= 0.65
    assert some.covered >= 0.65
    assert few.width > some.width


def test_a_wider_coverage_gives_a_wider_interval() -> None:
    today = date(2026, 5, 11)
    chance = random.Random(3)
    daily = days_before(today, [chance.lognormvariate(1, 1) for _ in range(56)])
    widths = []
    for coverage in (0.5, 0.8, 0.95):
        made = project(daily, today, date(2026, 5, 31), coverage=coverage)
        widths.append(made.high - made.low)
    assert widths == sorted(widths)
    assert widths[0] < widths[-1] / 1.8


class TestEstimate:
    @pytest.mark.parametrize(
        ("today", "until"),
        [
            (date(2026, 2, 10), date(2026, 2, 28)),
            (date(2028, 2, 10), date(2028, 2, 29)),
            (date(2026, 4, 10), date(2026, 4, 30)),
            (date(2026, 5, 10), date(2026, 5, 31)),
        ],
    )
    def test_a_steady_ten_a_day_comes_to_ten_for_each_day_of_the_month(self, today: date, until: date) -> None:
        made = project([*days_before(today, [10.0] * 60), (today, 5.0)], today, until, elapsed=0.5)
        assert made.spent == pytest.approx(10 * (today.day - 1) + 5)
        assert made.estimate == pytest.approx(10 * until.day)
        assert made.low < made.estimate < made.high
        assert made.burn_per_day == pytest.approx(10)
        assert made.high - made.low < 0.25 * made.estimate

    def test_on_the_first_day_nothing_of_the_last_month_is_counted(self) -> None:
        today = date(2026, 5, 1)
        made = project([*days_before(today, [10.0] * 60), (today, 2.5)], today, date(2026, 5, 31), elapsed=0.25)
        assert made.spent == 2.5
        assert made.estimate == pytest.approx(310)

    def test_on_the_last_day_only_the_rest_of_it_is_open(self) -> None:
        today = date(2026, 5, 31)
        daily = [*days_before(today, [10.0] * 60), (today, 7.5)]
        made = project(daily, today, today, elapsed=0.75)
        assert made.estimate == pytest.approx(310)
        assert made.high - made.low < 3
        over = project(daily, today, today, elapsed=1)
        assert over.low == over.estimate == over.high == over.spent == pytest.approx(307.5)

    def test_after_the_end_it_is_what_was_spent(self) -> None:
        today = date(2026, 6, 3)
        made = project([*days_before(today, [10.0] * 60), (today, 7.5)], today, date(2026, 5, 31))
        assert made.low == made.estimate == made.high == made.spent == pytest.approx(310)

    def test_weekends_without_work_are_expected_to_be_so_again(self) -> None:
        today = date(2026, 5, 23)  # a Saturday
        chance = random.Random(1)
        past = [today - timedelta(days=number) for number in range(56, 0, -1)]
        daily = [(day, chance.uniform(18, 22) if day.weekday() < 5 else 0.0) for day in past]
        one = project(daily, today, date(2026, 5, 24), elapsed=0.0)
        week = project(daily, today, date(2026, 5, 31), elapsed=0.0)
        assert one.estimate - one.spent < 4
        assert week.estimate - week.spent == pytest.approx(100, rel=0.1)
        assert "by weekday" in one.method

    def test_a_clear_change_of_level_is_followed(self) -> None:
        today = date(2026, 5, 11)
        chance = random.Random(1)
        daily = days_before(
            today, [chance.uniform(9, 11) for _ in range(44)] + [chance.uniform(38, 42) for _ in range(12)]
        )
        made = project(daily, today, date(2026, 5, 31), elapsed=0.0)
        assert made.burn_per_day == pytest.approx(40, rel=0.1)
        assert "mean of the last 12 days" in made.method

    def test_a_single_burst_is_no_change_of_level(self) -> None:
        today = date(2026, 5, 11)
        chance = random.Random(1)
        values = [chance.uniform(9, 11) for _ in range(56)]
        plain = burn_rate(days_before(today, values), today)
        values[50] = 200.0
        assert plain == pytest.approx(10, rel=0.05)
        assert plain < burn_rate(days_before(today, values), today) < 2 * plain

    def test_a_rise_goes_on_and_a_fall_never_below_nothing(self) -> None:
        today = date(2026, 5, 2)
        rising = days_before(today, [10 + 0.5 * number for number in range(20)])
        falling = days_before(today, [10 - 0.5 * number for number in range(20)])
        up = project(rising, today, date(2026, 5, 31), elapsed=0)
        down = project(falling, today, date(2026, 5, 31), elapsed=0)
        assert up.estimate - up.spent > 29 * 20
        assert down.estimate - down.spent < 29
        assert down.low >= down.spent


class TestLittleHistory:
    def test_without_any_day_before_the_pace_of_today_is_taken(self) -> None:
        today = date(2026, 5, 11)
        made = project([(today, 6.0)], today, date(2026, 5, 31), elapsed=0.5)
        assert (made.spent, made.low) == (6.0, 6.0)
        assert made.estimate == pytest.approx(6 + 12 * 20.5)
        assert made.high > 2 * made.estimate
        assert made.burn_per_day == 12
        assert "today" in made.method

    def test_without_anything_it_is_nothing(self) -> None:
        made = project([], date(2026, 5, 11), date(2026, 5, 31))
        assert (made.spent, made.low, made.estimate, made.high, made.burn_per_day) == (0, 0, 0, 0, 0)
        zeros = project(days_before(date(2026, 5, 11), [0.0] * 30), date(2026, 5, 11), date(2026, 5, 31))
        assert (zeros.spent, zeros.estimate, zeros.high) == (0, 0, 0)

    def test_one_day_gives_a_very_wide_interval(self) -> None:
        today = date(2026, 5, 11)
        made = project([(today - timedelta(days=1), 10.0)], today, date(2026, 5, 31), elapsed=0)
        assert made.estimate == pytest.approx(10 + 210)
        assert made.low < 0.5 * made.estimate
        assert made.high > 2 * made.estimate

    def test_more_history_narrows_it(self) -> None:
        today = date(2026, 5, 31)
        widths = []
        for number in (1, 3, 7, 14, 28, 56):
            made = project(days_before(today, [10.0, 12.0] * 28)[-number:], today, date(2026, 6, 30), elapsed=0)
            widths.append(made.high - made.low)
        assert widths == sorted(widths, reverse=True)


amounts = st.one_of(st.just(0.0), st.floats(0, 500), st.floats(0, 1e9), st.floats(0, 1e-9))


@given(
    values=st.lists(amounts, max_size=80),
    so_far=amounts,
    day=st.dates(date(2024, 1, 1), date(2030, 1, 1)),
    ahead=st.integers(-3, 40),
    elapsed=st.floats(0, 1),
)
def test_it_is_finite_and_never_below_what_is_spent(
    values: list[float], so_far: float, day: date, ahead: int, elapsed: float
) -> None:
    daily = [*days_before(day, values), (day, so_far)]
    made = project(daily, day, day + timedelta(days=ahead), elapsed=elapsed)
    assert 0 <= made.spent <= made.low <= made.estimate <= made.high < math.inf
    assert 0 <= made.burn_per_day < math.inf
    assert made.burn_per_day == burn_rate(daily, day, elapsed=elapsed)


@given(values=st.lists(st.floats(0, 100), min_size=1, max_size=60), seed=st.integers(0, 99))
def test_the_order_of_the_days_does_not_matter_and_the_answer_is_always_the_same(
    values: list[float], seed: int
) -> None:
    today = date(2026, 5, 11)
    daily = days_before(today, values)
    shuffled = random.Random(seed).sample(daily, len(daily))
    assert project(daily, today, date(2026, 5, 31)) == project(shuffled, today, date(2026, 5, 31))


def test_the_unit_does_not_matter() -> None:
    today = date(2026, 5, 11)
    chance = random.Random(5)
    values = [chance.lognormvariate(1, 1) for _ in range(40)]
    one = project(days_before(today, values), today, date(2026, 5, 31))
    cents = project(days_before(today, [100 * value for value in values]), today, date(2026, 5, 31))
    for name in ("spent", "estimate", "low", "high", "burn_per_day"):
        assert getattr(cents, name) == pytest.approx(100 * getattr(one, name))


def test_the_same_sum_every_day_is_no_trend_whatever_the_sum_is() -> None:
    today = date(2026, 5, 11)
    for value in (0.1, 1 / 3, 4.47632, 447.632, 1e-7):
        made = project(days_before(today, [value] * 40), today, date(2026, 5, 31), elapsed=0)
        assert made.estimate == pytest.approx(31 * value)
        assert made.method == "mean of the last 40 days"


def test_days_left_out_cost_nothing() -> None:
    today = date(2026, 5, 11)
    daily = days_before(today, [6.0, 0.0, 0.0, 3.0] * 10)
    told = [(day, value) for day, value in daily if value]
    assert project(daily, today, date(2026, 5, 31)) == project(told, today, date(2026, 5, 31))


@pytest.mark.parametrize(("coverage", "elapsed"), [(0.0, 0.5), (1.0, 0.5), (math.nan, 0.5), (0.8, -0.1), (0.8, 1.1)])
def test_what_is_no_share_is_refused(coverage: float, elapsed: float) -> None:
    with pytest.raises(ValueError, match="share"):
        project([], date(2026, 5, 11), date(2026, 5, 31), coverage=coverage, elapsed=elapsed)
