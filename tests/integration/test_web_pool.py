"""The page of the pool: the line in its order, what is held and why, limits, throughput, and what operators do to it."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .desk import until
from .markup import Element
from .site import Site, site_in

HOSTILE = "sleep 1000 # <script>alert(1)</script> \u202egnp.exe\x1b[31m"

TYPES = '\n[agent.types.reviewer]\nmax_agents = 1\n[agent.types."<b>"]\nmax_agents = 3\n'


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("s")
    for made in site_in(folder, agents=3, enforcement_pre_task="block"):
        made.stop()
        config = folder / ".config/tasksd/config.toml"
        config.write_text(config.read_text() + TYPES)
        made.start()
        fill(made)
        yield made


def fill(site: Site) -> None:
    """One that went well, one that failed, two at work, three in line, one held."""
    site.ended(site.hand_over("true"))
    site.ended(site.hand_over("exit 3"), "failed")
    dirty = site.folder / "dirty"
    subprocess.run(["git", "clone", "-q", site.repository, dirty], env=site.environ, check=True)
    (dirty / "new").write_text("not committed")
    site.hand_over("true # held", workspace=str(dirty))
    # One slot stays free, so that what is held is looked at again and again, and held again.
    site.running(site.hand_over("sleep 1000 # at work", agent_type="reviewer", priority="high"))
    site.running(site.hand_over("sleep 1000 # at work too"))
    for script, priority in ((HOSTILE, "low"), ("sleep 1000 # next", "high"), ("sleep 1000 # in line", "normal")):
        site.hand_over(script, agent_type="reviewer", priority=priority)
    until(lambda: len(pool_of(site)["waiting"]) >= 3, "the line is as it should be")


def pool_of(site: Site) -> Any:
    return site.ask("GET", "/v1/pool")[2]


def steadily(site: Site, wanted: Callable[[Any], object] = bool) -> tuple[Any, Element]:
    """The pool and its page at a moment when both are the same, and the pool is as it is wanted."""

    def look() -> tuple[Any, Element] | None:
        before = pool_of(site)
        page = site.browser("vic").page("/pool")
        return (before, page) if wanted(before) and before == pool_of(site) else None

    found: tuple[Any, Element] = until(look, "the pool stays the same for a moment")
    return found


def cells(section: Element) -> list[list[str]]:
    return [row for row in section.rows()[1:] if row]


def test_the_figures_are_those_of_the_api(site: Site) -> None:
    pool, page = steadily(site)
    figures = [one.one("b").text for one in page.one(id="figures").all("div", class_="tile")]
    assert figures[:3] == [
        f"{pool['active_workers']} of {pool['total_workers']}",
        f"{pool['queued_tasks']} of {pool['queue_size']}",
        str(len(pool["held"])),
    ]


def test_the_line_is_in_the_order_in_which_it_starts(site: Site) -> None:
    pool, page = steadily(site)
    waiting, section = pool["waiting"], page.one(id="queue")
    assert [row.get("data-key") for row in section.all("tr") if row.get("data-key")] == [
        one["task_id"] for one in waiting
    ]
    for row, one in zip(cells(section), waiting, strict=True):
        assert row[0] == str(one["position"])
        assert row[2] == one["priority"]
        assert row[5] == one["reason"]


def test_agents_at_work_are_shown_with_what_they_do(site: Site) -> None:
    section = site.browser("vic").page("/pool").one(id="work")
    links = {one.get("href") for one in section.all("a")}
    for one in site.ask("GET", "/v1/tasks?status=running")[2]:
        assert f"/tasks/{one['task_id']}" in links
        assert one["last_activity"]["message"][:60] in section.text


def test_what_is_held_is_shown_with_its_reason(site: Site) -> None:
    pool, page = steadily(site, lambda pool: pool["held"])
    (one,), section = pool["held"], page.one(id="held")
    (row,) = cells(section)
    assert row[0] == "true # held"
    assert row[2] == one["reason"]
    assert section.one("time", data_ms=str(one["until"]))


def test_limits_are_shown_with_how_much_of_them_is_taken(site: Site) -> None:
    section = site.browser("vic").page("/pool").one(id="limits")
    assert ["type of agent", "reviewer", "1", "1"] in cells(section)
    assert ["type of agent", "<b>", "0", "3"] in cells(section)


def test_throughput_is_that_of_the_statistics(site: Site) -> None:
    wanted = site.ask("GET", "/v1/stats/tasks?days=7")[2]
    rows = {row[0]: row[1:] for row in cells(site.browser("vic").page("/pool").one(id="throughput"))}
    assert rows["Handed over"] == [str(wanted["tasks"])] * 2
    assert rows["Failed"] == [str(wanted["statuses"]["failed"])] * 2
    assert rows["Success"] == [f"{wanted['success_rate'] * 100:.1f} %"] * 2


def test_what_an_agent_was_told_is_text(site: Site) -> None:
    raw = site.browser("vic").get("/pool").text
    assert "<script>alert" not in raw
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in raw
    assert "\u202e" not in raw
    assert "\x1b" not in raw


def test_only_operators_see_and_may_use_what_changes_it(site: Site) -> None:
    viewer = site.browser("vic")
    assert viewer.page("/pool").one("main").all("form") == []
    assert viewer.send("POST", "/v1/pool/pause").status == 403
    for name in ("olga", "ada"):
        forms = site.browser(name).page("/pool").one("main").all("form")
        assert [one.get("data-api") for one in forms] == ["POST /v1/pool/pause", "POST /v1/pool/resize"]
        assert forms[1].fields() == {"total_workers": "3"}


def test_pausing_and_resizing_show_at_once(site: Site) -> None:
    browser = site.browser("olga")
    with browser.stream("/pool") as changes:
        assert "Pause" in next(changes)["valve"]
        try:
            assert browser.send("POST", "/v1/pool/pause").status == 200
            assert browser.send("POST", "/v1/pool/resize", {"total_workers": 1}).status == 200
            shown: dict[str, str] = {}
            for change in changes:
                shown |= change
                if "Paused by a person" in shown.get("valve", "") and "resized" in shown.get("limits", ""):
                    break
        finally:
            assert browser.send("POST", "/v1/pool/resize", {"total_workers": 3}).status == 200
            assert browser.send("POST", "/v1/pool/resume").status == 200


@pytest.mark.parametrize("query", ["?x=1", "?days=-1&limit=%00", "?before=9999999999999999999999"])
def test_nonsense_in_the_address_does_no_harm(site: Site, query: str) -> None:
    assert site.browser("vic").page(f"/pool{query}").one("h1").text == "Pool"


def test_a_pool_without_work_says_how_to_hand_some_over(tmp_path: Path) -> None:
    for site in site_in(tmp_path):
        page = site.browser("olga").page("/pool")
        assert "tasksd submit" in page.one(id="work").text
        assert page.one(id="queue").text == "In line Nobody waits in line."
        assert "No task was handed over" in page.one(id="throughput").text
