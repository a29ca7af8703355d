"""The page of costs says what the API says, and what is missing from it."""

import csv
import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tasks.web.shown import compact, money, number

from .desk import until
from .markup import Element, parse
from .money import Spent, fill
from .past import site_after, spend
from .site import Site

DIMENSIONS = ("model", "project", "session", "task", "agent_type", "workflow")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    yield from site_after(tmp_path_factory.mktemp("c"), spend)


def api(site: Site, target: str) -> Any:
    status, _, answer = site.ask("GET", target)
    assert status == 200, answer
    return answer


def page(site: Site, target: str = "/costs") -> Element:
    return site.browser("vic").page(target)


def cost(one: Any) -> str:
    if one["unpriced"] and one["unpriced"] == one["messages"]:
        return "unpriced"
    return ("≥ " if one["unpriced"] else "") + money(one["cost"])


def table(document: Element, label: str) -> list[list[str]]:
    return document.one("div", role="region", aria_label=f"Table: {label}").one("table").rows()


def csv_of(site: Site, target: str) -> list[dict[str, str]]:
    answer = site.browser("vic").get(target)
    assert answer.status == 200
    assert (answer.header("content-type") or "").startswith("text/csv")
    assert "attachment" in (answer.header("content-disposition") or "")
    return list(csv.DictReader(io.StringIO(answer.text, newline="")))


def chart(document: Element, section: str) -> list[str]:
    """What each of its marks says."""
    svg = document.one("section", id=section).one("svg", class_="chart")
    assert svg.get("role") == "img"
    return [one.children[0].text for one in svg.all("g")]


@pytest.mark.parametrize("days", [7, 30, 90])
def test_the_figures_are_those_of_the_api(site: Site, days: int) -> None:
    told = api(site, f"/v1/costs?days={days}")
    document = page(site, f"/costs?days={days}")
    tiles = {tile.one("span").text: tile.one("b").text for tile in document.one(id="figures").all("div", class_="tile")}
    assert tiles["today"] == cost(told["today"])
    assert tiles["yesterday"] == cost(told["yesterday"])
    assert tiles["this month so far"] == cost(told["month"])
    assert tiles[f"in {days} days, {told['total']['messages']:,} messages"] == cost(told["total"])
    assert any(words.startswith(f"by {told['projection']['until']}: $") for words in tiles)
    assert told["projection"]["method"] in document.one(id="month").text


def test_the_days_are_drawn_and_listed_as_the_api_has_them(site: Site) -> None:
    daily = api(site, "/v1/costs/daily?days=30")
    document = page(site)
    said = chart(document, "daily")
    assert [one.partition(":")[0] for one in said] == [one["date"] for one in daily]
    for one, words in zip(daily, said, strict=True):
        assert words.startswith(f"{one['date']}: {money(one['cost'])}"), words
    rows = table(document, "Costs by day")[1:]
    assert rows[::-1] == [
        [one["date"], cost(one) if one["messages"] else "–", number(one["tasks"]), number(one["messages"]),
         *(compact(one[f"{kind}_tokens"]) for kind in ("input", "output", "cache_read", "cache_write"))]
        for one in daily
    ]  # fmt: skip


def test_the_models_that_cost_the_most_are_drawn_by_themselves_and_the_others_together(site: Site) -> None:
    models = [one["model"] for one in api(site, "/v1/costs?days=30")["models"] if one["cost"]]
    legend = [one.text for one in page(site).one(id="daily").one("ul", class_="legend").all("li")]
    assert legend == [*models[:5], f"{len(models) - 5} others"]


@pytest.mark.parametrize("by", DIMENSIONS)
def test_the_money_is_divided_as_the_api_divides_it(site: Site, by: str) -> None:
    told = api(site, f"/v1/costs/by/{by}?days=30")
    document = page(site, f"/costs?by={by}").one("section", id="by")
    assert document.one("a", aria_current="page").get("href") == f"/costs?days=30&by={by}#divided"
    rows = document.one("table").rows()[1:]
    assert len(rows) == len(told["rows"]) + 1
    assert [row[1] for row in rows] == [cost(one) for one in (*told["rows"], told["total"])]
    assert [row[4] for row in rows] == [number(one["messages"]) for one in (*told["rows"], told["total"])]
    assert [row[8] for row in rows[:-1]] == [compact(one["cache_write_tokens"]) for one in told["rows"]]
    links = [one.get("href") for one in document.all("a") if one.get("href").startswith(("/tasks/", "/sessions/"))]
    expected = [f"/{by}s/{one['value']}" for one in told["rows"]] if by in ("task", "session") else []
    assert links == expected


def test_what_has_no_price_is_flagged_with_what_to_put_into_the_config(site: Site) -> None:
    flagged = page(site).one(id="unpriced")
    assert "3 messages without a price" in flagged.text
    assert table(flagged, "Models without a price")[1][:2] == ["strange-model-1", "3"]
    assert '[prices.models."strange-model-1"]' in flagged.one("pre").text
    assert "tasksd costs reprice" in flagged.text


