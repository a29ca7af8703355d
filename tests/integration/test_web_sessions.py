"""The pages of sessions: the list, and one session with its turns, calls, subagents and changes of status."""

import csv
import io
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tasks.database import SyncDatabase

from .desk import until
from .markup import Element
from .site import Site
from .transcripts import PRICES, Transcript

EVIL = "<script>alert(1)</script>"
HOSTILE = f'{EVIL}"><img src=x onerror=alert(2)> \u202egnp.exe\x1b[31m'
MAIN, WAITING, OVER = (f"{letter}a1b2c3d-1111-4222-8333-444455556666" for letter in "012")
VIEWS = ("turns", "calls", "agents", "status")
OLD = """
INSERT INTO sessions (session_uuid, status, status_since, host, started_at, last_event_at, ended_at, cwd)
VALUES (?, 'ended', 0, 'h', 0, ?, ?, '/nowhere')
"""

MISSED = (
    "INSERT INTO reconciliations (session_uuid, expected, seen, added, updated_at) VALUES ('00000119-old', 7, 5, 2, 0)"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("s")
    site = Site(folder)
    config = folder / ".config/tasksd/config.toml"
    config.write_text(config.read_text() + PRICES)
    site.data.mkdir()
    database = SyncDatabase(site.data / "tasks.db")
    database.transaction(
        lambda connection: connection.executemany(OLD, [(f"{n:08d}-old", n // 7, n // 7) for n in range(120)])
    )
    database.transaction(lambda connection: connection.execute(MISSED))
    database.close()
    site.start()
    try:
        fill(site, folder)
        yield site
    finally:
        site.close()


def fill(site: Site, folder: Path) -> None:
    path = folder / ".claude/projects/-r" / f"{MAIN}.jsonl"
    transcript = Transcript(path, MAIN)
    common = {"transcript_path": str(path)}
    site.leave("SessionStart", MAIN, source="startup", model="claude-sonnet-5", **common)
    site.leave("UserPromptSubmit", MAIN, prompt=f"Mend the parser.\nBeware of {HOSTILE}", prompt_id="p1", **common)
    transcript.prompt()
    for number in range(20):
        transcript.call("Bash", f"m{number}", "fine")
        call(site, f"m{number}", "Bash", {"command": f"run m{number} {EVIL}"}, fails=number % 5 == 0, **common)
    site.leave("PreToolUse", MAIN, tool_name="Agent", tool_use_id="a1", prompt_id="p1", tool_input=started("Explore"))
    for agent, kind in (("x1", "Explore"), ("y1", f"Kind {EVIL}"[:40])):
        site.leave("SubagentStart", MAIN, agent_id=agent, agent_type=kind, prompt_id="p1")
        for number in range(3):
            call(site, f"{agent}{number}", "Grep", {"pattern": f"{number}"}, agent_id=agent, agent_type=kind)
    site.leave("SubagentStop", MAIN, agent_id="x1", agent_type="Explore", prompt_id="p1")
    site.leave(
        "PostToolUse", MAIN, tool_name="Agent", tool_use_id="a1", prompt_id="p1", tool_input=started("Explore"),
        tool_response={"agentId": "x1"},
    )  # fmt: skip
    site.leave("Stop", MAIN, prompt_id="p1")
    site.leave("UserPromptSubmit", MAIN, prompt="Now test it.", prompt_id="p2")
    site.leave("PreToolUse", MAIN, tool_name="Bash", tool_use_id="now", tool_input={"command": f"make {EVIL}"})
    site.leave("SessionStart", WAITING, source="startup")
    site.leave("Notification", WAITING, notification_type="permission_prompt", message=f"may I {EVIL}")
    site.leave("SessionStart", OVER, source="startup")
    site.leave("SessionEnd", OVER, reason="prompt_input_exit")
    site.stored()
    until(lambda: told(site)["spent"]["messages"], "the transcript is read")


def started(kind: str) -> dict[str, str]:
    return {"subagent_type": kind, "description": f"look around {EVIL}", "prompt": "look"}


def call(site: Site, id_: str, tool: str, given: dict[str, str], *, fails: bool = False, **fields: Any) -> None:
    common = {"tool_name": tool, "tool_use_id": id_, "tool_input": given, "prompt_id": "p1"} | fields
    site.leave("PreToolUse", MAIN, **common)
    if fails:
        site.leave("PostToolUseFailure", MAIN, **common, duration_ms=1500, error=f"Exit code 1\nno file {HOSTILE}")
    else:
        site.leave("PostToolUse", MAIN, **common, duration_ms=250, tool_response={})


def told(site: Site, rest: str = "") -> Any:
    status, _, answer = site.ask("GET", f"/v1/sessions/{MAIN}{rest}")
    assert status == 200, answer
    return answer


def view(site: Site, query: str) -> Element:
    return site.browser("vic").page(f"/sessions/{MAIN}?{query}").one("section", id="view")


def ids_of(page: Element) -> list[str]:
    return [row.get("data-key") for row in page.one("section", id="rows").all("tr") if row.get("data-key")]


def test_open_sessions_come_first_and_then_all_others_page_by_page(site: Site) -> None:
    browser = site.browser("vic")
    whole = site.ask("GET", "/v1/sessions?limit=1000")[2]
    over = ("ended", "failed", "lost")
    found: list[str] = []
    target = "/sessions"
    while True:
        one = browser.page(target)
        found += ids_of(one)
        older = one.all("a", rel="next")
        if not older:
            break
        target = "/sessions" + older[0].get("href")
    assert found[0] == WAITING, "who waits for a person is first"
    assert set(found[:2]) == {WAITING, MAIN}
    assert found[2:] == [one["session_uuid"] for one in whole if one["status"] in over]


def test_sessions_are_found_by_status(site: Site) -> None:
    browser = site.browser("vic")
    assert ids_of(browser.page("/sessions?status=waiting_permission")) == [WAITING]
    assert set(ids_of(browser.page("/sessions?status=live"))) == {WAITING, MAIN}
    assert "No session fits" in browser.page("/sessions?status=lost").one("section", id="rows").text


def test_a_row_says_what_a_session_does_and_what_it_costs(site: Site) -> None:
    rows = {row.get("data-key"): row for row in site.browser("vic").page("/sessions").all("tr") if row.get("data-key")}
    cells = [cell.text for cell in rows[MAIN].all("td")]
    assert cells[0] == "working"
    assert "Bash make <script>" in cells[1]
    assert cells[3] == "claude-sonnet-5"
    assert cells[6] == "2"
    assert cells[7] == f"${told(site)['spent']['cost']:.4f}"


@pytest.mark.parametrize("query", ["status=x", "before=%00", "before=" + "a" * 300, "limit=x", "before=gone"])
def test_nonsense_in_the_address_of_the_list_does_no_harm(site: Site, query: str) -> None:
    assert site.browser("vic").get(f"/sessions?{query}").status == 200


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize(
    "query",
    ["before=-1", "before=99999999999999999999", "agent=%00", "prompt=" + "a" * 3000, "before=1", "agent=&prompt="],
)
def test_nonsense_in_the_address_of_a_session_does_no_harm(site: Site, name: str, query: str) -> None:
    assert site.browser("vic").get(f"/sessions/{MAIN}?view={name}&{query}").status == 200


@pytest.mark.parametrize("id_", ["ffffff", "%25", "a" * 2000, "%00", "%3Cscript%3E", "0"])
def test_a_session_that_is_not_there_or_not_the_only_one_has_a_page_that_says_so(site: Site, id_: str) -> None:
    found = site.browser("vic").page(f"/sessions/{id_}", 404)
    assert re.search("no session has the id|several session ids begin with", found.text)


def test_whatever_an_agent_wrote_is_shown_as_text(site: Site) -> None:
    browser = site.browser("ada")
    for target in ("/sessions", f"/sessions/{WAITING}", *(f"/sessions/{MAIN}?view={name}" for name in VIEWS)):
        text = browser.get(target).text
        for raw in (EVIL, "<img src=x", "\x1b", "\u202e"):
            assert raw not in text, (target, raw)
        assert len(text) < 300_000


def test_turns_tell_what_was_asked_and_what_it_took(site: Site) -> None:
    found = view(site, "view=turns")
    turns = told(site, "/turns")
    items = [one for one in found.all("li") if one.get("data-key").startswith("t")]
    assert [one.get("data-key") for one in items] == [f"t{one['number']}" for one in turns]
    for item, one in zip(items, turns, strict=True):
        summary = item.one("summary").text
        assert one["status"] in summary
        assert one["prompt"].split("\n")[0] in summary
        assert f"{one['calls']} call" in summary
        assert not one["failed"] or f"{one['failed']} failed" in summary
        assert not one["spent"]["messages"] or f"${one['spent']['cost']:.4f}" in summary
    first = items[-1]
    assert "Beware of <script>" in first.one("pre").raw
    assert {chip.text for chip in first.all("a", class_="chip")} == {
        "Explore: 3 calls",
        "Kind <script>alert(1)</script>: 3 calls",
    }


def test_a_turn_leads_to_its_calls_with_durations_and_errors(site: Site) -> None:
    found = view(site, "view=turns")
    item = next(one for one in found.all("li") if one.get("data-key") == "t1")
    assert len(item.one("ul", class_="brief").all("li")) == 15
    (link,) = [one for one in item.all("a") if one.text.startswith("all ")]
    calls = told(site, "/calls?prompt=p1&limit=500")
    assert link.text == f"all {len(calls)} calls of this turn"
    rows = [row for row in view(site, link.get("href").removeprefix("?")).all("tr") if row.get("data-key")]
    assert [int(row.get("data-key")) for row in rows] == [one["id"] for one in calls]
    for row, one in zip(rows, calls, strict=True):
        cells = [cell.text for cell in row.all("td")]
        assert cells[1] == one["tool_name"]
        assert (one["agent_type"] or "main").startswith(cells[3].removesuffix("…"))
        assert cells[4] == {None: "–", 1500: "1.5 s", 250: "250 ms"}[one["duration_ms"]]
        assert cells[5] == ("ok" if one["success"] else one["error_category"].replace("_", " "))
        assert one["success"] or "Exit code 1 · no file <script>" in cells[2]


@pytest.mark.parametrize("agent", ["", "x1"])
def test_calls_of_one_agent_are_shown_apart(site: Site, agent: str) -> None:
    rows = [row for row in view(site, f"view=calls&agent={agent}").all("tr") if row.get("data-key")]
    assert [int(row.get("data-key")) for row in rows] == [one["id"] for one in told(site, f"/calls?agent={agent}")]


def test_subagents_hang_below_who_started_them(site: Site) -> None:
    found = view(site, "view=agents")
    tree = told(site, "/tree")
    assert [one.get("data-key") for one in found.all("li") if one.get("data-key")] == [
        one["agent_id"] or "main" for one in tree
    ]
    top = found.all("ul", class_="tree")[0]
    assert [one.get("data-key") for one in top.children if one.tag == "li"] == ["main"]
    inner = top.one("ul", class_="tree")
    assert [one.get("data-key") for one in inner.children if one.tag == "li"] == ["x1", "y1"]
    explore = inner.all("li")[0].text
    assert explore.startswith("Explore ended look around <script>")
    assert "3 calls" in explore
    assert "not known who started it" not in explore
    assert "not known who started it" in inner.all("li")[1].text


def test_changes_of_status_are_listed_and_drawn(site: Site) -> None:
    rows = view(site, "view=status").one("table").rows()[1:]
    changes = told(site)["changes"][::-1]
    assert [(row[2], row[4]) for row in rows] == [(one["status"].replace("_", " "), one["cause"]) for one in changes]
    page = site.browser("vic").page(f"/sessions/{MAIN}")
    assert page.one("svg", class_="strip").one("title", id="strip-title").text.startswith("How it spent its time: ")


def test_the_states_that_are_drawn_are_there_for_a_spreadsheet(site: Site) -> None:
    for session in site.ask("GET", "/v1/sessions?limit=5")[2]:
        answer = site.browser("vic").get(f"/sessions/{session['session_uuid']}/states.csv")
        assert answer.status == 200
        rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
        assert all(one["ended"] == after["began"] for one, after in itertools.pairwise(rows))
        assert all(int(one["ms"]) == int(one["ended"]) - int(one["began"]) > 0 for one in rows)
        if rows:
            assert int(rows[0]["began"]) == session["started_at"]


def test_the_state_that_a_session_is_in_lasts_until_now(site: Site) -> None:
    session = site.ask("GET", f"/v1/sessions/{WAITING}")[2]

    def counted() -> bool:
        answer = site.browser("vic").get(f"/sessions/{WAITING}/states.csv")
        rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))  # none before it has lasted for a while
        state = rows[-1]["status"] if rows else None
        return state == "waiting_permission" and int(rows[-1]["ended"]) > session["last_event_at"]

    until(counted, "the state grows without an event")


def test_the_session_tells_what_is_known_of_it(site: Site) -> None:
    page = site.browser("vic").page(f"/sessions/{MAIN[:6]}")
    known = told(site)
    facts = dict(zip((one.text for one in page.all("dt")), (one.text for one in page.all("dd")), strict=True))
    assert facts["Recorded"] == f"{known['events']} events, {known['prompts']} prompts"
    spent = known["spent"]
    (tokens,) = [table.rows()[1] for table in page.one("section", id="money").all("table")]
    assert tokens[1:3] == [f"{spent['input_tokens']:,}", f"{spent['output_tokens'] / 1000:.1f}k"]
    tools = {row[0]: row[1:] for row in page.one("section", id="work").all("table")[0].rows()[1:]}
    assert tools == {tool: [str(calls), str(failed)] for tool, (calls, failed) in known["calls"].items()}
    assert "Bash make <script>" in page.one("section", id="running").text


def test_calls_that_hooks_missed_are_told(site: Site) -> None:
    facts = site.browser("vic").page(f"/sessions/{119:08d}").one("section", id="facts").text
    assert "saw5 of 7 calls in its transcripts; 2 added from these" in facts


def test_who_waits_for_a_person_says_where_to_answer(site: Site) -> None:
    head = site.browser("vic").page(f"/sessions/{WAITING}").one("section", id="head")
    assert str(site.repository) in head.one("p", class_="warn").text


def test_the_end_of_a_call_is_seen_live(site: Site) -> None:
    with site.browser("vic").stream(f"/sessions/{OVER}?view=calls") as changes:
        assert set(next(changes)) == {"head", "running", "view", "facts", "money", "work"}
        site.leave("SessionStart", OVER, source="resume")
        site.leave("PreToolUse", OVER, tool_name="Glob", tool_use_id="g", tool_input={"pattern": "*.here"})
        assert "*.here" in next(change["running"] for change in changes if "here" in change.get("running", ""))
        site.leave("PostToolUse", OVER, tool_name="Glob", tool_use_id="g", tool_input={}, tool_response={})
        assert "Glob" in next(change["view"] for change in changes if "Glob" in change.get("view", ""))
    site.leave("SessionEnd", OVER, reason="other")
    site.stored()
