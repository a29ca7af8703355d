"""The first page: who waits, what agents do, the line, the last hours, how recording goes, with real events and tasks."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .desk import until
from .markup import Element
from .site import SESSION, Site, site_in

HOSTILE = "<script>alert(1)</script> \u202egnp.exe\x1b[31m"
WAITING = "11111111-1111-4222-8333-444455556666"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    for made in site_in(tmp_path_factory.mktemp("s"), agents=1):
        fill(made)
        yield made


def fill(site: Site) -> None:
    """One session at work, one that asks for a permission, calls that went well and one that failed, tasks in every state."""
    site.leave("SessionStart", source="startup")
    site.leave("UserPromptSubmit", prompt="go on")
    call(site, "a", "Bash", {"command": "true"})
    call(site, "b", "Bash", {"command": "false"}, error="it failed")
    site.leave("PreToolUse", tool_name="Read", tool_use_id="c", tool_input={"file_path": f"/x/{HOSTILE}"})
    site.leave("SessionStart", WAITING, source="startup")
    site.leave("PreToolUse", WAITING, tool_name="Bash", tool_use_id="d", tool_input={"command": "rm -r build"})
    site.leave("PermissionRequest", WAITING, tool_name="Bash", tool_input={"command": "rm -r build"})
    site.stored()
    site.ended(site.hand_over("exit 3"), "failed")
    conflict(site)
    site.running(site.hand_over("sleep 1000 # at work"))
    site.hand_over(f"sleep 1000 # {HOSTILE}", priority="low")
    site.hand_over("sleep 1000 # next")
    until(lambda: len(site.ask("GET", "/v1/pool")[2]["waiting"]) == 2, "two wait in line")


def call(site: Site, id_: str, tool: str, parameters: dict[str, str], error: str = "") -> None:
    fields: dict[str, Any] = {"tool_name": tool, "tool_use_id": id_, "tool_input": parameters}
    site.leave("PreToolUse", **fields)
    if error:
        site.leave("PostToolUseFailure", **fields, error=error)
    else:
        site.leave("PostToolUse", **fields, tool_response={"stdout": ""})


def conflict(site: Site) -> None:
    """A task whose branch does not fit: somebody changed the same line meanwhile."""
    go = site.folder / "go"
    id_ = site.hand_over(f"until [ -e {go} ]; do sleep 0.1; done; echo theirs >file; git commit -qam theirs")
    site.running(id_)
    (site.repository / "file").write_text("ours\n")
    site.git("commit", "-qam", "ours")
    go.touch()
    until(lambda: site.task(id_)["merge_state"] == "conflict", "the merge conflicts")


def section(site: Site, name: str, who: str = "vic") -> Element:
    return site.browser(who).page("/").one(id=name)


def test_the_figures_are_those_of_the_api(site: Site) -> None:
    tiles = [one.one("b").text for one in section(site, "figures").all("a", class_="tile")]
    pool = site.ask("GET", "/v1/pool")[2]
    assert tiles[0] == "2"  # a permission, a conflict
    assert tiles[1] == f"{pool['active_workers']} of {pool['total_workers']}"
    assert tiles[2] == str(pool["queued_tasks"])
    assert tiles[3] == "2"
    assert tiles[6] == "1"


def test_who_waits_is_named_with_what_is_asked(site: Site) -> None:
    shown = section(site, "attention")
    assert shown.one("h2").text == "Waiting for you"
    asks, conflicts = shown.all("li")
    assert "asks for Bash: rm -r build" in asks.text
    assert asks.one("a").get("href") == f"/sessions/{WAITING}"
    assert "does not fit: file" in conflicts.text


def test_sessions_show_the_call_that_runs(site: Site) -> None:
    shown = section(site, "sessions")
    first, second = shown.all("li")
    # Whoever waits for a person comes first.
    assert (first.get("data-key"), second.get("data-key")) == (WAITING, SESSION)
    assert "Read /x/<script>alert(1)" in second.text


def test_tasks_stand_in_the_order_in_which_they_go_on(site: Site) -> None:
    waiting = site.ask("GET", "/v1/pool")[2]["waiting"]
    rows = section(site, "tasks").all("li")
    assert [one.get("data-key") for one in rows[1:]] == [one["task_id"] for one in waiting]
    assert "at work" in rows[0].text
    for row, one in zip(rows[1:], waiting, strict=True):
        assert f"place {one['position']} in line: {one['reason']} · {one['priority']} priority" in row.text


def test_what_ended_lately_says_how(site: Site) -> None:
    shown = section(site, "recent").text
    assert "failed exit 3 the agent ended, exit status 3" in shown
    assert "completed conflict" in shown


def test_what_ended_last_comes_first(site: Site) -> None:
    ended = [one for one in site.ask("GET", "/v1/tasks")[2] if one["finished_at"]]
    ended.sort(key=lambda one: -one["finished_at"])
    assert [one.get("data-key") for one in section(site, "recent").all("li")] == [one["task_id"] for one in ended]
    assert len(ended) > 1


def test_calls_by_hour_are_those_of_the_statistics(site: Site) -> None:
    shown = section(site, "calls")
    rows = shown.rows()[1:]
    assert len(rows) == 24
    used = site.ask("GET", "/v1/stats/tools?days=1")[2]
    assert sum(int(row[1]) for row in rows) == sum(one["count"] for one in used) == 2
    assert sum(int(row[2]) for row in rows) == 1
    assert "2 calls, 1 failed" in shown.text
    assert shown.one("svg", role="img")


def test_the_hours_are_there_for_a_spreadsheet(site: Site) -> None:
    answer = site.browser("vic").get("/hours.csv")
    assert answer.status == 200
    rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    counts = site.ask("GET", "/v1/stats/tools?hours=24")[2]
    assert len(rows) == 24
    assert sum(int(one["calls"]) for one in rows) == sum(one["count"] for one in counts) > 0
    assert sum(int(one["failures"]) for one in rows) == sum(one["failures"] for one in counts)


def test_recording_is_told_of_and_the_doctor_is_for_those_who_may_ask(site: Site) -> None:
    status = site.ask("GET", "/v1/status")[2]
    assert f"{status['ingest']['events_total']} events" in section(site, "health").text
    assert section(site, "health").all("a") == []
    assert [one.get("href") for one in section(site, "health", "olga").all("a")] == ["/settings?view=doctor"]


def test_what_agents_say_is_text(site: Site) -> None:
    raw = site.browser("vic").get("/").text
    assert "<script>alert" not in raw
    assert "\u202e" not in raw
    assert "\x1b" not in raw


def test_what_happens_shows_up_by_itself(site: Site) -> None:
    other = "22222222-1111-4222-8333-444455556666"
    with site.browser("vic").stream("/") as changes:
        assert other not in next(changes)["sessions"]
        site.leave("SessionStart", other, source="startup")
        assert any(other in change.get("sessions", "") for change in changes)
        site.leave("SessionEnd", other, reason="other")
        assert any(other not in change.get("sessions", other) for change in changes)


@pytest.mark.parametrize("query", ["?x=%00", "?days=-1", "?limit=x&before="])
def test_nonsense_in_the_address_does_no_harm(site: Site, query: str) -> None:
    assert site.browser("vic").page(f"/{query}").one("h1").text == "Now"


def test_an_empty_page_says_how_to_begin(tmp_path: Path) -> None:
    for site in site_in(tmp_path):
        page = site.browser("ada").page("/")
        assert "tasksd hooks install" in page.one(id="attention").text
        assert "No tool was called" in page.one(id="calls").text
        assert "No task is at work" in page.one(id="tasks").text
