"""The page of tools and errors says what the API says, filtered as asked."""

import csv
import io
from collections.abc import Iterator
from typing import Any

import pytest
from tasks.web.shown import duration, number, percent

from .markup import Element, parse
from .past import HOSTILE, site_after, spend, work
from .site import Site

#: Everything that happened lies in these days, so that nothing drops out between two questions.
DAYS = 30


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    yield from site_after(tmp_path_factory.mktemp("t"), spend, work)


def api(site: Site, target: str) -> Any:
    status, _, answer = site.ask("GET", target)
    assert status == 200, answer
    return answer


def page(site: Site, query: str = "") -> Element:
    return site.browser("vic").page(f"/tools?days={DAYS}{query}")


def table(document: Element, label: str) -> list[list[str]]:
    return document.one("div", role="region", aria_label=f"Table: {label}").one("table").rows()[1:]


def csv_of(site: Site, target: str) -> list[dict[str, str]]:
    answer = site.browser("vic").get(target)
    assert answer.status == 200
    return list(csv.DictReader(io.StringIO(answer.text, newline="")))


def test_the_tools_are_those_of_the_api(site: Site) -> None:
    used = api(site, f"/v1/stats/tools?days={DAYS}")
    timed = {one["tool_name"]: one for one in api(site, f"/v1/stats/tools/durations?days={DAYS}")}
    calls = sum(one["count"] for one in used)
    document = page(site)
    assert table(document, "Tools") == [
        [one["tool_name"], number(one["count"]), percent(one["count"] / calls), "", percent(one["success_rate"]),
         number(one["failures"]), duration(timed[one["tool_name"]]["percentiles"]["p50"]),
         duration(timed[one["tool_name"]]["percentiles"]["p95"]), duration(timed[one["tool_name"]]["max_duration"])]
        for one in used
    ]  # fmt: skip
    tiles = [tile.one("b").text for tile in document.one(id="figures").all("div", class_="tile")]
    failures = sum(one["failures"] for one in used)
    assert tiles == [number(calls), number(failures), percent((calls - failures) / calls), number(len(used))]


def test_durations_are_drawn_from_the_median_to_the_longest(site: Site) -> None:
    timed = api(site, f"/v1/stats/tools/durations?days={DAYS}")
    drawn = [one.children[0].text for one in page(site).one(id="durations").all("g")]
    assert drawn == [
        f"{one['tool_name']}: median {duration(one['percentiles']['p50'])}, "
        f"95 % within {duration(one['percentiles']['p95'])}, longest {duration(one['max_duration'])}"
        for one in timed
    ]


def test_failures_by_category_and_by_day_are_those_of_the_api(site: Site) -> None:
    document = page(site)
    categories = api(site, f"/v1/stats/errors/by/category?days={DAYS}")
    assert [row[:2] for row in table(document, "Failed calls by category")] == [
        [one["value"].replace("_", " "), number(one["failures"])] for one in categories
    ]
    drawn = [one.children[0].text for one in document.one(id="categories").all("g")]
    assert drawn == [
        f"{one['value'].replace('_', ' ')}: {number(one['failures'])} ({percent(one['share'])})" for one in categories
    ]
    daily = api(site, f"/v1/stats/errors/daily?days={DAYS}")
    rows = table(document, "Failed calls by day")[::-1]
    assert [row[:4] for row in rows] == [
        [one["date"], number(one["calls"]), number(one["failures"]), percent(one["rate"])] for one in daily
    ]
    said = [one.children[0].text for one in document.one(id="trend").all("g")]
    for one, words in zip(daily, said, strict=True):
        assert words.startswith(f"{one['date']}: {percent(one['rate'] or 0)}"), words


@pytest.mark.parametrize("query", ["", "&tool=Bash", "&category=stale_edit", "&tool=Bash&category=timeout"])
def test_kinds_of_errors_are_those_of_the_api(site: Site, query: str) -> None:
    kinds = api(site, f"/v1/stats/errors/kinds?days={DAYS}{query}")
    assert kinds
    document = page(site, query).one(id="kinds")
    rows = table(document, "Kinds of errors")
    assert len(rows) == len(kinds)
    for one, row in zip(kinds, rows, strict=True):
        assert row[0].endswith(f"{one['tool_name']} · {one['error_category'].replace('_', ' ')}")
        assert row[3:5] == [number(one["calls"]), percent(one["share"])]
    lines = [svg.one("title").text for svg in document.all("svg", class_="spark")]
    assert lines == [f"Calls by day since {one['daily_from']}: {', '.join(map(str, one['daily']))}" for one in kinds]
    links = [one.get("href") for one in document.all("a") if one.get("href").startswith("/sessions/")]
    assert links == [f"/sessions/{one['session_uuid']}" for one in kinds]


