"""From daily sums to the end of the month: an estimate, and an interval that holds. Pure."""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import accumulate, pairwise

#: Days before today that count.
HISTORY = 56
#: Futures that are drawn, always the same ones for the same history.
_DRAWS = 400
#: Days that are drawn together: what is busy today is likely busy tomorrow.
_BLOCK = 7
#: Days after which a day counts half.
_HALF_LIFE = 21.0
#: A change of level, in standard errors; days on each side of it at least.
_CHANGED, _SIDE = 3.6, 7
#: A slope of so many standard errors is believed not at all, a much steeper one wholly; it fades by this much a day.
_TREND, _FADING = 1.3, 0.99
#: Days with a scatter as large as their mean that are supposed beside those which were seen.
_SUPPOSED = 3
#: Futures are spread so much more than the past shows: it never shows all.
_CAUTION = 1.1
#: Differences smaller than this share are those of rounding.
_EQUAL = 1e-9


@dataclass(frozen=True, slots=True)
class Projection:
    """What a period will have cost at its end. All in the unit of the sums given."""

    #: since the period began, today included
    spent: float
    #: at the end; never below `spent`
    estimate: float
    #: the end lies between these as often as `coverage` says, if spending goes on as it did; low is never below `spent`
    low: float
    high: float
    #: what an ordinary day costs at present
    burn_per_day: float
    #: in words for people
    method: str


def burn_rate(daily: Sequence[tuple[date, float]], today: date, *, elapsed: float = 0.5) -> float:
    """What an ordinary day costs at present: the mean of the days before `today`, at most 56, recent ones counting more.

    Without any day before `today`, the pace of today, of which the share `elapsed` is over.
    """
    past = _past(daily, today)
    if any(value for _, value in past):
        return _Model(past, today).level_now
    return _pace(math.fsum(value for day, value in daily if day == today), elapsed)


def project(
    daily: Sequence[tuple[date, float]],
    today: date,
    until: date,
    *,
    coverage: float = 0.8,
    since: date | None = None,
    elapsed: float = 0.5,
) -> Projection:
    """What will have been spent from `since` (None: the first of the month of `until`) to the end of the day `until`.

    `daily`: (day, sum) in any order, as far back as there are sums; days left out after the first one cost nothing. The
    sum of `today` is what it has cost so far, and `elapsed` how much of it is over (0 to 1).

    The method, in words. What an ordinary day costs is the mean of the last eight weeks, in which a day counts half as much as
    one three weeks later; after a clear change of level only the days since then count. When weekdays differ by more than by
    chance, each has its own share. A clear rise or fall is continued, fading. The estimate is what is spent and the days that
    are left, each at its cost. For the interval, what is left is drawn 400 times from the past: weeks as they were against
    what was to be expected of them, with the level itself as unsure as the number of days and their scatter make it, and
    wider by a tenth than that shows. Of these futures, the share `coverage` in the middle is the interval. With little
    history it is wide. Without any, today's pace is taken, and anything from nothing to four times that.
    The draws are the same each time: the same history gives the same answer.

    Raises ValueError unless 0 < coverage < 1 and 0 <= elapsed <= 1.
    """
    if not 0 < coverage < 1 or not 0 <= elapsed <= 1:
        raise ValueError(f"coverage {coverage} and elapsed {elapsed} must be shares")
    first = since or until.replace(day=1)
    spent = math.fsum(value for day, value in daily if first <= day <= min(today, until))
    so_far = math.fsum(value for day, value in daily if day == today)
    past = _past(daily, today)
    rest = [today + timedelta(days=number) for number in range((until - today).days + 1)]
    if not any(value for _, value in past):
        return _from_today(spent, so_far, len(rest), elapsed)
    model = _Model(past, today)
    shares = [1.0 - elapsed, *[1.0] * (len(rest) - 1)] if rest else []
    expected = [share * model.expected(day) for share, day in zip(shares, rest, strict=True)]
    estimate = spent + math.fsum(expected)
    low = high = 0.0
    if any(expected):
        drawn = sorted(model.futures(expected))
        margin = (1 - coverage) / 2
        middle = _quantile(drawn, 0.5)
        low, high = (max(middle + (_quantile(drawn, share) - middle) * _CAUTION, 0.0) for share in (margin, 1 - margin))
    return Projection(
        spent, estimate, min(spent + low, estimate), max(spent + high, estimate), model.level_now, model.method
    )


