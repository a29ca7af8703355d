"""Axes of charts: round steps, and numbers as they are drawn and said."""

import math
from collections.abc import Sequence

#: Beyond that no number is drawn to scale.
_HUGE = 1e100


def plain(value: float) -> str:
    """A number in few characters, for axes: 0.025, 7, 1.5k."""
    value = sane(value)
    for limit, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.3g}{suffix}" if value < 1e15 else f"{value / limit:.1e}{suffix}"
    digits = 0 if value == 0 else min(max(0, 2 - math.floor(math.log10(value))), 12)
    text = f"{value:.{digits}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text) or "0"


def ticks(top: float, *, whole: bool = False) -> list[float]:
    """From 0 to `top` or a little above in 2 or 3 round steps: of 1, 2 or 5 times a power of ten."""
    top = sane(top)
    if top <= 0 or top < 1e-300:
        return [0.0, 1.0]
    power = 10.0 ** (math.floor(math.log10(top)) - 1)
    step = next(step for times in (1, 2, 5, 10, 20, 50) if top / (step := times * power) <= 3 * (1 + 1e-9))
    step = max(step, 1.0) if whole else step
    return [step * number for number in range(max(math.ceil(top / step * (1 - 1e-9)), 1) + 1)]


def decades(values: Sequence[float]) -> tuple[int, int]:
    """The powers of ten around `values`, which are above 0: the last one that is below all, the first that is above."""
    if not values:
        return 0, 1
    first, last = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return first, max(last, first + 1)


def sane(value: float) -> float:
    """What is no number, or below 0, is 0."""
    return min(float(value), _HUGE) if 0 < value < math.inf else 0.0


def length(value: float) -> str:
    """A length, to a hundredth."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