@pytest.mark.parametrize("query", ["", "&tool=Read", "&category=command_failed", "&tool=Edit&category=timeout"])
def test_the_latest_failed_calls_are_those_of_the_api(site: Site, query: str) -> None:
    told = api(site, f"/v1/errors/recent?days={DAYS}&limit=15{query}")
    document = page(site, query).one(id="recent")
    items = document.all("li")
    assert len(items) == len(told)
    for one, item in zip(told, items, strict=True):
        assert item.one("b").text == one["tool_name"]
        assert int(item.one("time").get("data-ms")) == one["timestamp"]
    if not told:
        assert "show all" in document.text


def test_a_filter_stays_chosen(site: Site) -> None:
    form = page(site, "&tool=Bash&category=timeout&by=model").one("form", id="filter")
    assert [one.get("value") for one in form.all("option") if "selected" in one.attributes] == ["Bash", "timeout"]
    assert form.fields() == {"days": str(DAYS), "by": "model"}
    # Also of a tool that nobody uses.
    form = page(site, "&tool=Nothing").one("form", id="filter")
    assert [one.get("value") for one in form.all("option") if "selected" in one.attributes] == ["Nothing"]


@pytest.mark.parametrize("by", ["agent_type", "workflow", "model"])
def test_callers_are_those_of_the_api(site: Site, by: str) -> None:
    told: list[Any] = {
        "agent_type": lambda: api(site, f"/v1/stats/agents?days={DAYS}")["agent_types"],
        "workflow": lambda: api(site, f"/v1/stats/workflows?days={DAYS}"),
        "model": lambda: api(site, f"/v1/stats/models?days={DAYS}"),
    }[by]()
    rows = page(site, f"&by={by}").one(id="callers").one("table").rows()[1:]
    assert [[row[1], *row[3:]] for row in rows] == [
        [number(one["calls"]), number(one["failures"]), percent(one["error_rate"]), duration(one["avg_duration"]),
         number(one["tools"])]
        for one in told
    ]  # fmt: skip
    found = csv_of(site, f"/tools/by.csv?days={DAYS}&by={by}")
    assert [(row["value"], int(row["calls"])) for row in found] == [(one["value"], one["calls"]) for one in told]


def test_files_for_spreadsheets_have_the_numbers_of_the_api(site: Site) -> None:
    used = api(site, f"/v1/stats/tools?days={DAYS}")
    rows = csv_of(site, f"/tools.csv?days={DAYS}")
    assert [(row["tool_name"], int(row["count"]), float(row["avg_duration"])) for row in rows] == [
        (one["tool_name"], one["count"], one["avg_duration"]) for one in used
    ]
    kinds = api(site, f"/v1/stats/errors/kinds?days={DAYS}&limit=200")
    rows = csv_of(site, f"/tools/kinds.csv?days={DAYS}")
    assert [(row["fingerprint"], int(row["calls"])) for row in rows] == [
        (one["fingerprint"], one["calls"]) for one in kinds
    ]
    recent = api(site, f"/v1/errors/recent?days={DAYS}&limit=500&tool=Bash")
    rows = csv_of(site, f"/tools/recent.csv?days={DAYS}&tool=Bash")
    assert [int(row["timestamp"]) for row in rows] == [one["timestamp"] for one in recent]
    categories = api(site, f"/v1/stats/errors?days={DAYS}")["categories"]
    assert {
        row["value"]: int(row["failures"]) for row in csv_of(site, f"/tools/categories.csv?days={DAYS}")
    } == categories
    daily = api(site, f"/v1/stats/errors/daily?days={DAYS}")
    assert [int(row["failures"]) for row in csv_of(site, f"/tools/daily.csv?days={DAYS}")] == [
        one["failures"] for one in daily
    ]


def test_hostile_words_are_text(site: Site) -> None:
    answer = site.browser("vic").get(f"/tools?days={DAYS}&category=network_error")
    assert "<script>alert" not in answer.text
    for character in ("\u202e", "\x1b"):
        assert character not in answer.text
    document = parse(answer.text)
    shown = HOSTILE.replace("\x1b", "\\x1b").replace("\u202e", "\\u202e")
    assert shown in document.one(id="kinds").text
    assert shown in document.one(id="recent").all("pre")[0].text


@pytest.mark.parametrize(
    "query",
    ["days=2", "days=%00", "by=session", "by=", "category=none", "tool=%00%ff", f"tool={'x' * 5000}", "tool=a&tool=b"],
)
def test_nonsense_is_as_if_it_had_not_been_asked_for(site: Site, query: str) -> None:
    document = site.browser("vic").page(f"/tools?{query}")
    assert document.one("nav", aria_label="Span").one("a", aria_current="page").text == "7 days"
    assert site.browser("vic").get(f"/tools/kinds.csv?{query}").status == 200
    assert site.browser("vic").get(f"/tools/by.csv?{query}").status == 200


def test_a_page_stays_light(site: Site) -> None:
    assert len(site.browser("vic").get("/tools?days=30").body) < 150_000