def _past(daily: Sequence[tuple[date, float]], today: date) -> list[tuple[date, float]]:
    """The days before today, each once, at most HISTORY, from the first that cost something."""
    sums: dict[date, float] = {}
    for day, value in daily:
        if day < today:
            sums[day] = sums.get(day, 0.0) + max(value, 0.0)
    if not sums:
        return []
    start = max(min(sums), today - timedelta(days=HISTORY))
    days = [start + timedelta(days=number) for number in range((today - start).days)]
    return [(day, sums.get(day, 0.0)) for day in days]


def _from_today(spent: float, so_far: float, days: int, elapsed: float) -> Projection:
    """Without any day that is over: on at the pace of today, and anything from nothing to four times that."""
    pace = _pace(so_far, elapsed)
    left = pace * max(days - elapsed, 0.0)
    return Projection(spent, spent + left, spent, spent + 4 * left, pace, "the pace of today: there is no earlier day")


def _pace(so_far: float, elapsed: float) -> float:
    """What a whole day costs of which that is over; the first hours are not taken for the rest."""
    return so_far / max(elapsed, 0.25)


class _Model:
    """What a day costs, fitted to those that are over."""

    def __init__(self, past: Sequence[tuple[date, float]], today: date) -> None:
        self._today = today
        self._seen = len(past)
        self._profile = _profile(past)
        past = past[_last_change([value / self._profile[day.weekday()] for day, value in past]) :]
        values = [value for _, value in past]
        ages = [(today - day).days for day, _ in past]
        shares = [self._profile[day.weekday()] for day, _ in past]
        self._weights = [0.5 ** (age / _HALF_LIFE) for age in ages]
        self._mean = _weighted(values, self._weights) / _weighted(shares, self._weights)
        self._centre = -_weighted(ages, self._weights)
        self._slope, self._slope_error = _trend(
            ages, [value / share for value, share in zip(values, shares, strict=True)]
        )
        ordinary = [share * max(self._level(-age), self._mean / 20) for age, share in zip(ages, shares, strict=True)]
        # Against what was to be expected of each day; 1 on the average.
        total = _weighted(values, self._weights) / (_weighted(ordinary, self._weights) or 1.0)
        self._ratios = [
            value / one / total if one > 0 and total > 0 else 1.0 for value, one in zip(values, ordinary, strict=True)
        ]
        self.level_now = self._level(0)

    @property
    def method(self) -> str:
        """In words, for people."""
        days = len(self._ratios)
        parts = [f"mean of the last {days} days" if days > 1 else "the one day before today"]
        if days < self._seen:
            parts.append("as those before were clearly others")
        if len(set(self._profile)) > 1:
            parts.append("by weekday")
        if self._slope:
            parts.append("going on to rise" if self._slope > 0 else "going on to fall")
        if days < 14:
            parts.append("wide, as there is little to go by")
        return ", ".join(parts)

    def expected(self, day: date) -> float:
        """What `day` costs: today or a later one."""
        return self._level((day - self._today).days) * self._profile[day.weekday()]

    def futures(self, expected: Sequence[float]) -> Iterator[float]:
        """Sums of `expected` as they may turn out."""
        chance = random.Random(20_240_229)  # noqa: S311  (the same futures each time)
        days = len(self._ratios)
        size = max(min(_BLOCK, days // 4), 1)
        blocks = [[self._ratios[(start + step) % days] for step in range(size)] for start in range(days)]
        means = [math.fsum(block) / size for block in blocks]
        weights = list(accumulate(self._weights))
        effective = sum(self._weights) ** 2 / math.fsum(weight * weight for weight in self._weights)
        runs = max(round(effective / size), 1)
        unknown = self._unknown(means, size, effective, len(expected))
        lead = self._slope_error * (len(expected) / 2 - self._centre) / self.level_now if self.level_now > 0 else 0.0
        # What each run of days costs where it may come to stand; a future is one of each.
        costs = [
            [math.fsum(one * ratio for one, ratio in zip(expected[first:], block, strict=False)) for block in blocks]
            for first in range(0, len(expected), size)
        ]
        starts = range(days)
        for _ in range(_DRAWS):
            mean = sum(chance.choices(means, cum_weights=weights, k=runs)) / runs
            level = math.exp(chance.gauss(0.0, unknown)) / max(mean, 0.2) * max(1 + chance.gauss(0.0, lead), 0.0)
            picked = chance.choices(starts, cum_weights=weights, k=len(costs))
            yield level * sum(table[start] for table, start in zip(costs, picked, strict=True))

    def _unknown(self, means: Sequence[float], size: int, effective: float, ahead: int) -> float:
        """How unsure the sum is beyond what drawing from so few days shows, as a share of it."""
        days = len(self._ratios)
        left = [ratio - 1 for ratio in self._ratios]
        scatter = math.fsum(one * one for one in left) / days
        supposed = scatter + max(1 - scatter, 0.0) * _SUPPOSED / (days + _SUPPOSED)
        alike = _alike(left)
        shown = math.fsum((mean - 1) ** 2 for mean in means) / days * size
        level = max(supposed * (1 + _SUPPOSED / days) * alike - shown, 0.0) / effective
        return math.sqrt(level + max(scatter * alike - shown, 0.0) / ahead)

    def _level(self, days: int) -> float:
        """Of an ordinary day, so many days from today (before: negative); never below 0."""
        if not self._slope:
            return self._mean
        faded = days if days <= 0 else (1 - _FADING**days) / (1 - _FADING)
        return max(self._mean + self._slope * (faded - self._centre), 0.0)


def _profile(past: Sequence[tuple[date, float]]) -> list[float]:
    """The share of each weekday in an ordinary day, 1 on the average; as far as weekdays differ by more than by chance."""
    days, mean = len(past), sum(value for _, value in past) / len(past)
    if days < 14 or mean <= 0:
        return [1.0] * 7
    # Single days that stand out say nothing of their weekday.
    values = [(day.weekday(), min(value, 4 * mean)) for day, value in past]
    mean = sum(value for _, value in values) / days
    groups = [[value for weekday, value in values if weekday == number] for number in range(7)]
    means = [sum(group) / len(group) for group in groups]
    within = math.fsum((value - means[weekday]) ** 2 for weekday, value in values) / (days - 7)
    between = math.fsum(len(group) * (one - mean) ** 2 for group, one in zip(groups, means, strict=True)) / 6
    believed = max(1 - within / between, 0.0) if between > (_EQUAL * mean) ** 2 else 0.0
    if believed < 0.5:
        return [1.0] * 7
    shares = [1 + believed * (one / mean - 1) for one in means]
    average = sum(shares) / 7
    return [max(share / average, 0.02) for share in shares]


def _last_change(plain: Sequence[float]) -> int:
    """The day from which on spending is clearly of another level than before; 0: it is not. By ranks, so that single days that
    stand out are no change."""
    days, start = len(plain), 0
    order = sorted(range(days), key=lambda day: plain[day])
    ranks = [0.0] * days
    for rank, day in enumerate(order):
        ranks[day] = ranks[order[rank - 1]] if rank and plain[order[rank - 1]] == plain[day] else float(rank)
    clearest = _CHANGED
    sums = [0.0, *accumulate(ranks)]
    for split in range(_SIDE, days - _SIDE + 1):
        before, after = sums[split] / split, (sums[days] - sums[split]) / (days - split)
        fitted = [before] * split + [after] * (days - split)
        variance = _variance([rank - one for rank, one in zip(ranks, fitted, strict=True)])
        error = math.sqrt(variance * (1 / split + 1 / (days - split)))
        if abs(after - before) > clearest * error and error > 0:
            clearest, start = abs(after - before) / error, split
    return start


def _trend(ages: Sequence[int], plain: Sequence[float]) -> tuple[float, float]:
    """Slope a day and its error; both 0 unless it is clear. A slope that may be chance is taken for less than it looks."""
    days = len(plain)
    if days < 14:
        return 0.0, 0.0
    times = [-float(age) for age in ages]
    centre, mean = sum(times) / days, sum(plain) / days
    spread = math.fsum((time - centre) ** 2 for time in times)
    slope = math.fsum((time - centre) * value for time, value in zip(times, plain, strict=True)) / spread
    left = [value - mean - slope * (time - centre) for time, value in zip(times, plain, strict=True)]
    error = math.sqrt(_variance(left) / spread)
    if abs(slope) <= max(_TREND * error, _EQUAL * mean):
        return 0.0, 0.0
    return slope * (1 - (_TREND * error / slope) ** 2), error


def _variance(left: Sequence[float]) -> float:
    """Of what a fit leaves, for the error of means: larger where neighbouring days are alike."""
    return math.fsum(one * one for one in left) / max(len(left) - 2, 1) * _alike(left)


def _alike(left: Sequence[float]) -> float:
    """What the variance of a mean is to be multiplied by, as neighbouring days are alike."""
    squares = math.fsum(one * one for one in left)
    if squares <= 0 or len(left) < 7:
        return 1.0
    alike = math.fsum(one * next_ for one, next_ in pairwise(left)) / squares
    alike += (1 + 3 * alike) / len(left)  # what so short a series hides of it
    alike = min(max(alike, 0.0), 0.75)
    return (1 + alike) / (1 - alike)


def _weighted(values: Sequence[float], weights: Sequence[float]) -> float:
    return math.fsum(value * weight for value, weight in zip(values, weights, strict=True)) / math.fsum(weights)


def _quantile(ordered: Sequence[float], share: float) -> float:
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)
