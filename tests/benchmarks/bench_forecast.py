"""How often the end of a month lies in the interval that was projected for it, on generated histories.

Run: python tests/benchmarks/bench_forecast.py [histories per family]
"""

import math
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from tasks.forecast import project

COVERAGE = 0.8
#: 10 % in each tail of a normal distribution, and what a naive "three sigma" takes.
NAIVE_SIGMAS = 3.0
FIRST = date(2025, 9, 1)
#: Origins lie in months that begin after this many days.
WARM_UP = 61
DAYS = 210

History = list[tuple[date, float]]
Family = Callable[[random.Random], list[float]]


def _weekday(number: int) -> int:
    return (FIRST + timedelta(days=number)).weekday()


def constant(chance: random.Random) -> list[float]:
    return [chance.gammavariate(16, 10 / 16) for _ in range(DAYS)]


def weekly(chance: random.Random) -> list[float]:
    return [(chance.gammavariate(6, 20 / 6) if _weekday(day) < 5 else chance.gammavariate(1, 2)) for day in range(DAYS)]


def bursts(chance: random.Random) -> list[float]:
    """Heavy-tailed: most days little, some a hundred times that."""
    return [chance.lognormvariate(1.0, 1.2) for _ in range(DAYS)]


def sprints(chance: random.Random) -> list[float]:
    """Days of much work come together, and so do quiet ones."""
    values, level = [], 0.0
    for _ in range(DAYS):
        level = 0.6 * level + chance.gauss(0, 0.4)
        values.append(10 * math.exp(level) * chance.gammavariate(8, 1 / 8))
    return values


def sparse(chance: random.Random) -> list[float]:
    return [chance.lognormvariate(2.0, 0.8) if chance.random() < 0.15 else 0.0 for _ in range(DAYS)]


def growth(chance: random.Random) -> list[float]:
    rate = chance.uniform(0.003, 0.012)
    return [5 * math.exp(rate * day) * chance.gammavariate(6, 1 / 6) for day in range(DAYS)]


def decline(chance: random.Random) -> list[float]:
    rate = chance.uniform(0.003, 0.010)
    return [50 * math.exp(-rate * day) * chance.gammavariate(6, 1 / 6) for day in range(DAYS)]


def regimes(chance: random.Random) -> list[float]:
    """Another level every two to four months."""
    values: list[float] = []
    while len(values) < DAYS:
        level = 10 * chance.choice((0.4, 0.6, 1.0, 1.7, 2.5))
        values += [level * chance.gammavariate(6, 1 / 6) for _ in range(chance.randrange(60, 120))]
    return values[:DAYS]


STATIONARY: dict[str, Family] = {
    "constant": constant, "weekly": weekly, "bursts": bursts, "sprints": sprints, "sparse": sparse,
}  # fmt: skip
CHANGING: dict[str, Family] = {"growth": growth, "decline": decline, "regimes": regimes}


@dataclass(frozen=True, slots=True)
class Tested:
    """Of all origins: shares, and means against the mean total of a month."""

    origins: int
    covered: float
    below: float
    above: float
    width: float
    naive_covered: float
    naive_width: float
    bias: float


def back_test(family: Family, histories: int, *, seed: int = 1, known: int = 120) -> Tested:
    """Project the month of many days of generated histories, of which `known` days before are shown."""
    found = []
    for number in range(histories):
        values = family(random.Random(f"{seed}/{number}"))
        days = [FIRST + timedelta(days=day) for day in range(DAYS)]
        chance = random.Random(f"{seed}/{number}/origins")
        origins = sorted(chance.sample(range(WARM_UP, DAYS - 31), 5))
        found += [_one(days, values, origin, chance.random(), known) for origin in origins]
    total = sum(one[0] for one in found)
    return Tested(
        len(found),
        _share(low <= actual <= high for actual, low, high, *_ in found),
        _share(actual < low for actual, low, *_ in found),
        _share(actual > high for actual, _, high, *_ in found),
        sum(high - low for _, low, high, *_ in found) / total,
        _share(abs(actual - centre) <= half for actual, _, _, centre, half, _ in found),
        sum(2 * half for *_, half, _ in found) / total,
        sum(estimate for *_, estimate in found) / total - 1,
    )


def _one(
    days: Sequence[date], values: Sequence[float], origin: int, elapsed: float, known: int
) -> tuple[float, float, float, float, float, float]:
    """Actual end, low, high, the naive middle and half width, estimate."""
    today = days[origin]
    until = (today.replace(day=1) + timedelta(days=32)).replace(day=1) - timedelta(days=1)
    last = origin + (until - today).days
    first = origin - today.day + 1
    actual = math.fsum(values[first : last + 1])
    shown = slice(max(origin - known, 0), origin)
    daily = [*zip(days[shown], values[shown], strict=True), (today, values[origin] * elapsed)]
    missing = math.fsum(values[first : min(max(origin - known, first), origin)])
    made = project(daily, today, until, coverage=COVERAGE, elapsed=elapsed)
    left = last - origin + 1 - elapsed
    past = values[max(origin - 56, origin - known, 0) : origin]
    mean = sum(past) / len(past)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in past) / max(len(past) - 1, 1))
    middle = made.spent + missing + mean * left
    half = NAIVE_SIGMAS * deviation * math.sqrt(left)
    return actual, made.low + missing, made.high + missing, middle, half, made.estimate + missing


def _share(of: Iterator[bool]) -> float:
    found = list(of)
    return sum(found) / len(found)


def main(histories: int = 100) -> None:
    print(
        f"{histories} histories of each family, 5 origins each, {COVERAGE:.0%} intervals; widths against the month's total"
    )
    headings = ("origins", "covered", "below", "above", "width", "bias", "3σ cov.", "3σ width")
    print(f"{'family':<22} " + " ".join(f"{heading:>8}" for heading in headings))
    for known in (120, 14, 3):
        for name, family in (STATIONARY | CHANGING).items():
            one = back_test(family, histories, known=known)
            label = name if known == 120 else f"{name}, {known} days"
            print(
                f"{label:<22} {one.origins:>8} {one.covered:>8.1%} {one.below:>8.1%} {one.above:>8.1%} {one.width:>8.2f} "
                f"{one.bias:>+8.1%} {one.naive_covered:>8.1%} {one.naive_width:>8.2f}"
            )
    daily = [(FIRST + timedelta(days=day), value) for day, value in enumerate(bursts(random.Random(1))[:60])]
    started = time.perf_counter()
    for _ in range(20):
        project(daily, FIRST + timedelta(days=60), FIRST + timedelta(days=90), since=FIRST)
    print(f"one projection: {(time.perf_counter() - started) / 20 * 1e3:.1f} ms")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