def test_the_money_of_tasks_and_the_clients_own_figure_are_told(site: Site) -> None:
    told, tasks = api(site, "/v1/costs?days=30"), api(site, "/v1/stats/tasks?days=30")
    document = page(site).one(id="facts")
    facts = dict(zip([one.text for one in document.all("dt")], [one.text for one in document.all("dd")], strict=True))
    assert facts["Merged tasks"].startswith(f"{money(tasks['cost_per_merged_usd'])} each")
    assert facts["Failed tasks"] == f"{money(tasks['failed_usd'])} spent on 1 failed task: 1 timeout"
    assert facts["Stopped tasks"] == money(tasks["stopped_usd"])
    assert money(told["cache_savings"]) in facts["Cache"]
    reported = told["reported"]
    assert reported["beyond_limit"]
    assert facts["The client's own figure"].startswith(f"{money(reported['reported'])}; ours {money(reported['ours'])}")
    rows = table(document, "Tasks whose figures differ")[1:]
    assert rows == [
        [one["task_id"], money(one["reported"]), money(one["ours"]), f"{one['drift']:+.1f} %"]
        for one in reported["beyond"]
    ]


def test_this_month_grows_up_to_what_is_expected_of_it(site: Site) -> None:
    told = api(site, "/v1/costs?days=30")
    said = chart(page(site), "month")
    done = [one for one in said if "that day" in one]
    ahead = [one for one in said if "about" in one]
    assert done[-1].startswith(f"{told['daily'][-1]['date']}: {money(told['month']['cost'])}")
    assert len(done) == int(told["daily"][-1]["date"][-2:])
    assert len(done) + len(ahead) == int(told["projection"]["until"][-2:])


def test_files_for_spreadsheets_have_the_numbers_of_the_api(site: Site) -> None:
    daily = api(site, "/v1/costs/daily?days=7")
    rows = csv_of(site, "/costs.csv?days=7")
    assert [(row["date"], float(row["cost"]), int(row["output_tokens"])) for row in rows] == [
        (one["date"], one["cost"], one["output_tokens"]) for one in daily
    ]
    by_model = csv_of(site, "/costs/models.csv?days=7")
    for one in daily:
        costs = [float(row["cost"]) for row in by_model if row["date"] == one["date"]]
        assert sum(costs) == pytest.approx(one["cost"])
    for by in DIMENSIONS:
        told = api(site, f"/v1/costs/by/{by}?days=90")["rows"]
        rows = csv_of(site, f"/costs/by.csv?days=90&by={by}")
        assert [(float(row["cost"]), int(row["messages"])) for row in rows] == [
            (one["cost"], one["messages"]) for one in told
        ]


def test_hostile_words_are_text(site: Site) -> None:
    answer = site.browser("vic").get("/costs?by=task")
    assert "<script>alert" not in answer.text
    assert "\u202e" not in answer.text
    assert '<script>alert("1")</script>\\x1b[31m\\u202e' in parse(answer.text).one("section", id="by").text


@pytest.mark.parametrize(
    "query",
    ["days=0", "days=999999999999", "days=-7", "days=%00", "by=day", "by='--", "by=%ff", "days=7&days=x", "nothing"],
)
def test_nonsense_is_as_if_it_had_not_been_asked_for(site: Site, query: str) -> None:
    document = page(site, f"/costs?{query}")
    assert document.one("nav", aria_label="Span").all("a", aria_current="page")
    assert csv_of(site, f"/costs/by.csv?{query}")


def test_a_page_stays_light(site: Site) -> None:
    assert len(site.browser("vic").get("/costs?days=90&by=task").body) < 150_000


def test_the_page_tells_what_is_spent_while_somebody_looks(site: Site) -> None:
    with site.browser("vic").stream("/costs?by=workflow") as changes:
        assert "brand-new" not in next(changes)["by"]
        fill(site.data, [Spent(time.time_ns() // 1_000_000, workflow="brand-new", output_tokens=5_000_000)])
        assert any("brand-new" in one.get("by", "") for one in changes)
    until(lambda: "brand-new" in page(site, "/costs?by=workflow").one("section", id="by").text, "the page has it, too")


def test_without_messages_the_page_says_where_they_come_from(tmp_path: Path) -> None:
    for site in site_after(tmp_path):
        document = page(site, "/costs")
        assert "tasksd backfill" in document.one(id="daily").text
        assert "No projection yet" in document.one(id="month").text
        assert not document.one(id="unpriced").text
        tools = page(site, "/tools")
        assert "tasksd hooks install" in tools.one(id="used").text
        assert "Nothing failed" in tools.one(id="categories").text
        assert "No calls in these days" in tools.one(id="trend").text
        files = page(site, "/files")
        assert "tasksd hooks install" in files.one(id="used").text
        for name in ("costs", "costs/models", "costs/by", "tools", "tools/kinds", "files", "files/contended"):
            assert site.browser("vic").get(f"/{name}.csv").status == 200
