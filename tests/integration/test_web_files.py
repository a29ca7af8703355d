"""The page of files says what the API says."""

import csv
import io
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from tasks.web.shown import folder, number

from .markup import Element, parse
from .past import site_after, work
from .site import Site

#: Everything that happened lies in these days, so that nothing drops out between two questions.
DAYS = 30
ORDERS = {"hot": "accesses", "rereads": "rereads"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    yield from site_after(tmp_path_factory.mktemp("f"), work)


def api(site: Site, target: str) -> Any:
    status, _, answer = site.ask("GET", target)
    assert status == 200, answer
    return answer


def rows_of(site: Site, query: str) -> tuple[Element, list[list[str]]]:
    document = site.browser("vic").page(f"/files?days={DAYS}&{query}").one("section", id="used")
    return document, document.one("table").rows()[1:]


def csv_of(site: Site, target: str) -> list[dict[str, str]]:
    answer = site.browser("vic").get(target)
    assert answer.status == 200
    return list(csv.DictReader(io.StringIO(answer.text, newline="")))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("project", ["", "/home/ada/shop", "/home/ada/shop/"])
def test_the_files_are_those_of_the_api(site: Site, order: str, project: str) -> None:
    asked = f"&project={quote(project)}" if project else ""
    told = api(site, f"/v1/stats/files?days={DAYS}&order={ORDERS[order]}{asked}")
    assert told
    document, rows = rows_of(site, f"order={order}{asked}")
    assert [[row[0], row[1], row[3], row[4].split()[0], *row[5:]] for row in rows] == [
        [folder(one["path"], 64), *(number(one[key]) for key in ("accesses", "reads", "rereads", "writes", "edits"))]
        for one in told
    ]
    titles = [one.get("title") for one in document.all("th", class_="mono")]
    assert len(set(titles)) == len(told)
    found = csv_of(site, f"/files.csv?days={DAYS}&order={order}{asked}")
    assert [int(row["accesses"]) for row in found] == [one["accesses"] for one in told]
    assert [int(row["contended"]) for row in found] == [one["contended"] for one in told]


def test_contended_files_name_the_agents_that_changed_them(site: Site) -> None:
    told = api(site, f"/v1/stats/files/contended?days={DAYS}")
    assert told
    document, rows = rows_of(site, "order=contended")
    assert [row[1] for row in rows] == [number(one["contended"]) for one in told]
    links = [one.get("href") for one in document.all("a") if one.get("href").startswith("/sessions/")]
    agents = [agent for one in told for agent in one["agents"]]
    assert links == [f"/sessions/{agent['session_uuid']}" for agent in agents]
    assert [int(one.get("data-ms")) for one in document.all("time")] == [agent["edited_at"] for agent in agents]
    found = csv_of(site, f"/files/contended.csv?days={DAYS}")
    everything = api(site, f"/v1/stats/files/contended?days={DAYS}&limit=200")
    assert [(row["session_uuid"], row["agent_id"] or None, int(row["edits"])) for row in found] == [
        (agent["session_uuid"], agent["agent_id"], agent["edits"]) for one in everything for agent in one["agents"]
    ]


def test_bars_are_divided_into_reads_writes_and_edits(site: Site) -> None:
    document, rows = rows_of(site, "order=hot")
    most = int(rows[0][1])
    for row, svg in zip(rows, document.all("svg", class_="meter"), strict=True):
        expected = [float(row[at]) / most * 100 for at in (3, 5, 6) if int(row[at])]
        drawn = [float(one.get("width")) for one in svg.all("rect")]
        assert drawn == pytest.approx(expected, abs=0.7)


def test_hostile_names_are_text(site: Site) -> None:
    answer = site.browser("vic").get(f"/files?days={DAYS}")
    assert "<script>alert" not in answer.text
    for character in ("\u202e", "\x1b"):
        assert character not in answer.text
    assert '<script>alert("1")</script>\\x1b[31m\\u202e.py' in parse(answer.text).one("section", id="used").text


@pytest.mark.parametrize(
    "query",
    [
        "days=0",
        "days=x",
        "order=path",
        "order=",
        "project=%00",
        f"project={'x' * 6000}",
        "project=%ff%fe",
        "project='--",
    ],
)
def test_nonsense_does_no_harm(site: Site, query: str) -> None:
    document = site.browser("vic").page(f"/files?{query}")
    assert document.one("nav", aria_label="Order").one("a", aria_current="page").text == "Most used"
    assert site.browser("vic").get(f"/files.csv?{query}").status == 200
    assert site.browser("vic").get(f"/files/contended.csv?{query}").status == 200


def test_a_folder_with_nothing_in_it_says_so(site: Site) -> None:
    document = site.browser("vic").page("/files?project=/nowhere")
    assert "No file in this folder was accessed in 7 days." in document.one("section", id="used").text
    assert document.one("form", action="/files").one("input", name="project").get("value") == "/nowhere"
