"""Charts are well-formed, true to their numbers, and the same for the same numbers."""

import math
import random
from datetime import date, timedelta
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from markupsafe import Markup
from tasks.analytics.costs import DailyCosts, costs
from tasks.analytics.spending import ProjectedCosts
from tasks.web.charts import Ahead, Bar, Day, Range, bars, columns, meter, ranges, sparkline
from tasks.web.pages.costs import until_its_end
from tasks.web.scales import plain, ticks

NAN, INFINITE = float("nan"), float("inf")
HOSTILE = '<script>alert("1")</script>\u202e\x1b[31m'


def days(*values: float) -> list[Day]:
    first = date(2026, 10, 1)
    return [Day((first + timedelta(days=at)).isoformat(), (value,)) for at, value in enumerate(values)]


def parsed(chart: Markup) -> ElementTree.Element:
    text = str(chart)
    for word in ("nan", "inf", "style=", "e-", "e+"):
        assert word not in text.lower(), (word, text)
    return ElementTree.fromstring(f"<root>{text}</root>")  # noqa: S314  (our own)


def rects(root: ElementTree.Element, series: int = 1) -> list[ElementTree.Element]:
    return [one for one in root.iter("rect") if one.get("class") == f"series-{series}"]


def texts(root: ElementTree.Element) -> list[str]:
    return [one.text or "" for one in root.iter("text")]


@pytest.mark.parametrize("top", [1e-12, 0.0123, 0.5, 1, 2, 3, 3.01, 4, 7, 9.99, 10, 99, 1234, 5e9, 1e15])
def test_an_axis_has_three_or_four_round_ticks_that_hold_everything(top: float) -> None:
    found = ticks(top)
    assert 3 <= len(found) <= 4
    assert found[0] == 0
    assert found[-1] >= top * (1 - 1e-6)
    assert found[-1] < 2 * top + 1e-15
    mantissa = found[1] / 10.0 ** math.floor(math.log10(found[1]) + 1e-9)
    assert any(mantissa == pytest.approx(round_) for round_ in (1, 2, 5))


def test_an_axis_of_whole_numbers_has_no_halves() -> None:
    for top in range(1, 200):
        assert all(mark == int(mark) for mark in ticks(top, whole=True))
    assert ticks(1, whole=True) == [0, 1]


def test_an_axis_without_values_still_is_one() -> None:
    assert ticks(0) == ticks(-3) == ticks(NAN) == ticks(INFINITE) == [0, 1]


def test_columns_are_in_proportion() -> None:
    root = parsed(columns("c", "Cost", days(1, 2, 0, 4)))
    heights = [float(one.get("height", "")) for one in rects(root)]
    assert len(heights) == 3
    assert heights[1] == pytest.approx(2 * heights[0], abs=0.02)
    assert heights[2] == pytest.approx(4 * heights[0], abs=0.03)


def test_stacked_columns_stand_on_each_other() -> None:
    root = parsed(columns("c", "Cost", [Day("2026-10-01", (1, 2, 3))], series=("a", "b", "c")))
    bottom = 160.0
    for series in (1, 2, 3):
        (one,) = rects(root, series)
        assert float(one.get("y", "")) + float(one.get("height", "")) == pytest.approx(bottom, abs=0.02)
        bottom = float(one.get("y", ""))
    assert [one.text for one in root.iter("li")] == ["a", "b", "c"]


def test_every_day_says_what_it_is() -> None:
    made = [Day("2026-10-01", (1.5, 2.0), "3 tasks"), Day("2026-10-02", (0.0, 0.0))]
    root = parsed(columns("c", "Cost", made, series=("one", "two"), tell=lambda value: f"${value:.2f}"))
    titles = [one.findtext("title") for one in root.iter("g")]
    assert titles == ["2026-10-01: $3.50 (3 tasks; one $1.50; two $2.00)", "2026-10-02: $0.00"]


def test_a_chart_is_an_image_with_a_name_and_a_description() -> None:
    for chart in (columns("x", "T", days(1)), bars("x", "T", [Bar("a", 1)]), ranges("x", "T", [Range("a", 1, 2, 3)])):
        svg = next(parsed(chart).iter("svg"))
        assert svg.get("role") == "img"
        named = (svg.get("aria-labelledby") or "").split()
        ids = {one.get("id"): one.text for one in svg.iter() if one.get("id")}
        assert [bool(ids[name]) for name in named] == [True, True]


@pytest.mark.parametrize("number", [1, 2, 7, 8, 30, 31, 90, 365])
def test_labels_of_days_are_few_and_name_today(number: int) -> None:
    made = days(*[1.0] * number)
    root = parsed(columns("c", "T", made, today=made[-1].date))
    labels = [one for one in root.iter("text") if "middle" in (one.get("class") or "")]
    assert 1 <= len(labels) <= 7
    assert labels[-1].text == "today"
    places = [float((one.get("x") or "").rstrip("%")) for one in labels]
    assert all(after - before >= 100 / 7.5 for before, after in pairwise(places))
    kept = [one for one in labels if "spare" not in (one.get("class") or "")]
    assert 1 <= len(kept) <= 4
    assert kept[-1] is labels[-1]


def test_what_is_expected_opens_from_the_last_sum() -> None:
    made = days(1, 2)
    ahead = [Ahead("2026-10-03", 2.5, 3, 4), Ahead("2026-10-04", 3, 4, 6)]
    root = parsed(columns("c", "T", made, ahead=ahead, today="2026-10-02"))
    band, line = (one.get("d") or "" for one in root.iter("path"))
    assert band.startswith("M375 ")
    assert line.split("L")[0] == band.split("L")[0]
    assert band.count("L") == 4
    assert "2026-10-04: about 4, 3 to 6" in [one.findtext("title") for one in root.iter("g")]
    assert "today" in texts(root)


