"""Charts as SVG, made of numbers alone: columns by day, bars, ranges, sparklines.

Marks lie in drawings that are stretched to the room there is; words lie around them and keep their size. Colours are classes
of charts.css. The same numbers give the same text; what is no number, or below 0, is drawn as 0.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from markupsafe import Markup

from tasks.text import printable
from tasks.web.scales import decades, length, plain, sane, ticks

#: Colours that there are; the last one is for "others".
COLOURS = 6
#: Labels under columns at most; half of them never collide, however narrow the page is.
LABELS = 7
#: Units across a drawing, and pixels of its height.
_WIDE, _HIGH = 1000.0, 160.0
#: Pixels above a drawing, and below for labels.
_ABOVE, _BELOW = 8.0, 22.0
#: Of a day's room, and units: how wide a column is at most.
_FILLED, _WIDEST = 0.8, 64.0
#: Pixels of a row of bars: as a whole, down to its words, down to its bar, and of its bar.
_ROW, _WORDS, _BAR, _THICK = 36.0, 13.0, 19.0, 9.0
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

Tell = Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Day:
    """A column: `values` are those of each series, stacked."""

    date: str  # YYYY-MM-DD
    values: tuple[float, ...]
    #: what is said of the day besides its values
    note: str = ""


@dataclass(frozen=True, slots=True)
class Ahead:
    """What is expected of a day to come: between `low` and `high`."""

    date: str
    low: float
    likely: float
    high: float


@dataclass(frozen=True, slots=True)
class Bar:
    label: str
    value: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class Range:
    """Most lie between `usual` and `slow`, none beyond `most`."""

    label: str
    usual: float
    slow: float
    most: float


def columns(
    name: str,
    title: str,
    days: Sequence[Day],
    *,
    series: Sequence[str] = (),
    tell: Tell = plain,
    tick: Tell = plain,
    whole: bool = False,
    today: str = "",
    ahead: Sequence[Ahead] = (),
) -> Markup:
    """A column a day, in order. `series` names what is stacked, for the legend; with `ahead`, the sums lead on to what is
    expected. `name` is that of the chart on its page; `tell` and `tick` say values in tooltips and beside the axis, which
    has only whole numbers if `whole`.
    """
    if not days:
        return Markup('<p class="empty">There are no days to draw yet.</p>')
    sums = [math.fsum(map(sane, day.values)) for day in days]
    marks = ticks(max(*sums, *(sane(one.high) for one in ahead), 0.0), whole=whole)
    room = _WIDE / (len(days) + len(ahead))
    unit = _HIGH / marks[-1]
    drawn = Markup("").join(
        _column(day, at * room, room, unit, series=series, tell=tell) for at, day in enumerate(days)
    )
    if ahead:
        drawn = _expected(sums[-1], len(days), ahead, room, unit, tell) + drawn
    highest = max(range(len(days)), key=lambda at: sums[at])
    said = f"{len(days)} days, {days[0].date} to {days[-1].date}; the highest: {tell(sums[highest])}, {days[highest].date}."
    if ahead:
        said += f" Expected for {ahead[-1].date}: {tell(ahead[-1].likely)}."
    dates = [*(day.date for day in days), *(one.date for one in ahead)]
    inner = Markup('{}<svg y="{}" width="100%" height="{}" viewBox="0 0 {} {}" preserveAspectRatio="none">{}</svg>{}')
    content = inner.format(
        _grid(marks, unit, tick),
        length(_ABOVE),
        length(_HIGH),
        length(_WIDE),
        length(_HIGH),
        drawn,
        _dates(dates, today, len(days) - 1),
    )
    return _figure("columns", _svg(name, title, said, _ABOVE + _HIGH + _BELOW, content) + _legend(series))


def bars(name: str, title: str, rows: Sequence[Bar], *, tell: Tell = plain) -> Markup:
    """A horizontal bar a row, in proportion to the greatest."""
    top = max((sane(row.value) for row in rows), default=0.0) or 1.0
    content = Markup("").join(
        Markup(
            '<g><title>{}</title>{}<rect class="track" x="0" y="{}" width="100%" height="{}"/>'
            '<rect class="series-1" x="0" y="{}" width="{}%" height="{}"/></g>'
        ).format(
            _titled(row.label, tell(sane(row.value)), row.note), _words(at, row.label, tell(sane(row.value))),
            length(at * _ROW + _BAR), length(_THICK), length(at * _ROW + _BAR), length(sane(row.value) / top * 100),
            length(_THICK),
        )
        for at, row in enumerate(rows)
    )  # fmt: skip
    said = "; ".join(f"{_cut(row.label)}: {tell(sane(row.value))}" for row in rows[:5]) or "nothing"
    return _figure("bars", _svg(name, title, said, len(rows) * _ROW, content))


def ranges(name: str, title: str, rows: Sequence[Range], *, tell: Tell = plain, tick: Tell = plain) -> Markup:
    """A row each from `usual` to `slow`, with a dot at `most`, on a logarithmic axis."""
    values = [max(sane(value), 0.01) for row in rows for value in (row.usual, row.slow, row.most)]
    first, last = decades(values)

    def place(value: float) -> str:
        part = (math.log10(max(sane(value), 0.01)) - first) / (last - first)
        return length(min(max(part, 0.0), 1.0) * 100)

    height = len(rows) * _ROW
    step = -(-(last - first) // 5)
    content = Markup("").join(
        Markup('<line class="grid" x1="{}%" x2="{}%" y1="0" y2="{}"/><text class="tick {}" x="{}%" y="{}">{}</text>').format(
            place(10.0**at), place(10.0**at), length(height), "first" if at == first else "last" if at == last else "middle",
            place(10.0**at), length(height + 14), tick(10.0**at),
        )
        for at in range(first, last + 1, step)
    )  # fmt: skip
    for at, row in enumerate(rows):
        y = length(at * _ROW + _BAR + _THICK / 2)
        content += Markup(
            '<g><title>{}: median {}, 95 % within {}, longest {}</title>{}'
            '<line class="whisker" x1="{}%" x2="{}%" y1="{}" y2="{}"/><circle class="most" cx="{}%" cy="{}" r="3"/>'
            '<line class="spread" x1="{}%" x2="{}%" y1="{}" y2="{}"/></g>'
        ).format(
            _cut(row.label), tell(row.usual), tell(row.slow), tell(row.most),
            _words(at, row.label, f"{tell(row.usual)} – {tell(row.slow)}"),
            place(row.usual), place(row.most), y, y, place(row.most), y, place(row.usual), place(row.slow), y, y,
        )  # fmt: skip
    said = "; ".join(f"{_cut(row.label)}: {tell(row.usual)} to {tell(row.slow)}" for row in rows[:5]) or "nothing"
    return _figure("ranges", _svg(name, title, said, height + _BELOW, content))


def sparkline(name: str, title: str, values: Iterable[float]) -> Markup:
    """Tiny columns, in proportion to the greatest; what is above 0 never looks like 0."""
    heights = [sane(value) for value in values]
    top = max(heights, default=0.0) or 1.0
    path = "".join(
        f"M{at * 4} 20V{length(20 - max(height / top * 19, 1.5))}h3V20z" for at, height in enumerate(heights) if height
    )
    return Markup(
        '<svg class="spark" viewBox="0 0 {} 20" preserveAspectRatio="none" role="img" aria-labelledby="{}-t">'
        '<title id="{}-t">{}</title><path class="base" d="M0 19.5H{}"/><path class="series-1" d="{}"/></svg>'
    ).format(max(len(heights) * 4, 4), name, name, printable(title), max(len(heights) * 4, 4), path)


def meter(*parts: float, whole: float = 1.0) -> Markup:
    """`parts` of `whole` beside each other, for a cell whose number stands next to it."""
    whole, at, drawn = sane(whole) or 1.0, 0.0, Markup("")
    for number, part in enumerate(parts, 1):
        wide = min(sane(part) / whole * 100, 100 - at)
        if wide > 0:
            drawn += Markup('<rect class="series-{}" x="{}" width="{}" height="8"/>').format(
                number, length(at), length(max(wide, 0.7))
            )
        at += wide
    return Markup(
        '<svg class="meter" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">{}</svg>'
    ).format(drawn)


def _column(day: Day, x: float, room: float, unit: float, *, series: Sequence[str], tell: Tell) -> Markup:
    wide = min(room * _FILLED, _WIDEST)
    values = [sane(value) for value in day.values]
    rects, y = Markup(""), _HIGH
    for number, value in enumerate(values, 1):
        if value <= 0:
            continue
        high = max(value * unit, 1.0 if len(values) == 1 else 0.4)
        y = max(y - high, 0.0)
        rects += Markup('<rect class="series-{}" x="{}" y="{}" width="{}" height="{}"/>').format(
            min(number, COLOURS), length(x + (room - wide) / 2), length(y), length(wide), length(high)
        )
    named = [f"{name} {tell(value)}" for name, value in zip(series, values, strict=False) if value > 0]
    notes = "; ".join(filter(None, (day.note, *(named if len(series) > 1 else ()))))
    return _day(_titled(day.date, tell(math.fsum(values)), notes), x, room, rects)


def _expected(now: float, slots: int, ahead: Sequence[Ahead], room: float, unit: float, tell: Tell) -> Markup:
    """A band that opens from the last sum, a line in its middle."""

    def point(at: int, value: float) -> str:
        return f"{length((slots + at + 0.5) * room)} {length(max(_HIGH - sane(value) * unit, 0.0))}"

    begin = point(-1, now)
    upper = [point(at, one.high) for at, one in enumerate(ahead)]
    lower = [point(at, one.low) for at, one in enumerate(ahead)]
    middle = [point(at, one.likely) for at, one in enumerate(ahead)]
    shape = Markup('<path class="band" d="M{}"/><path class="likely" d="M{}"/>').format(
        "L".join([begin, *upper, *reversed(lower)]) + "z", "L".join([begin, *middle])
    )
    return shape + Markup("").join(
        _day(
            f"{one.date}: about {tell(one.likely)}, {tell(one.low)} to {tell(one.high)}",
            (slots + at) * room,
            room,
            Markup(""),
        )
        for at, one in enumerate(ahead)
    )


def _day(words: str, x: float, room: float, rects: Markup) -> Markup:
    """The marks of a day; its whole height says what they are."""
    return Markup(
        '<g class="day"><title>{}</title><rect class="hit" x="{}" y="0" width="{}" height="{}"/>{}</g>'
    ).format(words, length(x), length(room), length(_HIGH), rects)


def _grid(marks: Sequence[float], unit: float, tick: Tell) -> Markup:
    return Markup("").join(
        Markup('<line class="grid" x1="0" x2="100%" y1="{}" y2="{}"/>'
            '<text class="tick beside" x="0" dx="-7" y="{}">{}</text>').format(
            length(y), length(y), length(y + 4), tick(mark)
        )
        for mark in marks
        for y in (_ABOVE + _HIGH - mark * unit,)
    )  # fmt: skip


def _dates(dates: Sequence[str], today: str, last: int) -> Markup:
    """Every so many days, today's or the last one always among them; every second can be spared where room is short."""
    every = -(-len(dates) // LABELS)
    at_today = dates.index(today) if today in dates else last
    return Markup("").join(
        Markup('<text class="tick middle{}{}" x="{}%" y="{}">{}</text>').format(
            " now" if day == today else "", " spare" if (at - at_today) // every % 2 else "",
            length((at + 0.5) * 100 / len(dates)), length(_ABOVE + _HIGH + 16),
            "today" if day == today else _short_date(day),
        )
        for at, day in enumerate(dates)
        if (at - at_today) % every == 0
    )  # fmt: skip


def _short_date(day: str) -> str:
    found = date.fromisoformat(day)
    return f"{found.day} {_MONTHS[found.month - 1]}"


def _words(at: int, label: str, value: str) -> Markup:
    y = length(at * _ROW + _WORDS)
    return Markup('<text x="0" y="{}">{}</text><text class="value" x="100%" y="{}">{}</text>').format(
        y, _cut(label), y, value
    )


def _legend(series: Sequence[str]) -> Markup:
    if len(series) < 2:
        return Markup("")
    items = (
        Markup('<li class="series-{}">{}</li>').format(min(number, COLOURS), _cut(name, 40))
        for number, name in enumerate(series, 1)
    )
    return Markup('<ul class="legend">{}</ul>').format(Markup("").join(items))


def _svg(name: str, title: str, said: str, height: float, content: Markup) -> Markup:
    return Markup(
        '<svg class="chart" height="{}" role="img" aria-labelledby="{}-t {}-d"><title id="{}-t">{}</title>'
        '<desc id="{}-d">{}</desc>{}</svg>'
    ).format(length(max(height, 1.0)), name, name, name, printable(title), name, printable(said), content)


def _figure(kind: str, content: Markup) -> Markup:
    return Markup('<div class="figure of-{}">{}</div>').format(kind, content)


def _titled(label: str, value: str, note: str) -> str:
    return printable(f"{_cut(label, 200)}: {value}" + (f" ({note})" if note else ""))


def _cut(text: str, most: int = 30) -> str:
    return printable(text if len(text) <= most else text[: most - 1] + "…")


FUNCTIONS: dict[str, Callable[..., Any]] = {"meter": meter, "sparkline": sparkline}