def test_bars_are_in_proportion_to_the_greatest() -> None:
    root = parsed(bars("b", "Errors", [Bar("a", 8), Bar("b", 2), Bar("c", 0)]))
    assert [one.get("width") for one in rects(root)] == ["100%", "25%", "0%"]
    assert texts(root) == ["a", "8", "b", "2", "c", "0"]


def test_ranges_lie_on_a_logarithmic_axis() -> None:
    root = parsed(ranges("r", "Durations", [Range("a", 10, 100, 1000), Range("b", 1, 1, 1)]))
    spread = [one for one in root.iter("line") if one.get("class") == "spread"]
    assert [(one.get("x1"), one.get("x2")) for one in spread] == [("33.33%", "66.67%"), ("0%", "0%")]
    assert [one.get("cx") for one in root.iter("circle")] == ["100%", "0%"]
    assert [text for text in texts(root) if text in ("1", "10", "100", "1k")] == ["1", "10", "100", "1k"]


def test_a_sparkline_shows_what_is_above_nothing() -> None:
    root = parsed(sparkline("s", "By day", [0, 1, 1000]))
    drawn = next(one.get("d") or "" for one in root.iter("path") if one.get("class") == "series-1")
    assert drawn == "M4 20V18.5h3V20zM8 20V1h3V20z"
    assert root.findtext(".//title") == "By day"


def test_parts_of_a_meter_lie_beside_each_other_and_never_beyond_it() -> None:
    root = parsed(meter(1, 2, 9, whole=4))
    (one,), (two,), (three,) = (rects(root, series) for series in (1, 2, 3))
    assert [one.get("x"), two.get("x"), three.get("x")] == ["0", "25", "75"]
    assert [one.get("width"), two.get("width"), three.get("width")] == ["25", "50", "25"]
    assert not rects(parsed(meter(0)))


def test_hostile_words_stay_words() -> None:
    made = [Day("2026-10-01", (1, 2), HOSTILE)]
    for chart in (
        columns("c", HOSTILE, made, series=(HOSTILE, "b")),
        bars("c", HOSTILE, [Bar(HOSTILE, 1, HOSTILE)]),
        ranges("c", HOSTILE, [Range(HOSTILE, 1, 2, 3)]),
        sparkline("c", HOSTILE, [1]),
    ):
        parsed(chart)
        assert "<script" not in chart
        assert "\u202e" not in chart
        assert "\x1b" not in chart


@pytest.mark.parametrize(
    "values",
    [
        (),
        (0,),
        (0, 0, 0),
        (5,),
        (1e-12, 2e-12),
        (1e14, 1),
        (NAN, 1),
        (INFINITE, 1),
        (-5, 1),
        (1e-300, 0),
        (1e308, 1e308),
    ],
)
def test_odd_numbers_are_drawn_too(values: tuple[float, ...]) -> None:
    for chart in (
        columns("c", "T", days(*values)),
        columns(
            "c", "T", [Day("2026-10-01", values)] if values else [], series=[str(one) for one in range(len(values))]
        ),
        bars("c", "T", [Bar("x", value) for value in values]),
        ranges("c", "T", [Range("x", value, value, value) for value in values]),
        sparkline("c", "T", values),
        meter(*values),
    ):
        root = ElementTree.fromstring(f"<root>{chart}</root>")  # noqa: S314  (our own)
        for one in root.iter("rect"):
            for name in ("x", "y", "width", "height"):
                length = float((one.get(name) or "0").rstrip("%"))
                assert 0 <= length <= 1000.01, (name, length)


def test_the_same_numbers_give_the_same_chart() -> None:
    rng = random.Random(3)
    made = days(*[rng.lognormvariate(0, 3) for _ in range(90)])
    assert columns("c", "T", made) == columns("c", "T", list(made))


def test_ninety_days_of_six_series_stay_light() -> None:
    rng = random.Random(4)
    made = [Day(day.date, tuple(rng.random() for _ in range(6))) for day in days(*[1.0] * 90)]
    assert len(columns("c", "T", made, series=[f"model-{number}" for number in range(6)])) < 90_000


def test_numbers_beside_an_axis_are_short() -> None:
    assert [plain(one) for one in (0, 0.0025, 0.5, 7, 20, 1500, 2e6, 5e9)] == [
        "0", "0.0025", "0.5", "7", "20", "1.5k", "2M", "5B",
    ]  # fmt: skip


@pytest.mark.parametrize(("today", "left"), [("2026-02-01", 27), ("2026-02-27", 1), ("2026-02-28", 0)])
def test_a_month_leads_to_its_projection_on_every_day_of_it(today: str, left: int) -> None:
    spent = [daily_costs(number + 1) for number in range(int(today[-2:]))]
    total = float(len(spent))
    root = parsed(until_its_end(spent, projected(total, total + left)))
    titles = [one.findtext("title") or "" for one in root.iter("g")]
    assert len(titles) == 28
    assert [title for title in titles if "about" in title] == titles[:left]
    if left:
        assert titles[left - 1] == f"2026-02-28: about ${total + left:.2f}, ${total:.2f} to ${total + 2 * left:.2f}"


def daily_costs(day: int) -> DailyCosts:
    return DailyCosts(date=f"2026-02-{day:02}", tasks=0, **costs((1, 0, 0, 0, 0, 0, 0, 10**12, 0)))


def projected(spent: float, estimate: float) -> ProjectedCosts:
    return ProjectedCosts(
        zone="UTC", since="2026-02-01", until="2026-02-28", spent=spent, estimate=estimate, low=spent,
        high=2 * estimate - spent, coverage=0.8, burn_per_day=1.0, method="a mean", unpriced=0,
    )  # fmt: skip
